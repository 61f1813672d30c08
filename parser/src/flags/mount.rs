//! `RUN --mount=...`.

#[cfg(test)]
mod tests;

use super::{FlagError, fields};
use crate::suggest::did_you_mean;

/// The kinds of mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MountType {
    /// Files of the context, a stage or an image (the default).
    Bind,
    /// A directory that outlives builds.
    Cache,
    /// Memory.
    Tmpfs,
    /// A secret file or variable.
    Secret,
    /// A socket of an SSH agent.
    Ssh,
}

/// How concurrent users of a cache mount share it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// All use it at once.
    #[default]
    Shared,
    /// Each concurrent user gets its own.
    Private,
    /// One after the other.
    Locked,
}

/// A decoded `--mount` value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountSpec {
    /// Type; bind unless given.
    pub kind: MountType,
    /// Where it appears.
    pub target: Option<String>,
    /// Stage, image or named context that `source` is in.
    pub from: Option<String>,
    /// Path inside `from`.
    pub source: Option<String>,
    /// Read-only as given; bind mounts are read-only unless this is `Some(false)`.
    pub readonly: Option<bool>,
    /// Identity of a cache, secret or agent. A secret's may be given as `source`, or follow from
    /// the last part of its target.
    pub id: Option<String>,
    /// Sharing of a cache mount.
    pub sharing: Option<Sharing>,
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size limit of a tmpfs in bytes.
    pub size: Option<u64>,
    /// A missing secret or agent is an error.
    pub required: bool,
    /// Variable that gets a secret's value.
    pub env: Option<String>,
}

const TYPES: [(&str, MountType); 5] = [
    ("bind", MountType::Bind),
    ("cache", MountType::Cache),
    ("tmpfs", MountType::Tmpfs),
    ("secret", MountType::Secret),
    ("ssh", MountType::Ssh),
];

const SHARINGS: [(&str, Sharing); 3] = [
    ("shared", Sharing::Shared),
    ("private", Sharing::Private),
    ("locked", Sharing::Locked),
];

/// Every key, by its first name and its others.
const KEYS: [(&str, &[&str]); 14] = [
    ("type", &[]),
    ("target", &["dst", "destination"]),
    ("source", &["src"]),
    ("from", &[]),
    ("readonly", &["ro"]),
    ("readwrite", &["rw"]),
    ("id", &[]),
    ("sharing", &[]),
    ("mode", &[]),
    ("uid", &[]),
    ("gid", &[]),
    ("size", &[]),
    ("required", &[]),
    ("env", &[]),
];

impl MountType {
    /// The name in a Dockerfile.
    #[must_use]
    pub fn name(self) -> &'static str {
        TYPES
            .iter()
            .find(|(_, kind)| *kind == self)
            .map_or("bind", |(name, _)| name)
    }

    /// The keys that mean something for this type. Docker ignores some of the others; here they
    /// are errors.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Bind => &["type", "target", "source", "from", "readonly", "readwrite"],
            Self::Cache => &[
                "type",
                "target",
                "source",
                "from",
                "readonly",
                "readwrite",
                "id",
                "sharing",
                "mode",
                "uid",
                "gid",
            ],
            Self::Tmpfs => &["type", "target", "size", "readonly", "readwrite"],
            Self::Secret => &[
                "type", "target", "source", "id", "required", "mode", "uid", "gid", "env",
                "readonly",
            ],
            Self::Ssh => &[
                "type", "target", "id", "required", "mode", "uid", "gid", "readonly",
            ],
        }
    }
}

/// Decodes the value of `--mount`.
///
/// The value is one CSV record: a field in double quotes may hold commas. When a key is repeated
/// the last one counts.
///
/// # Errors
/// On malformed CSV, unknown keys or types, and keys that the type does not have.
pub fn parse_mount(value: &str) -> Result<MountSpec, FlagError> {
    let fields = fields("mount", value)?;
    let mut pairs = Vec::with_capacity(fields.len());
    for field in &fields {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field.as_str(), None),
        };
        let key = canonical_key(key)?;
        if value.is_none() && !matches!(key, "readonly" | "readwrite" | "required") {
            return Err(
                FlagError::new(format!("the mount option `{field}` needs a value"))
                    .with_help(Some(format!("write `{key}=value`"))),
            );
        }
        pairs.push((key, value));
    }
    let kind = match pairs.iter().rev().find(|(key, _)| *key == "type") {
        Some((_, value)) => choice("mount type", value.unwrap_or(""), &TYPES)?,
        None => MountType::Bind,
    };
    let mut spec = MountSpec {
        kind,
        target: None,
        from: None,
        source: None,
        readonly: None,
        id: None,
        sharing: None,
        mode: None,
        uid: None,
        gid: None,
        size: None,
        required: false,
        env: None,
    };
    for (key, value) in pairs {
        if !kind.keys().contains(&key) {
            return Err(FlagError::new(format!(
                "a mount of type {} has no option `{key}`",
                kind.name()
            )));
        }
        set(&mut spec, key, value)?;
    }
    if kind == MountType::Secret {
        name_secret(&mut spec)?;
    }
    Ok(spec)
}

/// Finds the first name of a key.
fn canonical_key(key: &str) -> Result<&'static str, FlagError> {
    let lower = key.to_ascii_lowercase();
    if let Some((name, _)) = KEYS
        .iter()
        .find(|(name, others)| *name == lower || others.contains(&lower.as_str()))
    {
        return Ok(name);
    }
    let all: Vec<&str> = KEYS
        .iter()
        .flat_map(|(name, others)| std::iter::once(*name).chain(others.iter().copied()))
        .collect();
    Err(FlagError::new(format!("unknown mount option `{key}`"))
        .with_help(did_you_mean("", key, &all)))
}

fn set(spec: &mut MountSpec, key: &str, value: Option<&str>) -> Result<(), FlagError> {
    let text = || value.filter(|v| !v.is_empty()).map(str::to_owned);
    match key {
        "target" => spec.target = text(),
        "source" => spec.source = text(),
        "from" => spec.from = text(),
        "id" => spec.id = text(),
        "env" => spec.env = text(),
        "readonly" => spec.readonly = Some(switch(key, value)?),
        "readwrite" => spec.readonly = Some(!switch(key, value)?),
        "required" => spec.required = switch(key, value)?,
        "sharing" => spec.sharing = Some(choice("sharing mode", value.unwrap_or(""), &SHARINGS)?),
        "mode" => spec.mode = Some(number(key, value, 8)?),
        "uid" => spec.uid = Some(number(key, value, 10)?),
        "gid" => spec.gid = Some(number(key, value, 10)?),
        "size" => spec.size = Some(size(value.unwrap_or(""))?),
        _ => {}
    }
    Ok(())
}

/// Gives a secret its identity: `id`, else `source`, else the last part of the target.
fn name_secret(spec: &mut MountSpec) -> Result<(), FlagError> {
    let source = spec.source.take();
    if spec.id.is_some() && source.is_some() {
        return Err(FlagError::new(
            "a secret mount has either `id` or `source`, not both",
        ));
    }
    let base = |target: &String| {
        target
            .trim_end_matches('/')
            .rsplit('/')
            .next()
            .unwrap_or("")
            .to_owned()
    };
    let id = spec
        .id
        .take()
        .or(source)
        .or_else(|| spec.target.as_ref().map(base));
    match id.filter(|id| !id.is_empty()) {
        Some(id) => spec.id = Some(id),
        None => return Err(FlagError::new("a secret mount needs an `id` or a `target`")),
    }
    Ok(())
}

fn choice<T: Copy>(what: &str, value: &str, known: &[(&str, T)]) -> Result<T, FlagError> {
    if let Some((_, found)) = known
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(value))
    {
        return Ok(*found);
    }
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    let help = did_you_mean("", value, &names)
        .unwrap_or_else(|| format!("use one of {}", names.join(", ")));
    Err(FlagError::new(format!("unknown {what} `{value}`")).with_help(Some(help)))
}

/// A switch without value is on.
fn switch(key: &str, value: Option<&str>) -> Result<bool, FlagError> {
    match value {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(other) => Err(FlagError::new(format!(
            "the mount option `{key}` is neither true nor false: {other:?}"
        ))),
    }
}

fn number(key: &str, value: Option<&str>, radix: u32) -> Result<u32, FlagError> {
    let value = value.unwrap_or("");
    let digits = !value.is_empty() && value.chars().all(|c| c.is_digit(radix));
    u32::from_str_radix(value, radix)
        .ok()
        .filter(|_| digits)
        .ok_or_else(|| {
            let what = if radix == 8 {
                "an octal number"
            } else {
                "a number"
            };
            FlagError::new(format!("the mount option `{key}` is not {what}: {value:?}"))
        })
}

/// A size in bytes: a decimal number and a binary unit such as `k`, `MB` or `GiB`.
fn size(value: &str) -> Result<u64, FlagError> {
    let wrong = || FlagError::new(format!("the mount option `size` is not a size: {value:?}"));
    let end = value
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(value.len());
    let (digits, unit) = value.split_at(end);
    let unit = unit.trim_start().to_ascii_lowercase();
    let shift = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "ki" | "kib" => 10,
        "m" | "mb" | "mi" | "mib" => 20,
        "g" | "gb" | "gi" | "gib" => 30,
        "t" | "tb" | "ti" | "tib" => 40,
        "p" | "pb" | "pi" | "pib" => 50,
        _ => return Err(wrong()),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || fraction.len() > 15 {
        return Err(wrong());
    }
    let part = |digits: &str| {
        if digits.is_empty() {
            Some(0u128)
        } else {
            digits.parse::<u128>().ok()
        }
    };
    let (Some(whole), Some(part)) = (part(whole), part(fraction)) else {
        return Err(wrong());
    };
    let scale = 10u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
    whole
        .checked_mul(1 << shift)
        .and_then(|bytes| bytes.checked_add((part << shift) / scale))
        .and_then(|bytes| u64::try_from(bytes).ok())
        .filter(|bytes| i64::try_from(*bytes).is_ok())
        .ok_or_else(wrong)
}
