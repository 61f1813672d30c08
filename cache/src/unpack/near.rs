//! Directories on the way to that of the last entry, kept open: the next entry is mostly in one of them.
//!
//! A path may lead through links of the archive or of the tree, so that one directory has many. What is
//! kept stays true as long as nothing goes away: a name that led somewhere still leads there when other
//! names are added. Whoever removes or replaces something that is no regular file calls [`Near::forget`].

use std::collections::VecDeque;

use kiln_sys::RootDir;

/// Directories that are kept open: far fewer than a process may open.
const MAX_OPEN: usize = 64;

/// The last of the directories on the way.
#[derive(Default)]
pub(super) struct Near {
    /// The path of the last of them.
    path: Vec<u8>,
    /// Each with the length of its path.
    dirs: VecDeque<(usize, RootDir)>,
}

impl Near {
    /// The deepest directory on the way to `path` that is known, with the length of its path. Those that
    /// are not on the way are given up.
    pub(super) fn closest(&mut self, path: &[u8]) -> Option<(usize, &RootDir)> {
        let pairs = self.path.iter().zip(path);
        let common = pairs.take_while(|(a, b)| a == b).count();
        let is_on_the_way =
            |length: usize| length <= common && matches!(path.get(length), None | Some(b'/'));
        while self
            .dirs
            .pop_back_if(|(length, _)| !is_on_the_way(*length))
            .is_some()
        {}
        let (length, dir) = self.dirs.back()?;
        Some((*length, dir))
    }

    /// Keeps the directory at `path`, which is below all that are kept.
    pub(super) fn keep(&mut self, path: &[u8], dir: RootDir) {
        path.clone_into(&mut self.path);
        self.dirs.push_back((path.len(), dir));
        if self.dirs.len() > MAX_OPEN {
            self.dirs.pop_front();
        }
    }

    /// Something has gone, and with it perhaps a directory or a link on the way to one.
    pub(super) fn forget(&mut self) {
        self.dirs.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_way_goes_on_from_the_last_directory_in_common() {
        let dir = tempfile::tempdir().unwrap();
        let root = RootDir::open_trusted(dir.path()).unwrap();
        let mut near = Near::default();
        let keep = |near: &mut Near, paths: &[&str]| {
            for path in paths {
                let made = root.mkdir_all(Path::new(path), 0o755, &mut |_, _| Ok(()));
                near.keep(path.as_bytes(), made.unwrap());
            }
        };
        let length = |near: &mut Near, path: &str| near.closest(path.as_bytes()).map(|(n, _)| n);
        keep(&mut near, &["a", "a/bb", "a/bb/c"]);
        for (path, want) in [
            ("a/bb/c/d/e", Some(6)),
            ("a/bb/c", Some(6)),
            ("a/bb/cc", Some(4)),
            ("a/b", Some(1)),
            // What is not on the way has been given up.
            ("a/bb/c", Some(1)),
            ("aa", None),
        ] {
            assert_eq!(length(&mut near, path), want, "{path}");
        }
        // A thousand levels are walked once, with few directories open.
        let mut path = String::new();
        for depth in 0..1000 {
            let on_the_way = length(&mut near, &path);
            assert_eq!(on_the_way.unwrap_or(0), path.len(), "{depth}");
            path.push_str(if depth == 0 { "d" } else { "/d" });
            keep(&mut near, &[&path]);
        }
        assert_eq!(near.dirs.len(), MAX_OPEN);
        near.forget();
        assert_eq!(length(&mut near, &path), None);
    }
}
