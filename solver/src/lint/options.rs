//! `# check=` and `BUILDKIT_DOCKERFILE_CHECK`: which rules count, and whether findings are errors.

use std::collections::BTreeSet;

use super::rules::{Class, Rule};

/// Rules by name. Names that no rule has are kept out of trouble: another version may know them.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Choice {
    Named(BTreeSet<String>),
    All,
}

impl Choice {
    fn parse(text: &str) -> Self {
        match text.trim() {
            "all" => Self::All,
            list => Self::Named(list.split(',').map(|n| n.trim().to_owned()).collect()),
        }
    }

    fn has(&self, rule: Rule) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.contains(rule.name()),
        }
    }
}

impl Default for Choice {
    fn default() -> Self {
        Self::Named(BTreeSet::new())
    }
}

/// Which rules count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckOptions {
    skip: Choice,
    experimental: Choice,
    error: bool,
}

/// Why a text holds no options.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// A part that is not `name=value`, or has another name.
    #[error("`{0}` is not an option of checks")]
    Unknown(String),
    /// `error=` is neither on nor off.
    #[error("`error={0}` is neither true nor false")]
    NotBoolean(String),
}

impl OptionsError {
    /// What to write instead.
    pub const HELP: &'static str =
        "write `skip=RULE,RULE;error=true;experimental=RULE`, or `all` in place of rules";
}

impl CheckOptions {
    /// Reads `skip=A,B;error=true;experimental=all`. Nothing at all is no error.
    ///
    /// # Errors
    /// On an unknown option, or a value of `error` that is no truth value.
    pub fn parse(text: &str) -> Result<Self, OptionsError> {
        let mut options = Self::default();
        if text.trim().is_empty() {
            return Ok(options);
        }
        for part in text.split(';') {
            let unknown = || OptionsError::Unknown(part.trim().chars().take(80).collect());
            let (name, value) = part.split_once('=').ok_or_else(unknown)?;
            match name.trim() {
                "skip" => options.skip = Choice::parse(value),
                "experimental" => options.experimental = Choice::parse(value),
                "error" => {
                    options.error = match value.trim() {
                        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
                        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
                        other => {
                            let shown = other.chars().take(80).collect();
                            return Err(OptionsError::NotBoolean(shown));
                        }
                    };
                }
                _ => return Err(unknown()),
            }
        }
        Ok(options)
    }

    /// Whether findings of a rule are reported.
    #[must_use]
    pub fn reports(&self, rule: Rule) -> bool {
        match rule.class() {
            // As in BuildKit, `skip` has no say about what `experimental` turned on.
            Class::Experimental => self.experimental.has(rule),
            Class::Standard | Class::Own => !self.skip.has(rule),
            Class::Measured => self.experimental.has(rule) && !self.skip.has(rule),
        }
    }

    /// Whether a finding of a rule is a reason for a check to fail.
    #[must_use]
    pub fn weighs(&self, rule: Rule) -> bool {
        self.reports(rule)
            && match rule.class() {
                Class::Standard | Class::Experimental => true,
                Class::Own | Class::Measured => self.experimental.has(rule),
            }
    }

    /// Whether findings stop a build before it runs anything.
    #[must_use]
    pub fn error(&self) -> bool {
        self.error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_choose_rules() {
        let (json, copy) = (Rule::JSONArgsRecommended, Rule::CopyIgnoredFile);
        let (own, measured) = (Rule::KilnSecretValue, Rule::KilnRepeatedBytes);
        // What is reported, and what weighs, of these four.
        type Four = [bool; 4];
        let cases: [(&str, Four, Four); 10] = [
            ("", [true, false, true, false], [true, false, false, false]),
            (
                "skip=JSONArgsRecommended",
                [false, false, true, false],
                [false; 4],
            ),
            (
                " skip = LegacyKeyValueFormat , KilnSecretValue ",
                [true, false, false, false],
                [true, false, false, false],
            ),
            ("skip=all", [false; 4], [false; 4]),
            (
                "skip=ALL",
                [true, false, true, false],
                [true, false, false, false],
            ),
            ("experimental=all", [true; 4], [true; 4]),
            (
                "experimental=CopyIgnoredFile",
                [true, true, true, false],
                [true, true, false, false],
            ),
            (
                "experimental=all;skip=all",
                [false, true, false, false],
                [false, true, false, false],
            ),
            (
                "experimental=KilnSecretValue",
                [true, false, true, false],
                [true, false, true, false],
            ),
            (
                "experimental=all;skip=KilnRepeatedBytes",
                [true, true, true, false],
                [true, true, true, false],
            ),
        ];
        for (text, reports, weighs) in cases {
            let options = CheckOptions::parse(text).unwrap();
            let four = [json, copy, own, measured];
            assert_eq!(four.map(|r| options.reports(r)), reports, "{text}");
            assert_eq!(four.map(|r| options.weighs(r)), weighs, "{text}");
        }
    }

    #[test]
    fn errors_are_asked_for() {
        for (text, want) in [
            ("", Ok(false)),
            ("error=true", Ok(true)),
            ("skip=all; error = T ;experimental=all", Ok(true)),
            ("error=true;error=0", Ok(false)),
            ("error=yes", Err(OptionsError::NotBoolean("yes".into()))),
            ("skip", Err(OptionsError::Unknown("skip".into()))),
            ("skip=all;", Err(OptionsError::Unknown(String::new()))),
            ("Skip=all", Err(OptionsError::Unknown("Skip=all".into()))),
        ] {
            assert_eq!(CheckOptions::parse(text).map(|o| o.error()), want, "{text}");
        }
    }
}
