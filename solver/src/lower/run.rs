//! RUN.

use kiln_parser::flags::{MountSpec, MountType, Sharing as SpecSharing, parse_device, parse_mount};
use kiln_parser::{Command, Form, Heredoc, Instruction, Text};

use super::Request;
use super::args::PROXY_ARGS;
use super::error::LowerError;
use super::flags::flag_error;
use super::stage::{BUILD_CONTEXT, Build, Place};
use super::state::State;
use crate::plan::{
    BuildPlatform, CacheMount, Command as PlanCommand, Exec, ExecDevice, ExecMount, MountKind,
    Network, Op, SecretMount, Security, Sharing, SshMount, Variable, VariableRole, VertexId,
};

const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// The shell of shell forms.
pub(super) fn shell(state: &State) -> Vec<String> {
    if state.config.config.shell.is_empty() {
        DEFAULT_SHELL.iter().map(ToString::to_string).collect()
    } else {
        state.config.config.shell.clone()
    }
}

/// Whether the command is nothing but one here-document, which then is the script.
pub(super) fn lone_heredoc(command: &Command) -> Option<&Heredoc> {
    match (&command.form, command.heredocs.as_slice()) {
        (Form::Shell(text), [doc]) => {
            let line = text.value.trim();
            let line = line.trim_start_matches(|c: char| c.is_ascii_digit());
            let mark = line.strip_prefix("<<")?.trim_start_matches('-').trim();
            (mark.trim_matches(['"', '\'']) == doc.name).then_some(doc)
        }
        _ => None,
    }
}

/// The lines of a here-document with the tabs that `<<-` takes away. In the trigger of a base
/// image, whose text is not the Dockerfile's, without them.
pub(super) fn as_written<'d>(request: &Request<'d>, document: &'d Heredoc) -> &'d str {
    let span = document.content.span;
    let written = request.source.get(span.start..span.end);
    let without_tabs = |text: &str| -> String {
        let lines = text.split_inclusive('\n');
        lines.map(|line| line.trim_start_matches('\t')).collect()
    };
    match written {
        Some(written) if document.strip_tabs && without_tabs(written) == document.content.value => {
            written
        }
        _ => &document.content.value,
    }
}

impl Build<'_> {
    /// The text that a shell gets for a command with here-documents.
    fn shell_text(&self, command: &Text, heredocs: &[Heredoc]) -> String {
        let mut text = command.value.clone();
        for doc in heredocs {
            text.push('\n');
            text.push_str(as_written(self.request, doc));
            text.push_str(&doc.name);
        }
        text
    }

    pub(super) fn run(
        &mut self,
        place: Place<'_>,
        instruction: &Instruction,
        command: &Command,
        state: &mut State,
    ) -> Result<(), LowerError> {
        let (mut mounts, mut devices) = (Vec::new(), Vec::new());
        let mut inputs: Vec<VertexId> = state.tip.into_iter().collect();
        let origin = self.origin(place, instruction);
        let of_shell = |words: Vec<String>| PlanCommand {
            shell: shell(state),
            words,
        };
        let command = match (&command.form, lone_heredoc(command)) {
            (_, Some(doc)) if doc.content.value.starts_with("#!") => {
                // The shell executes the script, by the interpreter that it names.
                let target = format!("/dev/pipes/{}", doc.name);
                let script = self.script_vertex(place, instruction, doc)?;
                inputs.push(script);
                mounts.push(ExecMount {
                    target: target.clone(),
                    kind: MountKind::Bind {
                        input: Some(inputs.len() - 1),
                        source: format!("/{}", doc.name),
                        writable: false,
                    },
                    place: "the here-document".into(),
                });
                of_shell(vec![target])
            }
            (_, Some(doc)) => of_shell(vec![doc.content.value.clone()]),
            (Form::Shell(text), None) => of_shell(vec![self.shell_text(text, &command.heredocs)]),
            (Form::Exec(words), None) => PlanCommand {
                shell: Vec::new(),
                words: words.iter().map(|w| w.value.clone()).collect(),
            },
        };
        let (mut network, mut security) = (self.request.network, Security::Sandbox);
        for flag in &instruction.flags {
            let value = match &flag.value {
                // What has no variables is taken as it is: fields of a mount may be quoted.
                Some(value) if !value.value.contains('$') => value.clone(),
                Some(value) => Text::new(self.word(value, state)?, value.span),
                None => Text::new(String::new(), flag.span),
            };
            match flag.name.value.as_str() {
                "mount" => {
                    let spec = parse_mount(&value.value).map_err(|e| flag_error(&e, flag))?;
                    let mount = self.mount(place, &spec, &value, state, &mut inputs)?;
                    mounts.push(mount);
                }
                "network" => {
                    // Not expanded, as in BuildKit.
                    network = match flag.value.as_ref().map_or("", |v| v.value.as_str()) {
                        "default" => Network::Default,
                        "none" => Network::None,
                        "host" => Network::Host,
                        other => {
                            let text = format!("unsupported network `{other}`");
                            return Err(LowerError::new(text, value.span)
                                .with_help(Some("use default, none or host")));
                        }
                    };
                }
                "security" => security = self.security(&value)?,
                "device" => {
                    let spec = parse_device(&value.value).map_err(|e| flag_error(&e, flag))?;
                    devices.push(ExecDevice {
                        name: spec.name,
                        required: spec.required,
                    });
                }
                _ => {}
            }
        }
        let variable = |(name, value): (&str, &String)| Variable {
            name: name.to_owned(),
            value: value.clone(),
            role: match state.is_argument(name) {
                true => VariableRole::Argument,
                false => VariableRole::Environment,
            },
        };
        let env = state.scope.in_order().into_iter().map(variable).collect();
        let proxy_env = self.proxy_env();
        let hostname = self.request.build_args.get("BUILDKIT_SANDBOX_HOSTNAME");
        let exec = Exec {
            command: command.clone(),
            env,
            proxy_env,
            cwd: cwd(state),
            user: state.config.config.user.clone(),
            hostname: hostname
                .cloned()
                .unwrap_or_else(|| "buildkitsandbox".into()),
            network,
            security,
            mounts,
            devices,
            extra_hosts: self.request.extra_hosts.clone(),
            ulimits: self.request.ulimits.clone(),
            shm_size: self.request.shm_size,
            platform: BuildPlatform(state.platform.clone()),
            on_base: state.tip.is_some(),
            epoch: self.epoch,
        };
        let line = created_by(state, &command.argv());
        state.tip = Some(self.add_as(place, instruction, origin, Op::Exec(exec), inputs)?);
        self.tell_layer(state, line)
    }

    fn security(&self, value: &Text) -> Result<Security, LowerError> {
        match value.value.as_str() {
            "sandbox" | "" => Ok(Security::Sandbox),
            "insecure" if self.request.allow_insecure => Ok(Security::Insecure),
            "insecure" => Err(
                LowerError::new("--security=insecure is not allowed", value.span).with_help(Some(
                    "run `kiln build --allow security.insecure` if you trust this Dockerfile",
                )),
            ),
            other => Err(
                LowerError::new(format!("unknown security mode `{other}`"), value.span)
                    .with_help(Some("use sandbox or insecure")),
            ),
        }
    }

    /// Proxy settings that were given, under both of their names.
    fn proxy_env(&self) -> Vec<(String, String)> {
        let given = &self.request.build_args;
        let mut env = Vec::new();
        for names in PROXY_ARGS.chunks(2) {
            let value = names.iter().find_map(|name| given.get(*name));
            if let Some(value) = value.filter(|v| !v.is_empty()) {
                env.extend(names.iter().map(|name| ((*name).to_owned(), value.clone())));
            }
        }
        env
    }

    fn mount(
        &mut self,
        place: Place<'_>,
        spec: &MountSpec,
        value: &Text,
        state: &State,
        inputs: &mut Vec<VertexId>,
    ) -> Result<ExecMount, LowerError> {
        let absolute = |path: &str| resolve_path(&cwd(state), path);
        // Secrets and agents have places of their own; all others are at the working directory.
        let target = match (spec.target.as_deref(), spec.kind) {
            (None, MountType::Secret | MountType::Ssh) => None,
            (path, _) => Some(absolute(path.unwrap_or_default())),
        };
        // An image that nobody knows may have a working directory.
        let is_guess =
            state.base_unknown && !spec.target.as_ref().is_some_and(|t| t.starts_with('/'));
        if target.as_deref() == Some("/") && !is_guess {
            let help = "add target=/path, or a WORKDIR above";
            let failed = LowerError::new("a mount cannot be at `/`", value.span);
            return Err(failed.with_help(spec.target.is_none().then_some(help)));
        }
        let mut slot = |vertex: Option<VertexId>| {
            vertex.map(|v| {
                inputs.push(v);
                inputs.len() - 1
            })
        };
        let kind = match spec.kind {
            MountType::Bind => {
                let vertex = match spec.from.as_deref() {
                    Some(from) => self.vertex_of_from(from, place, value.span)?,
                    None => Some(self.context_vertex("", place)),
                };
                MountKind::Bind {
                    input: slot(vertex),
                    source: spec.source.clone().unwrap_or_else(|| "/".into()),
                    writable: spec.readonly == Some(false),
                }
            }
            MountType::Cache => {
                let vertex = match spec.from.as_deref() {
                    Some(from) => self.vertex_of_from(from, place, value.span)?,
                    None => None,
                };
                let namespace = self.request.build_args.get("BUILDKIT_CACHE_MOUNT_NS");
                // The target as it is written, as in BuildKit.
                let written = || clean_path(spec.target.as_deref().unwrap_or_default());
                let id = spec.id.clone().unwrap_or_else(written);
                MountKind::Cache(CacheMount {
                    id: namespace.map_or(id.clone(), |ns| format!("{ns}/{id}")),
                    sharing: match spec.sharing {
                        Some(SpecSharing::Private) => Sharing::Private,
                        Some(SpecSharing::Locked) => Sharing::Locked,
                        _ => Sharing::Shared,
                    },
                    base: slot(vertex),
                    source: spec.source.clone().unwrap_or_else(|| "/".into()),
                    mode: spec.mode,
                    uid: spec.uid,
                    gid: spec.gid,
                    read_only: spec.readonly == Some(true),
                })
            }
            MountType::Tmpfs => MountKind::Tmpfs { size: spec.size },
            MountType::Secret => {
                let id = match (&spec.id, &spec.target, &spec.env) {
                    (Some(id), _, _) => id.clone(),
                    (None, Some(target), _) => base_name(target).to_owned(),
                    (None, None, Some(env)) => env.clone(),
                    (None, None, None) => {
                        return Err(LowerError::new("the secret has no id", value.span)
                            .with_help(Some("add id=NAME")));
                    }
                };
                MountKind::Secret(SecretMount {
                    file: spec.target.is_some() || spec.env.is_none(),
                    env: spec.env.clone(),
                    id,
                    mode: spec.mode.unwrap_or(0o400),
                    uid: spec.uid.unwrap_or(0),
                    gid: spec.gid.unwrap_or(0),
                    required: spec.required,
                })
            }
            MountType::Ssh => MountKind::Ssh(SshMount {
                id: spec.id.clone().unwrap_or_else(|| "default".into()),
                mode: spec.mode.unwrap_or(0o600),
                uid: spec.uid.unwrap_or(0),
                gid: spec.gid.unwrap_or(0),
                required: spec.required,
            }),
        };
        self.take_in_mount(place, state.spot.about, spec, &kind);
        let words = match spec.from.as_deref() {
            Some(from) => self.words_for(from, place, value.span)?,
            None => BUILD_CONTEXT.into(),
        };
        let target = match &kind {
            MountKind::Secret(secret) if target.is_none() => {
                format!("/run/secrets/{}", base_name(&secret.id))
            }
            _ => target.unwrap_or_default(),
        };
        self.budget.take(target.len(), value.span)?;
        Ok(ExecMount {
            target,
            kind,
            place: words,
        })
    }
}

fn base_name(path: &str) -> &str {
    path.trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or(path)
}

/// The working directory of steps.
pub(super) fn cwd(state: &State) -> String {
    let dir = &state.config.config.working_dir;
    if dir.is_empty() {
        "/".into()
    } else {
        resolve_path("/", dir)
    }
}

/// `path` made absolute from `base` and cleaned of `.`, `..` and double slashes.
pub(super) fn resolve_path(base: &str, path: &str) -> String {
    let joined = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{base}/{path}")
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// `path` without superfluous dots and slashes, and relative if it was so: `.` where nothing is left.
fn clean_path(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let absolute = path.starts_with('/');
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if absolute => {}
            part => parts.push(part),
        }
    }
    match (absolute, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".into(),
        (false, false) => parts.join("/"),
    }
}

/// The line of the history, with the arguments that the command saw, as BuildKit writes it.
fn created_by(state: &State, argv: &[String]) -> String {
    let given: Vec<String> = state
        .args
        .in_order()
        .into_iter()
        .map(|(name, value)| {
            let seen = state.scope.get(name).or(value.as_ref());
            format!("{name}={}", seen.map_or("", String::as_str))
        })
        .collect();
    let args = if given.is_empty() {
        String::new()
    } else {
        format!("|{} {} ", given.len(), given.join(" "))
    };
    format!("RUN {args}{} # buildkit", argv.join(" "))
}
