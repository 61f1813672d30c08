//! Where the objects of a cache lie: in a bucket, or in a directory that others may also write to.
//!
//! Nothing that lies in a directory leads out of it: names are resolved by [`RootDir`], files appear
//! under their names by a rename, and only regular files are read.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use std::collections::HashSet;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::Path as FilePath;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use kiln_sys::{DirEntry, FsError, PendingFile, RootDir};

use crate::limits::{MAX_FOLDERS, MAX_NAMES, MAX_NAMES_OF_FOLDER};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload};
use tokio::io::{AsyncRead, AsyncWriteExt as _};

/// Bytes of an object that are sent in one request. A bucket takes 10,000 parts of an object.
pub(crate) const PART: usize = 8 << 20;

/// Parts of an object that are on their way at the same time. They are read at once, and share the line.
pub(crate) const PARTS: usize = 2;

/// Bytes of a file that are read at a time.
const CHUNK: usize = 64 << 10;

/// Mode of a new file, before the process's mask.
const NEW_FILE: u32 = 0o666;

type Result<T> = std::result::Result<T, Error>;

/// An object that is there.
pub(crate) struct Found {
    /// Its length in bytes, as the place says.
    pub(crate) size: u64,
    /// Its bytes, of which there may be more or less.
    pub(crate) bytes: BoxStream<'static, Result<Bytes>>,
}

/// A bucket or a directory.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Bucket(Arc<dyn ObjectStore>),
    Directory(Arc<RootDir>),
}

fn wrong(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic {
        store: "directory",
        source: source.into(),
    }
}

/// Does something in a directory on a thread that may wait.
async fn in_directory<T: Send + 'static>(
    root: &Arc<RootDir>,
    path: &Path,
    work: impl FnOnce(&RootDir, &FilePath) -> std::result::Result<T, FsError> + Send + 'static,
) -> Result<T> {
    let (root, path) = (root.clone(), path.as_ref().to_owned());
    let done = tokio::task::spawn_blocking(move || work(&root, FilePath::new(&path)));
    done.await.map_err(wrong)?.map_err(wrong)
}

/// The names in a folder of a directory; none if there are more. One that is not there has none.
async fn list(root: &Arc<RootDir>, path: Path, most: usize) -> Result<Option<Vec<OsString>>> {
    let listed = in_directory(root, &path, move |root, path| {
        if_there(root.read_small_dir(path, most))
    });
    let names = |all: Vec<DirEntry>| all.into_iter().map(|entry| entry.name).collect();
    Ok(match listed.await? {
        Some(listed) => listed.map(names),
        None => Some(Vec::new()),
    })
}

/// None where there is nothing of the name.
fn if_there<T>(found: std::result::Result<T, FsError>) -> std::result::Result<Option<T>, FsError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e),
    }
}

/// Writes a file at once, which has no name yet.
fn write(
    root: &RootDir,
    path: &FilePath,
    bytes: &[u8],
) -> std::result::Result<PendingFile, FsError> {
    let pending = root.pending_file(path, NEW_FILE)?;
    let written = pending.file().write_all(bytes);
    written.map_err(|e| FsError::new("write", path, e))?;
    Ok(pending)
}

impl Place {
    /// A directory, which is made if it is missing.
    #[allow(clippy::disallowed_methods, reason = "the user names it")]
    pub(crate) fn directory(dir: &FilePath) -> std::result::Result<Self, FsError> {
        std::fs::create_dir_all(dir).map_err(|e| FsError::new("make", dir, e))?;
        Ok(Self::Directory(Arc::new(RootDir::open_trusted(dir)?)))
    }

    /// An object, if it is there.
    pub(crate) async fn get(&self, path: &Path) -> Result<Option<Found>> {
        match self {
            Self::Bucket(store) => match store.get(path).await {
                Ok(found) => Ok(Some(Found {
                    size: found.meta.size,
                    bytes: found.into_stream(),
                })),
                Err(Error::NotFound { .. }) => Ok(None),
                Err(e) => Err(e),
            },
            Self::Directory(root) => {
                let opened = in_directory(root, path, |root, path| {
                    let Some(file) = if_there(root.open_regular(path))? else {
                        return Ok(None);
                    };
                    let size = RootDir::stat_of(&file)?.size;
                    Ok(Some((file, size)))
                });
                Ok(opened.await?.map(|(file, size)| {
                    let file = tokio::fs::File::from_std(file);
                    let read = tokio_util::io::ReaderStream::with_capacity(file, CHUNK);
                    let bytes = read.map_err(wrong).boxed();
                    Found { size, bytes }
                }))
            }
        }
    }

    /// The length of an object in bytes, if it is there.
    pub(crate) async fn size(&self, path: &Path) -> Result<Option<u64>> {
        match self {
            Self::Bucket(store) => match store.head(path).await {
                Ok(found) => Ok(Some(found.size)),
                Err(Error::NotFound { .. }) => Ok(None),
                Err(e) => Err(e),
            },
            Self::Directory(root) => {
                let stat = in_directory(root, path, |root, path| if_there(root.stat(path)));
                Ok(stat
                    .await?
                    .filter(kiln_sys::Stat::is_file)
                    .map(|st| st.size))
            }
        }
    }

    /// The names of the objects in the folders of a folder, if there are few.
    pub(crate) async fn names(&self, path: &Path) -> Result<Option<HashSet<String>>> {
        match self {
            Self::Bucket(store) => {
                // What follows would be asked for with another question.
                let found = store.list(Some(path)).take(MAX_NAMES);
                let name =
                    |meta: ObjectMeta| meta.location.filename().unwrap_or_default().to_owned();
                let names: Vec<String> = found.map_ok(name).try_collect().await?;
                Ok((names.len() < MAX_NAMES).then(|| names.into_iter().collect()))
            }
            Self::Directory(root) => {
                let Some(folders) = list(root, path.clone(), MAX_FOLDERS).await? else {
                    return Ok(None);
                };
                let inside = folders
                    .into_iter()
                    .filter_map(|name| name.into_string().ok());
                let inside =
                    inside.map(|folder| list(root, path.clone().join(folder), MAX_NAMES_OF_FOLDER));
                let mut names = HashSet::new();
                for found in futures_util::future::join_all(inside).await {
                    let Some(found) = found? else {
                        return Ok(None);
                    };
                    names.extend(found.into_iter().filter_map(|name| name.into_string().ok()));
                    if names.len() >= MAX_NAMES {
                        return Ok(None);
                    }
                }
                Ok(Some(names))
            }
        }
    }

    /// Writes an object, in place of what is there.
    pub(crate) async fn put(&self, path: &Path, bytes: Vec<u8>) -> Result<()> {
        match self {
            Self::Bucket(store) => store.put(path, PutPayload::from(bytes)).await.map(drop),
            Self::Directory(root) => {
                let put = move |root: &RootDir, path: &FilePath| write(root, path, &bytes)?.keep();
                in_directory(root, path, put).await
            }
        }
    }

    /// Writes an object unless there is one; whether it was written.
    pub(crate) async fn put_new(&self, path: &Path, bytes: Vec<u8>) -> Result<bool> {
        match self {
            Self::Bucket(store) => {
                let put = store.put_opts(path, PutPayload::from(bytes), PutMode::Create.into());
                match put.await {
                    Ok(_) => Ok(true),
                    Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
                    Err(e) => Err(e),
                }
            }
            Self::Directory(root) => {
                let put =
                    move |root: &RootDir, path: &FilePath| write(root, path, &bytes)?.keep_new();
                in_directory(root, path, put).await
            }
        }
    }

    /// Writes an object of any length; half of one never has its name.
    pub(crate) async fn send(
        &self,
        path: Path,
        from: &mut (impl AsyncRead + Unpin + Send),
    ) -> io::Result<()> {
        match self {
            Self::Bucket(store) => {
                let mut to =
                    BufWriter::with_capacity(store.clone(), path, PART).with_max_concurrency(PARTS);
                if let Err(e) = tokio::io::copy(from, &mut to).await {
                    // What was sent so far is of no use to anybody.
                    let _ = to.abort().await;
                    return Err(e);
                }
                to.shutdown().await
            }
            Self::Directory(root) => {
                let begun = in_directory(root, &path, |root, path| {
                    let pending = root.pending_file(path, NEW_FILE)?;
                    let file = pending.file().try_clone();
                    Ok((pending, file.map_err(|e| FsError::new("write", path, e))?))
                });
                let (pending, file) = begun.await.map_err(io::Error::other)?;
                let mut to = tokio::fs::File::from_std(file);
                let mut from = tokio::io::BufReader::with_capacity(CHUNK, from);
                tokio::io::copy_buf(&mut from, &mut to).await?;
                to.flush().await?;
                let kept = tokio::task::spawn_blocking(move || pending.keep());
                kept.await
                    .map_err(io::Error::other)?
                    .map_err(io::Error::other)
            }
        }
    }

    /// Removes an object, which may be gone.
    pub(crate) async fn delete(&self, path: &Path) -> Result<()> {
        match self {
            Self::Bucket(store) => match store.delete(path).await {
                Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
                Err(e) => Err(e),
            },
            Self::Directory(root) => {
                let gone = in_directory(root, path, |root, path| if_there(root.unlink(path)));
                gone.await.map(drop)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    async fn read(place: &Place, path: &str) -> Option<String> {
        let found = place.get(&Path::from(path)).await.ok()??;
        let parts: Vec<Bytes> = found.bytes.try_collect().await.ok()?;
        assert_eq!(
            found.size,
            parts.iter().map(|p| p.len() as u64).sum::<u64>()
        );
        Some(String::from_utf8(parts.concat()).unwrap())
    }

    async fn write_all(place: &Place, path: &str, text: &str) -> bool {
        let path = Path::from(path);
        let put = place.put(&path, text.into()).await.is_ok();
        let sent = place.send(path.clone(), &mut text.as_bytes()).await.is_ok();
        assert_eq!(put, sent, "{path}");
        put
    }

    #[tokio::test]
    async fn a_directory_keeps_objects() {
        let temp = tempfile::tempdir().unwrap();
        let place = Place::directory(&temp.path().join("new")).unwrap();
        assert_eq!(read(&place, "a/b/c").await, None);
        assert_eq!(place.size(&"a/b/c".into()).await.unwrap(), None);
        assert!(write_all(&place, "a/b/c", "text").await);
        assert_eq!(read(&place, "a/b/c").await.as_deref(), Some("text"));
        assert_eq!(place.size(&"a/b/c".into()).await.unwrap(), Some(4));
        for (path, is_new) in [("a/b/c", false), ("a/d", true), ("a/d", false)] {
            let put = place.put_new(&path.into(), "other".into()).await;
            assert_eq!(put.unwrap(), is_new, "{path}");
        }
        for _ in 0..2 {
            place.delete(&"a/d".into()).await.unwrap();
            assert_eq!(read(&place, "a/d").await, None);
        }
        let left = std::fs::read_dir(temp.path().join("new/a")).unwrap();
        assert_eq!(left.count(), 1);
    }

    #[tokio::test]
    async fn only_few_names_are_listed() {
        let temp = tempfile::tempdir().unwrap();
        let directory = Place::directory(temp.path()).unwrap();
        let bucket = Place::Bucket(Arc::new(object_store::memory::InMemory::new()));
        for place in [directory, bucket] {
            let all = Path::from("all");
            assert_eq!(place.names(&all).await.unwrap(), Some(HashSet::new()));
            let path = |n: usize| format!("all/{:02x}/{n}", n % 16).into();
            for n in 0..MAX_NAMES - 1 {
                place.put(&path(n), b"x".to_vec()).await.unwrap();
            }
            place.put(&"other/x".into(), b"x".to_vec()).await.unwrap();
            let names = place.names(&all).await.unwrap().unwrap();
            assert_eq!(names.len(), MAX_NAMES - 1);
            assert!(names.contains("0") && !names.contains("x"));
            place.put(&path(MAX_NAMES), b"x".to_vec()).await.unwrap();
            assert_eq!(place.names(&all).await.unwrap(), None);
        }
        let many = Place::directory(&temp.path().join("many")).unwrap();
        for n in 0..=MAX_FOLDERS {
            let path = format!("all/{n:02x}/x").into();
            many.put(&path, b"x".to_vec()).await.unwrap();
        }
        assert_eq!(many.names(&"all".into()).await.unwrap(), None);
    }

    #[tokio::test]
    async fn links_in_a_directory_lead_nowhere_else() {
        let temp = tempfile::tempdir().unwrap();
        let (inside, outside) = (temp.path().join("cache"), temp.path().join("outside"));
        std::fs::create_dir_all(inside.join("real")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("secret"), "secret").unwrap();
        for (target, link) in [
            (outside.as_path(), "absolute"),
            (FilePath::new("../outside"), "relative"),
            (&outside.join("secret"), "file"),
            (&outside.join("made"), "nowhere"),
            (FilePath::new("/dev/zero"), "endless"),
            (FilePath::new("real"), "within"),
        ] {
            symlink(target, inside.join(link)).unwrap();
        }
        rustix::fs::mknodat(
            rustix::fs::CWD,
            inside.join("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        let place = Place::directory(&inside).unwrap();
        for path in [
            "absolute/secret",
            "relative/secret",
            "file",
            "endless",
            "pipe",
        ] {
            assert_eq!(read(&place, path).await, None, "{path}");
            assert!(
                !matches!(place.size(&path.into()).await, Ok(Some(_))),
                "{path}"
            );
        }
        // Whether they are written inside or refused, nothing is made or changed outside.
        for path in ["absolute/x", "relative/x", "file", "nowhere", "nowhere/x"] {
            write_all(&place, path, "x").await;
            let _ = place
                .put_new(&format!("{path}.claim").into(), "x".into())
                .await;
            let _ = place.delete(&path.into()).await;
        }
        place.delete(&"absolute/secret".into()).await.unwrap();
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
        let secret = std::fs::read_to_string(outside.join("secret"));
        assert_eq!(secret.unwrap(), "secret");
        assert!(write_all(&place, "within/x", "x").await);
        assert_eq!(std::fs::read_to_string(inside.join("real/x")).unwrap(), "x");
    }
}
