//! Leases: what a process uses is not removed while it runs.
//!
//! A lease is a shared lock on one byte of `leases`, so the kernel ends it with its process, however
//! that ends, and nothing is written. A process takes each lease once and keeps it. Who removes
//! things holds the *gate*, another byte, alone while it looks which are leased and takes the others
//! out of the database; a lease is only taken with a share of the gate. So a lease is either seen, or
//! taken when the row is gone: **take the lease first, then look for the row.**

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kiln_sys::lock::{Hold, LockFile};

use crate::error::Result;
use crate::store::Store;

/// Their file in the store.
pub(crate) const FILE: &str = "leases";

/// The byte that stands for all leases.
const GATE: u64 = u64::MAX;

/// The leases of one open store.
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
}

impl Store {
    /// Takes a lease on a layer's name or a blob's digest until this store is closed.
    pub(crate) fn lease(&self, name: &str) -> Result<()> {
        let mut own = self.leases().lock();
        if own.held.contains(name) {
            return Ok(());
        }
        own.file.hold(GATE, Hold::Shared)?;
        let taken = own.file.hold(byte_of(name), Hold::Shared);
        own.file.hold(GATE, Hold::Free)?;
        taken?;
        own.held.insert(name.to_owned());
        Ok(())
    }

    /// Whether another store that is open has a lease on this.
    pub(crate) fn is_leased_elsewhere(&self, name: &str) -> Result<bool> {
        Ok(self.leases().lock().file.is_held_elsewhere(byte_of(name))?)
    }

    /// Everything that this store has a lease on.
    pub(crate) fn leased(&self) -> Vec<String> {
        self.leases().lock().held.iter().cloned().collect()
    }

    /// Runs `f` while nobody can take a lease. It is given a test of whether a name is leased, by
    /// this store or another one that is open.
    pub(crate) fn behind_gate<T>(
        &self,
        f: impl FnOnce(&dyn Fn(&str) -> Result<bool>) -> Result<T>,
    ) -> Result<T> {
        self.with_gate_shut(|own| {
            f(&|name| Ok(own.held.contains(name) || own.file.is_held_elsewhere(byte_of(name))?))
        })
    }

    /// The same, with a test of whether another store than this one has a lease: for what this one was
    /// told to remove and has looked at.
    pub(crate) fn behind_gate_of_others<T>(
        &self,
        f: impl FnOnce(&dyn Fn(&str) -> Result<bool>) -> Result<T>,
    ) -> Result<T> {
        self.with_gate_shut(|own| f(&|name| Ok(own.file.is_held_elsewhere(byte_of(name))?)))
    }

    fn with_gate_shut<T>(&self, f: impl FnOnce(&Inner) -> Result<T>) -> Result<T> {
        let own = self.leases().lock();
        own.file.hold(GATE, Hold::Alone)?;
        let done = f(&own);
        own.file.hold(GATE, Hold::Free)?;
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_seen_by_all_until_its_store_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (
            Store::open(dir.path()).unwrap(),
            Store::open(dir.path()).unwrap(),
        );
        let leased = |store: &Store, name: &str| store.behind_gate(|test| test(name)).unwrap();
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
    fn nobody_takes_a_lease_while_the_gate_is_shut() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (
            Store::open(dir.path()).unwrap(),
            Store::open(dir.path()).unwrap(),
        );
        std::thread::scope(|scope| {
            let taker = one
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
        assert!(one.behind_gate(|test| test("x")).unwrap());
    }
}
