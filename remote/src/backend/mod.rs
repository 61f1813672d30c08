//! The places that remotes are: repositories of registries, directories, buckets.

mod host_image;
mod objects;
mod place;
mod registry;

pub(crate) use objects::Objects;
pub(crate) use registry::Registry;

/// Where a remote is.
#[derive(Debug)]
pub(crate) enum Backend {
    Registry(Registry),
    Objects(Objects),
}

/// What is in a small object of a remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordKind {
    /// One record.
    Single,
    /// Copies of several.
    Bundle,
}

impl RecordKind {
    /// What its tags begin with.
    fn tag(self) -> &'static str {
        match self {
            Self::Single => "k1-",
            Self::Bundle => "b1-",
        }
    }

    /// The folder that it is in.
    fn folder(self) -> &'static str {
        match self {
            Self::Single => "records-v1",
            Self::Bundle => "bundles-v1",
        }
    }
}

/// Sixteen random bytes in hexadecimal digits.
pub(crate) fn random_hex() -> Result<String, crate::error::RemoteError> {
    let mut random = [0_u8; 16];
    kiln_sys::system::random(&mut random).map_err(kiln_cache::Error::from)?;
    Ok(random.iter().map(|b| format!("{b:02x}")).collect())
}
