//! Instructions that only change the config, and WORKDIR.

use kiln_image::Healthcheck as HealthcheckConfig;
use kiln_parser::flags::parse_duration;
use kiln_parser::{ArgDecl, Command, Form, Healthcheck, Instruction, KeyValue, Kind, Text};

use super::budget::{ENTRY, of_list};
use super::error::LowerError;
use super::flags::{find, flag_error};
use super::ports::Parts;
use super::run::{cwd, resolve_path, shell};
use super::stage::{Build, Place};
use super::stages;
use super::state::State;
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
                    let line = format!("{key}={value}");
                    self.budget.take(line.len() + 2 * ENTRY, pair.key.span)?;
                    shown.push(line);
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
                // As BuildKit: a trigger is no step of this image's history.
                let text = stages::trigger_text(self.request, instruction, trigger);
                state.config.config.on_build.push(text);
                return Ok(());
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
        self.tell(state, line)
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
            let value = self.word(&pair.value, state)?;
            let at = state.spot.at(pair.key.span);
            lint::check_name("ENV", &key, at, self.findings);
            shown.push(format!("{key}={value}"));
            new.push((key, value));
        }
        for (key, value) in new {
            // In the config, in what steps see, and by its name in both.
            self.budget.take(
                2 * (2 * key.len() + value.len() + 2 * ENTRY),
                state.spot.about,
            )?;
            state.set_env(&key, &value);
            state.set(&key, &value);
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
        // A name is neither expanded nor unquoted, as in BuildKit.
        let name = arg.name.value.clone();
        let at = state.spot.at(arg.name.span);
        lint::check_name("ARG", &name, at, self.findings);
        let given = self.request.build_args.get(&name).cloned();
        let default = match &arg.default {
            // Nothing comes of a default that is not used, not even a failure.
            Some(text) if given.is_none() => Some(self.word(text, state)?),
            _ => None,
        };
        self.used_args.insert(name.clone());
        let own = given.or(default);
        self.take_in_arg(place, instruction, arg, &name, own.as_deref());
        let global = self.globals.declared.get(&name).cloned().flatten();
        let predefined = self.globals.predefined.get(&name).cloned();
        let value = own.or(global).or(predefined);
        let shown = value
            .as_ref()
            .map_or_else(|| name.clone(), |v| format!("{name}={v}"));
        // In what steps see, among the arguments, and in the line of history.
        self.budget
            .take(3 * shown.len() + 4 * ENTRY, arg.name.span)?;
        state.declare(&name, value);
        Ok(shown)
    }

    fn expose(&self, ports: &[Text], state: &mut State) -> Result<String, LowerError> {
        let mut all = Vec::new();
        // BuildKit sorts them as they are written.
        let mut ports: Vec<&Text> = ports.iter().collect();
        ports.sort_by(|a, b| a.value.cmp(&b.value));
        for text in ports {
            for word in self.words(text, state)? {
                let parts = Parts::of(&word);
                let at = state.spot.at(text.span);
                let mapped = parts.are_mapped();
                lint::expose::check(&word, parts.protocol, mapped, at, self.findings);
                let ports = parts.ports().map_err(|e| {
                    LowerError::new(format!("`{word}` is not a port: {e}"), text.span)
                        .with_help(Some("write 80, 80/udp or 8000-8010"))
                })?;
                let ports: Vec<String> = ports.all().collect();
                self.budget.take(of_list(&ports), text.span)?;
                all.extend(ports);
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
        let at = state.spot.at(path.span);
        state.seen.workdir(&text, at, self.findings);
        let dir = resolve_path(&cwd(state), &text);
        // An absolute path stays as it is written, as in BuildKit.
        let kept = if text.starts_with('/') { &text } else { &dir };
        state.config.config.working_dir.clone_from(kept);
        let created_by = format!("WORKDIR {kept}");
        if dir == "/" {
            return self.tell(state, created_by);
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
            epoch: self.epoch,
        });
        state.tip = Some(self.add(place, instruction, op, state.tip.into_iter().collect())?);
        self.tell_layer(state, created_by)
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
        let is_check = matches!(check, Healthcheck::Cmd(_));
        let duration = |name: &str| -> Result<i64, LowerError> {
            // Without a check its times mean nothing.
            let Some(text) = self.flag(instruction, name, state)?.filter(|_| is_check) else {
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
        if let Some(text) = self.flag(instruction, "retries", state)?
            && is_check
        {
            config.retries = text
                .value
                .parse()
                .ok()
                .filter(|n: &i64| *n >= 0)
                .ok_or_else(|| {
                    LowerError::new(
                        format!("--retries: `{}` is not a count", text.value),
                        text.span,
                    )
                })?;
        }
        let line = format!(
            "HEALTHCHECK &{{{} \"{}\" \"{}\" \"{}\" \"{}\" {}}}",
            quoted(&config.test),
            go_duration(config.interval),
            go_duration(config.timeout),
            go_duration(config.start_period),
            go_duration(config.start_interval),
            go_char(config.retries),
        );
        state.config.config.healthcheck = Some(config);
        Ok(line)
    }
}

/// A list as Go's `%q` prints it.
fn quoted(list: &[String]) -> String {
    let words: Vec<String> = list.iter().map(|w| go_quoted(w)).collect();
    format!("[{}]", words.join(" "))
}

/// A text as Go's `%q` prints it.
fn go_quoted(text: &str) -> String {
    let escaped: String = text
        .chars()
        .map(|c| {
            if c == '\'' {
                "'".into()
            } else {
                go_escape(c, '"')
            }
        })
        .collect();
    format!("\"{escaped}\"")
}

/// A number as Go's `%q` prints it: as the character that has it.
fn go_char(number: i64) -> String {
    let c = u32::try_from(number).ok().and_then(char::from_u32);
    format!(
        "'{}'",
        go_escape(c.unwrap_or(char::REPLACEMENT_CHARACTER), '\'')
    )
}

fn go_escape(c: char, quote: char) -> String {
    match c {
        '\x07' => "\\a".into(),
        '\x08' => "\\b".into(),
        '\x0b' => "\\v".into(),
        '\x0c' => "\\f".into(),
        '\n' => "\\n".into(),
        '\r' => "\\r".into(),
        '\t' => "\\t".into(),
        '\\' => "\\\\".into(),
        c if c == quote => format!("\\{c}"),
        c if c < ' ' || c == '\x7f' => format!("\\x{:02x}", u32::from(c)),
        // What Go does not print: other spaces and what only steers the layout of text.
        c if c != ' ' && (c.is_whitespace() || c.is_control() || is_invisible(c)) => {
            match u32::from(c) {
                code @ 0x1_0000.. => format!("\\U{code:08x}"),
                code => format!("\\u{code:04x}"),
            }
        }
        c => c.to_string(),
    }
}

/// Characters of Unicode's category Cf that occur in text.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
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
        let digits = format!("{fraction:03}");
        format!("{rest}.{}s", digits.trim_end_matches('0'))
    };
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => rest,
        (0, minutes) => format!("{minutes}m{rest}"),
        (hours, minutes) => format!("{hours}h{minutes}m{rest}"),
    }
}

fn check_signal(text: &str, place: &Text) -> Result<(), LowerError> {
    let number = text.parse::<u32>().is_ok_and(|n| n > 0);
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let real_time = name.starts_with("RTMIN") || name.starts_with("RTMAX");
    if number || real_time || SIGNALS.contains(&name) {
        return Ok(());
    }
    Err(
        LowerError::new(format!("`{text}` is not a signal"), place.span)
            .with_help(Some("write a name such as SIGTERM, or a number")),
    )
}

const SIGNALS: [&str; 35] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "UNUSED", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
];
