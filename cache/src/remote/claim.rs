//! Single flight between hosts: a note on the remote says who runs a step.
//!
//! The holder writes its note again every few seconds. Who waits takes a note that did not change
//! for a while for one of a host that is gone; no clock of another host is ever compared. Two hosts
//! that both take the same stale note run the step twice: a claim saves work, and nothing depends
//! on it.
//!
//! A host that only reads looks at the notes and waits as well. It cannot take a stale one away, and
//! meets it in each build until a host that writes does, so it loses patience sooner.
//!
//! A directory and a bucket refuse to create what exists. A registry does not, so there Fischer's
//! algorithm is used: write, wait for longer than a write takes, and see whose note is there.

use std::time::{Duration, Instant};

use kiln_solver::key::Key;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;

use super::{ASKING, Backend, Remote, RemoteError};

/// How often a holder writes its note again.
const BEAT: Duration = Duration::from_secs(4);
/// How long a note may stay the same before its host is taken for gone.
const STALE: Duration = Duration::from_secs(20);
/// The same for a host that only reads.
const STALE_TO_READERS: Duration = Duration::from_secs(10);
/// How long it takes at a registry until all hosts see the same note.
const SETTLE: Duration = Duration::from_millis(750);

/// The note.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// Tells holders apart; empty in a registry once the claim was given back.
    owner: String,
    /// Changes with every renewal.
    beat: u64,
}

/// A step that this host runs, as the others see it. Dropping it lets the note go stale.
#[derive(Debug)]
pub struct Claim {
    remote: Remote,
    name: String,
    /// Ends the renewal.
    stop: DropGuard,
    beating: JoinHandle<()>,
}

/// What became of an attempt.
#[derive(Debug)]
pub enum Claimed {
    /// This host runs the step.
    Mine(Claim),
    /// Another host does. Its note is remembered to see whether it goes stale.
    Theirs(Waiting),
}

/// What is known of another host's claim.
#[derive(Clone, Debug)]
pub struct Waiting {
    note: Note,
    since: Instant,
}

impl Remote {
    /// Tries to claim a step. `waiting` is what the last attempt found. Where `stop` comes meanwhile,
    /// the claim is wanted by nobody, and what comes back is only good for being released.
    ///
    /// # Errors
    /// The remote failed.
    pub async fn claim(
        &self,
        key: Key,
        waiting: Option<Waiting>,
        stop: &CancellationToken,
    ) -> Result<Claimed, RemoteError> {
        let name = self.name(key);
        let own = Note {
            owner: super::random_hex()?,
            beat: 0,
        };
        let attempt = self.guarded("claim a step", ASKING, async {
            match &self.inner.backend {
                Backend::Objects(objects) => {
                    if objects.claim(&name, &own.to_json()).await? {
                        return Ok(None);
                    }
                    let Some(other) = objects.claim_of(&name).await? else {
                        // It was given back this moment: the next attempt gets it.
                        let note = Note {
                            owner: String::new(),
                            beat: 0,
                        };
                        return Ok(Some(Waiting::go_on(note, None)));
                    };
                    let other = Waiting::go_on(Note::parse(&other), waiting.as_ref());
                    if other.is_stale() {
                        objects.unclaim(&name).await?;
                        if objects.claim(&name, &own.to_json()).await? {
                            return Ok(None);
                        }
                    }
                    Ok(Some(other))
                }
                Backend::Registry(registry) => {
                    if let Some(other) = registry.claim_of(&name).await? {
                        let other = Waiting::go_on(Note::parse(&other), waiting.as_ref());
                        if !other.note.owner.is_empty() && !other.is_stale() {
                            return Ok(Some(other));
                        }
                    }
                    registry.claim(&name, &own.to_json()).await?;
                    tokio::select! {
                        () = tokio::time::sleep(SETTLE) => {}
                        () = stop.cancelled() => {}
                    }
                    let winner = registry.claim_of(&name).await?.map(|n| Note::parse(&n));
                    Ok(winner
                        .filter(|n| n.owner != own.owner)
                        .map(|note| Waiting::go_on(note, None)))
                }
            }
        });
        match attempt.await? {
            Some(other) => Ok(Claimed::Theirs(other)),
            None => Ok(Claimed::Mine(self.hold(name, own))),
        }
    }

    /// Whether another host runs a step. `seen` is what is known of its claim, from one question to the
    /// next.
    ///
    /// # Errors
    /// The remote failed.
    pub async fn is_claimed(
        &self,
        key: Key,
        seen: &mut Option<Waiting>,
    ) -> Result<bool, RemoteError> {
        let name = self.name(key);
        let note = self.guarded("look a claim up", ASKING, async {
            match &self.inner.backend {
                Backend::Objects(objects) => objects.claim_of(&name).await,
                Backend::Registry(registry) => registry.claim_of(&name).await,
            }
        });
        let note = note.await?.map(|note| Note::parse(&note));
        let note = note.filter(|note| !note.owner.is_empty());
        *seen = note.map(|note| Waiting::go_on(note, seen.as_ref()));
        Ok(seen
            .as_ref()
            .is_some_and(|other| other.since.elapsed() < STALE_TO_READERS))
    }

    /// Whether hosts wait for each other's steps where all of these remotes are: they are one place, by
    /// several descriptions. A registry cannot refuse to overwrite: claims take a while there, and are
    /// only made where they are asked for.
    pub fn has_single_flight(descriptions: &[&Self]) -> bool {
        let said: Vec<bool> = descriptions
            .iter()
            .filter_map(|r| r.inner.single_flight)
            .collect();
        if said.is_empty() {
            let cheap = |r: &&Self| matches!(r.inner.backend, Backend::Objects(_));
            return descriptions.iter().any(cheap);
        }
        said.into_iter().all(|wanted| wanted)
    }

    fn hold(&self, name: String, mut note: Note) -> Claim {
        let stop = CancellationToken::new();
        let (remote, stopped, to) = (self.clone(), stop.clone(), name.clone());
        let beating = tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(BEAT) => {}
                    () = stopped.cancelled() => return,
                }
                note.beat += 1;
                let renewed = remote.guarded("claim a step", ASKING, async {
                    match &remote.inner.backend {
                        Backend::Objects(objects) => objects.renew(&to, &note.to_json()).await,
                        Backend::Registry(registry) => registry.claim(&to, &note.to_json()).await,
                    }
                });
                if let Err(error) = renewed.await {
                    tracing::debug!(%error, "a claim was not renewed");
                }
            }
        });
        Claim {
            remote: self.clone(),
            name,
            stop: stop.drop_guard(),
            beating,
        }
    }
}

impl Claim {
    /// Gives the claim back, so that nobody waits until it goes stale.
    pub async fn release(self) {
        let Self {
            remote,
            name,
            stop,
            beating,
        } = self;
        drop(stop);
        // A renewal under way must not come after the end.
        let _ = beating.await;
        let released = remote.guarded("give a claim back", ASKING, async {
            match &remote.inner.backend {
                Backend::Objects(objects) => objects.unclaim(&name).await,
                Backend::Registry(registry) => {
                    let note = Note {
                        owner: String::new(),
                        beat: 0,
                    };
                    registry.claim(&name, &note.to_json()).await
                }
            }
        });
        if let Err(error) = released.await {
            tracing::debug!(%error, "a claim was not given back");
        }
    }
}

impl Note {
    fn to_json(&self) -> Vec<u8> {
        // A struct of a string and a number always has a JSON form.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// A note that cannot be read is one like any other: it changes or goes stale.
    fn parse(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_else(|_| Self {
            owner: format!("unreadable {}", blake3::hash(bytes)),
            beat: 0,
        })
    }
}

impl Waiting {
    /// What is known now, after `before` was known.
    fn go_on(note: Note, before: Option<&Self>) -> Self {
        let since = match before {
            Some(before) if before.note == note => before.since,
            _ => Instant::now(),
        };
        Self { note, since }
    }

    fn is_stale(&self) -> bool {
        self.since.elapsed() > STALE
    }
}
