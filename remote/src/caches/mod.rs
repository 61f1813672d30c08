//! The remote caches of a build: results and cache mounts are looked up, fetched, and exported.
//!
//! Nothing here fails a build. A remote that fails is warned about once; a layer that a remote
//! promised and cannot give is [`FetchError::Lost`], after which the same build is
//! carried out again without that result.

mod claim_board;
mod export;
mod fetch;
mod health;
mod held_claims;
mod inline_field;
mod mount_export;
mod mount_fetch;
mod step_bundles;
mod wait_budget;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kiln_cache::LayerForm;
use kiln_solver::event::{Events, Warning, WarningCode};
use kiln_solver::key::{Fingerprint, Key};
use kiln_solver::plan::Origin;
use tokio_util::sync::CancellationToken;

use crate::error::RemoteError;
use crate::record::RemoteRecord;
use crate::remote::{InlineCache, Remote};
use crate::spec::{Mode, RemoteSpec};

pub use claim_board::ClaimOutcome;
pub use export::ExportSummary;
pub use fetch::FetchError;
pub use held_claims::HeldClaim;
pub use mount_export::MountSummary;
pub use mount_fetch::WantedMount;

/// The remote caches of a build.
#[derive(Clone, Debug)]
pub struct RemoteCaches(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    from: Vec<Remote>,
    to: Vec<ExportTarget>,
    /// Where hosts hear of each other's steps.
    board: claim_board::ClaimBoard,
    /// How long other hosts that run steps are waited for.
    budget: wait_budget::WaitBudget,
    told: Mutex<Told>,
    /// What is wrong on remotes.
    health: health::Health,
    exports: export::Exports,
    claims: held_claims::Claims,
    /// The build was interrupted.
    stop: CancellationToken,
    /// Where trouble is told.
    events: Events,
    mounts: mount_export::Mounts,
    inline: Option<InlineCache>,
    bundles: step_bundles::StepBundles,
}

/// What is said of trouble with remotes.
#[derive(Debug, Default)]
struct Told {
    /// Remotes with the kinds of trouble that were seen.
    seen: HashSet<String>,
    /// Failures to tell of at the end, by remotes: one that fails for good is told of once.
    later: Vec<(String, String)>,
}

/// The remotes of a build, by what they are for.
#[derive(Debug, Default)]
pub struct Remotes {
    /// Results are looked for here, in this order.
    pub from: Vec<Remote>,
    /// Results are exported to these.
    pub to: Vec<(Remote, RemoteSpec)>,
    /// Cache mounts are fetched from here, in this order.
    pub mounts_from: Vec<Remote>,
    /// Cache mounts are exported to these.
    pub mounts_to: Vec<Remote>,
    /// The image takes the records of its layers along.
    pub inline: Option<InlineCache>,
}

/// A remote that results are exported to.
#[derive(Clone, Debug)]
struct ExportTarget {
    remote: Remote,
    mode: Mode,
    form: LayerForm,
}

/// A result of a remote whose layer may not be here yet.
#[derive(Clone, Debug)]
pub struct SharedLayer {
    caches: RemoteCaches,
    remote: Remote,
    record: Arc<RemoteRecord>,
    /// Of which step it is here.
    origin: Origin,
}

impl SharedLayer {
    /// The same as the result of a step of this build.
    #[must_use]
    pub fn of_step(self, origin: &Origin) -> Self {
        Self {
            origin: origin.clone(),
            ..self
        }
    }

    /// What people know the remote by.
    pub fn label(&self) -> &str {
        self.remote.label()
    }

    /// What the remote says of it.
    pub fn record(&self) -> &RemoteRecord {
        &self.record
    }
}

impl RemoteCaches {
    /// Other hosts that run steps are waited for as long as `budget` in all. `stop` tells
    /// that the build was interrupted: then nothing more is exported.
    /// Trouble is told to `events`.
    pub fn new(
        remotes: Remotes,
        budget: Duration,
        stop: CancellationToken,
        events: Events,
    ) -> Self {
        let target = |(remote, spec): (Remote, RemoteSpec)| ExportTarget {
            remote,
            mode: spec.mode,
            form: LayerForm {
                compression: spec.compression,
                level: spec.level,
                all: true,
            },
        };
        let to: Vec<ExportTarget> = remotes.to.into_iter().map(target).collect();
        Self(Arc::new(Shared {
            board: claim_board::ClaimBoard::of(&remotes.from, &to),
            from: remotes.from,
            to,
            budget: wait_budget::WaitBudget::new(budget),
            told: Mutex::default(),
            health: health::Health::default(),
            exports: export::Exports::default(),
            claims: held_claims::Claims::default(),
            stop,
            events,
            inline: remotes.inline,
            bundles: step_bundles::StepBundles::default(),
            mounts: mount_export::Mounts::new(remotes.mounts_from, remotes.mounts_to),
        }))
    }

    /// Whether results are looked for anywhere.
    pub fn reads(&self) -> bool {
        !self.0.from.is_empty()
    }

    /// The record of a key from the first remote that has one. What other hosts have written in the last
    /// seconds may be missed.
    pub async fn find(&self, key: Key) -> Option<SharedLayer> {
        self.find_at(key, false).await
    }

    /// The record of a key, also one that was written this moment if it is to be so `new`.
    async fn find_at(&self, key: Key, new: bool) -> Option<SharedLayer> {
        let asked = self.0.from.iter().map(|remote| async move {
            if !remote.is_usable() || !self.0.health.allows(remote, key) {
                return None;
            }
            let record = match new {
                true => remote.get_now(key).await,
                false => remote.get(key).await,
            };
            if let Some(why) = remote.take_refused_image() {
                let what = format!("what the image says is refused: {why}");
                self.tell(WarningCode::RemoteCache, remote.label(), &what);
            }
            match record {
                Ok(record) => record,
                Err(error) => {
                    if matches!(error, RemoteError::Refused(_)) {
                        self.0.health.refuse(remote, key);
                    }
                    self.warn(remote, &error);
                    None
                }
            }
        });
        // All at once: what a far one takes is not added to what a near one takes.
        let answers = futures_util::future::join_all(asked).await;
        self.0
            .from
            .iter()
            .zip(answers)
            .find_map(|(remote, record)| {
                Some(SharedLayer {
                    caches: self.clone(),
                    remote: remote.clone(),
                    record: Arc::new(record?),
                    origin: Origin::default(),
                })
            })
    }

    /// The fingerprint of selected paths of a result, from the first remote that knows it.
    pub async fn find_fingerprint(&self, identity: &str, selection: &str) -> Option<Fingerprint> {
        let usable = self.0.from.iter().filter(|remote| remote.is_usable());
        let asked = usable.map(|remote| async move {
            let found = remote.fingerprint(identity, selection).await;
            found.unwrap_or_else(|error| {
                if matches!(error, RemoteError::Refused(_)) {
                    (self.0.health).refuse_fingerprint(remote, identity, selection);
                }
                self.warn(remote, &error);
                None
            })
        });
        let answers = futures_util::future::join_all(asked).await;
        let found = answers.into_iter().flatten().next()?;
        self.note_fingerprint(identity, selection);
        Some(found)
    }

    /// Notes that a remote could not give what it promised.
    fn lose(&self, layer: &SharedLayer, why: &str) {
        let what = format!("{why}; `{}` is made here", layer.record.name);
        self.tell(WarningCode::RemoteResultLost, layer.label(), &what);
        self.0.health.lose(&layer.remote, layer.record.key);
    }

    /// Notes that what a remote gave is not what it should be; `blob` tells that it is the blob
    /// that is wrong, and not what the record says of it.
    fn note_wrong(&self, layer: &SharedLayer, blob: bool) {
        if blob {
            (self.0.health).note_wrong_blob(&layer.remote, &layer.record.blob.digest);
        }
        if self.0.health.note_wrong_layer(&layer.remote) {
            let label = layer.label();
            let text = format!("cache {label} gives wrong layers and is not read any more");
            let warning = Warning::new(WarningCode::RemoteCacheUnused, text);
            self.0.events.warn(warning.at(label));
        }
    }

    /// Tells what is the matter with a remote.
    fn tell(&self, code: WarningCode, label: &str, what: &str) {
        let warning = Warning::new(code, format!("cache {label}: {what}"));
        self.0.events.warn(warning.at(label));
    }

    /// Tells once of each kind of trouble with a remote. What may pass is told at the end, or with the
    /// failure that is one too many.
    fn warn(&self, remote: &Remote, error: &RemoteError) {
        let (kind, passes) = match error {
            RemoteError::Failed { action, .. }
            | RemoteError::Slow { action, .. }
            | RemoteError::Trickles { action }
            | RemoteError::TakesLittle { action } => (*action, true),
            RemoteError::Unreachable { .. } => ("unreachable", true),
            RemoteError::Broken => ("broken", true),
            RemoteError::Wrong { action, .. } => (*action, false),
            RemoteError::Refused(_) => ("refused", false),
            RemoteError::Store(_) => ("store", false),
        };
        let (label, broken) = (remote.label(), matches!(error, RemoteError::Broken));
        let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        if broken || !told.seen.insert(format!("{label} {kind}")) {
            tracing::debug!(%error, "cache {label}");
        } else if passes {
            told.later.push((label.to_owned(), error.to_string()));
        } else {
            self.tell(WarningCode::RemoteCache, label, &error.to_string());
        }
        // The failure that is one too many may be of a kind that was seen before.
        if !broken && !remote.is_usable() && told.seen.insert(format!("{label} broken")) {
            told.later.retain(|(other, _)| other != label);
            let text = format!("cache {label} is not asked any more: {error}");
            let warning = Warning::new(WarningCode::RemoteCacheUnused, text);
            self.0.events.warn(warning.at(label));
        }
    }

    /// Tells of the failures of remotes that are still asked.
    fn tell_rest(&self) {
        let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        for (label, why) in told.later.drain(..) {
            self.tell(WarningCode::RemoteCache, &label, &why);
        }
    }
}
