//! The engines: kiln, a former build of it, and its peers.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use kiln_tests::wait_for_maintenance;

use super::clear;
use super::measure::{Taken, settle, timed};
use crate::shell::Run;

/// The name that builds give their image.
const TAG: &str = "kiln-bench";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Kiln,
    /// A former build of kiln.
    Before,
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
    /// The kiln to measure, on this store.
    pub(super) fn kiln(binary: &Path, store: &Path) -> Self {
        Self::of_binary(Kind::Kiln, binary, store)
    }

    /// A former build of kiln, on this store.
    pub(super) fn before(binary: &Path, store: &Path) -> Self {
        Self::of_binary(Kind::Before, binary, store)
    }

    fn of_binary(kind: Kind, binary: &Path, store: &Path) -> Self {
        Self {
            kind,
            words: vec![binary.into(), "--root".into(), store.into()],
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
            Kind::Kiln | Kind::Before | Kind::Docker => {
                format!("type=registry,ref={place},mode=max")
            }
            Kind::Buildah => place.to_owned(),
        };
        ["--cache-to".to_owned(), value]
    }

    /// What has it look for results there.
    pub(super) fn cache_from(&self, place: &str) -> [String; 2] {
        let value = match self.kind {
            Kind::Kiln | Kind::Before | Kind::Docker => format!("type=registry,ref={place}"),
            Kind::Buildah => place.to_owned(),
        };
        ["--cache-from".to_owned(), value]
    }

    /// This engine as it is on a host that has built nothing yet; `host` is a directory for it.
    pub(super) fn emptied(&self, host: &Path) -> Result<Self> {
        if let Some(base) = &self.base {
            copy_store(base, host)?;
            return Ok(self.on_store(host));
        }
        let base = format!("{}debian:bookworm", self.library);
        let commands: [&[&str]; 2] = match self.kind {
            // What its builds have left it removes with all images only.
            Kind::Buildah => [&["rmi", "-a", "-f"], &["pull", "-q", &base]],
            Kind::Kiln | Kind::Before | Kind::Docker => {
                [&["rmi", "-f", TAG], &["builder", "prune", "-a", "-f"]]
            }
        };
        for arguments in commands {
            self.command().args(arguments).capture()?;
        }
        Ok(self.clone())
    }

    /// The same kiln on another store.
    pub(super) fn on_store(&self, store: &Path) -> Self {
        let mut engine = self.clone();
        if let Some(word) = engine.words.last_mut() {
            *word = store.into();
        }
        engine
    }

    /// Whether it is the kiln that is measured.
    pub(super) fn is_kiln(&self) -> bool {
        self.kind == Kind::Kiln
    }

    /// For a table's head.
    pub(super) fn title(&self) -> &'static str {
        match self.kind {
            Kind::Kiln => "kiln",
            Kind::Before => "before",
            Kind::Docker => "Docker",
            Kind::Buildah => "buildah",
        }
    }

    /// What it says about itself.
    pub(super) fn version(&self) -> Result<String> {
        let arguments: &[&str] = match self.kind {
            Kind::Docker => &["version", "--format", "{{.Server.Version}}"],
            Kind::Kiln | Kind::Before | Kind::Buildah => &["--version"],
        };
        Ok(self.command().args(arguments).capture()?.trim().to_owned())
    }

    /// Builds the context once, with further arguments, on a disk that has come to rest.
    pub(super) fn build(&self, context: &Path, arguments: &[String]) -> Result<Taken> {
        self.measure(&self.build_command(context, arguments)?)
    }

    /// Runs one of this engine's commands on a disk that has come to rest.
    pub(super) fn measure(&self, run: &Run) -> Result<Taken> {
        self.settle()?;
        timed(run, self.is_kiln())
    }

    /// Waits until nothing is left of what it did before.
    pub(super) fn settle(&self) -> Result<()> {
        if let (Kind::Kiln | Kind::Before, Some(store)) = (self.kind, self.words.last()) {
            wait_for_maintenance(store.as_ref())?;
        }
        settle();
        Ok(())
    }

    /// A command of this engine.
    pub(super) fn command(&self) -> Run {
        let mut words = self.words.iter().cloned();
        Run::new(words.next().unwrap_or_default()).args(words)
    }

    /// The command that builds a context. The image has a name of the benchmark's, unless the arguments
    /// give it one.
    pub(super) fn build_command(&self, context: &Path, arguments: &[String]) -> Result<Run> {
        let inside = context
            .strip_prefix(&self.root)
            .with_context(|| format!("{} is outside of the peers' root", context.display()))?;
        let run = match self.kind {
            Kind::Kiln | Kind::Before | Kind::Docker => self.command().args(["build", "-q"]),
            Kind::Buildah => self.command().args(["bud", "-q", "--layers"]),
        };
        let name = (!arguments.iter().any(|a| a == "-t")).then_some(["-t", TAG]);
        let run = run
            .args(["--network", "host"])
            .args(name.into_iter().flatten())
            .args(arguments)
            .arg("--build-arg")
            .arg(format!("LIBRARY={}", self.library));
        Ok(run.arg(Path::new("/").join(inside)))
    }

    /// A command as a user of this engine would type it.
    pub(super) fn shown(&self, run: &Run) -> String {
        let program = match self.kind {
            Kind::Kiln | Kind::Before => "kiln",
            Kind::Docker => "docker",
            Kind::Buildah => "buildah",
        };
        run.shown().replacen(&self.command().shown(), program, 1)
    }
}

/// How often a store is copied that changes meanwhile.
const COPIES: usize = 10;

/// Has `to` be a copy of a store.
pub(super) fn copy_store(from: &Path, to: &Path) -> Result<()> {
    let copied = || {
        clear(to)?;
        // What works on it after the last command would change it meanwhile.
        wait_for_maintenance(from)?;
        let copy = Run::new("cp").args(["-a", "--reflink=auto"]);
        copy.arg(from.join("."))
            .arg(to)
            .capture()
            .context("copy of a store")
    };
    // A former build may maintain it in a way of its own.
    for _ in 1..COPIES {
        if copied().is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    copied().map(drop)
}

/// `--no-cache`, for an engine's arguments.
pub(super) fn no_cache() -> Vec<String> {
    vec!["--no-cache".to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_has_one_name_and_is_shown_without_the_machine() {
        let kiln = Engine::kiln(Path::new("/there/kiln"), Path::new("/there/store"));
        let run = kiln.build_command(Path::new("/c"), &no_cache()).unwrap();
        assert_eq!(
            kiln.shown(&run),
            "kiln build -q --network host -t kiln-bench --no-cache --build-arg LIBRARY= /c"
        );
        let named = ["-t", "x"].map(str::to_owned);
        let run = kiln.build_command(Path::new("/c"), &named).unwrap();
        assert!(!run.shown().contains(TAG), "{}", run.shown());
        let other = kiln.on_store(Path::new("/elsewhere"));
        assert!(other.command().shown().ends_with("--root /elsewhere"));
    }
}
