//! Values of `kiln build` options that have a form of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use kiln_engine::solver::lower::StepChoice;
use kiln_engine::solver::plan::Ulimit;
use kiln_engine::{AllowedDevices, SecretSource, SshAgent};

use crate::errors::Failure;
use crate::ssh_agent::Agent;

/// Refuses `NAME=value` of `flag` without a name, as Docker does.
pub(crate) fn named(flag: &str, list: &[String]) -> Result<(), Failure> {
    match list.iter().find(|e| e.is_empty() || e.starts_with('=')) {
        Some(entry) => Err(
            Failure::usage(format!("{flag} `{entry}`: the name is empty"))
                .with_hint(format!("write {flag} NAME=VALUE")),
        ),
        None => Ok(()),
    }
}

/// `--build-arg NAME=value`; a bare name takes its value from the environment, and is dropped if
/// unset.
pub(crate) fn assignments(list: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    named("--build-arg", list)?;
    Ok(list
        .iter()
        .filter_map(|entry| match entry.split_once('=') {
            Some((name, value)) => Some((name.to_owned(), value.to_owned())),
            None => Some((entry.clone(), std::env::var(entry).ok()?)),
        })
        .collect())
}

/// `--label NAME=value` where the value may be left out.
pub(crate) fn labels(list: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    named("--label", list)?;
    Ok(list
        .iter()
        .map(|entry| {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            (name.to_owned(), value.to_owned())
        })
        .collect())
}

/// `key=value,…` as a list; a part without `=` has an empty key.
pub(crate) fn fields(text: &str) -> Vec<(&str, &str)> {
    text.split(',')
        .map(|part| part.split_once('=').unwrap_or(("", part)))
        .collect()
}

/// `--secret id=NAME[,src=FILE|,env=VARIABLE]`.
pub(crate) fn secret(text: &str) -> Result<(String, SecretSource), Failure> {
    let bad = |why: &str| {
        Failure::usage(format!("--secret `{text}`: {why}"))
            .with_hint("write --secret id=NAME,src=FILE or --secret id=NAME,env=VARIABLE")
    };
    let (mut id, mut file, mut env, mut kind) = (None, None, None, None);
    for (key, value) in fields(text) {
        match key {
            "id" => id = Some(value.to_owned()),
            "src" | "source" => file = Some(PathBuf::from(value)),
            "env" => env = Some(value.to_owned()),
            "type" if matches!(value, "file" | "env") => kind = Some(value),
            "" => return Err(bad(&format!("`{value}` has no `=`"))),
            _ => return Err(bad(&format!("unknown part `{key}={value}`"))),
        }
    }
    let id = id
        .filter(|i| !i.is_empty())
        .ok_or_else(|| bad("it has no id"))?;
    if kind == Some("env") && env.is_none() {
        env = file
            .take()
            .map(|f| f.to_string_lossy().into_owned())
            .or_else(|| Some(id.clone()));
    }
    let from_env =
        |name: &str| std::env::var_os(name).map(std::os::unix::ffi::OsStringExt::into_vec);
    let source = match (file, env) {
        (Some(_), Some(_)) => return Err(bad("it has both a file and a variable")),
        (Some(file), None) => SecretSource::File(file),
        (None, Some(name)) => SecretSource::Value(
            from_env(&name).ok_or_else(|| bad(&format!("variable `{name}` is not set")))?,
        ),
        // As Docker: the variable of the secret's name, else the file.
        (None, None) => match from_env(&id) {
            Some(value) => SecretSource::Value(value),
            None => SecretSource::File(PathBuf::from(&id)),
        },
    };
    if let SecretSource::File(path) = &source
        && !path.exists()
    {
        return Err(Failure::new(format!(
            "secret `{id}`: there is no file `{}`",
            path.display()
        )));
    }
    Ok((id, source))
}

/// `--ssh ID[=SOCKET]`, or `--ssh ID=KEY[,KEY]`, for which an agent is started and put into `agents`.
pub(crate) fn ssh(text: &str, agents: &mut Vec<Agent>) -> Result<(String, SshAgent), Failure> {
    let (id, path) = text.split_once('=').unwrap_or((text, ""));
    let keys: Vec<PathBuf> = path.split(',').map(PathBuf::from).collect();
    let missing = |file: &PathBuf| std::fs::symlink_metadata(file).is_err();
    if let Some(file) = keys.iter().find(|key| !path.is_empty() && missing(key)) {
        let text = format!("--ssh {id}: there is no file `{}`", file.display());
        return Err(Failure::new(text));
    }
    if !path.is_empty() && keys.iter().all(|key| key.is_file()) {
        let agent = Agent::start(&keys)?;
        let socket = agent.socket().to_owned();
        agents.push(agent);
        return Ok((id.to_owned(), SshAgent { socket }));
    }
    let socket = if path.is_empty() {
        let named = std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty());
        let none = || {
            Failure::new("--ssh: no agent runs: SSH_AUTH_SOCK is not set")
                .with_hint("start one with ssh-agent, or name its socket: --ssh default=SOCKET")
        };
        let socket = named.map(PathBuf::from).ok_or_else(none)?;
        if missing(&socket) {
            let text = format!(
                "--ssh: there is no socket `{}`, which SSH_AUTH_SOCK names",
                socket.display()
            );
            return Err(
                Failure::new(text).with_hint("has the agent ended? Start one with ssh-agent")
            );
        }
        socket
    } else {
        PathBuf::from(path)
    };
    use std::os::unix::fs::FileTypeExt as _;
    let is_socket = std::fs::metadata(&socket).is_ok_and(|m| m.file_type().is_socket());
    if !is_socket {
        return Err(Failure::new(format!(
            "--ssh: `{}` is neither the socket of an agent nor a private key",
            socket.display()
        ))
        .with_hint("write --ssh default for the agent that runs, or --ssh default=KEYFILE"));
    }
    let socket = std::path::absolute(socket)?;
    Ok((id.to_owned(), SshAgent { socket }))
}

/// `--add-host NAME:ADDRESS` or `NAME=ADDRESS`.
pub(crate) fn host(text: &str) -> Result<(String, String), Failure> {
    let parts = text.split_once('=').or_else(|| text.split_once(':'));
    let bad = |why: &str| Failure::usage(format!("--add-host `{text}`: {why}"));
    let (name, address) = parts.ok_or_else(|| bad("write NAME:ADDRESS"))?;
    let address = if address == "host-gateway" {
        "127.0.0.1"
    } else {
        address
    };
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<std::net::IpAddr>()
        .map_err(|_| bad("the address is not an IP address"))?;
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(bad("the name is empty or has spaces"));
    }
    Ok((name.to_owned(), bare.to_owned()))
}

const LIMITS: [&str; 16] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
    "as",
];

/// `--ulimit NAME=SOFT[:HARD]`; -1 is unlimited.
pub(crate) fn ulimit(text: &str) -> Result<Ulimit, Failure> {
    let bad = |why: &str| {
        Failure::usage(format!("--ulimit `{text}`: {why}"))
            .with_hint("write --ulimit nofile=1024:4096")
    };
    let (name, values) = text.split_once('=').ok_or_else(|| bad("it has no value"))?;
    let name = name.to_lowercase();
    if !LIMITS.contains(&name.as_str()) {
        return Err(bad("there is no such limit"));
    }
    let number = |v: &str| match v {
        "-1" | "unlimited" => Ok(u64::MAX),
        v => v
            .parse::<u64>()
            .map_err(|_| bad(&format!("`{v}` is not a number"))),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (number(soft)?, number(hard)?);
    if soft > hard {
        return Err(bad("the soft limit is above the hard one"));
    }
    Ok(Ulimit { name, soft, hard })
}

/// A size in bytes, given to `flag`: `64m`, `1g`, `1024`.
pub(crate) fn size(flag: &str, text: &str) -> Result<u64, Failure> {
    let lower = text.trim().to_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &lower[digits.len()..] {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => 0,
    };
    let number: Option<u64> = digits.parse().ok();
    number
        .and_then(|n| n.checked_mul(factor))
        .filter(|n| *n > 0)
        .ok_or_else(|| {
            Failure::usage(format!("{flag} `{text}` is not a size"))
                .with_hint(format!("write {flag} 64m or {flag} 1g"))
        })
}

/// `--rerun LINE` or `STAGE:N`.
pub(crate) fn step(text: &str) -> Result<StepChoice, Failure> {
    let bad = || {
        Failure::usage(format!("--rerun `{text}` does not name a step")).with_hint(
            "write a line of the Dockerfile, or STAGE:N for the step that is shown as [STAGE N/M]",
        )
    };
    let number = |text: &str| {
        text.parse::<usize>()
            .ok()
            .filter(|n| *n > 0)
            .ok_or_else(bad)
    };
    match text.rsplit_once(':') {
        None => Ok(StepChoice::Line(number(text)?)),
        Some((stage, n)) => Ok(StepChoice::Number {
            stage: stage.to_owned(),
            number: number(n)?,
        }),
    }
}

/// `--cache-ttl`: `12h`, `7d`, `1h 30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, Failure> {
    humantime::parse_duration(text).map_err(|e| {
        Failure::usage(format!("--cache-ttl `{text}`: {e}")).with_hint("write it as 12h or 7d")
    })
}

/// Refuses attestations that are asked for with `--attest`, `--provenance` or `--sbom`: kiln makes
/// none. To be told to make none, in any way that buildx takes, is fine.
pub(crate) fn no_attestations(flag: &str, text: &str) -> Result<(), Failure> {
    let bad = |why: &str| Failure::usage(format!("{flag} `{text}`: {why}"));
    // The booleans of buildx.
    let switch = |value: &str| match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    };
    let makes_none = || {
        bad("kiln makes no attestations yet").with_hint(match flag {
            "--attest" => "leave it out, or add disabled=true".to_owned(),
            _ => format!("leave it out, or write {flag}=false"),
        })
    };
    if flag != "--attest" {
        // What is no switch is a list of settings, such as mode=max.
        return match switch(text) {
            Some(false) => Ok(()),
            Some(true) => Err(makes_none()),
            None if text.contains('=') => Err(makes_none()),
            None => Err(bad("write true or false")),
        };
    }
    let (mut kind, mut disabled) = (None, false);
    for (key, value) in fields(text) {
        match key {
            "type" => kind = Some(value),
            "disabled" => {
                disabled = switch(value).ok_or_else(|| bad("`disabled` is true or false"))?;
            }
            _ => {}
        }
    }
    match kind {
        Some("provenance" | "sbom") if disabled => Ok(()),
        Some("provenance" | "sbom") => Err(makes_none()),
        Some(other) => Err(bad(&format!(
            "there is no type `{other}`: provenance or sbom"
        ))),
        None => Err(bad("it has no type")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_durations() {
        assert_eq!(step("7").unwrap(), StepChoice::Line(7));
        let (stage, number) = ("a:b".to_owned(), 3);
        assert_eq!(step("a:b:3").unwrap(), StepChoice::Number { stage, number });
        for bad in ["", "0", "test", "test:", "test:x", "-1"] {
            assert!(step(bad).is_err(), "{bad}");
        }
        assert_eq!(duration("7d").unwrap().as_secs(), 7 * 86_400);
        assert!(duration("soon").is_err());
    }

    #[test]
    fn names_are_not_empty() {
        for bad in ["=x", "=", ""] {
            let list = ["A=1".to_owned(), bad.to_owned()];
            for failure in [assignments(&list).unwrap_err(), labels(&list).unwrap_err()] {
                let expected = format!("`{bad}`: the name is empty");
                assert!(failure.message.ends_with(&expected), "{failure:?}");
                assert_eq!(failure.code, 2);
            }
        }
        // As Docker: a blank is part of a name.
        let list = ["a b=1".to_owned(), "c=".to_owned()];
        assert_eq!(labels(&list).unwrap()["a b"], "1");
        assert_eq!(assignments(&list).unwrap()["c"], "");
    }

    #[test]
    fn secrets_say_what_they_miss() {
        for (text, why) in [
            ("foo", "`foo` has no `=`"),
            ("id=a,x=b", "unknown part `x=b`"),
            ("src=a", "it has no id"),
            ("id=a,src=b,env=C", "it has both a file and a variable"),
        ] {
            let failure = secret(text).unwrap_err();
            assert_eq!(failure.message, format!("--secret `{text}`: {why}"));
            assert!(failure.hint.is_some_and(|h| h.contains("id=NAME,src=FILE")));
        }
    }

    #[test]
    fn attestations_can_only_be_turned_off() {
        for (flag, text, why) in [
            ("--provenance", "false", None),
            ("--sbom", "0", None),
            ("--attest", "type=provenance,disabled=true", None),
            ("--attest", "type=sbom,disabled=1", None),
            ("--provenance", "true", Some("no attestations yet")),
            ("--provenance", "mode=max", Some("no attestations yet")),
            ("--sbom", "generator=x", Some("no attestations yet")),
            ("--sbom", "maybe", Some("write true or false")),
            ("--attest", "type=sbom", Some("no attestations yet")),
            (
                "--attest",
                "type=provenance,disabled=false",
                Some("no attestations yet"),
            ),
            ("--attest", "type=x,disabled=true", Some("no type `x`")),
            ("--attest", "disabled=true", Some("it has no type")),
        ] {
            let failure = no_attestations(flag, text).err().map(|f| f.message);
            assert_eq!(failure.is_some(), why.is_some(), "{flag} {text}");
            let told = failure.unwrap_or_default();
            assert!(told.contains(why.unwrap_or_default()), "{told}");
        }
    }

    #[test]
    fn limits_sizes_and_hosts() {
        let limit = ulimit("nofile=10:20").unwrap();
        assert_eq!((limit.soft, limit.hard), (10, 20));
        assert_eq!(ulimit("core=-1").unwrap().hard, u64::MAX);
        for bad in ["nofile", "nofile=a", "nofile=3:2", "speed=1"] {
            assert!(ulimit(bad).is_err(), "{bad}");
        }
        assert_eq!(size("--shm-size", "64m").unwrap(), 64 << 20);
        assert_eq!(size("--shm-size", "1024").unwrap(), 1024);
        assert_eq!(size("--shm-size", "20GB").unwrap(), 20 << 30);
        for bad in ["", "x", "0", "5p", "99999999999999999999g"] {
            assert!(size("--shm-size", bad).is_err(), "{bad}");
        }
        assert_eq!(
            host("db:10.0.0.1").unwrap(),
            ("db".into(), "10.0.0.1".into())
        );
        assert_eq!(host("db=::1").unwrap(), ("db".into(), "::1".into()));
        assert!(host("db:nowhere").is_err() && host("db").is_err());
    }
}

/// `--allow`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Allow {
    /// `RUN --security=insecure`.
    SecurityInsecure,
    /// `RUN --network=host`, which is always allowed.
    NetworkHost,
    /// `RUN --device` with this device or kind, or with any.
    Device(Option<String>),
}

/// A value of `--allow`.
pub(crate) fn allow(text: &str) -> Result<Allow, String> {
    match text.split_once('=').unwrap_or((text, "")) {
        ("security.insecure", "") => Ok(Allow::SecurityInsecure),
        ("network.host", "") => Ok(Allow::NetworkHost),
        ("device", "") => Ok(Allow::Device(None)),
        ("device", name) => match kiln_parser::flags::parse_device(name) {
            Ok(spec) if spec.required => Err("`required` is for RUN --device".into()),
            // A kind alone is all of it.
            Ok(spec) => Ok(Allow::Device(Some(
                spec.name.trim_end_matches("=*").to_owned(),
            ))),
            Err(e) => Err(e.to_string()),
        },
        _ => Err("use security.insecure, network.host, or device[=NAME]".into()),
    }
}

/// The devices among what is allowed.
pub(crate) fn devices(allowed: &[Allow]) -> AllowedDevices {
    let mut names = BTreeSet::new();
    for allow in allowed {
        match allow {
            Allow::Device(None) => return AllowedDevices::All,
            Allow::Device(Some(name)) => {
                names.insert(name.clone());
            }
            Allow::SecurityInsecure | Allow::NetworkHost => {}
        }
    }
    match names.is_empty() {
        true => AllowedDevices::None,
        false => AllowedDevices::Named(names),
    }
}
