//! Values of `kiln build` options that have a form of their own.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kiln_executor::{SecretSource, SshAgent};
use kiln_solver::plan::Ulimit;

use crate::errors::Failure;

/// `NAME=value`; a bare name takes its value from the environment, and is dropped if unset.
pub(crate) fn assignments(list: &[String]) -> BTreeMap<String, String> {
    list.iter()
        .filter_map(|entry| match entry.split_once('=') {
            Some((name, value)) => Some((name.to_owned(), value.to_owned())),
            None => Some((entry.clone(), std::env::var(entry).ok()?)),
        })
        .collect()
}

/// `NAME=value` where the value may be left out.
pub(crate) fn labels(list: &[String]) -> BTreeMap<String, String> {
    list.iter()
        .map(|entry| {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            (name.to_owned(), value.to_owned())
        })
        .collect()
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

/// `--ssh ID[=SOCKET]`.
pub(crate) fn ssh(text: &str) -> Result<(String, SshAgent), Failure> {
    let (id, path) = text.split_once('=').unwrap_or((text, ""));
    let socket = if path.is_empty() {
        std::env::var_os("SSH_AUTH_SOCK")
            .map(PathBuf::from)
            .ok_or_else(|| {
                Failure::new("--ssh: no agent runs: SSH_AUTH_SOCK is not set")
                    .with_hint("start one with ssh-agent, or name its socket: --ssh default=SOCKET")
            })?
    } else {
        PathBuf::from(path)
    };
    use std::os::unix::fs::FileTypeExt as _;
    let is_socket = std::fs::metadata(&socket).is_ok_and(|m| m.file_type().is_socket());
    if !is_socket {
        return Err(Failure::new(format!(
            "--ssh: `{}` is not the socket of an agent",
            socket.display()
        ))
        .with_hint("kiln forwards a running agent; add private keys to it with ssh-add"));
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
        .map_err(|_| bad("the address is no IP address"))?;
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
            .map_err(|_| bad(&format!("`{v}` is no number"))),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (number(soft)?, number(hard)?);
    if soft > hard {
        return Err(bad("the soft limit is above the hard one"));
    }
    Ok(Ulimit { name, soft, hard })
}

/// A size in bytes: `64m`, `1g`, `1024`.
pub(crate) fn size(text: &str) -> Result<u64, Failure> {
    let lower = text.trim().to_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &lower[digits.len()..] {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => 0,
    };
    let number: Option<u64> = digits.parse().ok();
    number
        .and_then(|n| n.checked_mul(factor))
        .filter(|n| *n > 0)
        .ok_or_else(|| Failure::usage(format!("`{text}` is no size; write 64m or 1g")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_sizes_and_hosts() {
        let limit = ulimit("nofile=10:20").unwrap();
        assert_eq!((limit.soft, limit.hard), (10, 20));
        assert_eq!(ulimit("core=-1").unwrap().hard, u64::MAX);
        for bad in ["nofile", "nofile=a", "nofile=3:2", "speed=1"] {
            assert!(ulimit(bad).is_err(), "{bad}");
        }
        assert_eq!(size("64m").unwrap(), 64 << 20);
        assert_eq!(size("1024").unwrap(), 1024);
        for bad in ["", "x", "0", "5t", "99999999999999999999g"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert_eq!(
            host("db:10.0.0.1").unwrap(),
            ("db".into(), "10.0.0.1".into())
        );
        assert_eq!(host("db=::1").unwrap(), ("db".into(), "::1".into()));
        assert!(host("db:nowhere").is_err() && host("db").is_err());
    }
}
