//! The inputs of a key, with labels.

use blake3::Hash;

use super::{InputKind, LabelledInput};
use crate::key::{ContentKey, Encoder, Fingerprint, Identity, digest_of, hash_of, short};
use crate::plan::{
    Action, CacheMount, Command, Copy, Exec, ExecDevice, ExecMount, File, Merge, Mkdir, MountKind,
    Op, SecretMount, Source, SourceKind, SshMount, Variable, VariableRole, Vertex, WriteFile,
};

/// One input of a key: what it is called, and the whole hash of its value. A key is made of these and of
/// nothing else, so that each miss can be explained. The functions below take every op apart field by field:
/// a field that is added without a label does not compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyInput {
    kind: InputKind,
    name: String,
    field: String,
    hash: Hash,
}

impl KeyInput {
    /// The same for an explanation, which only has to tell a few values apart.
    pub(crate) fn labelled(&self) -> LabelledInput {
        LabelledInput {
            kind: self.kind,
            name: self.name.clone(),
            field: self.field.clone(),
            digest: short(self.hash),
        }
    }
}

impl ContentKey for KeyInput {
    fn encode(&self, to: &mut Encoder) {
        let Self {
            kind,
            name,
            field,
            hash,
        } = self;
        to.bytes(kind.name().as_bytes());
        name.encode(to);
        field.encode(to);
        to.bytes(hash.as_bytes());
    }
}

fn label(kind: InputKind, name: &str, field: &str, hash: Hash) -> KeyInput {
    KeyInput {
        kind,
        name: name.to_owned(),
        field: field.to_owned(),
        hash,
    }
}

fn of(kind: InputKind, value: &(impl ContentKey + ?Sized)) -> KeyInput {
    label(kind, "", "", hash_of(value))
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
pub(crate) fn inputs_of(op: &Op) -> Vec<KeyInput> {
    let mut out = Vec::new();
    match op {
        Op::Exec(exec) => of_exec(exec, &mut out),
        Op::File(file) => of_file(file, &mut out),
        Op::Source(source) => of_source(source, &mut out),
        Op::Merge(Merge { otherwise }) => {
            of_file(otherwise, &mut out);
            out.push(label(InputKind::Actions, "", "merge", hash_of(&true)));
        }
    }
    out
}

fn of_source(source: &Source, out: &mut Vec<KeyInput>) {
    let Source { kind, platform } = source;
    out.extend([
        of(InputKind::Sources, kind),
        of(InputKind::Platform, platform),
    ]);
}

fn of_exec(exec: &Exec, out: &mut Vec<KeyInput>) {
    let Exec {
        command: Command { shell, words },
        env,
        cwd,
        user,
        hostname,
        network,
        security,
        mounts,
        devices,
        extra_hosts,
        platform,
        on_base,
        epoch,
        // They change how the command runs, and are no part of what it makes.
        proxy_env: _,
        ulimits: _,
        shm_size: _,
    } = exec;
    out.extend([
        of(InputKind::Shell, shell),
        of(InputKind::Command, words),
        of(InputKind::WorkingDirectory, cwd),
        of(InputKind::User, user),
        of(InputKind::Network, network),
        of(InputKind::Security, security),
        of(InputKind::HostName, hostname),
        of(InputKind::Hosts, extra_hosts),
        of(InputKind::Platform, platform),
        of(InputKind::Epoch, epoch),
        label(InputKind::Actions, "", "base", hash_of(on_base)),
    ]);
    let names: Vec<String> = env.iter().map(|variable| variable.name.clone()).collect();
    for Variable { name, value, role } in env {
        let kind = match role {
            VariableRole::Argument => InputKind::Arg,
            VariableRole::Environment => InputKind::Env,
        };
        out.push(label(kind, name, "", hash_of(value)));
    }
    out.push(of(InputKind::EnvOrder, &names));
    for ExecDevice { name, required } in devices {
        out.push(label(InputKind::Device, name, "", hash_of(required)));
    }
    let mut agents = 0;
    // The words for messages are no part of it.
    for ExecMount {
        target,
        kind,
        place: _,
    } in mounts
    {
        let name = match kind {
            MountKind::Ssh(_) if target.is_empty() => {
                agents += 1;
                format!("of SSH agent {agents}")
            }
            _ => target.clone(),
        };
        for (field, hash) in mount_fields(kind) {
            out.push(label(InputKind::Mount, &name, field, hash));
        }
    }
}

fn mount_fields(kind: &MountKind) -> Vec<(&'static str, Hash)> {
    let kind_name = |name: &str| ("type", hash_of(name));
    let owner = |uid: u32, gid: u32| ("owner", hash_of(&(uid, gid)));
    match kind {
        // Which input it is follows from what is read of it.
        MountKind::Bind {
            input,
            source,
            writable,
        } => vec![
            kind_name("bind"),
            ("from", hash_of(&input.is_some())),
            ("source", hash_of(source)),
            ("readonly", hash_of(&!*writable)),
        ],
        MountKind::Cache(CacheMount {
            id,
            sharing,
            base,
            source,
            mode,
            uid,
            gid,
            read_only,
        }) => vec![
            kind_name("cache"),
            ("id", hash_of(id)),
            ("sharing", hash_of(sharing)),
            ("from", hash_of(&base.is_some())),
            ("source", hash_of(source)),
            ("mode", hash_of(mode)),
            ("owner", hash_of(&(*uid, *gid))),
            ("readonly", hash_of(read_only)),
        ],
        MountKind::Tmpfs { size } => vec![kind_name("tmpfs"), ("size", hash_of(size))],
        MountKind::Secret(SecretMount {
            id,
            env,
            file,
            mode,
            uid,
            gid,
            required,
        }) => vec![
            kind_name("secret"),
            ("id", hash_of(id)),
            ("env", hash_of(&(env.clone(), *file))),
            ("mode", hash_of(mode)),
            owner(*uid, *gid),
            ("required", hash_of(required)),
        ],
        MountKind::Ssh(SshMount {
            id,
            mode,
            uid,
            gid,
            required,
        }) => vec![
            kind_name("ssh"),
            ("id", hash_of(id)),
            ("mode", hash_of(mode)),
            owner(*uid, *gid),
            ("required", hash_of(required)),
        ],
    }
}

fn of_file(file: &File, out: &mut Vec<KeyInput>) {
    let File {
        actions,
        on_base,
        epoch,
    } = file;
    out.push(of(InputKind::Epoch, epoch));
    out.push(label(InputKind::Actions, "", "base", hash_of(on_base)));
    let mut kinds = Vec::new();
    for (number, action) in actions.iter().enumerate() {
        // The number keeps the parts of one action apart from those of the next.
        let part = |kind, name: &str, hash| KeyInput {
            field: number.to_string(),
            ..label(kind, name, "", hash)
        };
        match action {
            Action::Copy(copy) => {
                kinds.push("copy".to_owned());
                of_copy(copy, &part, out);
            }
            Action::Mkdir(Mkdir { path, mode, chown }) => {
                kinds.push("directory".to_owned());
                let value = (path.clone(), (*mode, chown.clone()));
                out.push(part(InputKind::Directory, "", hash_of(&value)));
            }
            Action::Write(WriteFile {
                dest,
                name,
                content,
                chown,
                chmod,
            }) => {
                kinds.push(format!("write {name}"));
                out.extend([
                    part(InputKind::HereDocument, name, hash_of(content)),
                    part(InputKind::Destination, "", hash_of(dest)),
                    part(InputKind::Flag, "--chown", hash_of(chown)),
                    part(InputKind::Flag, "--chmod", hash_of(chmod)),
                ]);
            }
        }
    }
    out.push(of(InputKind::Actions, &kinds));
}

fn of_copy(
    copy: &Copy,
    part: &impl Fn(InputKind, &str, Hash) -> KeyInput,
    out: &mut Vec<KeyInput>,
) {
    let Copy {
        sources,
        dest,
        chown,
        chmod,
        unpack,
        exclude,
        parents,
        reset_owner,
        rename_to,
        // Which input it is follows from what is read of it, and the words for messages say nothing.
        input: _,
        place: _,
    } = copy;
    let flag = |name: &str, hash: Hash| part(InputKind::Flag, name, hash);
    let to = (dest.clone(), rename_to.clone());
    out.extend([
        part(InputKind::Sources, "", hash_of(sources)),
        part(InputKind::Destination, "", hash_of(&to)),
        flag("--chown", hash_of(chown)),
        flag("--chmod", hash_of(chmod)),
        flag("--unpack", hash_of(unpack)),
        flag("--exclude", hash_of(exclude)),
        flag("--parents", hash_of(parents)),
        flag("--from", hash_of(reset_owner)),
    ]);
}
