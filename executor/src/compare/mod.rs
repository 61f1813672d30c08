//! In what two layers differ that should be the same, and what they have in common that should not be.

mod repeated;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::path::Path;

use kiln_cache::{LayerId, Store, is_image_xattr, pack};
use kiln_image::read_full;
use kiln_sys::{FileKind, RootDir, Stat};

use crate::error::{Error, Result, blocking};
use crate::output::Output;

pub use repeated::Repeated;

/// The first difference of two layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// With a leading slash.
    pub path: String,
    /// `presence`, `type`, `size`, `content`, `link target`, `mode`, `owner`, `xattrs`, `device`,
    /// `hard link`, `mtime`, or `tar` if no field shows it.
    pub field: &'static str,
    /// For content: the first byte that differs, from 0.
    pub offset: Option<u64>,
    /// What the first layer has: a value, or the bytes at `offset`.
    pub first: String,
    /// What the second has.
    pub second: String,
    /// How many paths differ in all.
    pub paths: usize,
}

/// Compares layers of the store.
#[derive(Clone, Debug)]
pub struct Comparer {
    store: Store,
}

impl Comparer {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Compares the topmost layers of two outputs as their tars would be: times in whole seconds,
    /// clamped to `epoch` (seconds since 1970). What differs in more than its time is told before
    /// what differs in its time alone.
    ///
    /// # Errors
    /// A layer cannot be read.
    pub async fn first_difference(
        &self,
        first: &Output,
        second: &Output,
        epoch: Option<u64>,
    ) -> Result<Option<Difference>> {
        let top = |output: &Output| match output {
            Output::Layers(layers) => layers.last().and_then(|l| l.id().cloned()),
            Output::Dir(_) => None,
        };
        let (Some(first), Some(second)) = (top(first), top(second)) else {
            return Ok(None);
        };
        let store = self.store.clone();
        blocking(move || compare(&store, &first, &second, epoch)).await
    }
}

fn compare(
    store: &Store,
    first: &LayerId,
    second: &LayerId,
    epoch: Option<u64>,
) -> Result<Option<Difference>> {
    if first == second {
        return Ok(None);
    }
    let dirs = [store.layer_dir(first), store.layer_dir(second)];
    let [a, b] = &dirs;
    // What counts are the tars: only if they differ it is worth to look for the cause.
    let diff_id = |dir: &Path| Ok::<_, Error>(pack(dir, epoch, &mut std::io::sink())?.diff_id);
    if diff_id(a)? == diff_id(b)? {
        return Ok(None);
    }
    let mut pair = Pair {
        epoch: epoch.and_then(|e| i64::try_from(e).ok()),
        found: None,
        paths: 0,
        last: String::new(),
        links: [HashMap::new(), HashMap::new()],
    };
    let (a, b) = (RootDir::open_trusted(a)?, RootDir::open_trusted(b)?);
    pair.directory(&a, &b, "")?;
    let paths = pair.paths;
    Ok(Some(match pair.found {
        Some(found) => Difference { paths, ..found },
        None => Difference {
            path: "/".into(),
            field: "tar",
            offset: None,
            first: first.as_str().to_owned(),
            second: second.as_str().to_owned(),
            paths,
        },
    }))
}

struct Pair {
    epoch: Option<i64>,
    found: Option<Difference>,
    paths: usize,
    /// The path that was last found to differ.
    last: String,
    /// First names of files with several, of either side.
    links: [HashMap<(u64, u64), String>; 2],
}

impl Pair {
    fn directory(&mut self, a: &RootDir, b: &RootDir, path: &str) -> Result<()> {
        let names = |dir: &RootDir| -> Result<BTreeSet<std::ffi::OsString>> {
            let entries = dir.read_dir(Path::new(""))?;
            Ok(entries.into_iter().map(|e| e.name).collect())
        };
        let (in_a, in_b) = (names(a)?, names(b)?);
        for name in in_a.union(&in_b) {
            let below = format!("{path}/{}", name.to_string_lossy());
            let (has_a, has_b) = (in_a.contains(name), in_b.contains(name));
            if !(has_a && has_b) {
                let says = |has: bool| if has { "present" } else { "absent" };
                self.note(&below, "presence", says(has_a), says(has_b));
                continue;
            }
            self.object(a, b, Path::new(name), &below)?;
        }
        Ok(())
    }

    fn object(&mut self, a: &RootDir, b: &RootDir, name: &Path, path: &str) -> Result<()> {
        let (x, y) = (a.lstat(name)?, b.lstat(name)?);
        let links = [self.first_name(0, &x, path), self.first_name(1, &y, path)];
        if x.kind != y.kind {
            self.note(path, "type", kind(x.kind), kind(y.kind));
            return Ok(());
        }
        match x.kind {
            FileKind::Socket => return Ok(()),
            FileKind::File => self.content(a, b, name, path, (&x, &y))?,
            FileKind::Symlink => {
                let target = |dir: &RootDir| -> Result<String> {
                    Ok(dir.read_link(name)?.to_string_lossy().into_owned())
                };
                self.differ(path, "link target", &target(a)?, &target(b)?);
            }
            _ => {
                let device = |st: &Stat| format!("{}:{}", st.rdev.0, st.rdev.1);
                self.differ(path, "device", &device(&x), &device(&y));
            }
        }
        if x.kind != FileKind::Symlink {
            let mode = |st: &Stat| format!("{:04o}", st.mode);
            self.differ(path, "mode", &mode(&x), &mode(&y));
        }
        let owner = |st: &Stat| format!("{}:{}", st.uid, st.gid);
        self.differ(path, "owner", &owner(&x), &owner(&y));
        let [first, second] = links;
        self.differ(path, "hard link", &first, &second);
        if matches!(x.kind, FileKind::File | FileKind::Directory) {
            self.differ(path, "xattrs", &attributes(a, name)?, &attributes(b, name)?);
        }
        if !x.is_overlay_whiteout() {
            let time = |st: &Stat| self.epoch.map_or(st.mtime.0, |e| st.mtime.0.min(e));
            let (first, second) = (time(&x), time(&y));
            self.differ(path, "mtime", &first.to_string(), &second.to_string());
        }
        if x.is_dir() {
            self.directory(&a.sub_dir(name)?, &b.sub_dir(name)?, path)?;
        }
        Ok(())
    }

    fn first_name(&mut self, side: usize, st: &Stat, path: &str) -> String {
        if !st.is_file() {
            return String::new();
        }
        let names = self.links.get_mut(side);
        let name = names.map(|n| n.entry((st.dev, st.ino)).or_insert_with(|| path.to_owned()));
        name.cloned().unwrap_or_default()
    }

    fn content(
        &mut self,
        a: &RootDir,
        b: &RootDir,
        name: &Path,
        path: &str,
        (x, y): (&Stat, &Stat),
    ) -> Result<()> {
        let open =
            |dir: &RootDir| -> Result<std::fs::File> { Ok(dir.open_read_nofollow(name)?.into()) };
        let differing = first_differing(open(a)?, open(b)?)
            .map_err(|e| Error::io(format!("read `{path}`"), e))?;
        if let Some((offset, first, second)) = differing {
            self.note(path, "content", &first, &second);
            if let Some(found) = &mut self.found
                && found.path == path
                && found.field == "content"
            {
                found.offset = Some(offset);
            }
        }
        self.differ(path, "size", &x.size.to_string(), &y.size.to_string());
        Ok(())
    }

    fn differ(&mut self, path: &str, field: &'static str, first: &str, second: &str) {
        if first != second {
            self.note(path, field, first, second);
        }
    }

    fn note(&mut self, path: &str, field: &'static str, first: &str, second: &str) {
        if self.last != path {
            self.paths += 1;
            path.clone_into(&mut self.last);
        }
        let better = match &self.found {
            None => true,
            Some(found) => found.field == "mtime" && field != "mtime",
        };
        if better {
            self.found = Some(Difference {
                path: path.to_owned(),
                field,
                offset: None,
                first: first.to_owned(),
                second: second.to_owned(),
                paths: 0,
            });
        }
    }
}

fn kind(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Directory => "directory",
        FileKind::File => "file",
        FileKind::Symlink => "link",
        FileKind::CharDevice => "character device",
        FileKind::BlockDevice => "block device",
        FileKind::Fifo => "pipe",
        FileKind::Socket => "socket",
    }
}

fn attributes(dir: &RootDir, name: &Path) -> Result<String> {
    let all: BTreeMap<Vec<u8>, Vec<u8>> = dir.xattrs(name)?.into_iter().collect();
    let opaque: &[u8] = b"trusted.overlay.opaque";
    let own = all
        .iter()
        .filter(|(name, _)| is_image_xattr(name) || name.as_slice() == opaque);
    let shown =
        own.map(|(name, value)| format!("{}={}", name.escape_ascii(), value.escape_ascii()));
    Ok(shown.collect::<Vec<_>>().join(" "))
}

/// How many bytes are shown of each side.
const SHOWN: usize = 16;

/// Where two files begin to differ, and what each has there.
fn first_differing(
    mut a: impl Read,
    mut b: impl Read,
) -> std::io::Result<Option<(u64, String, String)>> {
    let (mut x, mut y) = (vec![0; 256 << 10], vec![0; 256 << 10]);
    let mut offset = 0;
    loop {
        let (n, m) = (read_full(&mut a, &mut x)?, read_full(&mut b, &mut y)?);
        let (left, right) = (&x[..n], &y[..m]);
        if left != right {
            let same = left.iter().zip(right).take_while(|(l, r)| l == r).count();
            let shown = |bytes: &[u8]| match bytes.get(same..) {
                None | Some([]) => "end of file".to_owned(),
                Some(rest) => {
                    let some = rest.get(..SHOWN).unwrap_or(rest);
                    format!("\"{}\"", some.escape_ascii())
                }
            };
            return Ok(Some((offset + same as u64, shown(left), shown(right))));
        }
        if n == 0 {
            return Ok(None);
        }
        offset += n as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn content_is_told_by_its_offset() {
        type Case<'a> = (&'a [u8], &'a [u8], Option<(u64, &'a str, &'a str)>);
        let (longer, shorter) = ([b'a'; 300 << 10], [b'a'; 299 << 10]);
        let rest = format!("\"{}\"", "a".repeat(SHOWN));
        let cases: [Case<'_>; 5] = [
            (b"same", b"same", None),
            (b"abc", b"abd", Some((2, "\"c\"", "\"d\""))),
            (b"ab", b"abc", Some((2, "end of file", "\"c\""))),
            (b"", b"\n\xff", Some((0, "end of file", "\"\\n\\xff\""))),
            (&longer, &shorter, Some((299 << 10, &rest, "end of file"))),
        ];
        for (a, b, want) in cases {
            let got = first_differing(a, b).unwrap();
            let got = got.as_ref().map(|(o, x, y)| (*o, x.as_str(), y.as_str()));
            assert_eq!(got, want);
        }
    }

    #[test]
    fn each_field_is_told_and_the_time_last() {
        type Make = fn(&Path);
        let write = |dir: &Path, text: &str| std::fs::write(dir.join("f"), text).unwrap();
        let cases: [(&'static str, Make, Make); 6] = [
            (
                "presence",
                |d| std::fs::write(d.join("g"), "").unwrap(),
                |_| {},
            ),
            (
                "type",
                |d| std::fs::create_dir(d.join("g")).unwrap(),
                |d| symlink("x", d.join("g")).unwrap(),
            ),
            (
                "link target",
                |d| symlink("y", d.join("g")).unwrap(),
                |d| symlink("x", d.join("g")).unwrap(),
            ),
            (
                "content",
                |d| std::fs::write(d.join("f"), "other").unwrap(),
                |_| {},
            ),
            (
                "mode",
                |d| {
                    std::fs::set_permissions(d.join("f"), PermissionsExt::from_mode(0o600))
                        .unwrap();
                },
                |_| {},
            ),
            (
                "hard link",
                |d| std::fs::hard_link(d.join("f"), d.join("g")).unwrap(),
                |d| std::fs::write(d.join("g"), "text").unwrap(),
            ),
        ];
        for (field, first, second) in cases {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(&dir.path().join("store")).unwrap();
            let layer = |name: &str, make: Make, seconds: u64| {
                let at = dir.path().join(name);
                std::fs::create_dir(&at).unwrap();
                write(&at, "text");
                make(&at);
                let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
                let file = std::fs::File::open(at.join("f")).unwrap();
                file.set_modified(time).unwrap();
                store.adopt_layer(&at).unwrap()
            };
            let (a, b) = (layer("a", first, 1000), layer("b", second, 2000));
            let found = compare(&store, &a, &b, None).unwrap().unwrap();
            assert_eq!(found.field, field);
            let plain = [layer("c", |_| {}, 1000), layer("d", |_| {}, 2000)];
            let late = compare(&store, &plain[0], &plain[1], None)
                .unwrap()
                .unwrap();
            assert_eq!(
                (late.field, late.first.as_str(), late.second.as_str()),
                ("mtime", "1000", "2000")
            );
            assert_eq!(
                compare(&store, &plain[0], &plain[1], Some(500)).unwrap(),
                None
            );
        }
    }
}
