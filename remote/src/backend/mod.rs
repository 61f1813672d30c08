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

/// Sixteen random bytes in hexadecimal digits.
pub(crate) fn random_hex() -> Result<String, crate::error::RemoteError> {
    let mut random = [0_u8; 16];
    kiln_sys::system::random(&mut random).map_err(kiln_cache::Error::from)?;
    Ok(random.iter().map(|b| format!("{b:02x}")).collect())
}
