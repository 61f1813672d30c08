//! The commands that are counted, each on a store of its own.

use std::io::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Counts, STATEMENTS, trace};
use crate::maintenance::wait_for_maintenance;
use crate::tarball::Tarball;

/// The workloads by name. Each is a command; what it finds has been made before.
pub const NAMES: [&str; 10] = [
    "version",
    "images",
    "run",
    "steps",
    "steps, cached",
    "copy",
    "copy, cached",
    "copy, one file changed",
    "copy from a stage",
    "save",
];

/// Whether what the workload takes depends on what the file system can tell of files that have changed.
#[must_use]
pub fn has_context(name: &str) -> bool {
    ["copy", "copy, cached", "copy, one file changed"].contains(&name)
}

/// Steps of the builds that have many.
const STEPS: usize = 10;
/// Files of a context, 20 to a directory.
const FILES: usize = 200;

/// Kiln does not believe the times of files that have just been written.
const AGE: Duration = Duration::from_millis(200);

/// How each line of the log begins that tells of a statement.
const STATEMENT: &str = "trace: statement: ";

/// A directory with a store and contexts, and the binary that works there.
#[derive(Debug)]
pub struct Workshop {
    binary: PathBuf,
    dir: PathBuf,
}

impl Workshop {
    /// Makes the directory, with a store that has one image.
    ///
    /// # Errors
    /// The directory is there, or the binary cannot be run.
    pub fn new(binary: &Path, dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let workshop = Self {
            binary: binary.to_owned(),
            dir: dir.to_owned(),
        };
        for name in ["context", "tmp"] {
            std::fs::create_dir(workshop.path(name))?;
        }
        // Settings of this machine change nothing.
        std::fs::write(workshop.path("config.toml"), "")?;
        let tar = workshop.path("busybox.tar");
        std::fs::write(&tar, Tarball::busybox().bytes())?;
        let tar = tar.to_string_lossy();
        workshop.run(&["import", "-c", r#"CMD ["/bin/sh"]"#, &tar, "busybox"])?;
        Ok(workshop)
    }

    /// Removes the directory.
    ///
    /// # Errors
    /// Something in it cannot be removed.
    pub fn remove(self) -> Result<()> {
        std::fs::remove_dir_all(&self.dir)
    }

    /// Makes what the workload finds, and counts what its command takes.
    ///
    /// # Errors
    /// A command fails, or there is no workload of this name.
    pub fn count(&self, name: &str) -> Result<Counts> {
        match name {
            "version" => self.counted(&["--version"]),
            "images" => self.counted(&["images"]),
            "run" => {
                let words = ["run", "--rm", "--network", "none", "busybox", "true"];
                self.counted(&words)
            }
            "steps" => {
                self.dockerfile(&steps())?;
                self.counted(&self.build())
            }
            "steps, cached" => {
                self.dockerfile(&steps())?;
                self.run(&self.build())?;
                self.counted(&self.build())
            }
            "copy" => {
                self.files()?;
                self.counted(&self.build())
            }
            "copy, cached" => {
                self.files()?;
                self.run(&self.build())?;
                self.counted(&self.build())
            }
            "copy, one file changed" => {
                self.files()?;
                self.run(&self.build())?;
                let file = self.path("context").join("src/3/file7");
                std::fs::write(file, "another content\n")?;
                std::thread::sleep(AGE);
                self.counted(&self.build())
            }
            "copy from a stage" => {
                let text = "FROM busybox AS a\nRUN mkdir /d && for i in $(seq 200); do echo $i > /d/$i; done\nFROM busybox\nCOPY --from=a /d /d\n";
                self.dockerfile(text)?;
                self.counted(&self.build())
            }
            "save" => {
                self.dockerfile(&steps())?;
                self.run(&self.build())?;
                let archive = self.path("image.tar");
                self.counted(&["save", "kiln-counts", "-o", &archive.to_string_lossy()])
            }
            other => Err(Error::other(format!("there is no workload `{other}`"))),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn dockerfile(&self, text: &str) -> Result<()> {
        std::fs::write(self.path("context").join("Dockerfile"), text)
    }

    /// A context of files.
    fn files(&self) -> Result<()> {
        let source = self.path("context").join("src");
        for number in 0..FILES {
            let directory = source.join((number / 20).to_string());
            std::fs::create_dir_all(&directory)?;
            let file = directory.join(format!("file{}", number % 20));
            std::fs::write(file, format!("{number:04000}\n"))?;
        }
        std::thread::sleep(AGE);
        self.dockerfile("FROM busybox\nCOPY src /src\nRUN ls /src > /list\n")
    }

    fn build(&self) -> [String; 5] {
        let context = self.path("context").to_string_lossy().into_owned();
        ["build", "-q", "-t", "kiln-counts", &context].map(str::to_owned)
    }

    /// A command that is kiln, or starts it.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.dir)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("KILN_ROOT", self.path("store"))
            .env("KILN_CONFIG", self.path("config.toml"))
            .env("HOME", &self.dir)
            .env("TMPDIR", self.path("tmp"))
            .stdin(Stdio::null());
        command
    }

    /// Runs kiln, and waits until what it has started is over.
    fn run(&self, words: &[impl AsRef<str>]) -> Result<()> {
        let mut command = self.command(&self.binary);
        command.args(words.iter().map(AsRef::as_ref));
        succeeded(&mut command)?;
        wait_for_maintenance(&self.path("store"))
    }

    /// Runs kiln below `strace`.
    fn counted(&self, words: &[impl AsRef<str>]) -> Result<Counts> {
        let file = self.path("trace");
        let mut command = self.command("strace".as_ref());
        command
            .args(trace::options())
            .arg("-o")
            .arg(&file)
            .arg(&self.binary)
            .args(words.iter().map(AsRef::as_ref))
            .env("KILN_LOG_LEVEL", "trace");
        let log = succeeded(&mut command)?;
        wait_for_maintenance(&self.path("store"))?;
        let bytes = std::fs::read(&file)?;
        let mut counts = trace::count(&String::from_utf8_lossy(&bytes));
        let statements = log.lines().filter(|line| line.starts_with(STATEMENT));
        counts.insert(STATEMENTS, statements.count() as u64);
        Ok(counts)
    }
}

/// Steps that write a few bytes each.
fn steps() -> String {
    let steps = (1..=STEPS).map(|step| format!("RUN echo {step} > /step\n"));
    std::iter::once("FROM busybox\n".to_owned())
        .chain(steps)
        .collect()
}

/// What it writes to stderr; it must succeed.
fn succeeded(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .map_err(|e| Error::other(format!("{command:?}: {e}")))?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        let text = format!("{command:?}: {}\n{errors}", output.status);
        return Err(Error::other(text));
    }
    Ok(errors)
}
