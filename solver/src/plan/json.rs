//! A plan as JSON, for people and programs that want to see what a build would do.
//!
//! Variables have their values, as the image's history has them; the values of proxy settings, which may hold
//! passwords, are left out.

use kiln_image::SafeUrl;
use serde_json::{Map, Value, json};

use super::{
    Action, CacheMount, Copy, Exec, File, ImageName, Merge, ModeChange, MountKind, Network, Op,
    Plan, Security, Sharing, Source, SourceKind, VariableRole, Vertex, VertexId, WriteFile,
};

/// Version of the form. It is raised when a field changes its meaning or goes away.
pub const PLAN_JSON_VERSION: u32 = 1;

impl Plan {
    /// The vertices that `targets` need, inputs first, as JSON.
    pub fn to_json(&self, targets: &[VertexId]) -> Value {
        let vertices = self.reachable(targets).into_iter();
        let vertices: Vec<Value> = vertices.map(|id| vertex(id, self.vertex(id))).collect();
        json!({
            "version": PLAN_JSON_VERSION,
            "targets": targets.iter().map(|id| id.index()).collect::<Vec<_>>(),
            "vertices": vertices,
        })
    }
}

fn vertex(id: VertexId, vertex: &Vertex) -> Value {
    let mut out = Map::new();
    out.insert("id".into(), id.index().into());
    out.insert("name".into(), vertex.name.as_str().into());
    if let Some(lines) = vertex.lines {
        out.insert("lines".into(), json!([lines.first, lines.last]));
    }
    let inputs: Vec<usize> = vertex.inputs.iter().map(|id| id.index()).collect();
    out.insert("inputs".into(), inputs.into());
    if vertex.ignore_cache.is_some() {
        out.insert("ignoreCache".into(), true.into());
    }
    let (kind, op) = match &vertex.op {
        Op::Source(source) => ("source", source_value(source)),
        Op::Exec(exec) => ("exec", exec_value(exec)),
        Op::File(file) => ("file", file_value(file)),
        Op::Merge(Merge { otherwise }) => ("merge", json!({ "otherwise": file_value(otherwise) })),
    };
    out.insert(kind.into(), op);
    Value::Object(out)
}

fn source_value(source: &Source) -> Value {
    let Source { kind, platform } = source;
    let mut out = match kind {
        SourceKind::Image { name, id } => {
            // One that nobody has looked up has no id.
            let is_known = !matches!(name, ImageName::Written(_));
            let id = is_known.then(|| id.to_string());
            json!({ "kind": "image", "reference": name.to_string(), "config": id })
        }
        SourceKind::Context { name } => json!({ "kind": "context", "name": name }),
        SourceKind::Http { url, checksum } => json!({
            "kind": "http", "url": String::from(SafeUrl::of(url)), "checksum": checksum,
        }),
        SourceKind::Git {
            url,
            keep_git_dir,
            checksum,
        } => json!({
            "kind": "git", "url": String::from(SafeUrl::of(url)), "keepGitDir": keep_git_dir,
            "checksum": checksum,
        }),
    };
    out["platform"] = platform.0.to_string().into();
    out
}

fn exec_value(exec: &Exec) -> Value {
    let Exec {
        command,
        env,
        proxy_env,
        cwd,
        user,
        hostname,
        network,
        security,
        mounts,
        devices,
        extra_hosts,
        ulimits,
        shm_size,
        platform,
        on_base,
        epoch,
    } = exec;
    let variable = |v: &super::Variable| {
        let role = match v.role {
            VariableRole::Environment => "environment",
            VariableRole::Argument => "argument",
        };
        json!({ "name": v.name, "value": v.value, "role": role })
    };
    json!({
        "shell": command.shell,
        "words": command.words,
        "env": env.iter().map(variable).collect::<Vec<_>>(),
        "proxies": proxy_env.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        "cwd": cwd,
        "user": user,
        "hostname": hostname,
        "network": match network {
            Network::Default => "default",
            Network::None => "none",
            Network::Host => "host",
        },
        "security": match security {
            Security::Sandbox => "sandbox",
            Security::Insecure => "insecure",
        },
        "mounts": mounts.iter().map(|m| mount(&m.target, &m.kind)).collect::<Vec<_>>(),
        "devices": devices.iter().map(|d| json!({ "name": d.name, "required": d.required }))
            .collect::<Vec<_>>(),
        "hosts": extra_hosts.iter().map(|(name, address)| json!({ "name": name, "address": address }))
            .collect::<Vec<_>>(),
        "ulimits": ulimits.iter().map(|l| json!({ "name": l.name, "soft": l.soft, "hard": l.hard }))
            .collect::<Vec<_>>(),
        "shmSize": shm_size,
        "platform": platform.0.to_string(),
        "onBase": on_base,
        "epoch": epoch,
    })
}

fn mount(target: &str, kind: &MountKind) -> Value {
    let mut out = match kind {
        MountKind::Bind {
            input,
            source,
            writable,
        } => json!({ "type": "bind", "input": input, "source": source, "readOnly": !writable }),
        MountKind::Cache(CacheMount {
            id,
            sharing,
            base,
            source,
            mode,
            uid,
            gid,
            read_only,
        }) => json!({
            "type": "cache",
            "id": id,
            "sharing": match sharing {
                Sharing::Shared => "shared",
                Sharing::Private => "private",
                Sharing::Locked => "locked",
            },
            "input": base,
            "source": source,
            "mode": mode.map(octal),
            "uid": uid,
            "gid": gid,
            "readOnly": read_only,
        }),
        MountKind::Tmpfs { size } => json!({ "type": "tmpfs", "size": size }),
        MountKind::Secret(secret) => json!({
            "type": "secret", "id": secret.id, "env": secret.env, "file": secret.file,
            "mode": octal(secret.mode), "uid": secret.uid, "gid": secret.gid,
            "required": secret.required,
        }),
        MountKind::Ssh(ssh) => json!({
            "type": "ssh", "id": ssh.id, "mode": octal(ssh.mode), "uid": ssh.uid, "gid": ssh.gid,
            "required": ssh.required,
        }),
    };
    if !target.is_empty() {
        out["target"] = target.into();
    }
    out
}

fn octal(mode: u32) -> String {
    format!("0{mode:o}")
}

fn file_value(file: &File) -> Value {
    let File {
        actions,
        on_base,
        epoch,
    } = file;
    json!({
        "actions": actions.iter().map(action).collect::<Vec<_>>(),
        "onBase": on_base,
        "epoch": epoch,
    })
}

fn action(action: &Action) -> Value {
    let mode = |change: &Option<ModeChange>| change.as_ref().map(|c| c.text.clone());
    match action {
        Action::Copy(Copy {
            input,
            sources,
            dest,
            chown,
            chmod,
            unpack,
            exclude,
            parents,
            reset_owner,
            rename_to,
            place: _,
        }) => json!({
            "kind": "copy", "input": input, "sources": sources, "destination": dest,
            "chown": chown, "chmod": mode(chmod), "unpack": unpack,
            "exclude": exclude.as_ref().map(|e| e.patterns()), "parents": parents,
            "resetOwner": reset_owner, "renameTo": rename_to,
        }),
        Action::Mkdir(mkdir) => json!({
            "kind": "mkdir", "path": mkdir.path, "mode": octal(mkdir.mode), "chown": mkdir.chown,
        }),
        Action::Write(WriteFile {
            dest,
            name,
            content,
            chown,
            chmod,
        }) => json!({
            "kind": "write", "destination": dest, "name": name, "content": content,
            "chown": chown, "chmod": mode(chmod),
        }),
    }
}
