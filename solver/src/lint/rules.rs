//! The rules: names, what they are about, and when they count.

/// How a rule is chosen, and what its findings do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// One of BuildKit's: on unless it is skipped.
    Standard,
    /// One of BuildKit's that is off unless `experimental=` names it.
    Experimental,
    /// One of kiln's: on unless it is skipped. It makes nothing fail unless `experimental=` names
    /// it, so that a file which passes elsewhere passes here.
    Own,
    /// One of kiln's that reads what a build made: off unless `experimental=` names it.
    Measured,
}

macro_rules! rules {
    ($($name:ident: $class:ident, $description:literal;)*) => {
        /// A build check. The names of BuildKit's rules are BuildKit's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Rule {
            $(#[doc = $description] $name,)*
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &'static [Rule] = &[$(Self::$name),*];

            /// The name that `skip=` and `experimental=` know.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// What the rule is about.
            #[must_use]
            pub fn description(self) -> &'static str {
                match self { $(Self::$name => $description,)* }
            }

            /// How the rule is chosen.
            #[must_use]
            pub fn class(self) -> Class {
                match self { $(Self::$name => Class::$class,)* }
            }
        }
    };
}

rules! {
    StageNameCasing: Standard, "Names of stages should be in lower case";
    FromAsCasing: Standard, "`AS` should be written in the case of its `FROM`";
    NoEmptyContinuation: Standard, "A blank line inside a continued instruction will become an error";
    ConsistentInstructionCasing: Standard, "All instructions of a file should be in upper case, or all in lower case";
    DuplicateStageName: Standard, "Each stage should have a name of its own";
    ReservedStageName: Standard, "A word with a meaning of its own should not name a stage";
    JSONArgsRecommended: Standard, "CMD and ENTRYPOINT should be JSON arrays, so that signals reach the program and not a shell";
    MaintainerDeprecated: Standard, "MAINTAINER is deprecated: a label should name the author";
    UndefinedArgInFrom: Standard, "FROM should use declared arguments only";
    WorkdirRelativePath: Standard, "A relative WORKDIR before any absolute one depends on the base image";
    UndefinedVar: Standard, "Variables should be set before they are used";
    MultipleInstructionsDisallowed: Standard, "Of CMD, ENTRYPOINT and HEALTHCHECK only the last in a stage counts";
    LegacyKeyValueFormat: Standard, "Pairs should be written with an equals sign, not with a space";
    InvalidBaseImagePlatform: Standard, "The base image should be for the platform that is built";
    RedundantTargetPlatform: Standard, "FROM takes TARGETPLATFORM by itself";
    SecretsUsedInArgOrEnv: Standard, "ARG and ENV should not hold secrets: they can be read in the image";
    InvalidDefaultArgInFrom: Standard, "FROM should name an image also when no build argument is given";
    FromPlatformFlagConstDisallowed: Standard, "The platform of FROM should not be a constant";
    CopyIgnoredFile: Experimental, "COPY and ADD should not name files that the ignore file leaves out";
    InvalidDefinitionDescription: Experimental, "A comment right above a stage or argument should begin with its name";
    ExposeProtoCasing: Standard, "Protocols in EXPOSE should be in lower case";
    ExposeInvalidFormat: Standard, "EXPOSE should name ports alone, without addresses and ports of the host";
    KilnSecretValue: Own, "A value in ARG or ENV has the form of a real token or private key";
    KilnAptListsInLayer: Own, "Package lists of apt stay in a layer of the image";
    KilnCopyBeforeInstall: Own, "Dependencies are installed after the whole context was copied, and so again after every change";
    KilnTypographicQuotes: Own, "Typographic quotes make no JSON array";
    KilnRepeatedBytes: Measured, "A layer holds files again that the layers below hold with the same content";
}

impl Rule {
    /// The rule of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|rule| rule.name() == name)
    }

    /// Where BuildKit's rules are explained; kiln's own have no page.
    #[must_use]
    pub fn url(self) -> Option<String> {
        match self.class() {
            Class::Own | Class::Measured => None,
            Class::Standard | Class::Experimental => Some(format!(
                "https://docs.docker.com/go/dockerfile/rule/{}/",
                kebab(self.name())
            )),
        }
    }
}

/// `JSONArgsRecommended` as `json-args-recommended`.
fn kebab(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut out = String::with_capacity(name.len() + 8);
    for (at, c) in chars.iter().enumerate() {
        let lower = |i: Option<usize>| {
            i.and_then(|i| chars.get(i))
                .is_some_and(|c| c.is_lowercase())
        };
        if c.is_uppercase() && at > 0 && (lower(at.checked_sub(1)) || lower(Some(at + 1))) {
            out.push('-');
        }
        out.extend(c.to_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_named_after_rules() {
        for (rule, page) in [
            (Rule::JSONArgsRecommended, Some("json-args-recommended")),
            (Rule::UndefinedVar, Some("undefined-var")),
            (Rule::FromAsCasing, Some("from-as-casing")),
            (
                Rule::SecretsUsedInArgOrEnv,
                Some("secrets-used-in-arg-or-env"),
            ),
            (Rule::KilnSecretValue, None),
        ] {
            let url = page.map(|p| format!("https://docs.docker.com/go/dockerfile/rule/{p}/"));
            assert_eq!(rule.url(), url);
        }
    }

    #[test]
    fn names_lead_to_rules_and_tell_whose_they_are() {
        for rule in Rule::ALL {
            assert_eq!(Rule::by_name(rule.name()), Some(*rule));
            let own = matches!(rule.class(), Class::Own | Class::Measured);
            assert_eq!(own, rule.name().starts_with("Kiln"), "{}", rule.name());
            assert!(!rule.description().ends_with('.'), "{}", rule.name());
        }
        let theirs = Rule::ALL.iter().filter(|r| !r.name().starts_with("Kiln"));
        assert_eq!(theirs.count(), 22);
        assert_eq!(Rule::by_name("jsonargsrecommended"), None);
    }
}
