//! Certificates of authorities that steps are to trust.

use std::path::PathBuf;

use kiln_sys::{Pipes, read_named};

use crate::error::{Error, Result};

/// The largest file of certificates, in bytes: all authorities that there are take less than 1 MiB.
const MAX_PEM_BYTES: u64 = 16 << 20;

/// The certificates of these files, as PEM.
///
/// # Errors
/// A file cannot be read, or has none.
pub(super) fn read(files: &[PathBuf]) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    for path in files {
        let wrong = |why: &str| {
            let path = path.display();
            Error::failed(format!(
                "certificate authority `{path}` of the config file: {why}"
            ))
        };
        let bytes = read_named(path, MAX_PEM_BYTES, Pipes::Refused);
        let bytes = bytes.map_err(|e| wrong(&e.source.to_string()))?;
        let mark = b"-----BEGIN CERTIFICATE-----";
        if !bytes.windows(mark.len()).any(|part| part == mark) {
            return Err(wrong("there is no certificate in the form of PEM in it"));
        }
        all.extend(bytes);
        if !all.ends_with(b"\n") {
            all.push(b'\n');
        }
    }
    Ok(all)
}
