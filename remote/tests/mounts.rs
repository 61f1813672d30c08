//! Cache mounts on their way through a remote: nothing is lost, and nothing foreign gets out.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::collections::HashSet;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kiln_cache::{Idle, MountChunk, MountUse, PackedMount, Store};
use kiln_image::Digest;
use kiln_registry::{Client, RegistryConfig};
use kiln_remote::{BucketSettings, Remote, RemoteError, RemoteMount, RemoteSpec, Trust};
use kiln_sys::{FileKind, RootDir};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

fn remote(dir: &Path) -> Remote {
    let spec = format!("type=local,dest={}", dir.display());
    let spec = RemoteSpec::parse_for_mounts(&spec, true).unwrap();
    let client = Client::anonymous(RegistryConfig::default());
    Remote::open(
        &spec,
        &client,
        "",
        Trust::default(),
        &BucketSettings::default(),
    )
    .unwrap()
}

fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

/// Makes a mount `m` and returns its directory.
fn make(store: &Store) -> PathBuf {
    let made = store
        .cache_mounts()
        .try_cache_mount(None, "m", MountUse::Shared, &mut |_| Ok(()));
    made.unwrap().unwrap().path.clone()
}

fn mount_of(store: &Store) -> PathBuf {
    store.cache_mounts().mounts().unwrap().pop().unwrap().path
}

fn pack(store: &Store) -> PackedMount {
    let Idle::Free(mount) = store.cache_mounts().idle_mount("m", 0).unwrap() else {
        panic!("the mount is not there or in use");
    };
    let (known, stop) = (HashSet::new(), CancellationToken::new());
    mount.pack(store, &known, &stop).unwrap()
}

fn of(chunks: &[MountChunk]) -> RemoteMount {
    let never = |_: &MountChunk| Err("nothing is damaged");
    RemoteMount::of(chunks, None, |_| false, never).unwrap()
}

async fn send(remote: &Remote, packed: &PackedMount) -> u64 {
    let sent = AtomicU64::new(0);
    let file = |chunk: &MountChunk| packed.file(chunk);
    let count = |bytes| {
        sent.fetch_add(bytes, Ordering::Relaxed);
    };
    let put = remote.put_chunks(packed.chunks.clone(), file, count);
    put.await.unwrap();
    let mount = of(&packed.chunks);
    let put = remote.put_mount(("m", 0), mount, false);
    put.await.unwrap();
    sent.into_inner()
}

async fn bring(remote: &Remote, store: &Store) -> Result<PathBuf, RemoteError> {
    let found = remote.mount("m", 0).await?.unwrap();
    let scratch = Arc::new(store.scratch().unwrap());
    remote
        .fetch_mount(&found, scratch.clone(), true, &|_| {})
        .await?;
    let data = scratch.path().join("data");
    assert!(
        store
            .cache_mounts()
            .fill_mount("m", 0, &data)
            .unwrap()
            .is_some()
    );
    Ok(mount_of(store))
}

#[tokio::test]
#[ignore = "needs root"]
async fn everything_about_files_survives() {
    let (shared, here, there) = (tempfile::tempdir().unwrap(), store(), store());
    let remote = remote(shared.path());
    let from = make(&here.1);
    let root = RootDir::open_trusted(&from).unwrap();
    let p = Path::new;
    root.chown(p(""), 7, 8).unwrap();
    root.chmod(p(""), 0o2751).unwrap();
    std::fs::create_dir_all(from.join("d/e")).unwrap();
    std::fs::write(from.join("d/e/f"), "content").unwrap();
    root.chown(p("d/e/f"), 1234, 56789).unwrap();
    root.chmod(p("d/e/f"), 0o4711).unwrap();
    root.set_xattr(p("d/e/f"), b"user.colour", b"red").unwrap();
    root.set_xattr(p("d"), b"user.kind", b"folder").unwrap();
    std::fs::hard_link(from.join("d/e/f"), from.join("name")).unwrap();
    std::os::unix::fs::symlink("../../outside", from.join("d/link")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", from.join("d/absolute")).unwrap();
    root.mknod(p("pipe"), FileKind::Fifo, 0o640, (0, 0))
        .unwrap();
    root.mknod(p("disk"), FileKind::BlockDevice, 0o666, (8, 0))
        .unwrap();
    std::fs::write(from.join(".wh.x"), "no whiteout").unwrap();
    root.mknod(p("whiteout"), FileKind::CharDevice, 0, (0, 0))
        .unwrap();
    root.set_mtime(p("name"), (-2, 250_000_000)).unwrap();
    // Holes with a few bytes in it.
    let sparse = std::fs::File::create(from.join("sparse")).unwrap();
    sparse.set_len(256 << 20).unwrap();
    sparse.write_all_at(b"middle", (128 << 20) + 7).unwrap();
    root.set_mtime(p("d"), (1_000_000_000, 123_456_789))
        .unwrap();
    let long = "n".repeat(200);
    std::fs::write(from.join(&long), "").unwrap();

    let packed = pack(&here.1);
    let sent = send(&remote, &packed).await;
    assert!(sent < 300_000, "{sent} bytes for a file full of holes");
    let to = bring(&remote, &there.1).await.unwrap();
    let meta = |name: &str| std::fs::symlink_metadata(to.join(name)).unwrap();
    let owner = |name: &str| (meta(name).uid(), meta(name).gid());
    let mode = |name: &str| meta(name).permissions().mode() & 0o7777;
    assert_eq!((owner(""), mode("")), ((7, 8), 0o2751));
    assert_eq!((owner("d/e/f"), mode("d/e/f")), ((1234, 56789), 0o4711));
    assert_eq!(std::fs::read(to.join("name")).unwrap(), b"content");
    assert_eq!(meta("name").ino(), meta("d/e/f").ino());
    let root = RootDir::open_trusted(&to).unwrap();
    let xattr = |name: &str, key: &[u8]| root.xattr(Path::new(name), key).unwrap();
    assert_eq!(xattr("d/e/f", b"user.colour").unwrap(), b"red");
    assert_eq!(xattr("d", b"user.kind").unwrap(), b"folder");
    let link = |name: &str| std::fs::read_link(to.join(name)).unwrap();
    assert_eq!(link("d/link"), p("../../outside"));
    assert_eq!(link("d/absolute"), p("/etc/passwd"));
    assert!(meta("pipe").file_type().is_fifo());
    assert!(!to.join("disk").exists(), "another host's device");
    let mtime = (meta("d").mtime(), meta("d").mtime_nsec());
    assert_eq!(mtime, (1_000_000_000, 123_456_789));
    assert_eq!(meta("sparse").size(), 256 << 20);
    assert!(meta("sparse").blocks() * 512 < 1 << 20);
    let mut middle = [0; 8];
    let sparse = std::fs::File::open(to.join("sparse")).unwrap();
    sparse.read_exact_at(&mut middle, (128 << 20) + 6).unwrap();
    assert_eq!(&middle, b"\0middle\0");
    assert_eq!(meta(&long).size(), 0);
    assert_eq!(meta(".wh.x").size(), 11);
    assert!(!to.join("whiteout").exists());
    let mtime = (meta("name").mtime(), meta("name").mtime_nsec());
    assert_eq!(mtime, (-2, 250_000_000));

    // Packed again it is the same, but for the device.
    std::fs::remove_file(from.join("disk")).unwrap();
    let root_time = (
        meta("").mtime(),
        u32::try_from(meta("").mtime_nsec()).unwrap(),
    );
    std::fs::remove_file(from.join("whiteout")).unwrap();
    let root = RootDir::open_trusted(&from).unwrap();
    root.set_mtime(p(""), root_time).unwrap();
    assert_eq!(pack(&there.1).chunks, pack(&here.1).chunks);
}

/// An entry of a tar: name, type, link target, data.
type Entry = (&'static str, u8, &'static str, &'static [u8]);

fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, kind, link, data) in entries {
        let mut header = [0_u8; 512];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, name.as_bytes());
        put(100, b"0000755\0");
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{:011o}\0", data.len()).as_bytes());
        put(136, b"00000000000\0");
        put(148, b"        ");
        put(156, &[*kind]);
        put(157, link.as_bytes());
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(data);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 3).unwrap()
}

/// Leaves these bytes as the only piece of the mount, which says to have `length` plain ones.
async fn leave(remote: &Remote, dir: &Path, compressed: &[u8], length: u64) {
    let file = dir.join("piece");
    std::fs::write(&file, compressed).unwrap();
    let chunk = MountChunk {
        digest: Digest::of(compressed),
        size: compressed.len() as u64,
        length,
    };
    let put = remote.put_chunks(vec![chunk.clone()], |_| file.clone(), |_| {});
    put.await.unwrap();
    let mount = of(std::slice::from_ref(&chunk));
    let put = remote.put_mount(("m", 0), mount, false);
    put.await.unwrap();
}

#[tokio::test]
#[ignore = "needs root"]
async fn a_hostile_remote_stays_inside_of_the_mount() {
    let cases: &[&[Entry]] = &[
        &[("../escaped", b'0', "", b"x")],
        &[("a/../../escaped", b'0', "", b"x")],
        &[("out", b'2', "..", b""), ("out/escaped", b'0', "", b"x")],
        &[("out", b'2', "/tmp", b""), ("out/escaped", b'0', "", b"x")],
        &[("out", b'1', "../../../meta-v1.db", b"")],
    ];
    for entries in cases {
        let (shared, there) = (tempfile::tempdir().unwrap(), store());
        let remote = remote(&shared.path().join("r"));
        let tar = tar(entries);
        leave(&remote, shared.path(), &compressed(&tar), tar.len() as u64).await;
        let error = bring(&remote, &there.1).await.unwrap_err();
        let refused = matches!(error, RemoteError::Refused(_));
        assert!(refused, "{entries:?}: {error}");
        assert!(there.1.cache_mounts().mounts().unwrap().is_empty());
        let find = std::process::Command::new("find")
            .arg(there.0.path())
            .args(["-name", "escaped"])
            .output();
        assert!(find.unwrap().stdout.is_empty(), "{entries:?}");
        assert!(!Path::new("/tmp/escaped").exists());
    }
}

#[tokio::test]
#[ignore = "needs root"]
async fn a_piece_gives_what_its_index_says_and_no_more() {
    let (shared, there) = (tempfile::tempdir().unwrap(), store());
    let tar = tar(&[("file", b'0', "", b"content")]);
    let (good, length) = (compressed(&tar), tar.len() as u64);
    for (bytes, length) in [
        (good.clone(), length - 1),
        (good.clone(), length + 1),
        (compressed(&vec![0; 64 << 20]), length),
        (b"no zstd".to_vec(), length),
        (good[..good.len() / 2].to_vec(), length),
    ] {
        let remote = remote(&shared.path().join("r"));
        leave(&remote, shared.path(), &bytes, length).await;
        bring(&remote, &there.1).await.unwrap_err();
        assert!(there.1.cache_mounts().mounts().unwrap().is_empty());
    }
    let remote = remote(&shared.path().join("r"));
    leave(&remote, shared.path(), &good, length).await;
    let data = bring(&remote, &there.1).await.unwrap();
    assert_eq!(std::fs::read(data.join("file")).unwrap(), b"content");
}

#[tokio::test]
async fn a_piece_that_is_damaged_is_found_and_sent_again() {
    let (shared, here, there) = (tempfile::tempdir().unwrap(), store(), store());
    let remote = remote(shared.path());
    std::fs::write(make(&here.1).join("file"), "content").unwrap();
    let packed = pack(&here.1);
    send(&remote, &packed).await;
    assert_eq!(send(&remote, &packed).await, 0, "it is there");
    let piece = packed.chunks[0].clone();
    let blob = shared.path().join("blobs/sha256").join(piece.digest.hex());
    for less in [0, 1] {
        let length = usize::try_from(piece.size).unwrap() - less;
        std::fs::write(&blob, vec![1; length]).unwrap();
        bring(&remote, &there.1).await.unwrap_err();
        let present = remote.has_chunks(&packed.chunks).await.unwrap();
        assert!(!present.contains(&piece.digest));
        assert_eq!(send(&remote, &packed).await, piece.size);
    }
    bring(&remote, &there.1).await.unwrap();
}

#[tokio::test]
async fn all_pieces_that_are_damaged_are_found_at_once_where_that_is_wanted() {
    let (shared, here, there) = (tempfile::tempdir().unwrap(), store(), store());
    let mut random = vec![0; 6_000_000];
    kiln_sys::system::random(&mut random).unwrap();
    std::fs::write(make(&here.1).join("file"), random).unwrap();
    let packed = pack(&here.1);
    send(&remote(shared.path()), &packed).await;
    assert!(packed.chunks.len() > 3, "{:?}", packed.chunks);
    for piece in &packed.chunks[1..] {
        let blob = shared.path().join("blobs/sha256").join(piece.digest.hex());
        std::fs::write(&blob, vec![1; usize::try_from(piece.size).unwrap()]).unwrap();
    }
    for find_all in [true, false] {
        let remote = remote(shared.path());
        let found = remote.mount("m", 0).await.unwrap().unwrap();
        let scratch = Arc::new(there.1.scratch().unwrap());
        let brought = remote.fetch_mount(&found, scratch, find_all, &|_| {}).await;
        assert!(
            matches!(brought, Err(RemoteError::Wrong { .. })),
            "{brought:?}"
        );
        let known = packed
            .chunks
            .iter()
            .filter(|p| remote.is_damaged(&p.digest));
        let all = known.count() == packed.chunks.len() - 1;
        // Those that come at the same time are seen in any case.
        assert!(all || !find_all);
    }
}
