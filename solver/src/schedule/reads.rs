//! What a step reads besides the tree that it works on, and the key that follows from all.
//!
//! What is read is fingerprinted before the step runs and again after it: files of a context may
//! change meanwhile, and what was made then belongs to no key. They may have changed back, too, which
//! only their times tell. The identity of the tree below may
//! be known only later; it does not change.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::{Duration, SystemTime};

use crate::FilesVersion;
use crate::explain::{InputKind, KeyInput, LabelledInput, base_label, inputs_of, read_label};
use crate::key::{ContentKey as _, Encoder, Fingerprint, Identity, Key, VERSION};
use crate::plan::{Action, MountKind, Op, Plan, Vertex};
use crate::ports::{PortError, Reading, Solved, Worker};

/// The content of all that a step reads from inputs other than its base.
#[derive(Clone, Debug, Default)]
pub(super) struct Reads {
    fingerprints: Vec<Fingerprint>,
    labels: Vec<LabelledInput>,
    versions: Vec<FilesVersion>,
    /// Part of a key that nobody else has.
    salt: Option<u64>,
}

/// What has happened to files between two looks at them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    /// Nothing.
    Nothing,
    /// Something has come and gone beside them, or may have.
    ComeAndGone,
    /// They have been written to.
    Written,
}

/// The tree that an op works on.
pub(super) fn base_of<'a, O>(op: &Op, inputs: &'a [Solved<O>]) -> Option<&'a Solved<O>> {
    op.on_base().then(|| inputs.first()).flatten()
}

impl Reads {
    /// Fingerprints what a step reads, and has it `listed` for explanations.
    pub(super) async fn of<W: Worker>(
        worker: &W,
        plan: &Plan,
        vertex: &Vertex,
        inputs: &[Solved<W::Output>],
        listed: bool,
    ) -> Result<Self, PortError> {
        let find = |slot: usize| -> Result<(&Solved<W::Output>, &Vertex), PortError> {
            let missing = || PortError::new("an op names an input that it does not have");
            let id = vertex.inputs.get(slot).ok_or_else(missing)?;
            Ok((inputs.get(slot).ok_or_else(missing)?, plan.vertex(*id)))
        };
        let mut out = Self::default();
        match &vertex.op {
            Op::File(file) => {
                for (number, action) in file.actions.iter().enumerate() {
                    if let Action::Copy(copy) = action {
                        let (input, from) = find(copy.input)?;
                        let read = worker.fingerprint_copy(copy, input, listed).await?;
                        out.add(read, from, number.to_string());
                    }
                }
            }
            Op::Exec(exec) => {
                for mount in &exec.mounts {
                    let (slot, path, bound) = match &mount.kind {
                        MountKind::Bind {
                            input: Some(slot),
                            source,
                            ..
                        } => (*slot, source, true),
                        MountKind::Cache(cache) => match cache.base {
                            Some(slot) => (slot, &cache.source, false),
                            None => continue,
                        },
                        _ => continue,
                    };
                    let (input, from) = find(slot)?;
                    let read = worker
                        .fingerprint_path(input, (path, &mount.place), bound, listed)
                        .await?;
                    out.add(read, from, mount.target.clone());
                }
            }
            Op::Source(_) | Op::Merge(_) => {}
        }
        Ok(out)
    }

    fn add(&mut self, read: Reading, from: &Vertex, field: String) {
        self.fingerprints.push(read.fingerprint);
        self.labels.push(read_label(from, field, read.fingerprint));
        self.versions.extend(read.version);
    }

    /// Whether nothing is read.
    pub(super) fn is_empty(&self) -> bool {
        self.fingerprints.is_empty()
    }

    /// What has happened since another look.
    pub(super) fn since(&self, before: &Self) -> Since {
        let mut versions = self.versions.iter().zip(&before.versions);
        if self.fingerprints != before.fingerprints || self.versions.len() != before.versions.len()
        {
            Since::Written
        } else if self.versions == before.versions {
            Since::Nothing
        } else if versions.all(|(now, before)| now.has_same_files(before)) {
            Since::ComeAndGone
        } else {
            Since::Written
        }
    }

    /// Has the step's key be one that nobody looks for.
    pub(super) fn keep_for_nobody(&mut self) {
        self.salt = Some(RandomState::new().build_hasher().finish());
    }

    /// How long it takes until a later look would tell of each change since this one.
    pub(super) fn unsettled(&self, now: SystemTime) -> Duration {
        let each = self.versions.iter().map(|version| version.unsettled(now));
        each.max().unwrap_or_default()
    }

    /// The key of a step that read this on top of `base`.
    pub(super) fn key(&self, vertex: &Vertex, base: Option<Identity>) -> Key {
        let mut to = Encoder::new("op");
        inputs_of(&vertex.op).encode(&mut to);
        base.encode(&mut to);
        // What is read is told apart by the part of the op that reads it.
        to.number(self.labels.len() as u64);
        for (label, fingerprint) in self.labels.iter().zip(&self.fingerprints) {
            label.field.encode(&mut to);
            fingerprint.encode(&mut to);
        }
        if let Some(salt) = self.salt {
            to.number(salt);
        }
        Key::from(to.finish())
    }

    /// The inputs of that key, for explanations.
    pub(super) fn inputs(
        &self,
        plan: &Plan,
        vertex: &Vertex,
        base: Option<Identity>,
    ) -> Vec<LabelledInput> {
        let mut inputs = vec![LabelledInput {
            kind: InputKind::Encoding,
            name: String::new(),
            field: String::new(),
            digest: VERSION.to_string(),
        }];
        inputs.extend(inputs_of(&vertex.op).iter().map(KeyInput::labelled));
        inputs.extend(self.labels.iter().cloned());
        if let Some(identity) = base {
            let below = vertex.inputs.first().map(|id| plan.vertex(*id));
            inputs.push(base_label(below, identity));
        }
        inputs
    }
}
