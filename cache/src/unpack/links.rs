//! Hard links, whose other name may be in a layer below.

use std::path::Path;

use kiln_image::Entry;
use kiln_sys::{Stat, xattr};

use super::{Target, as_path, wrong};
use crate::error::Result;
use crate::image_xattr::is_image_xattr;

impl Target<'_> {
    /// Makes the entry's path another name of what is at `target`.
    pub(super) fn hard_link(&self, entry: &Entry, target: &[u8]) -> Result<()> {
        let (target, path) = (as_path(target), as_path(&entry.path));
        match self.root.try_lstat(target)? {
            Some(st) if st.is_dir() => Err(wrong(&entry.path, "is a hard link to a directory")),
            Some(st) if !st.is_overlay_whiteout() => Ok(self.root.hard_link(target, path)?),
            // The other name is in a layer below: this one gets a copy, so that the layer stands
            // alone.
            _ => {
                for below in &self.options.below {
                    // A device is not opened: that alone may do something.
                    match below.try_lstat(target)? {
                        None => {}
                        Some(st) if st.is_file() => {
                            let fd = below.open_read_nofollow(target)?;
                            return self.copy_from_below(&st, &fd, path);
                        }
                        Some(_) => {
                            let why = "is a hard link to no regular file";
                            return Err(wrong(&entry.path, why));
                        }
                    }
                }
                Err(wrong(
                    &entry.path,
                    format!(
                        "is a hard link to `{}`, which is not there",
                        target.display()
                    ),
                ))
            }
        }
    }

    fn copy_from_below(&self, st: &Stat, fd: &std::os::fd::OwnedFd, path: &Path) -> Result<()> {
        // The first name moves into this layer too, so that both stay one file.
        let to = self.root.create_new(path, 0o600)?;
        kiln_sys::system::copy_file(fd, &to, st.size)?;
        self.root.chown(path, st.uid, st.gid)?;
        self.root.chmod(path, st.mode)?;
        for (name, value) in xattr::list(fd)?.iter().filter(|(n, _)| is_image_xattr(n)) {
            self.root.set_xattr(path, name, value)?;
        }
        Ok(self.root.set_mtime(path, st.mtime)?)
    }
}
