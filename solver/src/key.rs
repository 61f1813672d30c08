//! Cache keys: a written, versioned, length-prefixed encoding, hashed with BLAKE3.
//!
//! A key covers everything that can change an op's result, and nothing of the host: no paths of
//! this machine, no clocks. It is made of the inputs that explain it (`explain::inputs_of`), which takes every op
//! apart field by field: a field that is added without being named does not compile. So does `content_key!`, by
//! which values encode themselves ([`ContentKey`]).
//!
//! ```
//! use kiln_solver::key::{ContentKey, Encoder, Identity, Key, TreeDigest};
//!
//! /// The key of a command on a base.
//! fn key(words: &[&str], base: Identity) -> Key {
//!     let words: Vec<String> = words.iter().map(ToString::to_string).collect();
//!     let mut to = Encoder::new("example");
//!     words.encode(&mut to);
//!     base.encode(&mut to);
//!     Key::from(to.finish())
//! }
//!
//! let base = Identity::empty().with_layer(TreeDigest([7; 32]));
//! assert_eq!(key(&["make", "all"], base), key(&["make", "all"], base));
//! // Lengths are encoded, so neighbouring values cannot run into each other.
//! assert_ne!(key(&["make", "all"], base), key(&["makea", "ll"], base));
//! // Of the base, its content is in the key.
//! assert_ne!(key(&["make", "all"], base), key(&["make", "all"], Identity::empty()));
//! ```

/// Version of the encoding. Raised whenever the same op would be encoded differently, or the
/// result of an op changes.
pub const VERSION: u32 = 9;

macro_rules! hash_id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// Lower-case hexadecimal.
            pub fn to_hex(self) -> String {
                blake3::Hash::from_bytes(self.0).to_hex().to_string()
            }

            /// From 64 hexadecimal digits.
            pub fn from_hex(text: &str) -> Option<Self> {
                blake3::Hash::from_hex(text).ok().map(|h| Self(*h.as_bytes()))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({})", stringify!($name), &self.to_hex()[..12])
            }
        }

        impl From<blake3::Hash> for $name {
            fn from(hash: blake3::Hash) -> Self {
                Self(*hash.as_bytes())
            }
        }

        impl ContentKey for $name {
            fn encode(&self, to: &mut Encoder) {
                to.bytes(&self.0);
            }
        }
    };
}

hash_id! {
    /// The key of an op: its definition and the identities of its inputs.
    Key
}
hash_id! {
    /// The identity of a result: the content of its layers, from the bottom up.
    Identity
}
hash_id! {
    /// The content of selected paths of a tree: types, modes, owners, attributes, bytes; no times.
    Fingerprint
}
hash_id! {
    /// The content of one layer, without times.
    TreeDigest
}

impl Identity {
    /// The identity of an empty file system.
    pub fn empty() -> Self {
        Self(*blake3::hash(b"kiln empty tree").as_bytes())
    }

    /// The identity of this result with a layer on top.
    pub fn with_layer(self, layer: TreeDigest) -> Self {
        let mut to = Encoder::new("identity");
        to.bytes(&self.0);
        to.bytes(&layer.0);
        Self::from(to.finish())
    }
}

/// Collects an encoding.
#[derive(Debug)]
pub struct Encoder {
    hasher: blake3::Hasher,
}

impl Encoder {
    /// Starts an encoding in a domain of its own.
    pub fn new(domain: &str) -> Self {
        let mut new = Self {
            hasher: blake3::Hasher::new(),
        };
        new.bytes(domain.as_bytes());
        new.number(u64::from(VERSION));
        new
    }

    /// Length, then bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.hasher.update(bytes);
    }

    /// Eight bytes, little-endian.
    pub fn number(&mut self, number: u64) {
        self.hasher.update(&number.to_le_bytes());
    }

    /// How many bytes were encoded so far.
    pub(crate) fn len(&self) -> u64 {
        self.hasher.count()
    }

    /// The hash of all that was encoded.
    pub fn finish(self) -> blake3::Hash {
        self.hasher.finalize()
    }
}

/// A value with a stable encoding.
pub trait ContentKey {
    /// Appends the encoding.
    fn encode(&self, to: &mut Encoder);
}

impl ContentKey for str {
    fn encode(&self, to: &mut Encoder) {
        to.bytes(self.as_bytes());
    }
}

impl ContentKey for String {
    fn encode(&self, to: &mut Encoder) {
        to.bytes(self.as_bytes());
    }
}

macro_rules! numbers {
    ($($t:ty),*) => { $(impl ContentKey for $t {
        fn encode(&self, to: &mut Encoder) {
            to.number(u64::from(*self));
        }
    })* };
}
numbers!(bool, u8, u32, u64);

impl ContentKey for usize {
    fn encode(&self, to: &mut Encoder) {
        to.number(*self as u64);
    }
}

impl<T: ContentKey> ContentKey for Option<T> {
    fn encode(&self, to: &mut Encoder) {
        match self {
            None => to.number(0),
            Some(value) => {
                to.number(1);
                value.encode(to);
            }
        }
    }
}

impl<T: ContentKey> ContentKey for Vec<T> {
    fn encode(&self, to: &mut Encoder) {
        to.number(self.len() as u64);
        for item in self {
            item.encode(to);
        }
    }
}

impl<A: ContentKey, B: ContentKey> ContentKey for (A, B) {
    fn encode(&self, to: &mut Encoder) {
        self.0.encode(to);
        self.1.encode(to);
    }
}

/// Implements [`ContentKey`] for a struct. Every field must be named: those after `except` are
/// left out on purpose.
macro_rules! content_key {
    ($name:ident { $($field:ident),* $(,)? } $(except { $($skip:ident),* $(,)? })?) => {
        impl $crate::key::ContentKey for $name {
            fn encode(&self, to: &mut $crate::key::Encoder) {
                let Self { $($field,)* $($($skip: _,)*)? } = self;
                to.bytes(stringify!($name).as_bytes());
                $(
                    to.bytes(stringify!($field).as_bytes());
                    $crate::key::ContentKey::encode($field, to);
                )*
            }
        }
    };
}
pub(crate) use content_key;

/// The hash of any encodable value.
pub fn hash_of(value: &(impl ContentKey + ?Sized)) -> blake3::Hash {
    let mut to = Encoder::new("value");
    value.encode(&mut to);
    to.finish()
}

/// The first 16 hexadecimal digits of the hash of any encodable value: enough to tell a few values apart.
pub fn digest_of(value: &(impl ContentKey + ?Sized)) -> String {
    short(hash_of(value))
}

/// The first 16 hexadecimal digits of a hash.
pub(crate) fn short(hash: blake3::Hash) -> String {
    hash.to_hex()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(values: &[&dyn ContentKey]) -> blake3::Hash {
        let mut to = Encoder::new("test");
        for value in values {
            value.encode(&mut to);
        }
        to.finish()
    }

    #[test]
    fn neighbouring_values_cannot_run_into_each_other() {
        let (ab, c, a, bc) = (
            "ab".to_owned(),
            "c".to_owned(),
            "a".to_owned(),
            "bc".to_owned(),
        );
        assert_ne!(hash(&[&ab, &c]), hash(&[&a, &bc]));
        assert_ne!(hash(&[&vec![ab.clone()], &c]), hash(&[&vec![ab, c]]));
        assert_ne!(hash(&[&None::<String>]), hash(&[&Some(String::new())]));
    }

    /// What was stored is found by these. Where one of them changes, [`VERSION`] does.
    #[test]
    fn the_encoding_of_this_version() {
        assert_eq!(VERSION, 9);
        let values: [&dyn ContentKey; 6] = [
            &"text".to_owned(),
            &7_u64,
            &true,
            &Some(3_u32),
            &vec!["a".to_owned(), String::new()],
            &("b".to_owned(), 1_u8),
        ];
        let golden = [
            (
                hash(&values).to_hex().to_string(),
                "9601296521cd6bb682d60a4ae2ca4072a8627fecf3dd853e4088dfc78c82e031",
            ),
            (
                Identity::empty().to_hex(),
                "c05cba20251b607cc733ac55b53c5ac2e8b523e00a13538185605f50ddce1583",
            ),
            (
                Identity::empty().with_layer(TreeDigest([7; 32])).to_hex(),
                "ea400a12e3ec859cf1d2f6f0cf17bbc27e5758d5a9c4fd71ad61e2c69cf1a99c",
            ),
        ];
        for (found, expected) in golden {
            assert_eq!(found, expected);
        }
    }
}
