//! Signatures of records: who wrote them, and whose are believed.

use std::path::Path;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kiln_sys::{Pipes, read_named_text};
use serde::{Deserialize, Serialize};

/// What a signature is over begins with this, so that no signature for another purpose fits.
const DOMAIN: &str = "kiln cache record v1";
/// The DER before the 32 bytes of an Ed25519 public key (RFC 8410).
const SPKI: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// Why a key is unusable.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file cannot be read.
    #[error("key `{path}` cannot be read: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It holds no Ed25519 key.
    #[error("`{path}` is no Ed25519 {what} in PEM form")]
    Malformed {
        /// The file.
        path: String,
        /// `private key` or `public key`.
        what: &'static str,
    },
}

/// The key that records are signed with.
#[derive(Debug)]
pub struct SigningKey(Ed25519KeyPair);

/// A key whose records are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyingKey([u8; 32]);

/// The largest file with a key, in bytes.
const MAX_KEY: u64 = 64 << 10;

fn read_pem(path: &Path, label: &str) -> Result<Option<Vec<u8>>, TrustError> {
    let text = read_named_text(path, MAX_KEY, Pipes::Refused).map_err(|e| TrustError::Read {
        path: path.display().to_string(),
        source: e.source,
    })?;
    let begin = format!("-----BEGIN {label}-----");
    let end = format!("-----END {label}-----");
    let body = text
        .split_once(&begin)
        .and_then(|(_, rest)| rest.split_once(&end));
    Ok(body.and_then(|(body, _)| {
        let digits: String = body.split_whitespace().collect();
        BASE64.decode(digits).ok()
    }))
}

impl SigningKey {
    /// Reads a private key (PKCS #8 in PEM, as `openssl genpkey -algorithm ed25519` writes it).
    ///
    /// # Errors
    /// The file cannot be read or holds something else.
    pub fn read(path: &Path) -> Result<Self, TrustError> {
        let der = read_pem(path, "PRIVATE KEY")?;
        der.and_then(|der| Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).ok())
            .map(Self)
            .ok_or_else(|| TrustError::Malformed {
                path: path.display().to_string(),
                what: "private key",
            })
    }

    /// Its public half.
    pub fn verifying_key(&self) -> VerifyingKey {
        let mut key = [0; 32];
        for (to, from) in key.iter_mut().zip(self.0.public_key().as_ref()) {
            *to = *from;
        }
        VerifyingKey(key)
    }
}

impl VerifyingKey {
    /// Reads a public key (in PEM, as `openssl pkey -pubout` writes it).
    ///
    /// # Errors
    /// The file cannot be read or holds something else.
    pub fn read(path: &Path) -> Result<Self, TrustError> {
        let der = read_pem(path, "PUBLIC KEY")?;
        der.as_deref()
            .and_then(|der| der.strip_prefix(&SPKI))
            .and_then(|key| key.try_into().ok())
            .map(Self)
            .ok_or_else(|| TrustError::Malformed {
                path: path.display().to_string(),
                what: "public key",
            })
    }
}

/// A record with its signature, as a remote keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sealed {
    record: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signature: Option<Signature>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Signature {
    /// The public key, in base64.
    key: String,
    /// The signature, in base64.
    value: String,
}

impl Sealed {
    /// Bytes of the record.
    pub(crate) fn size(&self) -> usize {
        self.record.len()
    }

    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, String> {
        serde_json::to_vec(self).map_err(|e| e.to_string())
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|e| e.to_string())
    }
}

/// Whose records are believed, and who signs new ones.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Signs what is written.
    pub sign: Option<std::sync::Arc<SigningKey>>,
    /// The writers that are believed; none means everybody who can write to the remote.
    pub accept: Option<Vec<VerifyingKey>>,
}

/// What is signed: the namespace is part of it, so that a record cannot be moved to another.
fn message(namespace: &str, record: &str) -> Vec<u8> {
    let mut message = Vec::new();
    for part in [DOMAIN, namespace, record] {
        message.extend((part.len() as u64).to_le_bytes());
        message.extend(part.as_bytes());
    }
    message
}

impl Trust {
    /// Whether a record that is written here is believed here.
    pub(crate) fn accepts_own(&self) -> bool {
        match (&self.accept, &self.sign) {
            (None, _) => true,
            (Some(accept), Some(sign)) => accept.contains(&sign.verifying_key()),
            (Some(_), None) => false,
        }
    }

    /// Signs a record, if there is a key.
    pub(crate) fn seal(&self, namespace: &str, record: String) -> Sealed {
        let signature = self.sign.as_ref().map(|key| Signature {
            key: BASE64.encode(key.verifying_key().0),
            value: BASE64.encode(key.0.sign(&message(namespace, &record))),
        });
        Sealed { record, signature }
    }

    /// The record, if it is believed.
    pub(crate) fn open<'a>(&self, namespace: &str, sealed: &'a Sealed) -> Result<&'a str, String> {
        if let Some(accept) = &self.accept {
            let signature = sealed.signature.as_ref().ok_or("it is not signed")?;
            let decode = |text: &str| BASE64.decode(text).map_err(|e| e.to_string());
            let (key, value) = (decode(&signature.key)?, decode(&signature.value)?);
            if !accept.iter().any(|a| a.0 == *key) {
                return Err("its writer is not among those that are accepted".into());
            }
            UnparsedPublicKey::new(&ED25519, &key)
                .verify(&message(namespace, &sealed.record), &value)
                .map_err(|_| "its signature is wrong")?;
        }
        Ok(&sealed.record)
    }
}
