//! Certificate authorities that steps are offered: their programs trust those of the image and these.
//!
//! As with proxy variables nothing of it is part of a key or of the image: a file in memory with the
//! image's own authorities and the given ones, and the variables by which programs find such a file.

use std::path::{Path, PathBuf};

use kiln_cache::{LayerId, Store};
use kiln_sandbox::{Mount, MountFlags, MountSource};

use crate::error::Result;

/// Where distributions keep their bundle: Debian and Alpine, Fedora, openSUSE, and OpenSSL's own place.
const BUNDLES: [&str; 4] = [
    "etc/ssl/certs/ca-certificates.crt",
    "etc/pki/tls/certs/ca-bundle.crt",
    "etc/ssl/ca-bundle.pem",
    "etc/ssl/cert.pem",
];

/// Bytes of a bundle at most; usual ones have 200 kB.
const MAX_BUNDLE: u64 = 8 << 20;

/// Where a step sees the file.
const TARGET: &str = "/run/kiln/ca-certificates.crt";

/// Variables that name a bundle to OpenSSL and Go, curl, Python's requests and pip, git, cargo and the
/// tools of AWS, and one that names further authorities to Node.
const VARIABLES: [&str; 8] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
];

/// The file and the variables for a step on these layers. A variable that is in `taken` stays as it is.
///
/// # Errors
/// The layers cannot be read.
pub(super) fn offer(
    given: &[u8],
    store: &Store,
    layers: &[LayerId],
    taken: &dyn Fn(&str) -> bool,
) -> Result<(Mount, Vec<(String, String)>)> {
    let view = store.view(layers)?;
    let mut bytes = BUNDLES
        .iter()
        .find_map(|path| view.root().read(Path::new(path), MAX_BUNDLE).ok())
        .unwrap_or_default();
    if !bytes.is_empty() && !bytes.ends_with(b"\n") {
        bytes.push(b'\n');
    }
    bytes.extend_from_slice(given);
    let mount = Mount {
        target: PathBuf::from(TARGET),
        source: MountSource::Content {
            bytes,
            mode: 0o444,
            uid: 0,
            gid: 0,
        },
        read_only: true,
        flags: MountFlags::default(),
    };
    let free = VARIABLES.iter().filter(|name| !taken(name));
    let variables = free.map(|name| ((*name).to_owned(), TARGET.to_owned()));
    Ok((mount, variables.collect()))
}
