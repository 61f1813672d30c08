//! Brings cache mounts in that remotes have, before a step runs on an empty one.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use kiln_cache::CacheMountDir;
use kiln_remote::{Remote, RemoteError, RemoteMount};
use kiln_solver::event::{Warning, WarningCode};
use kiln_solver::ports::Step;

use super::Share;
use super::bring::MOST_COMPRESSED;
use super::mounts::is_refused;
use crate::engine::Engine;
use crate::error::{Error, Result, blocking};
use crate::output::Watch;

/// A mount that is brought in for a step.
struct Bringing<'a> {
    id: &'a str,
    number: u32,
    /// The step has this one to itself.
    taken: Option<&'a CacheMountDir>,
    step: &'a Step,
}

/// Why a mount that a remote has is not brought in.
enum Unbrought {
    /// It could not be written here, or there is no room.
    Here(Error),
    /// The remote failed.
    There(RemoteError),
}

impl From<Error> for Unbrought {
    fn from(error: Error) -> Self {
        Self::Here(error)
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

impl Engine {
    /// Brings the content of a cache mount in that is empty here: of the one that the step has to
    /// itself, or else of that which all steps share. What cannot be had is warned about: the step then
    /// begins with an empty one.
    ///
    /// # Errors
    /// The step was cancelled, or the store failed.
    pub(crate) async fn bring_mount(
        &self,
        id: &str,
        taken: Option<&CacheMountDir>,
        step: &Step,
    ) -> Result<()> {
        let sharing = |s: &&Share| !s.0.mounts.from.is_empty() && self.s.own_mounts.is_none();
        let Some(share) = self.s.share.as_ref().filter(sharing) else {
            return Ok(());
        };
        let number = taken.map_or(0, |t| t.number);
        if taken.is_some_and(|t| !t.is_new) {
            return Ok(());
        }
        let cell = {
            let brought = share.0.mounts.brought.lock();
            let mut brought = brought.unwrap_or_else(PoisonError::into_inner);
            brought.entry((id.to_owned(), number)).or_default().clone()
        };
        let bringing = Bringing {
            id,
            number,
            taken,
            step,
        };
        // A step that was stopped leaves it to the next.
        let bring = || share.bring(self, &bringing);
        cell.get_or_try_init(bring).await.map(drop)
    }
}

impl Share {
    /// What some work gives, unless the step is stopped before.
    async fn unless_stopped<T>(&self, step: &Step, work: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            done = work => Ok(done),
            () = step.cancel.cancelled() => Err(Error::Cancelled),
            () = step.over.cancelled() => Err(Error::Cancelled),
        }
    }

    async fn bring(&self, engine: &Engine, what: &Bringing<'_>) -> Result<()> {
        let store = engine.store();
        if what.taken.is_none() {
            let (store, id, number) = (store.clone(), what.id.to_owned(), what.number);
            if !blocking(move || Ok(store.is_mount_empty(&id, number)?)).await? {
                return Ok(());
            }
        }
        let from = self.0.mounts.from.iter().filter(|r| r.is_usable());
        let asked =
            from.map(|remote| async move { (remote, remote.mount(what.id, what.number).await) });
        let asked = futures_util::future::join_all(asked);
        let mut missed = HashSet::new();
        let mut miss = |remote: &Remote| missed.insert(remote.place().to_owned());
        for (remote, found) in self.unless_stopped(what.step, asked).await? {
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
            match self.bring_from(engine, remote, &mount, what).await {
                Ok(()) => return Ok(()),
                Err(Unbrought::Here(Error::Cancelled)) => return Err(Error::Cancelled),
                Err(why) => {
                    let error = match why {
                        Unbrought::Here(error) => {
                            miss(remote);
                            error
                        }
                        Unbrought::There(error) => {
                            if is_missed(remote, &error) {
                                miss(remote);
                            }
                            Error::Remote(Box::new(error))
                        }
                    };
                    let said = format!("{error}; the cache mount `{}` is not used", what.id);
                    let text = format!("cache {}: {said}", remote.label());
                    let warning = Warning::new(WarningCode::CacheMount, text);
                    let warning = warning.at(remote.label()).of(what.step.vertex);
                    self.0.events.warn(warning);
                }
            }
        }
        if !missed.is_empty() {
            let all = self.0.mounts.missed.lock();
            let mut all = all.unwrap_or_else(PoisonError::into_inner);
            all.insert((what.id.to_owned(), what.number), missed);
        }
        Ok(())
    }

    async fn bring_from(
        &self,
        engine: &Engine,
        remote: &Remote,
        mount: &RemoteMount,
        what: &Bringing<'_>,
    ) -> Result<(), Unbrought> {
        let store = engine.store();
        let needed = mount.length();
        let room = async {
            match needed / MOST_COMPRESSED <= mount.size() {
                true => engine.room_for(needed).await,
                // An index may name a piece very often.
                false => engine.room_left_for(needed).await,
            }
        };
        let Some(_room) = self.unless_stopped(what.step, room).await?? else {
            let megabytes = needed / 1_000_000;
            let why = format!("it takes {megabytes} MB, and the disk has less");
            return Err(Error::Other(why).into());
        };
        let scratch = Arc::new(store.scratch().map_err(Error::from)?);
        let (label, size) = (format!("cache mount {}", what.id), mount.size());
        let watch = Watch {
            events: what.step.events.clone(),
            vertex: what.step.vertex,
            over: what.step.over.clone(),
        };
        let progress = |done: u64| watch.progress(&label, done.min(size), size);
        // Who may write there sends again all that is damaged.
        let mends = (self.0.mounts.to.iter()).any(|to| to.place() == remote.place());
        let bringing = remote.bring_mount(mount, scratch.clone(), mends, &progress);
        let brought = self.unless_stopped(what.step, bringing).await?;
        brought.map_err(|e| match e {
            RemoteError::Store(error) => Unbrought::Here(error.into()),
            other => Unbrought::There(other),
        })?;
        let (store, id, number) = (store.clone(), what.id.to_owned(), what.number);
        let place = remote.place().to_owned();
        let taken = what.taken.map(|t| t.path.clone());
        // Not to be stopped: the caller holds the mount until this is over.
        let filled = blocking(move || {
            let data = scratch.path().join("data");
            let state = match taken {
                Some(path) => store.fill_taken(&path, &data)?,
                None => match store.fill_mount(&id, number, &data)? {
                    Some(state) => state,
                    None => return Ok(false),
                },
            };
            store.note_synced(&id, number, &place, &state)?;
            Ok(true)
        });
        if filled.await? {
            let brought = &self.0.mounts.counts.brought;
            brought.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}
