//! Nothing that is done through a root reaches what is outside it.

use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

/// A directory with a tree inside and a canary beside it.
struct Fixture {
    _dir: tempfile::TempDir,
    root: RootDir,
    inside: PathBuf,
    canary: PathBuf,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().canonicalize().unwrap();
    let (inside, canary) = (base.join("root"), base.join("canary"));
    std::fs::create_dir_all(inside.join("a/b")).unwrap();
    std::fs::write(inside.join("a/f"), "inside").unwrap();
    std::fs::write(&canary, "outside").unwrap();
    let link = |target: &Path, at: &str| {
        std::os::unix::fs::symlink(target, inside.join(at)).unwrap();
    };
    link(&canary, "abs");
    link(Path::new("../canary"), "up");
    link(Path::new("../../../../../../../.."), "a/far");
    link(Path::new("/"), "slash");
    link(Path::new("/proc/self/root"), "magic");
    link(Path::new("/a"), "a/b/again");
    link(Path::new("loop2"), "loop1");
    link(Path::new("loop1"), "loop2");
    link(Path::new("/new/dir"), "dangling");
    let root = RootDir::open_trusted(&inside).unwrap();
    Fixture {
        _dir: dir,
        root,
        inside,
        canary,
    }
}

fn real_path(fd: &OwnedFd) -> PathBuf {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap()
}

#[test]
fn links_lead_inside_or_nowhere() {
    let f = fixture();
    for path in [
        "abs",
        "up",
        "magic",
        "a/far/canary",
        "slash/../../canary",
        "loop1",
        "../canary",
    ] {
        assert!(
            f.root.open_read(Path::new(path)).is_err(),
            "{path} was opened"
        );
    }
    for (path, want) in [
        ("slash/a/f", "a/f"),
        ("a/far/a/f", "a/f"),
        ("a/b/again/f", "a/f"),
        ("/a/../a/f", "a/f"),
    ] {
        let fd = f.root.open_path(Path::new(path)).unwrap();
        assert_eq!(real_path(&fd), f.inside.join(want), "{path}");
    }
}

#[test]
fn errors_say_which_root_they_are_about() {
    // Nobody may change what is there.
    let root = RootDir::open_trusted(Path::new("/proc/sys")).unwrap();
    let here = Path::new("");
    for error in [
        root.chmod(here, 0o700).unwrap_err(),
        root.chown(here, 1, 1).unwrap_err(),
        root.set_xattr(here, b"user.a", b"").unwrap_err(),
        root.create_new(here, 0o600).unwrap_err(),
        root.read_link(here).unwrap_err(),
    ] {
        let text = error.to_string();
        assert!(text.contains("`/proc/sys`: "), "{text}");
    }
}

#[test]
#[ignore = "needs root"]
fn changes_stay_inside() {
    let f = fixture();
    f.root
        .mkdir_all(Path::new("a/far/x/y"), 0o755, &mut |_, _| Ok(()))
        .unwrap();
    assert!(f.inside.join("x/y").is_dir());
    f.root
        .mkdir_all(Path::new("dangling/z"), 0o755, &mut |_, _| Ok(()))
        .unwrap();
    assert!(f.inside.join("new/dir/z").is_dir());
    assert!(
        f.root.create_new(Path::new("abs"), 0o644).is_err(),
        "a link is no free name"
    );
    f.root.chown(Path::new("abs"), 1, 1).unwrap();
    f.root.set_mtime(Path::new("up"), (1, 0)).unwrap();
    assert!(
        f.root.chmod(Path::new("abs"), 0o777).is_err()
            || std::fs::read_link(f.inside.join("abs")).is_ok()
    );
    f.root.remove_all(Path::new("slash")).unwrap();
    f.root.remove_all(Path::new("a")).unwrap();
    assert!(!f.inside.join("a").exists() && f.inside.join("new").exists());
    use std::os::unix::fs::MetadataExt as _;
    let canary = std::fs::metadata(&f.canary).unwrap();
    assert_eq!(
        (std::fs::read(&f.canary).unwrap(), canary.uid()),
        (b"outside".to_vec(), 0)
    );
    assert_eq!(canary.mode() & 0o7777, 0o644);
}

#[test]
fn reading_is_bounded_and_never_waits() {
    let f = fixture();
    f.root
        .mknod(Path::new("pipe"), FileKind::Fifo, 0o644, (0, 0))
        .unwrap();
    assert!(f.root.read(Path::new("pipe"), 10).is_err());
    assert!(f.root.read(Path::new("a"), 10).is_err());
    assert_eq!(f.root.read(Path::new("a/f"), 6).unwrap(), b"inside");
    assert!(f.root.read(Path::new("a/f"), 5).is_err());
}

/// A tree with more levels than a stack of 256 KiB has room for, with names that its removal would use.
#[test]
fn a_tree_of_any_depth_is_removed() {
    let f = fixture();
    let mut here = f.root.sub_dir(Path::new("a/b")).unwrap();
    for level in 0..20_000 {
        here.mkdir(Path::new("d"), 0o755).unwrap();
        if level % 90 == 0 {
            drop(here.create_new(Path::new("file"), 0o644).unwrap());
        }
        here = here.sub_dir(Path::new("d")).unwrap();
    }
    drop(here);
    for n in [0, 1, 2, 7] {
        let name = format!("a/.kiln-removed-{n}");
        f.root.mkdir(Path::new(&name), 0o755).unwrap();
        drop(
            f.root
                .create_new(&Path::new(&name).join("f"), 0o644)
                .unwrap(),
        );
    }
    let small = std::thread::Builder::new().stack_size(256 << 10);
    let root = f.root;
    let removal = small.spawn(move || root.remove_all(Path::new("a")).unwrap());
    assert!(removal.unwrap().join().unwrap());
    assert!(!f.inside.join("a").exists() && f.inside.join("abs").is_symlink());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_path_leaves_the_root(parts in prop::collection::vec(
        prop::sample::select(vec![
            "a", "b", "f", "..", ".", "", "abs", "up", "far", "slash", "magic", "again", "loop1",
            "dangling", "canary", "proc", "self", "root", "etc", "tmp",
        ]), 0..9), absolute: bool)
    {
        let f = fixture();
        let path = format!("{}{}", if absolute { "/" } else { "" }, parts.join("/"));
        let path = Path::new(&path);
        for fd in [f.root.open_path(path), f.root.open_path_nofollow(path)].into_iter().flatten() {
            prop_assert!(real_path(&fd).starts_with(&f.inside), "{path:?} led to {:?}", real_path(&fd));
        }
        // Whatever comes of it, it happens inside.
        let _ = f.root.mkdir_all(path, 0o700, &mut |_, _| Ok(()));
        let _ = f.root.create_new(path, 0o600);
        let _ = f.root.remove_all(path);
        let beside: Vec<_> = std::fs::read_dir(f.inside.parent().unwrap()).unwrap()
            .map(|e| e.unwrap().file_name()).collect();
        prop_assert_eq!(beside.len(), 2, "{:?}", beside);
        prop_assert_eq!(std::fs::read(&f.canary).unwrap(), b"outside");
    }
}

/// A device is not opened to find out that it is none to be read: opening may do something.
#[test]
#[ignore = "needs root"]
fn only_regular_files_are_opened_to_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let root = RootDir::open_trusted(dir.path()).unwrap();
    std::fs::write(dir.path().join("file"), "text").unwrap();
    std::os::unix::fs::symlink("file", dir.path().join("link")).unwrap();
    assert_eq!(root.read(Path::new("link"), 10).unwrap(), b"text");
    assert!(root.read(Path::new("file"), 3).is_err());
    // Nobody writes: whoever opened it to read would find an end, and no error.
    root.mknod(Path::new("pipe"), FileKind::Fifo, 0o600, (0, 0))
        .unwrap();
    // A character device without a driver cannot even be opened: the error would be another.
    root.mknod(Path::new("device"), FileKind::CharDevice, 0o600, (240, 7))
        .unwrap();
    for name in ["pipe", "device"] {
        let error = root.read(Path::new(name), 10).unwrap_err();
        assert_eq!(
            error.kind(),
            std::io::ErrorKind::InvalidInput,
            "{name}: {error}"
        );
    }
}
