//! Leases: what a session uses is not removed while it goes on.
//!
//! A lease is a shared lock on one byte of `leases`, so the kernel ends it with its process, however
//! that ends, and nothing is written. A session takes each lease once and keeps it. Whoever removes
//! things holds the *gate*, another byte, alone while it looks which are leased and takes the others
//! out of the database; a lease is only taken with a share of the gate. So a lease is either seen, or
//! taken when the row is gone: **take the lease first, then look for the row.**

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kiln_sys::lock::{HeldElsewhere, Hold, LockFile};
use kiln_sys::system;

use crate::error::Result;

/// Their file in the store.
pub(crate) const FILE: &str = "leases";

/// The byte that stands for all leases.
const GATE: u64 = u64::MAX;

/// The last byte of a name.
const LAST: u64 = u64::MAX >> 1;

/// Leases of one session after which it has one on everything: the kernel keeps locks in a list, and what checks a whole
/// store would spend its time in it.
const MOST_ALONE: usize = 1000;

/// The leases of one session.
#[derive(Debug)]
pub(crate) struct Leases(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    file: LockFile,
    held: HashSet<String>,
}

/// Whether anybody has a lease on this, in a store that is not opened.
pub(crate) fn is_leased_in(root: &Path, name: &str) -> bool {
    let held =
        LockFile::open(&root.join(FILE)).and_then(|file| file.is_held_elsewhere(byte_of(name)));
    // What cannot be told may be in use.
    held.unwrap_or(true)
}

/// A name for a session: the process, for people, and a random number.
pub(crate) fn new_owner() -> Result<String> {
    let mut random = [0; 8];
    system::random(&mut random)?;
    let number = u64::from_le_bytes(random);
    Ok(format!("{}-r{number:016x}", std::process::id()))
}

/// What a session has a lease on. Process ids tell nothing where the processes of several containers
/// share a store.
pub(crate) fn owner_lease(owner: &str) -> String {
    format!("owner {owner}")
}

/// The byte of a name. Two names that meet by chance are leased together, nothing worse.
fn byte_of(name: &str) -> u64 {
    let mut offset = [0; 8];
    offset.copy_from_slice(&blake3::hash(name.as_bytes()).as_bytes()[..8]);
    u64::from_le_bytes(offset) >> 1
}

impl Leases {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Ok(Self(Mutex::new(Inner {
            file: LockFile::open(path)?,
            held: HashSet::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a lease on a layer's name or a blob's digest for as long as this value lives.
    pub(crate) fn take(&self, name: &str) -> Result<()> {
        let mut own = self.lock();
        if own.held.contains(name) {
            return Ok(());
        }
        // With so many, this session has a lease on everything.
        if own.held.len() <= MOST_ALONE {
            own.file.hold(GATE, Hold::Shared)?;
            let taken = match own.held.len() < MOST_ALONE {
                true => own.file.hold(byte_of(name), Hold::Shared),
                false => own.file.share_up_to(LAST),
            };
            own.file.hold(GATE, Hold::Free)?;
            taken?;
        }
        own.held.insert(name.to_owned());
        Ok(())
    }

    /// Whether another session has a lease on this.
    pub(crate) fn is_held_elsewhere(&self, name: &str) -> Result<bool> {
        Ok(self.lock().file.is_held_elsewhere(byte_of(name))?)
    }

    /// Everything that this session has a lease on.
    pub(crate) fn held(&self) -> Vec<String> {
        self.lock().held.iter().cloned().collect()
    }

    /// Runs `f` while nobody can take a lease. It is given a test of whether a name is leased, by
    /// this session or another one.
    pub(crate) fn behind_gate<T>(
        &self,
        f: impl FnOnce(&dyn Fn(&str) -> Result<bool>) -> Result<T>,
    ) -> Result<T> {
        self.with_gate_shut(|own, others| {
            f(&|name| Ok(own.held.contains(name) || others.contains(byte_of(name))))
        })
    }

    /// The same, with a test of whether another session than this one has a lease: for what this one was
    /// told to remove and has looked at.
    pub(crate) fn behind_gate_of_others<T>(
        &self,
        f: impl FnOnce(&dyn Fn(&str) -> Result<bool>) -> Result<T>,
    ) -> Result<T> {
        self.with_gate_shut(|_, others| f(&|name| Ok(others.contains(byte_of(name)))))
    }

    fn with_gate_shut<T>(&self, f: impl FnOnce(&Inner, &HeldElsewhere) -> Result<T>) -> Result<T> {
        let own = self.lock();
        own.file.hold(GATE, Hold::Alone)?;
        // None is taken before the gate is open; what is given back meanwhile counts as held.
        let done = match own.file.held_elsewhere() {
            Ok(others) => f(&own, &others),
            Err(error) => Err(error.into()),
        };
        own.file.hold(GATE, Hold::Free)?;
        done
    }
}

#[cfg(test)]
mod tests {
    use crate::store::Store;

    #[test]
    fn a_lease_is_seen_by_all_until_its_store_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (
            Store::open(dir.path()).unwrap(),
            Store::open(dir.path()).unwrap(),
        );
        let leased = |store: &Store, name: &str| {
            let leases = store.leases();
            leases.behind_gate(|test| test(name)).unwrap()
        };
        one.lease("a").unwrap();
        one.lease("a").unwrap();
        two.lease("b").unwrap();
        for store in [&one, &two] {
            assert!(leased(store, "a") && leased(store, "b") && !leased(store, "c"));
        }
        two.lease("a").unwrap();
        drop(one);
        assert!(leased(&two, "a"));
        let three = Store::open(dir.path()).unwrap();
        drop(two);
        assert!(!leased(&three, "a") && !leased(&three, "b"));
    }

    #[test]
    fn who_has_many_leases_has_one_on_everything() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (
            Store::open(dir.path()).unwrap(),
            Store::open(dir.path()).unwrap(),
        );
        let seen = |name: &str| two.leases().behind_gate(|test| test(name)).unwrap();
        // It has some of its own.
        let mut number = 0;
        while one.leases().held().len() < super::MOST_ALONE {
            one.lease(&number.to_string()).unwrap();
            number += 1;
        }
        assert!(seen("0") && !seen("other"));
        for number in 0..3 {
            one.lease(&format!("more {number}")).unwrap();
        }
        assert!(seen("0") && seen("more 2") && seen("other"));
        let own = |name: &str| one.leases().behind_gate(|test| test(name)).unwrap();
        assert!(own("more 2") && !own("other"), "it knows what it uses");
        two.lease("other").unwrap();
        drop(one);
        assert!(!seen("0") && !seen("more 2") && seen("other"));
    }

    #[test]
    fn nobody_takes_a_lease_while_the_gate_is_shut() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (
            Store::open(dir.path()).unwrap(),
            Store::open(dir.path()).unwrap(),
        );
        std::thread::scope(|scope| {
            let taker = one
                .leases()
                .behind_gate(|test| {
                    let taker = scope.spawn(|| two.lease("x"));
                    std::thread::sleep(std::time::Duration::from_millis(50));
                    assert!(!taker.is_finished());
                    assert!(!test("x")?);
                    Ok(taker)
                })
                .unwrap();
            taker.join().unwrap().unwrap();
        });
        assert!(one.leases().behind_gate(|test| test("x")).unwrap());
    }

    /// Two pieces of work in one process: each has its own, and what one used can go while the other goes on.
    #[test]
    fn sessions_of_one_store_have_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (one, two) = (store.session().unwrap(), store.session().unwrap());
        let layer = |session: &Store| {
            let scratch = session.scratch().unwrap();
            let made = scratch.path().join("diff");
            std::fs::create_dir(&made).unwrap();
            std::fs::write(made.join("file"), "text").unwrap();
            (session.adopt_layer(&made).unwrap(), scratch)
        };
        let ((first, first_scratch), (second, second_scratch)) = (layer(&one), layer(&two));
        let blob = store.put_blob(b"blob").unwrap();
        assert_eq!(two.read_blob(&blob).unwrap(), b"blob");
        let exists = |id: &crate::LayerId| dir.path().join("layers-v1").join(id.as_str()).exists();
        let sessions = || {
            std::fs::read_dir(dir.path().join("work-v1"))
                .unwrap()
                .count()
        };
        assert_eq!(sessions(), 2);
        one.discard_own_unrecorded().unwrap();
        assert!(!exists(&first) && exists(&second));
        store.discard_unrecorded().unwrap();
        assert!(exists(&second), "its session goes on");
        drop((first_scratch, one));
        assert_eq!(sessions(), 1);
        // What the store itself has put there is leased by it, too.
        drop(store);
        let other = Store::open(dir.path()).unwrap();
        other.maintenance().prune(&crate::Prune::default()).unwrap();
        assert_eq!(two.read_blob(&blob).unwrap(), b"blob", "in use");
        drop(second_scratch);
        let last = two.session().unwrap();
        drop(two);
        last.discard_unrecorded().unwrap();
        assert!(!exists(&second), "nobody records it any more");
        other.maintenance().prune(&crate::Prune::default()).unwrap();
        assert!(last.read_blob(&blob).is_err());
    }
}
