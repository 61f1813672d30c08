//! Layers of any size: what is packed is complete, in order and the same each time.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use kiln_image::layer::LayerReader;

use super::*;
use crate::unpack::{UnpackOptions, unpack};

/// A layer with all that needs care when several threads look at it: names in the wrong order of
/// creation, files of all sizes, nested directories.
fn large_layer() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for number in (0..60).rev() {
        let inside = at(&format!("d{number}/nested"));
        std::fs::create_dir_all(&inside).unwrap();
        for file in (0..20).rev() {
            let bytes = format!("{number} {file} ").repeat(file * file);
            std::fs::write(inside.join(format!("f{file}")), bytes).unwrap();
        }
        std::os::unix::fs::symlink("nested/f1", at(&format!("d{number}/link"))).unwrap();
    }
    for (name, size) in [
        ("big", 3_000_000),
        ("held", 64 << 10),
        ("not-held", (64 << 10) + 1),
    ] {
        let bytes: Vec<u8> = (0..size).map(|n: usize| (n % 251) as u8).collect();
        std::fs::write(at(name), bytes).unwrap();
    }
    std::fs::write(at("empty"), "").unwrap();
    dir
}

fn with_links(dir: &Path) {
    std::fs::hard_link(dir.join("d59/nested/f7"), dir.join("a-first-name")).unwrap();
    std::fs::hard_link(dir.join("big"), dir.join("d3/big")).unwrap();
}

fn packed(dir: &Path) -> (Packed, Vec<u8>) {
    let mut tar = Vec::new();
    (pack(dir, None, &mut tar).unwrap(), tar)
}

#[test]
fn a_large_layer_is_whole_and_in_order() {
    let layer = large_layer();
    with_links(layer.path());
    let (known, tar) = packed(layer.path());
    assert_eq!(known.tar_size, tar.len() as u64);
    assert_eq!(known.diff_id, DiffId::from(Digest::of(&tar)));

    let mut paths: Vec<PathBuf> = Vec::new();
    let (mut links, mut bytes) = (0, 0);
    let mut reader = LayerReader::new(tar.as_slice());
    while let Some(entry) = reader.next().unwrap() {
        let path = PathBuf::from(String::from_utf8(entry.path.clone()).unwrap());
        let on_disk = layer.path().join(&path);
        match entry.kind {
            EntryKind::Hardlink { .. } => links += 1,
            EntryKind::File { size } => {
                bytes += size;
                let mut content = Vec::new();
                reader.data().read_to_end(&mut content).unwrap();
                assert!(content == std::fs::read(&on_disk).unwrap(), "{path:?}");
            }
            _ => {}
        }
        paths.push(path);
    }
    assert!(paths.is_sorted(), "components in order");
    assert_eq!(paths.len(), 60 * 23 + 3 + 3, "each name once");
    assert_eq!(links, 2);
    assert_eq!(known.bytes, bytes);
}

#[test]
fn what_is_unpacked_packs_to_the_same() {
    for linked in [false, true] {
        let layer = large_layer();
        if linked {
            with_links(layer.path());
        }
        let (known, tar) = packed(layer.path());
        let again = tempfile::tempdir().unwrap();
        let options = UnpackOptions {
            whiteouts: true,
            tree: true,
            ..UnpackOptions::default()
        };
        let root = RootDir::open_trusted(again.path()).unwrap();
        let unpacked = unpack(tar.as_slice(), &root, &options).unwrap();
        // Found in another way than by packing; not where files have several names.
        assert_eq!(unpacked.tree, (!linked).then_some(known.tree));
        assert_eq!(packed(again.path()), (known, tar));
        let names = std::fs::metadata(again.path().join("big")).unwrap().nlink();
        assert_eq!(names, if linked { 2 } else { 1 });
    }
}

#[test]
fn a_sink_that_fails_ends_the_packing_of_a_large_layer() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self
                .0
                .checked_sub(bytes.len())
                .ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let layer = large_layer();
    let error = pack(layer.path(), None, &mut Full(1_500_000)).unwrap_err();
    assert!(error.to_string().contains("write layer"), "{error}");
}
