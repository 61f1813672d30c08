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
//! A host that ends leaves all of its notes behind. So a note says which host wrote it, and when by that
//! host's own clock: what was last renewed when another note of the same host was, and that one went stale,
//! is not waited for again. A host that only could not give one note back goes on to renew the others, whose
//! times are later.
//!
//! A directory and a bucket refuse to create what exists. A registry does not, so there Fischer's
//! algorithm is used: write, wait for longer than a write takes, and see whose note is there.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kiln_solver::key::Key;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;

use super::Remote;
use crate::backend::{Backend, random_hex};
use crate::error::RemoteError;
use crate::limits::ANSWER_TIMEOUT;

/// How often a holder writes its note again.
const BEAT: Duration = Duration::from_secs(4);
/// How long a note may stay the same before its host is taken for gone.
const STALE: Duration = Duration::from_secs(20);
/// The same for a host that only reads.
const STALE_TO_READERS: Duration = Duration::from_secs(10);
/// In milliseconds, how far apart the last renewals of two claims are at most whose host ended.
const SAME_TIME: u64 = BEAT.as_millis() as u64 + 1000;
/// How long it takes at a registry until all hosts see the same note.
const SETTLE: Duration = Duration::from_millis(750);

/// The note.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// Tells holders apart; empty in a registry once the claim was given back.
    owner: String,
    /// Changes with every renewal.
    beat: u64,
    /// The build that holds it; empty if it does not say.
    #[serde(default)]
    host: String,
    /// Milliseconds of that build until this was written.
    #[serde(default)]
    at: u64,
}

/// What a build knows of the builds that claim: itself, and those that are gone.
#[derive(Debug)]
pub(crate) struct Hosts {
    own: tokio::sync::OnceCell<String>,
    began: Instant,
    /// When the latest of their notes that went stale was written.
    gone: Mutex<HashMap<String, u64>>,
}

/// The most builds that are remembered.
const MAX_GONE: usize = 1000;

impl Default for Hosts {
    fn default() -> Self {
        Self {
            own: tokio::sync::OnceCell::new(),
            began: Instant::now(),
            gone: Mutex::default(),
        }
    }
}

impl Hosts {
    /// Notes that a claim went stale.
    fn has_gone(&self, note: &Note) {
        let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        if note.host.is_empty() || gone.len() >= MAX_GONE && !gone.contains_key(&note.host) {
            return;
        }
        let last = gone.entry(note.host.clone()).or_default();
        *last = note.at.max(*last);
    }

    /// Whether the host of a claim was gone before it could have been renewed again.
    fn is_gone(&self, note: &Note) -> bool {
        let gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        let last = gone.get(&note.host).filter(|_| !note.host.is_empty());
        last.is_some_and(|last| note.at <= last.saturating_add(SAME_TIME))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
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
        let hosts = &self.inner.hosts;
        let host = hosts.own.get_or_try_init(|| async { random_hex() });
        let own = Note {
            owner: random_hex()?,
            beat: 0,
            host: host.await?.clone(),
            at: hosts.now(),
        };
        let attempt = self.guarded("claim a step", ANSWER_TIMEOUT, async {
            match &self.inner.backend {
                Backend::Objects(objects) => {
                    if objects.claim(&name, &own.to_json()).await? {
                        return Ok(None);
                    }
                    let Some(other) = objects.claim_of(&name).await? else {
                        // It was given back this moment: the next attempt gets it.
                        return Ok(Some(Waiting::go_on(Note::default(), None)));
                    };
                    let other = Waiting::go_on(Note::parse(&other), waiting.as_ref());
                    if self.has_ended(&other, STALE) {
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
                        if !other.note.owner.is_empty() && !self.has_ended(&other, STALE) {
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
        let note = self.guarded("look a claim up", ANSWER_TIMEOUT, async {
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
            .is_some_and(|other| !self.has_ended(other, STALE_TO_READERS)))
    }

    /// Whether the host of a claim is taken for gone, after so long without a renewal.
    fn has_ended(&self, other: &Waiting, stale: Duration) -> bool {
        let hosts = &self.inner.hosts;
        if other.since.elapsed() > stale {
            hosts.has_gone(&other.note);
            return true;
        }
        hosts.is_gone(&other.note)
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
                note.at = remote.inner.hosts.now();
                let renewed = remote.guarded("claim a step", ANSWER_TIMEOUT, async {
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
        let released = remote.guarded("give a claim back", ANSWER_TIMEOUT, async {
            match &remote.inner.backend {
                Backend::Objects(objects) => objects.unclaim(&name).await,
                Backend::Registry(registry) => {
                    registry.claim(&name, &Note::default().to_json()).await
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
        // Strings and numbers always have a JSON form.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// A note that cannot be read is one like any other: it changes or goes stale.
    fn parse(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_else(|_| Self {
            owner: format!("unreadable {}", blake3::hash(bytes)),
            ..Self::default()
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
}

#[cfg(test)]
mod tests {
    use kiln_registry::{Client, RegistryConfig};

    use super::*;
    use crate::{BucketSettings, RemoteSpec, Trust};

    struct Place(tempfile::TempDir);

    impl Place {
        fn host(&self) -> Remote {
            let text = format!("type=local,dest={},mode=max", self.0.path().display());
            let spec = RemoteSpec::parse(&text, true).unwrap();
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
    }

    async fn claim(host: &Remote, n: u8) -> Claim {
        let stop = CancellationToken::new();
        match host.claim(Key([n; 32]), None, &stop).await.unwrap() {
            Claimed::Mine(claim) => claim,
            other => panic!("{other:?}"),
        }
    }

    /// How long a host that only reads waits for a claim, in seconds, and at most for a minute.
    async fn waits(host: &Remote, n: u8) -> u64 {
        let (begun, mut seen) = (Instant::now(), None);
        while host.is_claimed(Key([n; 32]), &mut seen).await.unwrap()
            && begun.elapsed().as_secs() < 60
        {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        begun.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_is_gone_is_waited_for_once() {
        let place = Place(tempfile::tempdir().unwrap());
        let (dead, live) = (place.host(), place.host());
        let mut all = Vec::new();
        for n in 0..3 {
            all.push(claim(&dead, n).await);
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        drop(all);
        let _held = claim(&live, 7).await;
        let reader = place.host();
        assert!((10..12).contains(&waits(&reader, 1).await));
        for n in [0, 2] {
            assert_eq!(waits(&reader, n).await, 0);
        }
        // Nor does one that writes, which has seen for itself.
        let writer = place.host();
        assert!((10..12).contains(&waits(&writer, 0).await));
        let _ours = claim(&writer, 2).await;
        assert_eq!(waits(&reader, 7).await, 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_could_not_give_one_claim_back_is_still_waited_for() {
        let place = Place(tempfile::tempdir().unwrap());
        let (host, reader) = (place.host(), place.host());
        let lost = claim(&host, 0).await;
        let _held = claim(&host, 1).await;
        drop(lost);
        assert!((10..12).contains(&waits(&reader, 0).await));
        assert_eq!(waits(&reader, 1).await, 60);
        // Also by a claim that it made later.
        let _later = claim(&host, 2).await;
        assert_eq!(waits(&reader, 2).await, 60);
    }

    #[test]
    fn a_note_of_an_older_kiln_is_of_no_host() {
        let note = Note::parse(br#"{"owner":"a","beat":3}"#);
        let (hosts, other) = (Hosts::default(), Note::parse(br#"{"owner":"b","beat":1}"#));
        hosts.has_gone(&note);
        assert!(!hosts.is_gone(&note) && !hosts.is_gone(&other));
    }
}
