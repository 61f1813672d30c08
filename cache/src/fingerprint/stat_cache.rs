//! Remembers the content digest of files by device, inode, size and times.
//!
//! Times alone never decide: a file that changed so shortly before it was hashed that a second
//! change could carry the same time is not remembered, as git does for its index. The change
//! time cannot be set by programs, so a restored modification time does not deceive it. Neither is
//! one whose times would not move when somebody writes to a mapping of it, see [`writers`].

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use kiln_sys::Stat;
use kiln_sys::writers::{self, Times};

use crate::error::{Error, Result};
use crate::store::Store;

/// Resolution that is granted to file times, in nanoseconds: kernels tick at 100 Hz or faster.
const RACY: i128 = 50_000_000;
const MAGIC: &[u8; 8] = b"kilnst04";
/// Bytes of the checksum at the end.
const SUM: usize = 32;
/// Bytes of a file's identity and of what is known of it.
const RECORD: usize = 8 + 8 + 8 + 8 + 4 + 8 + 4 + 32 + 1;

/// What identifies an unchanged file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct FileId {
    dev: u64,
    ino: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    size: u64,
    mtime: (i64, u32),
    ctime: (i64, u32),
    content: FileDigest,
}

/// What is remembered of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileDigest {
    /// Digest of its attributes and content.
    pub digest: blake3::Hash,
    /// It has attributes that count.
    pub attributes: bool,
}

/// The stat cache of one context.
#[derive(Debug)]
pub struct StatCache {
    path: PathBuf,
    scratch: Store,
    old: StatRecords,
    new: Mutex<Vec<(FileId, Known)>>,
    hits: std::sync::atomic::AtomicUsize,
}

impl Store {
    /// The stat cache of the context at `root`. One that cannot be read is empty.
    pub fn stat_cache(&self, root: &Path) -> StatCache {
        use std::os::unix::ffi::OsStrExt as _;
        let name = blake3::hash(root.as_os_str().as_bytes()).to_hex();
        let path = self.root().join("stat-v1").join(name.as_str());
        let old = std::fs::read(&path).ok().and_then(StatRecords::checked);
        let old = old.unwrap_or_default();
        StatCache {
            path,
            scratch: self.clone(),
            old,
            new: Mutex::default(),
            hits: std::sync::atomic::AtomicUsize::new(0),
        }
    }
}

/// The records of a file, sorted by identity. They are searched as they are: to make a map of them takes longer
/// than all the lookups in it.
#[derive(Debug, Default)]
struct StatRecords(Vec<u8>);

impl StatRecords {
    /// Those of a file that is whole.
    fn checked(bytes: Vec<u8>) -> Option<Self> {
        let records = bytes.strip_prefix(MAGIC)?;
        let (records, sum) = records.split_at_checked(records.len().checked_sub(SUM)?)?;
        let is_whole = records.len() % RECORD == 0 && blake3::hash(records).as_bytes() == sum;
        is_whole.then_some(Self(bytes))
    }

    fn all(&self) -> &[[u8; RECORD]] {
        let end = self.0.len().saturating_sub(SUM);
        let records = self.0.get(MAGIC.len()..end).unwrap_or_default();
        records.as_chunks().0
    }

    fn get(&self, id: FileId) -> Option<Known> {
        let all = self.all();
        let at = all.binary_search_by(|record| id_of(record).cmp(&id)).ok()?;
        Some(known_of(all.get(at)?))
    }
}

/// Bytes of a record.
fn field<const N: usize>(record: &[u8; RECORD], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&record[at..at + N]);
    out
}

fn id_of(record: &[u8; RECORD]) -> FileId {
    FileId {
        dev: u64::from_le_bytes(field(record, 0)),
        ino: u64::from_le_bytes(field(record, 8)),
    }
}

fn known_of(record: &[u8; RECORD]) -> Known {
    let time = |at| {
        let seconds = i64::from_le_bytes(field(record, at));
        (seconds, u32::from_le_bytes(field(record, at + 8)))
    };
    Known {
        size: u64::from_le_bytes(field(record, 16)),
        mtime: time(24),
        ctime: time(36),
        content: FileDigest {
            digest: blake3::Hash::from_bytes(field(record, 48)),
            attributes: record[80] != 0,
        },
    }
}

impl StatCache {
    /// The digest of a file, if it is known to be unchanged.
    pub fn get(&self, st: &Stat) -> Option<FileDigest> {
        let id = FileId {
            dev: st.dev,
            ino: st.ino,
        };
        let known = self.old.get(id)?;
        let same = known.size == st.size && known.mtime == st.mtime && known.ctime == st.ctime;
        if !same {
            return None;
        }
        self.hits.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Some(known.content)
    }

    /// When a file must have changed last, of which a digest is to be remembered, in nanoseconds since
    /// 1970; none if times do not tell. This is asked before its metadata and its content are read.
    pub fn oldest_change(file: impl AsFd) -> Option<i128> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        let now = i128::try_from(now.as_nanos()).ok()?;
        match writers::times_of(&file) {
            Times::Tell if !writers::has_writer(&file) => Some(now - RACY),
            Times::TellAfter(settled) => Some(now - i128::try_from(settled.as_nanos()).ok()?),
            Times::Tell | Times::Silent => None,
        }
    }

    /// Remembers a digest. `st` was read before the content, and [`StatCache::oldest_change`] before
    /// that.
    pub fn put(&self, st: &Stat, content: FileDigest, oldest_change: Option<i128>) {
        let nanos = |t: (i64, u32)| i128::from(t.0) * 1_000_000_000 + i128::from(t.1);
        let changed = nanos(st.ctime).max(nanos(st.mtime));
        if oldest_change.is_none_or(|oldest| changed > oldest) {
            return;
        }
        let known = Known {
            size: st.size,
            mtime: st.mtime,
            ctime: st.ctime,
            content,
        };
        if let Ok(mut new) = self.new.lock() {
            new.push((
                FileId {
                    dev: st.dev,
                    ino: st.ino,
                },
                known,
            ));
        }
    }

    /// Writes what was learnt. Does nothing if nothing was.
    ///
    /// # Errors
    /// The file cannot be written; the next build then hashes again.
    pub fn save(self) -> Result<()> {
        let new = self.new.into_inner().unwrap_or_default();
        if new.is_empty() {
            return Ok(());
        }
        let old = self.old.all();
        // Files that are gone are forgotten once they outnumber the living.
        let are_many_gone = old.len() > 2 * (new.len() + self.hits.into_inner());
        let old = if are_many_gone { &[] } else { old };
        let old = old.iter().map(|record| (id_of(record), known_of(record)));
        let all: BTreeMap<FileId, Known> = old.chain(new).collect();
        let mut bytes = Vec::with_capacity(all.len() * RECORD + 40);
        bytes.extend_from_slice(MAGIC);
        for (id, k) in &all {
            bytes.extend_from_slice(&id.dev.to_le_bytes());
            bytes.extend_from_slice(&id.ino.to_le_bytes());
            bytes.extend_from_slice(&k.size.to_le_bytes());
            for (secs, nanos) in [k.mtime, k.ctime] {
                bytes.extend_from_slice(&secs.to_le_bytes());
                bytes.extend_from_slice(&nanos.to_le_bytes());
            }
            bytes.extend_from_slice(k.content.digest.as_bytes());
            bytes.push(k.content.attributes.into());
        }
        let sum = blake3::hash(&bytes[MAGIC.len()..]);
        bytes.extend_from_slice(sum.as_bytes());
        let scratch = self.scratch.scratch()?;
        let temporary = scratch.path().join("stat");
        let mut file =
            std::fs::File::create_new(&temporary).map_err(|e| Error::io("write stat cache", e))?;
        file.write_all(&bytes)
            .map_err(|e| Error::io("write stat cache", e))?;
        std::fs::rename(&temporary, &self.path).map_err(|e| Error::io("write stat cache", e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_sys::RootDir;

    #[test]
    fn a_fresh_change_is_never_remembered_and_a_restored_time_does_not_deceive() {
        // Where tests are built is a disk, and a temporary directory may be none.
        let tests = std::env::current_exe().unwrap();
        let dir = tempfile::tempdir_in(tests.parent().unwrap()).unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let context = dir.path().join("context");
        std::fs::create_dir(&context).unwrap();
        std::fs::write(context.join("a"), "one").unwrap();
        let root = RootDir::open_trusted(&context).unwrap();
        let st = root.lstat(Path::new("a")).unwrap();
        let digest = FileDigest {
            digest: blake3::hash(b"one"),
            attributes: true,
        };

        let cache = store.stat_cache(&context);
        let file = std::fs::File::open(context.join("a")).unwrap();
        let oldest = StatCache::oldest_change(&file);
        assert!(oldest.is_some(), "the tests run on a disk");
        cache.put(&st, digest, oldest);
        cache.save().unwrap();
        assert_eq!(
            store.stat_cache(&context).get(&st),
            None,
            "changed a moment ago"
        );

        let cache = store.stat_cache(&context);
        cache.put(&st, digest, oldest.map(|oldest| oldest + 1_000_000_000));
        cache.save().unwrap();
        assert_eq!(store.stat_cache(&context).get(&st), Some(digest));

        std::thread::sleep(std::time::Duration::from_millis(20));
        std::fs::write(context.join("a"), "two").unwrap();
        root.set_mtime(Path::new("a"), st.mtime).unwrap();
        let after = root.lstat(Path::new("a")).unwrap();
        assert_eq!(
            (after.size, after.mtime, after.ino),
            (st.size, st.mtime, st.ino)
        );
        assert_eq!(
            store.stat_cache(&context).get(&after),
            None,
            "the change time differs"
        );
    }

    #[test]
    fn a_damaged_file_is_an_empty_cache() {
        let whole = |records: &[u8]| {
            let sum = blake3::hash(records);
            [MAGIC.as_slice(), records, sum.as_bytes()].concat()
        };
        let damaged = [
            Vec::new(),
            MAGIC.to_vec(),
            [MAGIC.as_slice(), &[7; 200]].concat(),
            whole(&[7; RECORD + 1]),
            [b"kilnst03".as_slice(), &whole(&[])[MAGIC.len()..]].concat(),
        ];
        for bytes in damaged {
            assert!(StatRecords::checked(bytes.clone()).is_none(), "{bytes:?}");
        }
        assert!(StatRecords::checked(whole(&[])).unwrap().all().is_empty());
        // What nobody has sorted is not found, and does no harm.
        let record = |ino: u64| {
            let mut record = [0; RECORD];
            record[8..16].copy_from_slice(&ino.to_le_bytes());
            record
        };
        let unsorted = [3, 2, 1].map(record).concat();
        let unsorted = StatRecords::checked(whole(&unsorted)).unwrap();
        assert_eq!(unsorted.get(FileId { dev: 0, ino: 3 }), None);
    }
}
