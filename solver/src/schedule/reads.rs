//! What a step reads besides the tree that it works on, and the key that follows from all.
//!
//! What is read is fingerprinted before the step runs and again after it: files of a context may
//! change meanwhile, and what was made then belongs to no key. The identity of the tree below may
//! be known only later; it does not change.

use crate::key::{ContentKey as _, Encoder, Fingerprint, Identity, Key, LabelledInput, digest_of};
use crate::plan::{Action, MountKind, Op, Vertex};
use crate::ports::{PortError, Solved, Worker};

/// The content of all that a step reads from inputs other than its base.
#[derive(Clone, Debug, Default)]
pub(super) struct Reads {
    fingerprints: Vec<Fingerprint>,
    labels: Vec<LabelledInput>,
}

/// The tree that an op works on.
pub(super) fn base_of<'a, O>(op: &Op, inputs: &'a [Solved<O>]) -> Option<&'a Solved<O>> {
    op.on_base().then(|| inputs.first()).flatten()
}

impl Reads {
    /// Fingerprints what a step reads.
    pub(super) async fn of<W: Worker>(
        worker: &W,
        op: &Op,
        inputs: &[Solved<W::Output>],
    ) -> Result<Self, PortError> {
        let missing = || PortError::new("an op names an input that it does not have");
        let mut out = Self::default();
        match op {
            Op::File(file) => {
                for action in &file.actions {
                    if let Action::Copy(copy) = action {
                        let input = inputs.get(copy.input).ok_or_else(missing)?;
                        let selection = worker.fingerprint_copy(copy, input).await?;
                        out.fingerprints.push(selection.fingerprint);
                        out.labels.extend(selection.paths);
                    }
                }
            }
            Op::Exec(exec) => {
                for mount in &exec.mounts {
                    let (slot, path) = match &mount.kind {
                        MountKind::Bind {
                            input: Some(slot),
                            source,
                            ..
                        } => (*slot, source),
                        MountKind::Cache(cache) => match cache.base {
                            Some(slot) => (slot, &cache.source),
                            None => continue,
                        },
                        _ => continue,
                    };
                    let input = inputs.get(slot).ok_or_else(missing)?;
                    let selection = worker.fingerprint_path(input, path).await?;
                    out.fingerprints.push(selection.fingerprint);
                    out.labels.extend(selection.paths);
                }
            }
            Op::Source(_) | Op::Merge(_) => {}
        }
        Ok(out)
    }

    /// Whether nothing is read.
    pub(super) fn is_empty(&self) -> bool {
        self.fingerprints.is_empty()
    }

    /// Whether the same content was read.
    pub(super) fn same_as(&self, other: &Self) -> bool {
        self.fingerprints == other.fingerprints
    }

    /// The key of a step that read this on top of `base`, with the inputs for explanations.
    pub(super) fn key(&self, vertex: &Vertex, base: Option<Identity>) -> (Key, Vec<LabelledInput>) {
        let mut to = Encoder::new("op");
        vertex.op.encode(&mut to);
        let mut labels = op_labels(&vertex.op);
        base.encode(&mut to);
        if let Some(identity) = base {
            labels.push(LabelledInput {
                label: "the step before".into(),
                digest: digest_of(&identity),
                shown: String::new(),
            });
        }
        self.fingerprints.encode(&mut to);
        labels.extend(self.labels.iter().cloned());
        (Key::from(to.finish()), labels)
    }
}

fn op_labels(op: &Op) -> Vec<LabelledInput> {
    let label = |label: String, digest: String, shown: &str| LabelledInput {
        label,
        digest,
        shown: shown.chars().take(200).collect(),
    };
    match op {
        Op::Exec(exec) => {
            let command = exec.argv.join(" ");
            let mut out = vec![
                label("command".into(), digest_of(&exec.argv), &command),
                label("working directory".into(), digest_of(&exec.cwd), &exec.cwd),
                label("user".into(), digest_of(&exec.user), &exec.user),
                label("network".into(), digest_of(&exec.network), ""),
                label("security".into(), digest_of(&exec.security), ""),
                label("hosts".into(), digest_of(&exec.extra_hosts), ""),
            ];
            // Values of variables may be private: only their digests are kept.
            out.extend(
                exec.env
                    .iter()
                    .map(|(k, v)| label(format!("env {k}"), digest_of(v), "")),
            );
            out.extend(
                exec.mounts
                    .iter()
                    .map(|m| label(format!("mount {}", m.target), digest_of(m), "")),
            );
            out
        }
        Op::File(file) => file
            .actions
            .iter()
            .enumerate()
            .map(|(i, a)| label(format!("action {}", i + 1), digest_of(a), ""))
            .collect(),
        Op::Source(_) | Op::Merge(_) => vec![],
    }
}
