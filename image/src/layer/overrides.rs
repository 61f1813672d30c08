//! What extended headers say about an entry.

use super::sparse::SparseFields;
use super::{ENCODED_XATTR, XATTR, pax, xattr};

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
    /// Those in the encoded form. They count where the plain form has none of that name.
    encoded: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: Option<SparseFields>,
    /// Bytes of the headers.
    pub(super) total: u64,
    /// An entry must follow.
    pub(super) pending: bool,
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
                key => {
                    if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                        let fields = self.sparse.get_or_insert_default();
                        fields.record(key, value)?;
                    } else if let Some(name) = name_after(key, XATTR) {
                        self.xattrs.push((name.to_vec(), value.to_vec()));
                    } else if let Some(name) = name_after(key, ENCODED_XATTR)
                        // What cannot be decoded is nothing that anybody has written so.
                        && let Some(attribute) = xattr::decode(name, value)
                    {
                        self.encoded.push(attribute);
                    }
                }
            }
        }
        Some(())
    }

    /// The attributes by name; of two with one name, the later.
    pub(super) fn sorted_xattrs(mut self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.encoded.append(&mut self.xattrs);
        self.xattrs = self.encoded;
        self.xattrs.reverse();
        self.xattrs.sort_by(|a, b| a.0.cmp(&b.0));
        self.xattrs.dedup_by(|a, b| a.0 == b.0);
        self.xattrs
    }
}

fn name_after<'a>(key: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    key.strip_prefix(prefix).filter(|name| !name.is_empty())
}
