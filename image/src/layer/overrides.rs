//! What extended headers say about an entry.

use super::{XATTR, pax};

/// What extended headers say about the entry that follows them.
#[derive(Default)]
pub(super) struct Overrides {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: bool,
    pub(super) total: u64,
}

impl Overrides {
    /// Takes over what a PAX header says; an empty value takes an earlier one back.
    pub(super) fn read_pax(&mut self, body: &[u8]) -> Option<()> {
        for record in pax::records(body) {
            let (key, value) = record?;
            let set = !value.is_empty();
            match key {
                b"path" => self.path = set.then(|| value.to_vec()),
                b"linkpath" => self.link = set.then(|| value.to_vec()),
                b"size" if set => self.size = Some(pax::decimal(value)?),
                b"size" => self.size = None,
                b"uid" if set => self.uid = Some(pax::decimal(value)?),
                b"uid" => self.uid = None,
                b"gid" if set => self.gid = Some(pax::decimal(value)?),
                b"gid" => self.gid = None,
                b"mtime" if set => self.mtime = Some(pax::time(value)?),
                b"mtime" => self.mtime = None,
                key if key.starts_with(b"GNU.sparse.") => self.sparse = true,
                key => {
                    if let Some(name) = key.strip_prefix(XATTR).filter(|name| !name.is_empty()) {
                        self.xattrs.push((name.to_vec(), value.to_vec()));
                    }
                }
            }
        }
        Some(())
    }

    /// The attributes by name; of two with one name, the later.
    pub(super) fn sorted_xattrs(mut self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.xattrs.reverse();
        self.xattrs.sort_by(|a, b| a.0.cmp(&b.0));
        self.xattrs.dedup_by(|a, b| a.0 == b.0);
        self.xattrs
    }
}
