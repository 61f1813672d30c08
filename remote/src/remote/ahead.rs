//! What a remote is asked before a step needs it, in a few questions for all steps.
//!
//! What the steps of a build will look up is foretold by what a build with the same definitions found: that is in
//! [bundles](super::bundle), which come when the first step is looked up. What is in none of them is asked for alone.
//! Where that happens, the remote is also asked once what names it has at all: as long as that answer is new,
//! what is not among them need not be asked for.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use kiln_solver::key::Key;
use tokio::time::Instant;

use super::bundle::{Bundle, MAX_COPY};
use super::{LOOK_UP, Remote, STORE, fingerprint_key};
use crate::backend::{Backend, RecordKind};
use crate::error::RemoteError;
use crate::limits::{ANSWER_TIMEOUT, MAX_QUESTIONS, STORE_TIMEOUT};
use crate::trust::Sealed;

/// How long a list of names counts: other hosts write all the time.
const NEW: Duration = Duration::from_secs(3);

/// What a remote was asked ahead.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// The names of the bundles that the build may need.
    expected: OnceLock<Vec<String>>,
    /// Those that are there, once they were asked for.
    bundles: tokio::sync::OnceCell<HashMap<String, Bundle>>,
    /// Those that this build has written.
    renewed: Mutex<HashMap<String, Bundle>>,
    /// Records that are there and believed, by name, for bundles.
    copies: Mutex<HashMap<String, Sealed>>,
    names: Mutex<Names>,
}

/// The names of the records that a remote has.
#[derive(Debug, Default)]
enum Names {
    /// They are not known.
    #[default]
    Unknown,
    /// They are asked for.
    Asked,
    /// They were all of these.
    Known(Instant, HashSet<String>),
    /// There are too many, or the remote does not tell.
    Untold,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the bundle of steps with these definitions is called in a namespace.
fn bundle_name(namespace: &str, group: &[Key]) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("kiln remote cache 2026 name of a bundle");
    hasher.update(&(namespace.len() as u64).to_le_bytes());
    hasher.update(namespace.as_bytes());
    for definition in group {
        hasher.update(&definition.0);
    }
    hasher.finalize().to_hex().to_string()
}

impl Remote {
    /// Tells which steps a build has, by groups of their definitions. Nothing is asked before one of them is
    /// looked up.
    pub(crate) fn expect(&self, groups: &[Vec<Key>]) {
        let namespace = &self.inner.namespace;
        let names = groups.iter().map(|group| bundle_name(namespace, group));
        // A build has one plan.
        let _ = self.inner.ahead.expected.set(names.collect());
    }

    /// Waits for the bundles, which are asked for by whoever comes first. What goes wrong with them is no failure:
    /// then each record is asked for alone, and tells.
    pub(crate) async fn look_ahead(&self) {
        let ahead = &self.inner.ahead;
        if let Some(expected) = ahead.expected.get() {
            ahead.bundles.get_or_init(|| self.bundles(expected)).await;
        }
    }

    async fn bundles(&self, names: &[String]) -> HashMap<String, Bundle> {
        let names = names.iter().cloned();
        let asked = names.map(|name| async move {
            match self.read_bundle(&name).await {
                Ok(found) => Ok(found.map(|bundle| (name, bundle))),
                Err(RemoteError::Refused(why)) => {
                    tracing::debug!(why, "a bundle of records is refused");
                    Ok(None)
                }
                Err(error) => Err(error),
            }
        });
        let answers = stream::iter(asked).buffer_unordered(MAX_QUESTIONS);
        let found = answers.try_filter_map(|found| std::future::ready(Ok(found)));
        // All of them are one question, which fails once.
        let told = self.guarded(LOOK_UP, ANSWER_TIMEOUT, found.try_collect());
        told.await.unwrap_or_else(|error| {
            tracing::debug!(%error, "no bundles of records");
            HashMap::new()
        })
    }

    async fn read_bundle(&self, name: &str) -> Result<Option<Bundle>, RemoteError> {
        let kind = RecordKind::Bundle;
        let bytes = match &self.inner.backend {
            Backend::Registry(registry) => registry.get(kind, name).await?,
            Backend::Objects(objects) => objects.get(kind, name).await?,
        };
        let bundle = bytes.map(|bytes| Bundle::from_bytes(&bytes));
        bundle.transpose().map_err(RemoteError::Refused)
    }

    /// What `read` makes of the record of a name: of a copy, if there is a good one, else of what the remote
    /// says.
    pub(super) async fn look_up<T>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, RemoteError> {
        self.look_ahead().await;
        if let Some(copy) = self.bundled(name) {
            let text = self.inner.trust.open(&self.inner.namespace, &copy);
            match text.and_then(&read) {
                Ok(found) => {
                    self.keep_copy(name, copy);
                    return Ok(Some(found));
                }
                Err(why) => tracing::debug!(why, "a copy of a record is refused"),
            }
        }
        if self.lacks(name) {
            return Ok(None);
        }
        self.look_up_now(name, read).await
    }

    /// The same without what was told ahead.
    pub(super) async fn look_up_now<T>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, RemoteError> {
        let Some(sealed) = self.read(name).await? else {
            return Ok(None);
        };
        let text = self.inner.trust.open(&self.inner.namespace, &sealed);
        let found = text.and_then(read).map_err(RemoteError::Refused)?;
        self.keep_copy(name, sealed);
        Ok(Some(found))
    }

    fn bundled(&self, name: &str) -> Option<Sealed> {
        let bundles = self.inner.ahead.bundles.get()?.values();
        bundles
            .filter_map(|bundle| bundle.get(name))
            .next()
            .cloned()
    }

    /// Keeps a record that the remote has for the bundles that are written at the end.
    pub(super) fn keep_copy(&self, name: &str, copy: Sealed) {
        if copy.size() <= MAX_COPY {
            locked(&self.inner.ahead.copies).insert(name.to_owned(), copy);
        }
    }

    /// Whether it is known that the remote has no record of a name. If that is not known, it will be.
    fn lacks(&self, name: &str) -> bool {
        let mut names = locked(&self.inner.ahead.names);
        match &*names {
            Names::Known(at, all) if at.elapsed() < NEW => return !all.contains(name),
            Names::Asked | Names::Untold => return false,
            Names::Unknown | Names::Known(..) => *names = Names::Asked,
        }
        drop(names);
        let remote = self.clone();
        tokio::spawn(async move {
            let at = Instant::now();
            // A remote that does not tell is none that has failed.
            let told = tokio::time::timeout(ANSWER_TIMEOUT, async {
                match &remote.inner.backend {
                    Backend::Registry(registry) => registry.names().await,
                    Backend::Objects(objects) => objects.names().await,
                }
            });
            let told = match told.await {
                Ok(Ok(Some(all))) => Names::Known(at, all),
                Ok(Ok(None)) => Names::Untold,
                Ok(Err(error)) => {
                    tracing::debug!(%error, "names of records are not told");
                    Names::Untold
                }
                Err(_) => Names::Untold,
            };
            *locked(&remote.inner.ahead.names) = told;
        });
        false
    }

    /// Writes the bundle of a group of steps if what was found of them is not in it: results by their keys, and
    /// fingerprints of paths by identity and selection. Returns whether it was written.
    ///
    /// # Errors
    /// The remote failed.
    pub(crate) async fn put_bundle(
        &self,
        group: &[Key],
        results: &[Key],
        fingerprints: &[(String, String)],
    ) -> Result<bool, RemoteError> {
        self.look_ahead().await;
        let ahead = &self.inner.ahead;
        let paths = fingerprints.iter().map(|(i, s)| fingerprint_key(i, s));
        let names = results
            .iter()
            .copied()
            .chain(paths)
            .map(|key| self.name(key));
        let found: Vec<(String, Sealed)> = {
            let copies = locked(&ahead.copies);
            let copy = |name: String| copies.get(&name).cloned().map(|copy| (name, copy));
            names.filter_map(copy).collect()
        };
        let name = bundle_name(&self.inner.namespace, group);
        let written = locked(&ahead.renewed).get(&name).cloned();
        let before = written.or_else(|| ahead.bundles.get()?.get(&name).cloned());
        let Some(bundle) = before.unwrap_or_default().renewed(found) else {
            return Ok(false);
        };
        let bytes = bundle.to_bytes().map_err(RemoteError::failed(STORE))?;
        let kind = RecordKind::Bundle;
        let put = self.guarded(STORE, STORE_TIMEOUT, async {
            match &self.inner.backend {
                Backend::Registry(r) => r.put(kind, &name, &bytes, Vec::new(), false).await,
                Backend::Objects(objects) => objects.put(kind, &name, bytes).await,
            }
        });
        put.await?;
        locked(&ahead.renewed).insert(name, bundle);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use kiln_solver::key::Fingerprint;

    use super::*;
    use crate::testing::remote_in;

    fn fingerprint(n: u8) -> Fingerprint {
        Fingerprint([n; 32])
    }

    /// Looks a record up until the names are known that were asked for beside it.
    async fn miss(host: &Remote) {
        for _ in 0..1000 {
            assert!(
                host.fingerprint("nothing", "there")
                    .await
                    .unwrap()
                    .is_none()
            );
            if matches!(&*locked(&host.inner.ahead.names), Names::Known(..)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("the names are not told");
    }

    #[tokio::test]
    async fn what_others_write_is_found_after_a_moment_or_when_it_is_looked_at_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (host, other) = (remote_in(dir.path()), remote_in(dir.path()));
        miss(&host).await;
        other
            .put_fingerprint("tree", "path", fingerprint(1), false)
            .await
            .unwrap();
        let name = host.name(fingerprint_key("tree", "path"));
        assert!(host.lacks(&name));
        let now = host.look_up_now(&name, |text| Ok(text.to_owned())).await;
        assert!(now.unwrap().is_some());
        // A list that is old is asked for again, and nobody waits for it.
        if let Names::Known(at, _) = &mut *locked(&host.inner.ahead.names) {
            *at -= NEW;
        }
        let found = host.fingerprint("tree", "path").await.unwrap();
        assert_eq!(found, Some(fingerprint(1)));
        miss(&host).await;
        assert!(!host.lacks(&name));
    }

    #[tokio::test]
    async fn a_bundle_gives_what_was_found_and_is_written_once() {
        let dir = tempfile::tempdir().unwrap();
        let group = vec![Key([1; 32]), Key([2; 32])];
        let read = ("tree".to_owned(), "path".to_owned());
        let expecting = || {
            let host = remote_in(dir.path());
            host.expect(std::slice::from_ref(&group));
            host
        };
        let first = expecting();
        first
            .put_fingerprint("tree", "path", fingerprint(1), false)
            .await
            .unwrap();
        let put = async |host: &Remote| {
            let read = std::slice::from_ref(&read);
            host.put_bundle(&group, &[Key([9; 32])], read)
                .await
                .unwrap()
        };
        assert!(put(&first).await);
        assert!(!put(&first).await);
        // The record itself is not needed.
        std::fs::remove_dir_all(dir.path().join("records-v1")).unwrap();
        let second = expecting();
        let found = second.fingerprint("tree", "path").await.unwrap();
        assert_eq!(found, Some(fingerprint(1)));
        assert!(!put(&second).await);
        // A build with other steps does not know of it, and one that found nothing writes nothing.
        let third = remote_in(dir.path());
        third.expect(&[vec![Key([3; 32])]]);
        assert_eq!(third.fingerprint("tree", "path").await.unwrap(), None);
        assert!(!put(&third).await);
    }
}
