//! `kiln import`: the files of a tar as an image of one layer.

use std::io::Read;
use std::path::Path;
use std::time::SystemTime;

use kiln_cache::{UnpackOptions, pack, unpack};
use kiln_image::compression::decoder;
use kiln_image::{Digest, History, ImageConfig};
use kiln_sys::RootDir;

use super::Images;
use crate::clamp::timestamp;
use crate::error::{Error, Result};

/// What an imported image is made of besides its files.
#[derive(Clone, Debug)]
pub struct Import {
    /// Its config, without layers and history.
    pub config: ImageConfig,
    /// Comment of its history.
    pub message: String,
    /// Clamp of all times, in seconds since 1970.
    pub epoch: Option<u64>,
}

impl Images {
    /// Makes an image of a tar in any compression and stores it without a name. Gives its id.
    ///
    /// # Errors
    /// The tar is broken, or the store failed.
    pub fn import(&self, input: Box<dyn Read + Send>, import: Import) -> Result<Digest> {
        let store = self.store();
        let scratch = store.scratch()?;
        let dir = scratch.path().join("diff");
        std::fs::create_dir(&dir).map_err(|e| Error::io("make layer", e))?;
        let root = RootDir::open_trusted(&dir)?;
        root.chmod(Path::new(""), 0o755)?;
        let (_, plain) = decoder(input).map_err(|e| Error::io("read archive", e))?;
        let options = UnpackOptions {
            whiteouts: true,
            ..UnpackOptions::default()
        };
        let unpacked = unpack(plain, &root, &options)?;
        let packed = pack(&dir, import.epoch, &mut std::io::sink())?;
        let now = SystemTime::now();
        if store.layer_by_diff(&packed.diff_id)?.is_none() {
            let id = store.adopt_layer(&dir)?;
            if unpacked.removes {
                store.support_removals(&id)?;
            }
            store.record_layer(&id, &packed, now)?;
        }
        let mut config = import.config;
        let created = timestamp(now, import.epoch);
        config.created = created;
        config.rootfs.diff_ids = vec![packed.diff_id];
        config.history = vec![History {
            created,
            comment: Some(import.message),
            ..History::default()
        }];
        let raw = config.to_json().map_err(|e| Error::Image(e.to_string()))?;
        Ok(store.put_blob(&raw)?)
    }
}
