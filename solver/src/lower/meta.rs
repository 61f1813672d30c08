//! Instructions that only change the config, and WORKDIR.

use kiln_image::Healthcheck as HealthcheckConfig;
use kiln_parser::flags::parse_duration;
use kiln_parser::{ArgDecl, Command, Form, Healthcheck, Instruction, KeyValue, Kind, Text};

use super::HistoryLine;
use super::error::LowerError;
use super::flags::{find, flag_error};
use super::ports::Parts;
use super::run::{cwd, resolve_path, shell};
use super::stage::{Build, Place, State};
use crate::lint;
use crate::plan::{Action, File, Mkdir, Op};

impl Build<'_> {
    pub(super) fn instruction(
        &mut self,
        place: Place<'_>,
        instruction: &Instruction,
        state: &mut State,
    ) -> Result<(), LowerError> {
        let line = match &instruction.kind {
            Kind::From { .. } => return Ok(()),
            Kind::Run(command) => return self.run(place, instruction, command, state),
            Kind::Copy(t) => return self.transfer(place, instruction, t, false, state),
            Kind::Add(t) => return self.transfer(place, instruction, t, true, state),
            Kind::Workdir(path) => return self.workdir(place, instruction, path, state),
            Kind::Env(pairs) => self.env(pairs, state)?,
            Kind::Label(pairs) => {
                let mut shown = Vec::new();
                for pair in pairs {
                    let (key, value) =
                        (self.word(&pair.key, state)?, self.word(&pair.value, state)?);
                    shown.push(format!("{key}={value}"));
                    state.config.config.labels.insert(key, value);
                }
                format!("LABEL {}", shown.join(" "))
            }
            Kind::Arg(list) => {
                let mut shown = Vec::new();
                for arg in list {
                    shown.push(self.arg(place, instruction, arg, state)?);
                }
                format!("ARG {}", shown.join(" "))
            }
            Kind::Cmd(command) => {
                let argv = self.command(command, state);
                let line = format!("CMD {}", quoted(&argv));
                state.config.config.cmd = argv;
                state.config.config.args_escaped = true;
                state.own_cmd = true;
                line
            }
            Kind::Entrypoint(command) => {
                let argv = self.command(command, state);
                let line = format!("ENTRYPOINT {}", quoted(&argv));
                state.config.config.entrypoint = argv;
                if !state.own_cmd {
                    state.config.config.cmd.clear();
                }
                line
            }
            Kind::Shell(words) => {
                let argv: Vec<String> = words.iter().map(|w| w.value.clone()).collect();
                let line = format!("SHELL [{}]", argv.join(" "));
                state.config.config.shell = argv;
                line
            }
            Kind::Maintainer(name) => {
                let name = name.value.clone();
                let line = format!("MAINTAINER {name}");
                state.config.author = Some(name);
                line
            }
            Kind::Expose(ports) => self.expose(ports, state)?,
            Kind::Volume(paths) => {
                let mut all = Vec::new();
                for path in paths {
                    let word = self.word(path, state)?;
                    if word.trim().is_empty() {
                        return Err(LowerError::new("a volume needs a path", path.span));
                    }
                    all.push(word);
                }
                let line = format!("VOLUME [{}]", all.join(" "));
                state.config.config.volumes.extend(all);
                line
            }
            Kind::User(user) => {
                let user = self.word(user, state)?;
                let line = format!("USER {user}");
                state.config.config.user = user;
                line
            }
            Kind::Onbuild {
                instruction: trigger,
            } => {
                let text = trigger_text(instruction, trigger);
                let line = format!("ONBUILD {text}");
                state.config.config.on_build.push(text);
                line
            }
            Kind::Stopsignal(signal) => {
                let text = self.word(signal, state)?;
                check_signal(&text, signal)?;
                let line = format!("STOPSIGNAL {text}");
                state.config.config.stop_signal = Some(text).filter(|t| !t.is_empty());
                line
            }
            Kind::Healthcheck(check) => self.healthcheck(instruction, check, state)?,
        };
        state.history.push(HistoryLine {
            created_by: line,
            empty: true,
        });
        Ok(())
    }

    fn command(&self, command: &Command, state: &State) -> Vec<String> {
        match &command.form {
            Form::Exec(words) => words.iter().map(|w| w.value.clone()).collect(),
            Form::Shell(text) => [shell(state), vec![text.value.clone()]].concat(),
        }
    }

    fn env(&self, pairs: &[KeyValue], state: &mut State) -> Result<String, LowerError> {
        let mut shown = Vec::new();
        let mut new = Vec::new();
        // All values see the environment before the instruction.
        for pair in pairs {
            let key = self.word(&pair.key, state)?;
            if key.is_empty() {
                return Err(LowerError::new("a variable needs a name", pair.key.span));
            }
            let value = self.word(&pair.value, state)?;
            let at = state.spot.at(pair.key.span);
            lint::check_name("ENV", &key, at, self.findings);
            shown.push(format!("{key}={value}"));
            new.push((key, value));
        }
        for (key, value) in new {
            set_env(&mut state.config.config.env, &key, &value);
        }
        Ok(format!("ENV {}", shown.join(" ")))
    }

    fn arg(
        &mut self,
        place: Place<'_>,
        instruction: &Instruction,
        arg: &ArgDecl,
        state: &mut State,
    ) -> Result<String, LowerError> {
        let name = self.unchecked_word(&arg.name, state)?;
        let at = state.spot.at(arg.name.span);
        lint::check_name("ARG", &name, at, self.findings);
        let given = self.request.build_args.get(&name).cloned();
        let default = match &arg.default {
            // Nothing comes of a default that is not used.
            Some(text) if given.is_some() => Some(self.unchecked_word(text, state)?),
            Some(text) => Some(self.word(text, state)?),
            None => None,
        };
        self.used_args.insert(name.clone());
        let shown = default
            .as_ref()
            .map_or_else(|| name.clone(), |d| format!("{name}={d}"));
        let own = given.or(default);
        self.take_in_arg(place, instruction, arg, &name, own.as_deref());
        let global = self.globals.declared.get(&name).cloned().flatten();
        let predefined = self.globals.predefined.get(&name).cloned();
        let epoch = (name == "SOURCE_DATE_EPOCH")
            .then(|| self.request.epoch.map(|e| e.to_string()))
            .flatten();
        let value = own.or(global).or(epoch).or(predefined);
        state.args.retain(|(n, _)| *n != name);
        state.args.push((name, value));
        Ok(shown)
    }

    fn expose(&self, ports: &[Text], state: &mut State) -> Result<String, LowerError> {
        let mut all = Vec::new();
        for text in ports {
            for word in self.words(text, state)? {
                let parts = Parts::of(&word);
                let at = state.spot.at(text.span);
                let mapped = parts.are_mapped();
                lint::expose::check(&word, parts.protocol, mapped, at, self.findings);
                let ports = parts.ports().map_err(|e| {
                    LowerError::new(format!("`{word}` is no port: {e}"), text.span)
                        .with_help(Some("write 80, 80/udp or 8000-8010"))
                })?;
                all.extend(ports.all());
            }
        }
        let line = format!("EXPOSE [{}]", all.join(" "));
        state.config.config.exposed_ports.extend(all);
        Ok(line)
    }

    fn workdir(
        &mut self,
        place: Place<'_>,
        instruction: &Instruction,
        path: &Text,
        state: &mut State,
    ) -> Result<(), LowerError> {
        let text = self.word(path, state)?;
        if text.is_empty() {
            return Err(LowerError::new(
                "WORKDIR is empty after expansion",
                path.span,
            ));
        }
        let at = state.spot.at(path.span);
        state.seen.workdir(&text, at, self.findings);
        let dir = resolve_path(&cwd(state), &text);
        state.config.config.working_dir.clone_from(&dir);
        let created_by = format!("WORKDIR {dir}");
        if dir == "/" {
            state.history.push(HistoryLine {
                created_by,
                empty: true,
            });
            return Ok(());
        }
        let user = Some(state.config.config.user.clone()).filter(|u| !u.is_empty());
        let mkdir = Mkdir {
            path: dir,
            mode: 0o755,
            chown: user,
        };
        let op = Op::File(File {
            actions: vec![Action::Mkdir(mkdir)],
            on_base: state.tip.is_some(),
            epoch: self.request.epoch,
        });
        state.tip = Some(self.add(place, instruction, op, state.tip.into_iter().collect()));
        state.add_layer(format!("{created_by} # buildkit"));
        Ok(())
    }

    fn healthcheck(
        &self,
        instruction: &Instruction,
        check: &Healthcheck,
        state: &mut State,
    ) -> Result<String, LowerError> {
        let mut config = HealthcheckConfig::default();
        match check {
            Healthcheck::None => config.test = vec!["NONE".into()],
            Healthcheck::Cmd(command) => {
                config.test = match &command.form {
                    Form::Exec(words) => std::iter::once("CMD".to_owned())
                        .chain(words.iter().map(|w| w.value.clone()))
                        .collect(),
                    Form::Shell(text) => vec!["CMD-SHELL".into(), text.value.clone()],
                };
            }
        }
        let duration = |name: &str| -> Result<i64, LowerError> {
            let Some(text) = self.flag(instruction, name, state)? else {
                return Ok(0);
            };
            let flag = find(instruction, name);
            let parsed = parse_duration(&text.value);
            let nanos = parsed.map_err(|e| match flag {
                Some(flag) => flag_error(&e, flag),
                None => LowerError::new(e.message, text.span),
            })?;
            if nanos != 0 && nanos < 1_000_000 {
                let message = format!("--{name} cannot be less than 1ms");
                return Err(LowerError::new(message, text.span));
            }
            i64::try_from(nanos)
                .map_err(|_| LowerError::new(format!("--{name} is too long"), text.span))
        };
        config.interval = duration("interval")?;
        config.timeout = duration("timeout")?;
        config.start_period = duration("start-period")?;
        config.start_interval = duration("start-interval")?;
        if let Some(text) = self.flag(instruction, "retries", state)? {
            config.retries = text
                .value
                .parse()
                .ok()
                .filter(|n: &i64| *n >= 0)
                .ok_or_else(|| {
                    LowerError::new(
                        format!("--retries: `{}` is no count", text.value),
                        text.span,
                    )
                })?;
        }
        let line = format!(
            "HEALTHCHECK &{{{} \"{}\" \"{}\" \"{}\" \"{}\" '\\x{:02x}'}}",
            quoted(&config.test),
            go_duration(config.interval),
            go_duration(config.timeout),
            go_duration(config.start_period),
            go_duration(config.start_interval),
            config.retries,
        );
        state.config.config.healthcheck = Some(config);
        Ok(line)
    }
}

/// The trigger as it was written, without ONBUILD.
fn trigger_text(instruction: &Instruction, trigger: &Instruction) -> String {
    let full = instruction.text.trim_start();
    let rest = full.get("ONBUILD".len()..).map_or("", str::trim);
    if rest.is_empty() {
        trigger.text.clone()
    } else {
        rest.to_owned()
    }
}

fn set_env(env: &mut Vec<String>, name: &str, value: &str) {
    let entry = format!("{name}={value}");
    match env.iter_mut().find(|e| e.split('=').next() == Some(name)) {
        Some(old) => *old = entry,
        None => env.push(entry),
    }
}

/// A list as Go's `%q` prints it.
fn quoted(list: &[String]) -> String {
    let words: Vec<String> = list.iter().map(|w| format!("{w:?}")).collect();
    format!("[{}]", words.join(" "))
}

/// A number of nanoseconds as Go prints a duration.
fn go_duration(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".into();
    }
    let seconds = nanos / 1_000_000_000;
    if seconds == 0 {
        return format!("{}ms", nanos / 1_000_000);
    }
    let fraction = (nanos % 1_000_000_000) / 1_000_000;
    let rest = seconds % 60;
    let rest = if fraction == 0 {
        format!("{rest}s")
    } else {
        format!("{rest}.{fraction:03}s")
    };
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => rest,
        (0, minutes) => format!("{minutes}m{rest}"),
        (hours, minutes) => format!("{hours}h{minutes}m{rest}"),
    }
}

fn check_signal(text: &str, place: &Text) -> Result<(), LowerError> {
    let number = text.parse::<u32>().is_ok_and(|n| (1..=64).contains(&n));
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let real_time = name.starts_with("RTMIN") || name.starts_with("RTMAX");
    if number || real_time || SIGNALS.contains(&name) {
        return Ok(());
    }
    Err(
        LowerError::new(format!("`{text}` is no signal"), place.span).with_help(Some(
            "write a name such as SIGTERM, or a number from 1 to 64",
        )),
    )
}

const SIGNALS: [&str; 35] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "UNUSED", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
];
