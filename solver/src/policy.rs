//! Source policies: which images, web files and git repositories a build may use, and what takes their
//! place. The form is that of BuildKit's policy files.

mod address;
mod file;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use kiln_image::{Reference, SafeUrl};
use regex::Regex;
use serde::Deserialize;

use self::address::{Address, split_fragment};
use self::file::PolicyFile;
use crate::plan::SourceKind;

/// One source is changed no more often than this: rules may turn two sources into each other.
const MOST_CHANGES: usize = 20;

/// A checksum that a web file must have.
const HTTP_CHECKSUM: &str = "http.checksum";
/// The commit that a repository must be at.
const GIT_CHECKSUM: &str = "git.checksum";
/// Where a repository is, whatever its identifier says.
const GIT_ADDRESS: &str = "git.fullurl";
/// Whether `.git` stays.
const GIT_KEEP: &str = "git.keepgitdir";

const IMAGE: &str = "docker-image://";
const GIT: &str = "git://";
const LAYOUT: &str = "oci-layout://";

/// Why a source cannot be used, or a file is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The file is not what a policy looks like.
    #[error("{0}")]
    Malformed(String),
    /// A rule makes no sense.
    #[error("rule {number}: {why}")]
    Rule {
        /// Its place, from 1.
        number: usize,
        /// What is wrong.
        why: String,
    },
    /// The policy denies a source.
    #[error("the source policy denies `{identifier}` (rule {number})")]
    Denied {
        /// The source.
        identifier: String,
        /// The rule that did it, from 1.
        number: usize,
    },
    /// Rules turn a source into others without an end.
    #[error("the source policy changes `{0}` again and again")]
    Endless(String),
    /// A source would become one of another kind.
    #[error("the source policy turns `{from}` into `{to}`, which cannot take its place")]
    OtherKind {
        /// The source.
        from: String,
        /// What it would become.
        to: String,
    },
    /// A rule sets an attribute that means nothing for the source.
    #[error("the source policy sets `{attribute}` of `{identifier}`, which means nothing there")]
    Attribute {
        /// The source.
        identifier: String,
        /// The attribute.
        attribute: String,
    },
}

/// The rules of a file, in order.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    rules: Vec<PolicyRule>,
}

#[derive(Clone, Debug)]
struct PolicyRule {
    action: PolicyAction,
    /// The selector as written.
    written: String,
    pattern: Pattern,
    constraints: Vec<(String, Condition)>,
    identifier: String,
    attributes: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum PolicyAction {
    Allow,
    Deny,
    Convert,
}

#[derive(Clone, Debug)]
enum Pattern {
    /// The text itself.
    Exact,
    /// A pattern over all of an identifier.
    Whole(Regex),
    /// A pattern that may match a part.
    Part(Regex),
}

#[derive(Clone, Debug)]
enum Condition {
    Equal(String),
    NotEqual(String),
    Matches(Regex),
}

/// A source as rules see it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    identifier: String,
    attributes: BTreeMap<String, String>,
}

impl Policy {
    /// Reads the JSON of a policy file.
    ///
    /// # Errors
    /// It is none, or a rule makes no sense.
    pub fn parse(json: &[u8]) -> Result<Self, PolicyError> {
        // Lists could be read as objects without names.
        if json.trim_ascii_start().first() == Some(&b'[') {
            return Err(PolicyError::Malformed("a policy is an object".into()));
        }
        let file: PolicyFile =
            serde_json::from_slice(json).map_err(|e| PolicyError::Malformed(e.to_string()))?;
        if !matches!(file.version, 0 | 1) {
            let why = format!("version {} is not known", file.version);
            return Err(PolicyError::Malformed(why));
        }
        let rules = file.rules.into_iter().enumerate().map(|(at, rule)| {
            rule.read().map_err(|why| PolicyError::Rule {
                number: at + 1,
                why,
            })
        });
        Ok(Self {
            rules: rules.collect::<Result<_, _>>()?,
        })
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The image that is used where `reference` is asked for: a name, or a layout on the disk.
    ///
    /// # Errors
    /// None may be used.
    pub fn image(&self, reference: &str) -> Result<String, PolicyError> {
        if self.is_empty() {
            return Ok(reference.to_owned());
        }
        let identifier = match Reference::parse(reference) {
            _ if reference.starts_with(LAYOUT) => reference.to_owned(),
            Ok(parsed) => format!("{IMAGE}{parsed}"),
            // What may be the id of an image of the store has a name that no rule can miss.
            Err(_) => format!("{IMAGE}{reference}"),
        };
        let before = Named {
            identifier,
            attributes: BTreeMap::new(),
        };
        let after = self.evaluate(before.clone())?;
        after.check_attributes(&before, &[])?;
        match after.identifier.strip_prefix(IMAGE) {
            _ if after == before => Ok(reference.to_owned()),
            Some(name) => Ok(name.to_owned()),
            None if after.identifier.starts_with(LAYOUT) => Ok(after.identifier),
            None => Err(before.cannot_be(&after)),
        }
    }

    /// The source that is used where `source` is asked for.
    ///
    /// # Errors
    /// None may be used.
    pub fn source(&self, source: SourceKind) -> Result<SourceKind, PolicyError> {
        match source {
            _ if self.is_empty() => Ok(source),
            SourceKind::Http { url, checksum } => self.web_file(url, checksum),
            SourceKind::Git {
                url,
                keep_git_dir,
                checksum,
            } => self.repository(&url, keep_git_dir, checksum),
            SourceKind::Image { .. } | SourceKind::Context { .. } => Ok(source),
        }
    }

    /// Whether a directory of this machine may be used: `context`, `dockerfile`, or a name that was
    /// given to it.
    ///
    /// # Errors
    /// It may not.
    pub fn directory(&self, name: &str) -> Result<(), PolicyError> {
        self.only_used(format!("local://{name}"))
    }

    /// Whether an archive that is streamed to the build may be used as the context of that name. Docker
    /// has its client serve it as a web file; here it is also what a directory in its place would be,
    /// and each has to be allowed.
    ///
    /// # Errors
    /// It may not.
    pub fn stream(&self, name: &str) -> Result<(), PolicyError> {
        self.directory(name)?;
        self.only_used(format!("http://buildkit-session/{name}"))
    }

    /// Whether a source may be used that nothing else can take the place of.
    fn only_used(&self, identifier: String) -> Result<(), PolicyError> {
        let before = Named {
            identifier,
            attributes: BTreeMap::new(),
        };
        let after = self.evaluate(before.clone())?;
        match after == before {
            true => Ok(()),
            false => Err(before.cannot_be(&after)),
        }
    }

    fn web_file(&self, url: String, checksum: Option<String>) -> Result<SourceKind, PolicyError> {
        let before = Named {
            identifier: url,
            attributes: checksum
                .into_iter()
                .map(|sum| (HTTP_CHECKSUM.to_owned(), sum))
                .collect(),
        };
        let mut after = self.evaluate(before.clone())?;
        after.check_attributes(&before, &[HTTP_CHECKSUM])?;
        let is_web = ["http://", "https://"]
            .iter()
            .any(|scheme| after.identifier.starts_with(scheme));
        if !is_web {
            return Err(before.cannot_be(&after));
        }
        Ok(SourceKind::Http {
            url: after.identifier,
            checksum: after.attributes.remove(HTTP_CHECKSUM),
        })
    }

    fn repository(
        &self,
        url: &str,
        keep_git_dir: bool,
        checksum: Option<String>,
    ) -> Result<SourceKind, PolicyError> {
        let address = Address::of(url);
        let mut before = Named {
            identifier: address.identifier(),
            attributes: BTreeMap::new(),
        };
        let given = [
            (GIT_ADDRESS, Some(address.remote.clone())),
            (GIT_KEEP, keep_git_dir.then(|| "true".to_owned())),
            (GIT_CHECKSUM, checksum),
        ];
        let given = given
            .into_iter()
            .filter_map(|(k, v)| Some((k.to_owned(), v?)));
        before.attributes.extend(given);
        let mut after = self.evaluate(before.clone())?;
        after.check_attributes(&before, &[GIT_ADDRESS, GIT_KEEP, GIT_CHECKSUM])?;
        let Some(place) = after.identifier.strip_prefix(GIT) else {
            return Err(before.cannot_be(&after));
        };
        let moved = after.attributes.remove(GIT_ADDRESS);
        let moved = moved.filter(|moved| *moved != address.remote);
        let (host, fragment) = split_fragment(place);
        let url = match moved {
            Some(remote) => format!("{remote}{fragment}"),
            None if after.identifier == before.identifier => url.to_owned(),
            None if host == address.place => format!("{}{fragment}", address.remote),
            None => format!("https://{host}{fragment}"),
        };
        Ok(SourceKind::Git {
            url,
            keep_git_dir: after.attributes.get(GIT_KEEP).is_some_and(|v| v == "true"),
            checksum: after.attributes.remove(GIT_CHECKSUM),
        })
    }

    /// What becomes of a source: after each change all rules are looked at again.
    fn evaluate(&self, mut source: Named) -> Result<Named, PolicyError> {
        let asked = source.identifier.clone();
        for _ in 0..=MOST_CHANGES {
            match self.once(&source)? {
                None => return Ok(source),
                Some(changed) => source = changed,
            }
        }
        Err(PolicyError::Endless(asked))
    }

    /// The first change that a rule makes; else the last rule that allows or denies counts.
    fn once(&self, source: &Named) -> Result<Option<Named>, PolicyError> {
        let mut denied = None;
        for (at, rule) in self.rules.iter().enumerate() {
            if !rule.matches(source) {
                continue;
            }
            match rule.action {
                PolicyAction::Allow => denied = None,
                PolicyAction::Deny => denied = Some(at + 1),
                PolicyAction::Convert => {
                    let changed = rule.convert(source);
                    if changed != *source {
                        return Ok(Some(changed));
                    }
                }
            }
        }
        match denied {
            None => Ok(None),
            Some(number) => Err(PolicyError::Denied {
                identifier: SafeUrl::of(&source.identifier).into(),
                number,
            }),
        }
    }
}

impl Named {
    fn cannot_be(&self, other: &Self) -> PolicyError {
        PolicyError::OtherKind {
            from: SafeUrl::of(&self.identifier).into(),
            to: SafeUrl::of(&other.identifier).into(),
        }
    }

    /// Refuses attributes that rules have set and nobody would look at.
    fn check_attributes(&self, before: &Self, known: &[&str]) -> Result<(), PolicyError> {
        let set = self.attributes.keys().find(|key| {
            !known.contains(&key.as_str()) && !before.attributes.contains_key(key.as_str())
        });
        match set {
            None => Ok(()),
            Some(attribute) => Err(PolicyError::Attribute {
                identifier: SafeUrl::of(&self.identifier).into(),
                attribute: attribute.clone(),
            }),
        }
    }
}

impl PolicyRule {
    fn matches(&self, source: &Named) -> bool {
        let value = |key: &str| source.attributes.get(key).map_or("", String::as_str);
        let holds = |(key, condition): &(String, Condition)| match condition {
            Condition::Equal(wanted) => value(key) == wanted,
            Condition::NotEqual(other) => value(key) != other,
            Condition::Matches(pattern) => pattern.is_match(value(key)),
        };
        let identifier = &source.identifier;
        self.constraints.iter().all(holds)
            && (self.written == *identifier
                || match &self.pattern {
                    Pattern::Exact => false,
                    Pattern::Whole(pattern) | Pattern::Part(pattern) => {
                        pattern.is_match(identifier)
                    }
                })
    }

    fn convert(&self, source: &Named) -> Named {
        let mut changed = source.clone();
        let to = self.identifier.as_str();
        changed.identifier = match &self.pattern {
            // Attributes alone are set.
            _ if to.is_empty() => source.identifier.clone(),
            Pattern::Exact => to.to_owned(),
            Pattern::Part(pattern) => pattern.replace_all(&source.identifier, to).into_owned(),
            Pattern::Whole(pattern) => match pattern.captures(&source.identifier) {
                Some(found) => {
                    let mut text = String::new();
                    found.expand(to, &mut text);
                    text
                }
                None => source.identifier.clone(),
            },
        };
        changed
            .attributes
            .extend(self.attributes.iter().map(|(k, v)| (k.clone(), v.clone())));
        changed
    }
}
