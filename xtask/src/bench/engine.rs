//! The engines, and the bare command in a chroot.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::measure::{Taken, settle, timed};
use super::{clear, share};
use crate::shell::Run;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Kiln,
    Docker,
    Buildah,
}

/// Something that builds images.
#[derive(Clone)]
pub(super) struct Engine {
    kind: Kind,
    /// The words that run it.
    words: Vec<OsString>,
    /// Where its file system starts.
    root: PathBuf,
    /// What its base images' names start with.
    library: String,
    /// A store with nothing but base images, to be copied for an empty host.
    base: Option<PathBuf>,
}

impl Engine {
    pub(super) fn kiln(binary: &Path, store: &Path) -> Self {
        let words = vec![binary.into(), "--root".into(), store.into()];
        Self {
            kind: Kind::Kiln,
            words,
            root: "/".into(),
            library: String::new(),
            base: None,
        }
    }

    /// Those that `KILN_BENCH_DOCKER` and `KILN_BENCH_BUILDAH` name.
    pub(super) fn peers_from_environment(root: &Path) -> Vec<Self> {
        let library = std::env::var("KILN_BENCH_LIBRARY").unwrap_or_default();
        let named = [
            (Kind::Docker, "KILN_BENCH_DOCKER"),
            (Kind::Buildah, "KILN_BENCH_BUILDAH"),
        ];
        named
            .into_iter()
            .filter_map(|(kind, variable)| {
                let words = std::env::var(variable).ok()?;
                let words = words.split_whitespace().map(OsString::from).collect();
                Some(Self {
                    kind,
                    words,
                    root: root.to_path_buf(),
                    library: library.clone(),
                    base: None,
                })
            })
            .collect()
    }

    /// The same with a store that has nothing but base images.
    pub(super) fn with_base(self, base: PathBuf) -> Self {
        Self {
            base: Some(base),
            ..self
        }
    }

    /// What has it leave its results in a repository.
    pub(super) fn cache_to(&self, place: &str) -> [String; 2] {
        let value = match self.kind {
            Kind::Kiln | Kind::Docker => format!("type=registry,ref={place},mode=max"),
            Kind::Buildah => place.to_owned(),
        };
        ["--cache-to".to_owned(), value]
    }

    /// What has it look for results there.
    pub(super) fn cache_from(&self, place: &str) -> [String; 2] {
        let value = match self.kind {
            Kind::Kiln | Kind::Docker => format!("type=registry,ref={place}"),
            Kind::Buildah => place.to_owned(),
        };
        ["--cache-from".to_owned(), value]
    }

    /// This engine as it is on a host that has built nothing yet.
    pub(super) fn emptied(&self, host: &Path) -> Result<Self> {
        if let Some(base) = &self.base {
            let store = share::copy_store(base, host)?;
            let mut engine = self.clone();
            if let Some(word) = engine.words.last_mut() {
                *word = store.into();
            }
            return Ok(engine);
        }
        let base = format!("{}debian:bookworm", self.library);
        let commands: [&[&str]; 2] = match self.kind {
            // What its builds have left it removes with all images only.
            Kind::Buildah => [&["rmi", "-a", "-f"], &["pull", "-q", &base]],
            Kind::Kiln | Kind::Docker => [
                &["rmi", "-f", "kiln-bench"],
                &["builder", "prune", "-a", "-f"],
            ],
        };
        for arguments in commands {
            self.command().args(arguments).capture()?;
        }
        Ok(self.clone())
    }

    /// Builds the context once, with further arguments.
    pub(super) fn build_with(&self, context: &Path, arguments: &[String]) -> Result<Taken> {
        let run = self.build_command_with(context, false, arguments)?;
        timed(&run, self.is_kiln())
    }

    /// That as a user of this engine would type it.
    pub(super) fn shown_with(&self, context: &Path, arguments: &[String]) -> String {
        let program = self.title().to_lowercase();
        match self.build_command_with(context, false, arguments) {
            Ok(run) => {
                let prefix = self.command().shown();
                run.shown().replacen(&prefix, &program, 1)
            }
            Err(_) => program,
        }
    }

    pub(super) fn is_kiln(&self) -> bool {
        self.kind == Kind::Kiln
    }

    /// For a table's head.
    pub(super) fn title(&self) -> &'static str {
        match self.kind {
            Kind::Kiln => "kiln",
            Kind::Docker => "Docker",
            Kind::Buildah => "buildah",
        }
    }

    /// What it says about itself.
    pub(super) fn version(&self) -> Result<String> {
        let arguments: &[&str] = match self.kind {
            Kind::Docker => &["version", "--format", "{{.Server.Version}}"],
            Kind::Kiln | Kind::Buildah => &["--version"],
        };
        Ok(self.command().args(arguments).capture()?.trim().to_owned())
    }

    /// Builds the context once.
    pub(super) fn build(&self, context: &Path, no_cache: bool) -> Result<Taken> {
        timed(&self.build_command(context, no_cache)?, self.is_kiln())
    }

    /// The command as a user of this engine would type it.
    pub(super) fn shown(&self, context: &Path, no_cache: bool) -> String {
        let no_cache = no_cache.then(|| "--no-cache".to_owned());
        self.shown_with(context, no_cache.as_slice())
    }

    fn command(&self) -> Run {
        let mut words = self.words.iter().cloned();
        Run::new(words.next().unwrap_or_default()).args(words)
    }

    fn build_command(&self, context: &Path, no_cache: bool) -> Result<Run> {
        self.build_command_with(context, no_cache, &[])
    }

    fn build_command_with(
        &self,
        context: &Path,
        no_cache: bool,
        arguments: &[String],
    ) -> Result<Run> {
        let inside = context
            .strip_prefix(&self.root)
            .with_context(|| format!("{} is outside of the peers' root", context.display()))?;
        let run = match self.kind {
            Kind::Kiln | Kind::Docker => self.command().args(["build", "-q"]),
            Kind::Buildah => self.command().args(["bud", "-q", "--layers"]),
        };
        let run = run
            .args(["--network", "host", "-t", "kiln-bench"])
            .args(no_cache.then_some("--no-cache"))
            .args(arguments)
            .arg("--build-arg")
            .arg(format!("LIBRARY={}", self.library));
        Ok(run.arg(Path::new("/").join(inside)))
    }
}

/// A root file system to run a bare command in.
pub(super) struct Bare {
    root: PathBuf,
}

impl Bare {
    /// Unpacks `tar` afresh at `root`.
    pub(super) fn prepare(tar: &Path, root: &Path) -> Result<Self> {
        clear(root)?;
        Run::new("tar")
            .args(["--numeric-owner", "-xpf"])
            .arg(tar)
            .arg("-C")
            .arg(root)
            .capture()?;
        std::fs::copy("/etc/resolv.conf", root.join("etc/resolv.conf")).context("resolv.conf")?;
        std::fs::create_dir_all(root.join("dev")).context("dev")?;
        for name in ["null", "zero", "urandom"] {
            let node = root.join("dev").join(name);
            if !node.exists() {
                Run::new("cp")
                    .args(["-a", &format!("/dev/{name}")])
                    .arg(node)
                    .capture()?;
            }
        }
        Ok(Self {
            root: root.to_path_buf(),
        })
    }

    /// How long `command` takes, in seconds.
    pub(super) fn run(&self, command: &str) -> Result<f64> {
        let run = Run::new("chroot")
            .arg(&self.root)
            .args(["/bin/sh", "-c", command]);
        settle();
        let taken = timed(&run, false)?;
        if taken.seconds <= 0.0 {
            bail!("`{}` took no time", run.shown());
        }
        Ok(taken.seconds)
    }
}
