//! Content digests, the ids derived from them, and streaming hashers.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// No colon between algorithm and value.
    #[error("digest `{0}` has no algorithm prefix")]
    NoAlgorithm(String),
    /// The algorithm is neither `sha256` nor `sha512`.
    #[error("digest algorithm `{0}` is not supported")]
    UnknownAlgorithm(String),
    /// The value has the wrong length, upper case letters or other characters.
    #[error("digest value `{value}` is not {expected} lower-case hexadecimal digits")]
    BadValue {
        /// The text after the colon, shortened.
        value: String,
        /// The number of digits that the algorithm needs.
        expected: usize,
    },
}

/// A digest algorithm registered by the OCI image specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, the one in general use.
    Sha256,
    /// SHA-512, optional in the specification.
    Sha512,
}

impl Algorithm {
    /// The name in front of the colon.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// The algorithm of this name, if it is one of these.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Sha256, Self::Sha512]
            .into_iter()
            .find(|algorithm| algorithm.as_str() == name)
    }

    /// The number of hexadecimal digits of a value.
    #[must_use]
    pub const fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A digest such as `sha256:` and 64 lower-case hexadecimal digits.
///
/// The only ways to make one validate it, so its parts are safe as path components and in URLs.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(Box<str>);

impl Digest {
    /// The SHA-256 digest of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_sha256(Sha256::digest(bytes).into())
    }

    /// Wraps a finished SHA-256 value.
    #[must_use]
    pub fn from_sha256(value: [u8; 32]) -> Self {
        Self::from_raw(Algorithm::Sha256, &value)
    }

    fn from_raw(algorithm: Algorithm, value: &[u8]) -> Self {
        let mut text = String::with_capacity(algorithm.hex_len() + 7);
        text.push_str(algorithm.as_str());
        text.push(':');
        text.push_str(&hex::encode(value));
        Self(text.into_boxed_str())
    }

    /// The algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        if self.0.starts_with("sha512") {
            Algorithm::Sha512
        } else {
            Algorithm::Sha256
        }
    }

    /// The value as lower-case hexadecimal digits; safe as a file name.
    #[must_use]
    pub fn hex(&self) -> &str {
        // Both prefixes have seven characters.
        self.0.get(7..).unwrap_or_default()
    }

    /// Another name of [`Digest::hex`], the term of the OCI specification.
    #[must_use]
    pub fn encoded(&self) -> &str {
        self.hex()
    }

    /// The first twelve digits, as shown in tables.
    #[must_use]
    pub fn short(&self) -> &str {
        self.hex().get(..12).unwrap_or_default()
    }

    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the digest is the one of these bytes.
    #[must_use]
    pub fn matches(&self, bytes: &[u8]) -> bool {
        let mut hasher = Hasher::new(self.algorithm());
        hasher.update(bytes);
        hasher.finish() == *self
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let shown = |text: &str| text.chars().take(140).collect::<String>();
        let (name, value) = text
            .split_once(':')
            .ok_or_else(|| DigestError::NoAlgorithm(shown(text)))?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(DigestError::UnknownAlgorithm(shown(name))),
        };
        let expected = algorithm.hex_len();
        if value.len() != expected
            || !value
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        {
            return Err(DigestError::BadValue {
                value: shown(value),
                expected,
            });
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0.into()
    }
}

impl AsRef<str> for Digest {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Makes a digest with a meaning of its own, so that one kind cannot be passed as another.
macro_rules! digest_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Digest);

        impl $name {
            /// Gives a digest this meaning.
            #[must_use]
            pub const fn new(digest: Digest) -> Self {
                Self(digest)
            }

            /// The plain digest.
            #[must_use]
            pub const fn digest(&self) -> &Digest {
                &self.0
            }

            /// The plain digest, by value.
            #[must_use]
            pub fn into_digest(self) -> Digest {
                self.0
            }
        }

        impl From<Digest> for $name {
            fn from(digest: Digest) -> Self {
                Self(digest)
            }
        }

        impl FromStr for $name {
            type Err = DigestError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

digest_id! {
    /// The digest of a layer's uncompressed tar.
    DiffId
}
digest_id! {
    /// The digest that names a stack of layers (OCI image specification, "Layer ChainID").
    ChainId
}

impl ChainId {
    /// The chain id of layers, lowest first; `None` for no layers.
    #[must_use]
    pub fn of(layers: &[DiffId]) -> Option<Self> {
        let (first, rest) = layers.split_first()?;
        Some(
            rest.iter()
                .fold(Self(first.0.clone()), |chain, diff| chain.then(diff)),
        )
    }

    /// The chain id of this stack with one more layer on top.
    #[must_use]
    pub fn then(&self, layer: &DiffId) -> Self {
        let mut hasher = Hasher::sha256();
        hasher.update(self.0.as_str().as_bytes());
        hasher.update(b" ");
        hasher.update(layer.0.as_str().as_bytes());
        Self(hasher.finish())
    }
}

/// Hashes bytes as they come.
#[derive(Clone)]
pub struct Hasher(HasherState);

#[derive(Clone)]
enum HasherState {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    /// A hasher of the given algorithm.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => HasherState::Sha256(Sha256::new()),
            Algorithm::Sha512 => HasherState::Sha512(Sha512::new()),
        })
    }

    /// A SHA-256 hasher.
    #[must_use]
    pub fn sha256() -> Self {
        Self::new(Algorithm::Sha256)
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            HasherState::Sha256(state) => state.update(bytes),
            HasherState::Sha512(state) => state.update(bytes),
        }
    }

    /// The digest of everything added.
    #[must_use]
    pub fn finish(self) -> Digest {
        match self.0 {
            HasherState::Sha256(state) => Digest::from_raw(Algorithm::Sha256, &state.finalize()),
            HasherState::Sha512(state) => Digest::from_raw(Algorithm::Sha512, &state.finalize()),
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

/// Passes bytes on to another writer, and counts and hashes them with SHA-256.
#[derive(Debug)]
pub struct Sha256Writer<W> {
    inner: W,
    hasher: Hasher,
    written: u64,
}

impl<W: Write> Sha256Writer<W> {
    /// Wraps a writer; use [`io::sink`] to hash only.
    pub fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: Hasher::sha256(),
            written: 0,
        }
    }

    /// Bytes written so far.
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// The inner writer, the digest and the number of bytes.
    pub fn finish(self) -> (W, Digest, u64) {
        (self.inner, self.hasher.finish(), self.written)
    }
}

impl<W: Write> Write for Sha256Writer<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buf)?;
        self.hasher.update(buf.get(..n).unwrap_or(buf));
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn known_values() {
        assert_eq!(Digest::of(b"").as_str(), EMPTY);
        let mut hasher = Hasher::new(Algorithm::Sha512);
        hasher.update(b"abc");
        let digest = hasher.finish();
        assert!(
            digest.as_str().starts_with("sha512:ddaf35a193617aba"),
            "{digest}"
        );
        assert_eq!(digest.as_str().parse::<Digest>().unwrap(), digest);
        assert!(digest.matches(b"abc") && !digest.matches(b"abd"));
        assert_eq!(Digest::of(b"").short(), "e3b0c44298fc");
    }

    #[test]
    fn refuses_everything_else() {
        let hex = &EMPTY[7..];
        for bad in [
            String::new(),
            hex.into(),
            "sha256:".into(),
            "sha256:../../../../etc/passwd".into(),
            format!("sha256:{}", &hex[1..]),
            format!("sha256:{hex}0"),
            format!("sha256:{}", hex.to_uppercase()),
            format!("SHA256:{hex}"),
            format!("sha512:{hex}"),
            format!("md5:{}", &hex[..32]),
            format!("sha256:{hex}\n"),
            format!(" sha256:{hex}"),
            format!("sha256:/{}", &hex[1..]),
            format!("sha256:é{}", &hex[2..]),
            format!("../sha256:{hex}"),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad:?}");
            let json = serde_json::to_string(&bad).unwrap();
            assert!(serde_json::from_str::<Digest>(&json).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn chain_ids_follow_the_specification() {
        let a = DiffId::new(Digest::of(b"a"));
        let b = DiffId::new(Digest::of(b"b"));
        assert_eq!(ChainId::of(&[]), None);
        assert_eq!(
            ChainId::of(std::slice::from_ref(&a)).unwrap().digest(),
            a.digest()
        );
        let two = ChainId::of(&[a.clone(), b.clone()]).unwrap();
        assert_eq!(two.digest(), &Digest::of(format!("{a} {b}").as_bytes()));
        let three = ChainId::of(&[a.clone(), b, a.clone()]).unwrap();
        assert_eq!(three.digest(), &Digest::of(format!("{two} {a}").as_bytes()));
    }

    #[test]
    fn writer_hashes_what_it_passes_on() {
        let mut writer = Sha256Writer::new(Vec::new());
        writer.write_all(b"hello ").unwrap();
        writer.write_all(b"world").unwrap();
        let (bytes, digest, size) = writer.finish();
        assert_eq!((bytes.as_slice(), size), (&b"hello world"[..], 11));
        assert_eq!(digest, Digest::of(b"hello world"));
    }
}
