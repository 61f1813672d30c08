//! What tests of several modules share.

use std::path::Path;

use kiln_registry::{Client, RegistryConfig};

use crate::{BucketSettings, Remote, RemoteSpec, Trust};

/// A remote in a directory that takes every result.
pub(crate) fn remote_in(dir: &Path) -> Remote {
    let text = format!("type=local,dest={},mode=max", dir.display());
    let spec = RemoteSpec::parse(&text, true).unwrap();
    let client = Client::anonymous(RegistryConfig::default());
    let (trust, settings) = (Trust::default(), BucketSettings::default());
    Remote::open(&spec, &client, "", trust, &settings).unwrap()
}
