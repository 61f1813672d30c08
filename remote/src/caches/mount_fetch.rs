//! Fetches cache mounts that remotes have, before a step runs on an empty one.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use kiln_cache::{CacheMountDir, SpaceGuard, blocking};
use kiln_solver::Watch;
use kiln_solver::event::{Warning, WarningCode};
use tokio_util::sync::CancellationToken;

use super::RemoteCaches;
use super::fetch::{FetchError, MAX_RATIO};
use super::mount_export::is_refused;
use crate::error::RemoteError;
use crate::remote::{Remote, RemoteMount};

/// A mount that is wanted for a step.
#[derive(Debug)]
pub struct WantedMount<'a> {
    /// Its id.
    pub id: &'a str,
    /// The step has this one to itself; else it is the one that all steps share.
    pub taken: Option<&'a CacheMountDir>,
    /// Who hears of it.
    pub watch: &'a Watch,
    /// Stops the step.
    pub cancel: &'a CancellationToken,
}

impl WantedMount<'_> {
    /// 0, or the number of a further one of `sharing=private`.
    fn number(&self) -> u32 {
        self.taken.map_or(0, |t| t.number)
    }

    /// What some work gives, unless the step is stopped before.
    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, FetchError> {
        tokio::select! {
            done = work => Ok(done),
            () = self.cancel.cancelled() => Err(FetchError::Cancelled),
            () = self.watch.over.cancelled() => Err(FetchError::Cancelled),
        }
    }
}

/// Why a mount that a remote has is not used.
enum Unused {
    /// The step was stopped.
    Cancelled,
    /// It could not be written here, or there is no room.
    Here(String),
    /// The remote failed.
    There(RemoteError),
}

impl From<kiln_cache::Error> for Unused {
    fn from(error: kiln_cache::Error) -> Self {
        Self::Here(error.to_string())
    }
}

impl From<FetchError> for Unused {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Cancelled => Self::Cancelled,
            other => Self::Here(other.to_string()),
        }
    }
}

/// Whether another host may have what this one could not: nobody has pieces that are damaged.
fn is_missed(remote: &Remote, error: &RemoteError) -> bool {
    match error {
        RemoteError::Wrong { .. } => false,
        RemoteError::Refused(_) => is_refused(remote, error),
        _ => true,
    }
}

impl RemoteCaches {
    /// Fetches the content of a cache mount that is empty here: of the one that the step has to
    /// itself, or else of that which all steps share. What cannot be had is warned about: the step then
    /// begins with an empty one.
    ///
    /// # Errors
    /// The step was cancelled, or the store failed.
    pub async fn fetch_mount(
        &self,
        space: &SpaceGuard,
        wanted: &WantedMount<'_>,
    ) -> Result<(), FetchError> {
        if self.0.mounts.from.is_empty() || wanted.taken.is_some_and(|t| !t.is_new) {
            return Ok(());
        }
        let cell = {
            let brought = self.0.mounts.brought.lock();
            let mut brought = brought.unwrap_or_else(PoisonError::into_inner);
            let name = (wanted.id.to_owned(), wanted.number());
            brought.entry(name).or_default().clone()
        };
        // A step that was stopped leaves it to the next.
        let fetch = || self.fetch_mount_once(space, wanted);
        cell.get_or_try_init(fetch).await.map(drop)
    }

    async fn fetch_mount_once(
        &self,
        space: &SpaceGuard,
        what: &WantedMount<'_>,
    ) -> Result<(), FetchError> {
        if what.taken.is_none() {
            let (store, id, number) = (space.store().clone(), what.id.to_owned(), what.number());
            if !blocking(move || store.cache_mounts().is_mount_empty(&id, number)).await? {
                return Ok(());
            }
        }
        let from = self.0.mounts.from.iter().filter(|r| r.is_usable());
        let asked =
            from.map(|remote| async move { (remote, remote.mount(what.id, what.number()).await) });
        let asked = futures_util::future::join_all(asked);
        let mut missed = HashSet::new();
        let mut miss = |remote: &Remote| missed.insert(remote.place().to_owned());
        for (remote, found) in what.unless_stopped(asked).await? {
            let mount = match found {
                Ok(Some(mount)) => mount,
                Ok(None) => continue,
                Err(error) => {
                    self.warn(remote, &error);
                    if is_missed(remote, &error) {
                        miss(remote);
                    }
                    continue;
                }
            };
            let why = match self.fetch_mount_from(space, remote, &mount, what).await {
                Ok(()) => return Ok(()),
                Err(Unused::Cancelled) => return Err(FetchError::Cancelled),
                Err(Unused::Here(why)) => {
                    miss(remote);
                    why
                }
                Err(Unused::There(error)) => {
                    if is_missed(remote, &error) {
                        miss(remote);
                    }
                    error.to_string()
                }
            };
            let label = remote.label();
            let text = format!(
                "cache {label}: {why}; the cache mount `{}` is not used",
                what.id
            );
            let warning = Warning::new(WarningCode::CacheMount, text);
            (self.0.events).warn(warning.at(label).of(what.watch.vertex));
        }
        if !missed.is_empty() {
            let all = self.0.mounts.missed.lock();
            let mut all = all.unwrap_or_else(PoisonError::into_inner);
            all.insert((what.id.to_owned(), what.number()), missed);
        }
        Ok(())
    }

    async fn fetch_mount_from(
        &self,
        space: &SpaceGuard,
        remote: &Remote,
        mount: &RemoteMount,
        what: &WantedMount<'_>,
    ) -> Result<(), Unused> {
        let store = space.store();
        let needed = mount.length();
        let room = async {
            match needed / MAX_RATIO <= mount.size() {
                true => space.reserve(needed).await,
                // An index may name a piece very often.
                false => space.reserve_free(needed).await,
            }
        };
        let Some(_room) = what.unless_stopped(room).await?? else {
            let megabytes = needed / 1_000_000;
            let why = format!("it takes {megabytes} MB, and the disk has less");
            return Err(Unused::Here(why));
        };
        let scratch = Arc::new(store.scratch()?);
        let (label, size) = (format!("cache mount {}", what.id), mount.size());
        let watch = what.watch;
        let progress = |done: u64| watch.progress(&label, done.min(size), size);
        // Who may write there sends again all that is damaged.
        let mends = (self.0.mounts.to.iter()).any(|to| to.place() == remote.place());
        let bringing = remote.fetch_mount(mount, scratch.clone(), mends, &progress);
        let brought = what.unless_stopped(bringing).await?;
        brought.map_err(|e| match e {
            RemoteError::Store(error) => error.into(),
            other => Unused::There(other),
        })?;
        let (store, id, number) = (store.clone(), what.id.to_owned(), what.number());
        let place = remote.place().to_owned();
        let taken = what.taken.map(|t| t.path.clone());
        // Not to be stopped: the caller holds the mount until this is over.
        let filled = blocking(move || {
            let data = scratch.path().join("data");
            let state = match taken {
                Some(path) => store.cache_mounts().fill_taken(&path, &data)?,
                None => match store.cache_mounts().fill_mount(&id, number, &data)? {
                    Some(state) => state,
                    None => return Ok(false),
                },
            };
            store
                .cache_mounts()
                .note_synced(&id, number, &place, &state)?;
            Ok(true)
        });
        if filled.await? {
            let brought = &self.0.mounts.counts.brought;
            brought.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}
