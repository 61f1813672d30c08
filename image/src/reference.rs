//! Image references with Docker's normalisation: `busybox` is `docker.io/library/busybox:latest`.

mod near;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::{Algorithm, Digest, DigestError};
pub use near::nearest;

/// The registry of references that name none.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The tag of references that name neither tag nor digest.
pub const DEFAULT_TAG: &str = "latest";
/// The namespace of single-name repositories on the default registry.
const OFFICIAL_NAMESPACE: &str = "library";
/// The old host name of the default registry.
const LEGACY_REGISTRY: &str = "index.docker.io";
const MAX_REPOSITORY: usize = 255;
const MAX_TAG: usize = 128;

/// Why a text is not an image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing at all.
    #[error("image reference is empty")]
    Empty,
    /// The registry is no host name with an optional port.
    #[error("registry `{0}` is not a host name with an optional port")]
    BadRegistry(String),
    /// A repository name with upper case letters.
    #[error("repository `{0}` must be lower case")]
    Uppercase(String),
    /// The repository breaks the grammar.
    #[error("repository `{0}` is not a valid name")]
    BadRepository(String),
    /// The repository has more than 255 characters.
    #[error("repository name is longer than {MAX_REPOSITORY} characters")]
    TooLong,
    /// The tag breaks the grammar.
    #[error("tag `{0}` is not valid")]
    BadTag(String),
    /// A bare image id where a name is needed.
    #[error("`{0}` is an image id, not a reference")]
    BareId(String),
    /// A digest in a name that an image is to be given: it says what the image is.
    #[error("a new name cannot have a digest")]
    Pinned,
    /// A name that an image is to be given, which with some tags would look like an id.
    #[error("a new name cannot be that of a digest algorithm: `{0}` with a tag looks like an id")]
    Algorithm(String),
    /// The part after `@` is no digest.
    #[error("digest of the reference is not valid")]
    BadDigest(#[from] DigestError),
}

/// A normalised image reference: registry, repository and a tag, a digest or both.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Parses and normalises; the same as [`FromStr`].
    ///
    /// # Errors
    /// When the text breaks the grammar of the distribution specification.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        text.parse()
    }

    /// A name that an image is to be given. It has no digest: only what a registry has under a
    /// digest may be called by one.
    ///
    /// # Errors
    /// As [`Reference::parse`], and when the name may not be given.
    pub fn parse_new(text: &str) -> Result<Self, ReferenceError> {
        let reference = Self::parse(text)?;
        reference.check_new()?;
        Ok(reference)
    }

    /// Whether an image may be given this name: it has no digest, and no name such as `sha256`, as Docker
    /// has it (daemon/images/image_tag.go).
    ///
    /// # Errors
    /// It may not.
    pub fn check_new(&self) -> Result<(), ReferenceError> {
        if self.digest.is_some() {
            return Err(ReferenceError::Pinned);
        }
        let name = self.familiar_name();
        if Algorithm::of_name(&name).is_some() {
            return Err(ReferenceError::Algorithm(name));
        }
        Ok(())
    }

    /// Puts a reference together from validated parts; without tag and digest, `latest` is meant.
    ///
    /// # Errors
    /// When a part breaks the grammar.
    pub fn from_parts(
        registry: &str,
        repository: &str,
        tag: Option<&str>,
        digest: Option<Digest>,
    ) -> Result<Self, ReferenceError> {
        if !is_registry(registry) {
            return Err(ReferenceError::BadRegistry(shown(registry)));
        }
        check_repository(repository)?;
        let registry = if registry == LEGACY_REGISTRY {
            DEFAULT_REGISTRY
        } else {
            registry
        };
        let official = registry == DEFAULT_REGISTRY && !repository.contains('/');
        let tag = match tag {
            Some(tag) if !is_tag(tag) => return Err(ReferenceError::BadTag(shown(tag))),
            None if digest.is_none() => Some(DEFAULT_TAG),
            tag => tag,
        };
        let repository = match official {
            true => format!("{OFFICIAL_NAMESPACE}/{repository}"),
            false => repository.to_owned(),
        };
        // The namespace counts as well.
        if repository.len() > MAX_REPOSITORY {
            return Err(ReferenceError::TooLong);
        }
        Ok(Self {
            registry: registry.into(),
            repository,
            tag: tag.map(Into::into),
            digest,
        })
    }

    /// The registry's host name with its port, if it has one. `docker.io` for Docker Hub.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository's path, without registry.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; always there when there is no digest.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest.
    #[must_use]
    pub const fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Registry and repository, without tag and digest.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// What to ask a registry's manifest endpoint for: the digest when there is one.
    #[must_use]
    pub fn manifest_id(&self) -> &str {
        match &self.digest {
            Some(digest) => digest.as_str(),
            None => self.tag.as_deref().unwrap_or(DEFAULT_TAG),
        }
    }

    /// The short form without what normalisation added; `latest` stays.
    #[must_use]
    pub fn familiar(&self) -> String {
        let mut text = self.familiar_name();
        self.push_suffix(&mut text);
        text
    }

    /// The short form of the name alone.
    #[must_use]
    pub fn familiar_name(&self) -> String {
        // A namespace that looks like a host would be taken for one without the registry.
        let ambiguous = self
            .repository
            .split_once('/')
            .is_some_and(|(first, _)| looks_like_registry(first));
        if self.registry != DEFAULT_REGISTRY || ambiguous {
            return self.name();
        }
        let short = self
            .repository
            .strip_prefix("library/")
            .filter(|rest| !rest.contains('/'));
        short.unwrap_or(&self.repository).into()
    }

    fn push_suffix(&self, text: &mut String) {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(digest.as_str());
        }
    }

    /// The same repository with another tag and no digest.
    ///
    /// # Errors
    /// When the tag is not valid.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError::BadTag(shown(tag)));
        }
        Ok(Self {
            tag: Some(tag.into()),
            digest: None,
            ..self.clone()
        })
    }

    /// The same reference, pinned to a digest; the tag stays beside it.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// The repository by digest alone, without a tag.
    #[must_use]
    pub fn by_digest(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.name();
        self.push_suffix(&mut text);
        f.write_str(&text)
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        let is_hex =
            text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if is_hex || text.parse::<Digest>().is_ok() {
            return Err(ReferenceError::BareId(shown(text)));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        // The first component is a registry when it cannot be a repository name.
        let (registry, rest) = match rest.split_once('/') {
            Some((first, path)) if looks_like_registry(first) => (first, path),
            _ => (DEFAULT_REGISTRY, rest),
        };
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        Self::from_parts(registry, repository, tag, digest)
    }
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

fn looks_like_registry(first: &str) -> bool {
    first.contains(['.', ':', '['])
        || first == "localhost"
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

/// Whether a text is a host name, IPv4 address or bracketed IPv6 address with an optional port.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, after)) = rest.split_once(']') else {
                return false;
            };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            match after.strip_prefix(':') {
                None => return after.is_empty(),
                Some(port) => ("", Some(port)),
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port_ok = port.is_none_or(|port| {
        !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
    });
    let label_ok = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let host_ok = text.starts_with('[') || (host.len() <= 253 && host.split('.').all(label_ok));
    port_ok && host_ok
}

fn check_repository(text: &str) -> Result<(), ReferenceError> {
    if text.len() > MAX_REPOSITORY {
        return Err(ReferenceError::TooLong);
    }
    if text.split('/').all(is_path_component) {
        return Ok(());
    }
    let lower = text.to_ascii_lowercase();
    Err(
        if lower != text && lower.split('/').all(is_path_component) {
            ReferenceError::Uppercase(shown(text))
        } else {
            ReferenceError::BadRepository(shown(text))
        },
    )
}

/// Runs of lower-case letters and digits with `.`, `_`, `__` or hyphens between them.
fn is_path_component(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends_ok = |b: Option<&u8>| b.copied().is_some_and(alphanumeric);
    ends_ok(bytes.first())
        && ends_ok(bytes.last())
        && bytes.split(|b| alphanumeric(*b)).all(|separator| {
            matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
        })
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= MAX_TAG
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests;
