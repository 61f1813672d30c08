//! The inputs of a key, with labels.

use super::{InputKind, LabelledInput};
use crate::key::{ContentKey, Fingerprint, Identity, VERSION, digest_of};
use crate::plan::{Action, Copy, Exec, File, MountKind, Op, Origin, SourceKind, Vertex};

fn label(kind: InputKind, name: &str, field: &str, digest: String) -> LabelledInput {
    LabelledInput {
        kind,
        name: name.to_owned(),
        field: field.to_owned(),
        digest,
    }
}

fn of(kind: InputKind, value: &(impl ContentKey + ?Sized)) -> LabelledInput {
    label(kind, "", "", digest_of(value))
}

/// The tree that a step starts from.
pub(crate) fn base_label(base: Option<&Vertex>, identity: Identity) -> LabelledInput {
    let (kind, name) = match base.map(|b| (&b.op, b)) {
        Some((Op::Source(source), vertex)) => match &source.kind {
            SourceKind::Image { name, .. } => (InputKind::BaseImage, name.to_string()),
            _ => (InputKind::Step, vertex.name.clone()),
        },
        Some((_, vertex)) => (InputKind::Step, vertex.name.clone()),
        None => (InputKind::Step, String::new()),
    };
    LabelledInput {
        kind,
        name,
        field: String::new(),
        digest: digest_of(&identity),
    }
}

/// What is read from `input`, which `field` names among all that the step reads. The digest is
/// the whole fingerprint, so that what it covers can be looked up.
pub(crate) fn read_label(input: &Vertex, field: String, read: Fingerprint) -> LabelledInput {
    let name = match &input.op {
        // Paths of a context speak for themselves.
        Op::Source(source) => match &source.kind {
            SourceKind::Context { name } if name == "context" => String::new(),
            SourceKind::Context { name } => format!("context {name}"),
            SourceKind::Image { name, .. } => name.to_string(),
            _ => input.name.clone(),
        },
        _ => input.name.clone(),
    };
    LabelledInput {
        kind: InputKind::Files,
        name,
        field,
        digest: read.to_hex(),
    }
}

/// The inputs that are part of the op itself.
pub(crate) fn labels_of(op: &Op, origin: &Origin) -> Vec<LabelledInput> {
    let mut out = vec![label(InputKind::Encoding, "", "", VERSION.to_string())];
    match op {
        Op::Exec(exec) => of_exec(exec, origin, &mut out),
        Op::File(file) => of_file(file, &mut out),
        Op::Source(_) | Op::Merge(_) => {}
    }
    out
}

fn of_exec(exec: &Exec, origin: &Origin, out: &mut Vec<LabelledInput>) {
    let (shell, command) = exec.argv.split_at(origin.shell.min(exec.argv.len()));
    let (shell, command) = (shell.to_vec(), command.to_vec());
    out.extend([
        of(InputKind::Shell, &shell),
        of(InputKind::Command, &command),
        of(InputKind::WorkingDirectory, &exec.cwd),
        of(InputKind::User, &exec.user),
        of(InputKind::Network, &exec.network),
        of(InputKind::Security, &exec.security),
        of(InputKind::HostName, &exec.hostname),
        of(InputKind::Hosts, &exec.extra_hosts),
        of(InputKind::Platform, &exec.platform),
        of(InputKind::Epoch, &exec.epoch),
    ]);
    let names: Vec<String> = exec.env.iter().map(|(name, _)| name.clone()).collect();
    for (name, value) in &exec.env {
        let kind = if origin.arguments.contains(name) {
            InputKind::Arg
        } else {
            InputKind::Env
        };
        out.push(label(kind, name, "", digest_of(value)));
    }
    out.push(of(InputKind::EnvOrder, &names));
    for device in &exec.devices {
        out.push(label(
            InputKind::Device,
            &device.name,
            "",
            digest_of(&device.required),
        ));
    }
    let mut agents = 0;
    for mount in &exec.mounts {
        let name = match &mount.kind {
            MountKind::Ssh(_) if mount.target.is_empty() => {
                agents += 1;
                format!("of SSH agent {agents}")
            }
            _ => mount.target.clone(),
        };
        for (field, digest) in mount_fields(&mount.kind) {
            out.push(label(InputKind::Mount, &name, field, digest));
        }
    }
}

fn mount_fields(kind: &MountKind) -> Vec<(&'static str, String)> {
    let kind_name = |name: &str| ("type", digest_of(name));
    let owner = |uid: u32, gid: u32| ("owner", digest_of(&(uid, gid)));
    match kind {
        MountKind::Bind {
            input,
            source,
            writable,
        } => vec![
            kind_name("bind"),
            ("from", digest_of(&input.is_some())),
            ("source", digest_of(source)),
            ("readonly", digest_of(&!*writable)),
        ],
        MountKind::Cache(cache) => vec![
            kind_name("cache"),
            ("id", digest_of(&cache.id)),
            ("sharing", digest_of(&cache.sharing)),
            ("from", digest_of(&cache.base.is_some())),
            ("source", digest_of(&cache.source)),
            ("mode", digest_of(&cache.mode)),
            ("owner", digest_of(&(cache.uid, cache.gid))),
            ("readonly", digest_of(&cache.read_only)),
        ],
        MountKind::Tmpfs { size } => vec![kind_name("tmpfs"), ("size", digest_of(size))],
        MountKind::Secret(secret) => vec![
            kind_name("secret"),
            ("id", digest_of(&secret.id)),
            ("env", digest_of(&(secret.env.clone(), secret.file))),
            ("mode", digest_of(&secret.mode)),
            owner(secret.uid, secret.gid),
            ("required", digest_of(&secret.required)),
        ],
        MountKind::Ssh(ssh) => vec![
            kind_name("ssh"),
            ("id", digest_of(&ssh.id)),
            ("mode", digest_of(&ssh.mode)),
            owner(ssh.uid, ssh.gid),
            ("required", digest_of(&ssh.required)),
        ],
    }
}

fn of_file(file: &File, out: &mut Vec<LabelledInput>) {
    out.push(of(InputKind::Epoch, &file.epoch));
    let mut kinds = Vec::new();
    for (number, action) in file.actions.iter().enumerate() {
        // The number keeps the parts of one action apart from those of the next.
        let part = |kind, name: &str, digest| LabelledInput {
            field: number.to_string(),
            ..label(kind, name, "", digest)
        };
        match action {
            Action::Copy(copy) => {
                kinds.push("copy".to_owned());
                of_copy(copy, &part, out);
            }
            Action::Mkdir(mkdir) => {
                kinds.push("directory".to_owned());
                let value = (mkdir.path.clone(), (mkdir.mode, mkdir.chown.clone()));
                out.push(part(InputKind::Directory, "", digest_of(&value)));
            }
            Action::Write(write) => {
                kinds.push(format!("write {}", write.name));
                let name = &write.name;
                out.extend([
                    part(InputKind::HereDocument, name, digest_of(&write.content)),
                    part(InputKind::Destination, "", digest_of(&write.dest)),
                    part(InputKind::Flag, "--chown", digest_of(&write.chown)),
                    part(InputKind::Flag, "--chmod", digest_of(&write.chmod)),
                ]);
            }
        }
    }
    out.push(of(InputKind::Actions, &kinds));
}

fn of_copy(
    copy: &Copy,
    part: &impl Fn(InputKind, &str, String) -> LabelledInput,
    out: &mut Vec<LabelledInput>,
) {
    let flag = |name: &str, digest: String| part(InputKind::Flag, name, digest);
    out.extend([
        part(InputKind::Sources, "", digest_of(&copy.sources)),
        part(
            InputKind::Destination,
            "",
            digest_of(&(copy.dest.clone(), copy.rename_to.clone())),
        ),
        flag("--chown", digest_of(&copy.chown)),
        flag("--chmod", digest_of(&copy.chmod)),
        flag("--unpack", digest_of(&copy.unpack)),
        flag("--exclude", digest_of(&copy.exclude)),
        flag("--parents", digest_of(&copy.parents)),
        flag("--from", digest_of(&copy.reset_owner)),
    ]);
}
