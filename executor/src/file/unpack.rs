//! Archives among the sources of ADD.

use std::io::{Read, Seek as _};
use std::path::{Path, PathBuf};

use kiln_cache::{UnpackOptions, unpack};
use kiln_image::compression::decoder;
use kiln_image::read_full;
use kiln_sandbox::Rootfs;
use kiln_solver::plan::Copy;
use kiln_sys::mount::Attrs;
use kiln_sys::overlay::{Overlay, overlay};

use super::Changes;
use super::select::Match;
use super::target::Target;
use crate::error::{Error, Result};
use crate::tree::OpenTree;

impl Changes<'_> {
    /// Unpacks what is an archive; gives back what is not.
    pub(super) fn unpack_archives(
        &self,
        copy: &Copy,
        tree: &OpenTree,
        found: Vec<Match>,
        target: &Target<'_>,
        rootfs: &Rootfs,
        number: usize,
    ) -> Result<Vec<Match>> {
        let mut rest = Vec::new();
        for one in found {
            let archive = if copy.unpack && !one.is_dir {
                open_archive(tree, &one.path)?
            } else {
                None
            };
            let Some(archive) = archive else {
                rest.push(one);
                continue;
            };
            let owner = copy
                .chown
                .as_deref()
                .map(|c| target.owner(Some(c)))
                .transpose()?;
            target.make_dirs(&copy.dest, 0o755, owner.unwrap_or((0, 0)))?;
            self.unpack_into(archive, &copy.dest, owner, rootfs, number)
                .map_err(|e| match e {
                    Error::Store(e) => Error::Other(format!("cannot unpack `{}`: {e}", one.path)),
                    other => other,
                })?;
        }
        Ok(rest)
    }

    /// Unpacks through an overlay of its own, so that links below lead where they would.
    fn unpack_into(
        &self,
        archive: Box<dyn Read + Send>,
        dest: &str,
        owner: Option<(u32, u32)>,
        rootfs: &Rootfs,
        number: usize,
    ) -> Result<()> {
        let Some((upper, work)) = &rootfs.upper else {
            return Ok(());
        };
        let work = work.with_file_name(format!("work-{number}-{}", rand_suffix()));
        #[allow(clippy::disallowed_methods, reason = "the store is kiln's own")]
        std::fs::create_dir(&work).map_err(|e| Error::io("prepare unpacking", e))?;
        let lowers: Vec<&Path> = rootfs.lowers.iter().map(PathBuf::as_path).collect();
        let spec = Overlay {
            lowers: &lowers,
            upper: Some((upper, &work)),
            user_xattr: false,
        };
        let mount = overlay(
            &spec,
            Attrs {
                nosuid: true,
                nodev: true,
                ..Attrs::default()
            },
        )?;
        let root = mount
            .root()?
            .sub_dir(Path::new(dest.trim_start_matches('/')))?;
        let options = UnpackOptions {
            whiteouts: false,
            below: Vec::new(),
            owner,
            tree: false,
            into_tree: true,
            ..UnpackOptions::default()
        };
        unpack(archive, &root, &options)?;
        Ok(())
    }
}

/// A number that no other work directory of this step has.
fn rand_suffix() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// The tar in a file, unpacked from whatever it is compressed with; none if it is not an archive.
pub(crate) fn open_archive(tree: &OpenTree, path: &str) -> Result<Option<Box<dyn Read + Send>>> {
    let fd = tree.root().open_read(Path::new(path))?;
    let st = kiln_sys::RootDir::stat_of(&fd)?;
    if !st.is_file() || st.size < 4 {
        return Ok(None);
    }
    let mut file = std::fs::File::from(fd);
    let probe = file.try_clone().map_err(|e| Error::io("read archive", e))?;
    let Ok((_, mut start)) = decoder(Box::new(probe)) else {
        return Ok(None);
    };
    let mut block = [0_u8; 512];
    let filled = match read_full(&mut start, &mut block) {
        Ok(filled) => filled,
        Err(e) if e.raw_os_error().is_some() => return Err(Error::io("read archive", e)),
        // It only begins as something compressed does.
        Err(_) => return Ok(None),
    };
    drop(start);
    if !is_tar(&block[..filled]) {
        return Ok(None);
    }
    file.rewind().map_err(|e| Error::io("read archive", e))?;
    let (_, whole) = decoder(Box::new(file)).map_err(|e| Error::io("read archive", e))?;
    Ok(Some(whole))
}

/// Whether a block is the first header of a tar: its checksum is right.
fn is_tar(block: &[u8]) -> bool {
    // An archive without entries is a file like any other, as in Docker.
    if block.len() < 512 || block.iter().all(|b| *b == 0) {
        return false;
    }
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(at, b)| {
            if (148..156).contains(&at) {
                32
            } else {
                u32::from(*b)
            }
        })
        .sum();
    let field: String = block[148..156]
        .iter()
        .map(|b| char::from(*b))
        .filter(char::is_ascii_digit)
        .collect();
    u32::from_str_radix(&field, 8) == Ok(sum)
}
