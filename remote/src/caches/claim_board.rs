//! Steps that other hosts run: they are waited for, and this host's own are claimed.

use std::collections::HashSet;

use kiln_solver::event::WarningCode;
use kiln_solver::key::Key;
use tokio_util::sync::CancellationToken;

use super::held_claims::{Attempt, HeldClaim};
use super::{ExportTarget, RemoteCaches, SharedLayer};
use crate::remote::{Remote, Waiting};
use crate::spec::Mode;

/// How long a waiter waits between two looks at a remote.
const LOOK_INTERVAL: std::time::Duration = std::time::Duration::from_millis(500);

/// Who runs a step.
#[derive(Debug)]
pub enum ClaimOutcome {
    /// This host; others see the claim, if there is one.
    Ours(Option<HeldClaim>),
    /// Another host did, and this is its result.
    Done(SharedLayer),
}

/// Where hosts hear of each other's steps. Claims mean something only where results are found, so that
/// is at places that are read.
#[derive(Debug, Default)]
pub(super) struct ClaimBoard {
    /// Here this host claims its steps: it leaves all results there.
    claims: Option<Remote>,
    /// Here it only sees who else does.
    watched: Vec<Remote>,
}

impl ClaimBoard {
    pub(super) fn of(from: &[Remote], to: &[ExportTarget]) -> Self {
        let mut board = Self::default();
        let mut places = HashSet::new();
        for remote in from.iter().filter(|r| places.insert(r.label())) {
            let here = |r: &&Remote| r.label() == remote.label();
            let written = || to.iter().filter(|t| here(&&t.remote));
            let mut all: Vec<&Remote> = from.iter().filter(here).collect();
            all.extend(written().map(|t| &t.remote));
            if !Remote::has_single_flight(&all) {
                continue;
            }
            // Whoever leaves a few results only must not have others wait for the rest.
            match written().find(|t| t.mode == Mode::Max) {
                Some(target) if board.claims.is_none() => {
                    board.claims = Some(target.remote.clone());
                }
                _ => board.watched.push(remote.clone()),
            }
        }
        board
    }

    /// Whether hosts hear of each other nowhere.
    fn is_empty(&self) -> bool {
        self.claims.is_none() && self.watched.is_empty()
    }
}

/// What is known of other hosts' claims of one step.
#[derive(Default)]
struct Seen {
    /// Where this host claims.
    claimed: Option<Waiting>,
    /// Where it only looks, place by place.
    watched: Vec<Option<Waiting>>,
}

/// What became of one look at the places.
enum Looked<'a> {
    /// This host runs the step.
    Ours(Option<HeldClaim>),
    /// Another host does, and claims it here.
    Theirs(&'a Remote),
}

impl RemoteCaches {
    /// Looks whether another host runs a step, and claims it if none does.
    async fn look(&self, key: Key, seen: &mut Seen) -> Looked<'_> {
        let board = &self.0.board;
        seen.watched.resize(board.watched.len(), None);
        let asked = board.watched.iter().zip(&mut seen.watched);
        let asked = asked.map(|(remote, seen)| async move {
            match remote.is_claimed(key, seen).await {
                Ok(claimed) => claimed.then_some(remote),
                Err(error) => {
                    self.warn(remote, &error);
                    None
                }
            }
        });
        let answers = futures_util::future::join_all(asked).await;
        if let Some(remote) = answers.into_iter().flatten().next() {
            return Looked::Theirs(remote);
        }
        let Some(remote) = &board.claims else {
            return Looked::Ours(None);
        };
        match self.try_claim(remote, key, seen.claimed.take()).await {
            Ok(Attempt::Mine(claim)) => Looked::Ours(Some(claim)),
            Ok(Attempt::Theirs(other)) => {
                seen.claimed = Some(other);
                Looked::Theirs(remote)
            }
            Err(error) => {
                self.warn(remote, &error);
                Looked::Ours(None)
            }
        }
    }

    /// Claims a step, or waits for the host that has claimed it. None if the build was cancelled.
    pub async fn claim_or_wait(
        &self,
        key: Key,
        cancel: &CancellationToken,
    ) -> Option<ClaimOutcome> {
        let mut seen = Seen::default();
        // From the first claim of another host on, every question counts as waiting.
        let mut wait = None;
        loop {
            let looked = tokio::select! {
                looked = self.look(key, &mut seen) => looked,
                () = cancel.cancelled() => return None,
            };
            let remote = match looked {
                Looked::Theirs(remote) => remote,
                // Nobody waits for anybody here.
                Looked::Ours(None) if self.0.board.is_empty() => {
                    return Some(ClaimOutcome::Ours(None));
                }
                Looked::Ours(claim) => {
                    // Another host may have left the result since it was looked for, and given its claim back.
                    if let Some(found) = self.find_at(key, true).await {
                        return Some(ClaimOutcome::Done(found));
                    }
                    return Some(ClaimOutcome::Ours(claim));
                }
            };
            if wait.is_none() {
                wait = self.0.budget.wait();
            }
            let left = self.0.budget.left();
            if wait.is_none() || left.is_zero() {
                self.run_out(remote);
                return Some(ClaimOutcome::Ours(None));
            }
            let found = async {
                tokio::time::sleep(LOOK_INTERVAL.min(left)).await;
                self.find_at(key, true).await
            };
            let found = tokio::select! {
                found = found => found,
                () = cancel.cancelled() => return None,
            };
            if let Some(found) = found {
                return Some(ClaimOutcome::Done(found));
            }
        }
    }

    /// Tells once that other hosts were waited for long enough.
    fn run_out(&self, remote: &Remote) {
        if self.0.budget.tells() {
            let limit = humantime(self.0.budget.limit());
            let what = format!(
                "other hosts still run steps after {limit} of waiting; from now on such steps run \
                 here too"
            );
            self.tell(WarningCode::RemoteWait, remote.label(), &what);
        }
    }
}

/// A time in words.
fn humantime(time: std::time::Duration) -> String {
    match (time.as_secs(), time.subsec_millis()) {
        (s, 0) if s > 0 && s % 60 == 0 => format!("{} min", s / 60),
        (s, 0) => format!("{s} s"),
        (s, ms) => format!("{s}.{ms:03} s"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kiln_registry::{Client, RegistryConfig};
    use kiln_solver::event::Events;
    use tokio::time::Instant;

    use super::*;
    use crate::remote::Claimed;
    use crate::{BucketSettings, RemoteSpec, Remotes, Trust};

    /// A host that holds on to its claims costs a build the time that it waits once, not for every
    /// step.
    #[tokio::test(start_paused = true)]
    async fn a_build_waits_for_other_hosts_once() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("type=local,dest={},mode=max", dir.path().display());
        let spec = RemoteSpec::parse(&text, true).unwrap();
        let client = Client::anonymous(RegistryConfig::default());
        let open = || {
            Remote::open(
                &spec,
                &client,
                "",
                Trust::default(),
                &BucketSettings::default(),
            )
            .unwrap()
        };
        let (other, own) = (open(), open());
        let keys: Vec<Key> = (0..6).map(|n: u8| Key([n; 32])).collect();
        let mut held = Vec::new();
        for key in &keys {
            match other
                .claim(*key, None, &CancellationToken::new())
                .await
                .unwrap()
            {
                Claimed::Mine(claim) => held.push(claim),
                claimed => panic!("{claimed:?}"),
            }
        }
        let patience = Duration::from_secs(9);
        let remotes = Remotes {
            from: vec![own.clone()],
            to: vec![(own, spec.clone())],
            ..Remotes::default()
        };
        let caches = RemoteCaches::new(remotes, patience, CancellationToken::new(), Events::none());
        let (begun, cancel) = (Instant::now(), CancellationToken::new());
        let together = keys[..2]
            .iter()
            .map(|key| caches.claim_or_wait(*key, &cancel));
        let together = futures_util::future::join_all(together).await;
        let mut turns: Vec<ClaimOutcome> = together.into_iter().map(Option::unwrap).collect();
        for key in &keys[2..] {
            turns.push(caches.claim_or_wait(*key, &cancel).await.unwrap());
        }
        let waited = begun.elapsed();
        assert!(turns.iter().all(|t| matches!(t, ClaimOutcome::Ours(None))));
        // Time is that of the test's clock, which stands still unless all wait.
        assert!(
            waited >= patience && waited < patience + LOOK_INTERVAL,
            "{waited:?}"
        );
        assert_eq!(held.len(), keys.len());
    }

    #[tokio::test]
    async fn hosts_meet_where_one_description_says_so_and_none_says_no() {
        let dir = tempfile::tempdir().unwrap();
        let client = Client::anonymous(RegistryConfig::default());
        let open = |text: &str, writing| {
            let text = match text.strip_prefix("dir") {
                Some(more) => {
                    let name = if writing { "dest" } else { "src" };
                    format!("type=local,{name}={}{more}", dir.path().display())
                }
                None => format!("type=registry,ref={text}"),
            };
            let spec = RemoteSpec::parse(&text, writing).unwrap();
            let remote = Remote::open(
                &spec,
                &client,
                "",
                Trust::default(),
                &BucketSettings::default(),
            )
            .unwrap();
            (remote, spec)
        };
        for (from, to, claims, watched) in [
            (&["dir"][..], &["dir,mode=max"][..], true, 0),
            (&["dir"], &[], false, 1),
            (&["dir", "dir"], &["dir,mode=min"], false, 1),
            (&["dir,single-flight=false"], &["dir,mode=max"], false, 0),
            (&["dir"], &["dir,mode=max,single-flight=false"], false, 0),
            (&["dir"], &["dir,mode=min,single-flight=false"], false, 0),
            (&["a/b"], &["a/b,mode=min,single-flight=true"], false, 1),
            (&["a/b"], &["a/b,mode=max"], false, 0),
            (&["a/b,single-flight=true"], &[], false, 1),
            (&["a/b,single-flight=true"], &["a/b,mode=max"], true, 0),
            (&["a/b"], &["a/b,mode=max,single-flight=true"], true, 0),
            (&["a/b,single-flight=true"], &["a/c,mode=max"], false, 1),
            (&[], &["a/b,mode=max,single-flight=true"], false, 0),
            (
                &["dir", "a/b,single-flight=true"],
                &["a/b,mode=max"],
                true,
                1,
            ),
        ] {
            let remotes = Remotes {
                from: from.iter().map(|t| open(t, false).0).collect(),
                to: to.iter().map(|t| open(t, true)).collect(),
                ..Remotes::default()
            };
            let caches = RemoteCaches::new(
                remotes,
                Duration::ZERO,
                CancellationToken::new(),
                Events::none(),
            );
            let board = &caches.0.board;
            let found = (board.claims.is_some(), board.watched.len());
            assert_eq!(found, (claims, watched), "{from:?} {to:?}");
        }
    }

    /// A host that only reads waits for one that writes, and is not kept by a claim whose host is gone.
    #[tokio::test]
    async fn a_host_that_only_reads_waits_until_a_claim_is_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let client = Client::anonymous(RegistryConfig::default());
        let text = format!("type=local,src={}", dir.path().display());
        let spec = RemoteSpec::parse(&text, false).unwrap();
        let open = || {
            Remote::open(
                &spec,
                &client,
                "",
                Trust::default(),
                &BucketSettings::default(),
            )
            .unwrap()
        };
        let (writer, reader) = (open(), open());
        let (key, cancel) = (Key([1; 32]), CancellationToken::new());
        let Claimed::Mine(claim) = writer.claim(key, None, &cancel).await.unwrap() else {
            panic!("it is claimed");
        };
        let remotes = Remotes {
            from: vec![reader],
            ..Remotes::default()
        };
        let caches = RemoteCaches::new(
            remotes,
            Duration::from_secs(60),
            cancel.clone(),
            Events::none(),
        );
        let mut turn = std::pin::pin!(caches.claim_or_wait(key, &cancel));
        let early = tokio::time::timeout(3 * LOOK_INTERVAL, &mut turn).await;
        assert!(early.is_err());
        claim.release().await;
        assert!(matches!(turn.await.unwrap(), ClaimOutcome::Ours(None)));
    }
}
