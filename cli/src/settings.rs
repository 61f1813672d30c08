//! Settings: command line, then environment, then config file, resolved into plain values.

mod remotes;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use kiln_engine::host::{Pipes, read_named, read_named_text, system};
use kiln_engine::{Config, GcPolicy, RegistryConfig, Spawner, TlsConfig};
use serde::Deserialize;

use crate::args::{Global, LogLevel};
use crate::build_options;
use crate::errors::Failure;
use crate::events;
use crate::progress::Mode;

use remotes::CacheFile;

/// The largest config file, in bytes.
const MAX_CONFIG: u64 = 4 << 20;

/// The largest file of certificates and keys, in bytes: all authorities that there are take less than 1 MiB.
const MAX_PEM: u64 = 16 << 20;

/// What all commands work with.
#[derive(Debug)]
pub(crate) struct Settings {
    /// What the engine works with.
    pub(crate) engine: Config,
    pub(crate) log_level: LogLevel,
    /// The config file that was asked for.
    pub(crate) config_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    root: Option<PathBuf>,
    #[serde(default)]
    registries: BTreeMap<String, RegistryFile>,
    #[serde(default)]
    build: BuildFile,
    #[serde(default)]
    gc: GcFile,
    #[serde(default)]
    cache: CacheFile,
    #[serde(default)]
    cdi: CdiFile,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct CdiFile {
    #[serde(default)]
    spec_dirs: Option<Vec<PathBuf>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct GcFile {
    #[serde(default)]
    max_size: Option<String>,
    #[serde(default)]
    keep_free: Option<String>,
    #[serde(default)]
    reserved: Option<String>,
    #[serde(default)]
    max_age: Option<String>,
}

/// Bytes of `keep-free` and `reserved` at most, where the config file does not say otherwise.
const MAX_DEFAULT_BYTES: u64 = 10 << 30;

impl GcFile {
    /// What is not set depends on the disk of the store at `root`.
    fn policy(&self, root: &Path) -> Result<GcPolicy, Failure> {
        let wrong = |name: &str, text: &str, like: &str| {
            Failure::new(format!("[gc], {name} = \"{text}\": write {like}"))
        };
        let size = |name: &str, text: &Option<String>| match text.as_deref() {
            None => Ok(None),
            Some("0") => Ok(Some(0)),
            Some(text) => build_options::size(name, text)
                .map(Some)
                .map_err(|_| wrong(name, text, "20GB")),
        };
        let age = self.max_age.as_deref().map(|text| {
            humantime::parse_duration(text).map_err(|_| wrong("max-age", text, "30d or 12h"))
        });
        // The store may still have to be made, and a disk that does not tell its size is no reason
        // to fail.
        let mut above = root.ancestors();
        let disk = above.find_map(|dir| system::disk_bytes(dir).ok());
        let disk = disk.unwrap_or(0);
        let keep_free = size("keep-free", &self.keep_free)?;
        let reserved = size("reserved", &self.reserved)?;
        Ok(GcPolicy {
            // No limit, as in other tools.
            max_size: size("max-size", &self.max_size)?.filter(|n| *n > 0),
            keep_free: Some(keep_free.unwrap_or((disk / 20).min(MAX_DEFAULT_BYTES))),
            reserved: reserved.unwrap_or((disk / 10).min(MAX_DEFAULT_BYTES)),
            max_age: age.transpose()?,
        })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct BuildFile {
    #[serde(default)]
    parallelism: Option<usize>,
    #[serde(default)]
    certificate_authorities: Vec<PathBuf>,
    #[serde(default)]
    max_download: Option<String>,
    #[serde(default)]
    max_step_log: Option<String>,
}

impl BuildFile {
    fn size(name: &str, text: Option<&String>, usual: u64) -> Result<u64, Failure> {
        let Some(text) = text else { return Ok(usual) };
        build_options::size(name, text).map_err(|_| {
            let why = format!("config file: build.{name} = \"{text}\": write 20GB");
            Failure::new(why)
        })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RegistryFile {
    #[serde(default)]
    mirrors: Vec<String>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    ca: Vec<PathBuf>,
    #[serde(default)]
    client_cert: Option<PathBuf>,
}

/// The home directory of the user.
fn home() -> Option<PathBuf> {
    std::env::var_os("HOME")
        .filter(|h| !h.is_empty())
        .map(PathBuf::from)
}

fn xdg(variable: &str, below_home: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .filter(|v| !v.is_empty())
        .map(PathBuf::from)
        .or_else(|| home().map(|h| h.join(below_home)))
}

fn default_root() -> Result<PathBuf, Failure> {
    if system::is_root() {
        return Ok("/var/lib/kiln".into());
    }
    xdg("XDG_DATA_HOME", ".local/share")
        .map(|d| d.join("kiln"))
        .ok_or_else(|| {
            Failure::new("no place for the store: HOME is not set").with_hint("give --root DIR")
        })
}

fn read_file(path: &Path, given: bool) -> Result<File, Failure> {
    let pipes = if given { Pipes::Taken } else { Pipes::Refused };
    let text = match read_named_text(path, MAX_CONFIG, pipes) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !given => return Ok(File::default()),
        Err(e) => {
            return Err(Failure::new(format!(
                "cannot read config file `{}`: {}",
                path.display(),
                e.source
            )));
        }
    };
    toml::from_str(&text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let line = 1 + text.bytes().take(at).filter(|b| *b == b'\n').count();
        let why = without_values(error.message());
        Failure::new(format!(
            "config file `{}`, line {line}: {why}",
            path.display()
        ))
    })
}

/// What is wrong with a setting without what it says: that may be a secret.
fn without_values(message: &str) -> String {
    let quoted = message
        .split_once("string \"")
        .and_then(|(before, rest)| Some((before, rest.rsplit_once('"')?.1)));
    match quoted {
        Some((before, after)) => format!("{before}string{after}"),
        None => message.to_owned(),
    }
}

fn registries(file: BTreeMap<String, RegistryFile>) -> Result<RegistryConfig, Failure> {
    let mut config = RegistryConfig::default();
    for (name, entry) in file {
        let mut mirrors = Vec::new();
        for url in &entry.mirrors {
            mirrors.push(
                url.parse()
                    .map_err(|e| Failure::new(format!("mirror `{url}` of `{name}`: {e}")))?,
            );
        }
        if !mirrors.is_empty() {
            config.mirrors.insert(name.clone(), mirrors);
        }
        if entry.insecure {
            config.insecure.insert(name.clone());
        }
        let read = |path: &PathBuf| {
            read_named(path, MAX_PEM, Pipes::Refused).map_err(|e| {
                Failure::new(format!("cannot read `{}`: {}", path.display(), e.source))
            })
        };
        let mut tls = TlsConfig::default();
        for path in &entry.ca {
            tls.authorities.push(read(path)?);
        }
        if let Some(path) = &entry.client_cert {
            tls.identity = Some(read(path)?);
        }
        if tls != TlsConfig::default() {
            config.tls.insert(name, tls);
        }
    }
    Ok(config)
}

/// Resolves the settings.
pub(crate) fn resolve(global: &Global, spawner: Option<Spawner>) -> Result<Settings, Failure> {
    // An empty variable is as good as none.
    let config = global
        .config
        .as_ref()
        .filter(|c| !c.is_empty())
        .map(PathBuf::from);
    let is_empty = |root: &OsString| root.is_empty();
    // What was meant to be somewhere else must not end in the usual store.
    if global.root.as_ref().is_some_and(is_empty)
        && std::env::var_os("KILN_ROOT").is_none_or(|r| !r.is_empty())
    {
        return Err(Failure::usage("--root: the name of the directory is empty"));
    }
    let given_root = global
        .root
        .as_ref()
        .filter(|r| !r.is_empty())
        .map(PathBuf::from);
    let given = config.is_some();
    let path = match &config {
        Some(path) => Some(path.clone()),
        None if system::is_root() => Some("/etc/kiln/config.toml".into()),
        None => xdg("XDG_CONFIG_HOME", ".config").map(|d| d.join("kiln/config.toml")),
    };
    let in_file = |mut failure: Failure| {
        let shown = path.as_deref().unwrap_or(Path::new("")).display();
        failure.message = format!("config file `{shown}`, {}", failure.message);
        failure
    };
    let file = (path.as_deref())
        .map(|p| read_file(p, given))
        .transpose()?
        .unwrap_or_default();
    let root = match given_root.or(file.root) {
        Some(root) => root,
        None => default_root()?,
    };
    let docker_config = std::env::var_os("DOCKER_CONFIG")
        .filter(|v| !v.is_empty())
        .map(PathBuf::from)
        .or_else(|| home().map(|h| h.join(".docker")))
        .map(|d| d.join("config.json"));
    let log_level = if global.debug {
        LogLevel::Debug
    } else {
        global.log_level.unwrap_or(LogLevel::Warn)
    };
    let usual = Config::new(std::path::absolute(root)?);
    let build = &file.build;
    let engine = Config {
        registries: registries(file.registries).map_err(in_file)?,
        docker_config,
        gc: file.gc.policy(&usual.root).map_err(in_file)?,
        remote_caches: file.cache.settings().map_err(in_file)?,
        device_dirs: file.cdi.spec_dirs.unwrap_or(usual.device_dirs),
        max_download: BuildFile::size(
            "max-download",
            build.max_download.as_ref(),
            Config::MAX_DOWNLOAD,
        )?,
        max_step_log: BuildFile::size(
            "max-step-log",
            build.max_step_log.as_ref(),
            Config::MAX_STEP_LOG,
        )?,
        authorities: file.build.certificate_authorities,
        parallelism: match file.build.parallelism {
            Some(0) => {
                return Err(in_file(Failure::new("[build]: parallelism is at least 1")));
            }
            Some(n) => n,
            None => usual.parallelism,
        },
        root: usual.root,
        events: events::printed(Mode::Auto),
        spawner,
    };
    Ok(Settings {
        engine,
        config_file: config.map(std::path::absolute).transpose()?,
        log_level,
    })
}
