//! Running the binary under test.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::events::Built;
use crate::lab::Lab;
use crate::setting;

/// A command line.
#[derive(Debug)]
pub struct Kiln {
    command: Command,
    last: Vec<OsString>,
    stdin: Option<Vec<u8>>,
}

impl Kiln {
    pub(crate) fn new(lab: &Lab, group: Option<&Path>) -> Self {
        Self::of(lab, group, setting("KILN_TEST_BIN").as_ref())
    }

    /// A shell that runs `script`, in which `kiln` is the binary under test.
    pub(crate) fn shell(lab: &Lab, group: Option<&Path>, script: &str) -> Self {
        let programs = lab.path("bin");
        std::fs::create_dir_all(&programs).unwrap();
        let binary = std::fs::canonicalize(setting("KILN_TEST_BIN")).unwrap();
        let link = programs.join("kiln");
        if !link.exists() {
            std::os::unix::fs::symlink(binary, link).unwrap();
        }
        let mut path = programs.into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap());
        Self::of(lab, group, "/bin/sh".as_ref())
            .args(["-c", script])
            .env("PATH", path)
    }

    /// A command with this lab's store and settings, in its cgroup.
    fn of(lab: &Lab, group: Option<&Path>, program: &OsStr) -> Self {
        let mut command = match group {
            // The shell moves itself into the lab's cgroup and becomes the program.
            Some(group) => {
                let mut shell = Command::new("/bin/sh");
                let script = r#"echo $$ >"$0/cgroup.procs"; exec "$@""#;
                shell.arg("-c").arg(script).arg(group).arg(program);
                shell
            }
            None => Command::new(program),
        };
        command
            .current_dir(lab.dir())
            .env_remove("SOURCE_DATE_EPOCH")
            .env_remove("DOCKER_CONFIG")
            .env("KILN_ROOT", lab.store())
            .env("KILN_CONFIG", setting("KILN_TEST_CONFIG"))
            .env("HOME", lab.path("home"))
            .env("TMPDIR", lab.path("tmp"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self {
            command,
            last: Vec::new(),
            stdin: None,
        }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<I, S>(mut self, arguments: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.command.args(arguments);
        self
    }

    /// An argument that stays behind all others.
    #[must_use]
    pub fn last(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.last.push(argument.as_ref().to_owned());
        self
    }

    /// `-t NAME`.
    #[must_use]
    pub fn tag(self, name: &str) -> Self {
        self.args(["-t", name])
    }

    /// An environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// The working directory.
    #[must_use]
    pub fn dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.command.current_dir(path.into());
        self
    }

    /// What standard input gives.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Gives it a terminal: `script` makes one, and what is shown there comes out of stdout.
    #[must_use]
    pub fn on_a_terminal(mut self) -> Self {
        self.command.args(&self.last);
        self.last.clear();
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        let words = words.map(|w| format!("'{}'", w.to_string_lossy().replace('\'', r"'\''")));
        let line = words.collect::<Vec<_>>().join(" ");
        let mut script = Command::new("script");
        let line = format!("stty cols 120 rows 40; {line}");
        script.args(["-q", "-f", "-e", "-c", &line, "/dev/null"]);
        self.started_by(script)
    }

    /// Starts it from a shell that runs `script`, in which `"$@"` is it.
    #[must_use]
    pub fn through(mut self, script: &str) -> Self {
        self.command.args(&self.last);
        self.last.clear();
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", script, "sh"]);
        shell.arg(self.command.get_program());
        shell.args(self.command.get_args());
        self.started_by(shell)
    }

    /// Starts it from a shell that has carried out `script`, in a mount namespace of its own.
    #[must_use]
    pub fn after(self, script: &str) -> Self {
        let mut shell = Command::new("unshare");
        shell.args(["-m", "/bin/sh", "-ec"]);
        shell.args([&format!("{script}\nexec \"$@\""), "sh"]);
        shell.arg(self.command.get_program());
        shell.args(self.command.get_args());
        self.started_by(shell)
    }

    /// `command`, which runs it, with what it was to get from outside.
    fn started_by(self, mut command: Command) -> Self {
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(dir) = self.command.get_current_dir() {
            command.current_dir(dir);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self { command, ..self }
    }

    /// Starts it.
    pub fn start(mut self) -> Running {
        self.command.args(&self.last);
        if self.stdin.is_some() {
            self.command.stdin(Stdio::piped());
        }
        let started = Instant::now();
        let mut child = self.command.spawn().unwrap();
        let feeder = child.stdin.take().zip(self.stdin).map(|(mut pipe, bytes)| {
            // Kiln may end without having read it all.
            std::thread::spawn(move || drop(pipe.write_all(&bytes)))
        });
        let stdout = collect(child.stdout.take().unwrap());
        let stderr = collect(child.stderr.take().unwrap());
        let shown = format!("{:?}", self.command);
        Running {
            child,
            started,
            stdout,
            stderr,
            feeder,
            shown,
        }
    }

    /// Runs it to its end.
    pub fn output(self) -> Output {
        self.start().wait()
    }

    /// Runs a build, which must succeed, and reads its events.
    pub fn built(self) -> Built {
        Built::of(&self.output().ok())
    }

    /// Runs it; it must fail, cleanly.
    pub fn fails(self) -> Output {
        self.output().failed()
    }
}

fn collect(mut pipe: impl std::io::Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // A killed process may leave the pipe to others; what has come is what there is.
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

/// A kiln that runs.
#[derive(Debug)]
pub struct Running {
    child: Child,
    started: Instant,
    stdout: JoinHandle<Vec<u8>>,
    stderr: JoinHandle<Vec<u8>>,
    feeder: Option<JoinHandle<()>>,
    shown: String,
}

impl Running {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to kiln alone, not to its process group.
    pub fn signal(&self, signal: Signal) {
        // It may have ended already.
        let _ = kill(
            Pid::from_raw(i32::try_from(self.child.id()).unwrap()),
            signal,
        );
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end; after five minutes it is killed and the test fails.
    pub fn wait(mut self) -> Output {
        let until = Instant::now() + Duration::from_secs(300);
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > until {
                let _ = self.child.kill();
                let _ = self.child.wait();
                let stderr = self.stderr.join().unwrap();
                panic!(
                    "no end: {}\n{}",
                    self.shown,
                    String::from_utf8_lossy(&stderr)
                );
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let wall = self.started.elapsed();
        if let Some(feeder) = self.feeder {
            feeder.join().unwrap();
        }
        Output {
            status,
            wall,
            out: self.stdout.join().unwrap(),
            err: String::from_utf8_lossy(&self.stderr.join().unwrap()).into_owned(),
            shown: self.shown,
        }
    }
}

/// What a command did.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// From start to end.
    pub wall: Duration,
    /// Bytes of stdout.
    pub out: Vec<u8>,
    /// Text of stderr.
    pub err: String,
    shown: String,
}

impl Output {
    /// It must have succeeded.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.status.success()
    }

    /// Panics with everything that is known unless it succeeded.
    #[allow(
        clippy::return_self_not_must_use,
        reason = "often the check is all that matters"
    )]
    pub fn ok(self) -> Self {
        assert!(self.status.success(), "{self}");
        self
    }

    /// Panics unless it failed in an orderly way: an exit code, no panic.
    #[allow(
        clippy::return_self_not_must_use,
        reason = "often the check is all that matters"
    )]
    pub fn failed(self) -> Self {
        assert!(!self.status.success(), "succeeded: {self}");
        assert!(self.status.code().is_some(), "died: {self}");
        self.orderly()
    }

    /// Panics if kiln has panicked.
    #[allow(
        clippy::return_self_not_must_use,
        reason = "often the check is all that matters"
    )]
    pub fn orderly(self) -> Self {
        let bad = ["panicked at", "internal error", "RUST_BACKTRACE"];
        assert!(!bad.iter().any(|b| self.err.contains(b)), "{self}");
        self
    }

    /// Stdout without the last line's end.
    #[must_use]
    pub fn stdout(&self) -> &str {
        std::str::from_utf8(&self.out)
            .unwrap()
            .trim_end_matches('\n')
    }

    /// Panics unless stderr has all of these.
    #[allow(
        clippy::return_self_not_must_use,
        reason = "often the check is all that matters"
    )]
    pub fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.err.contains(word), "no `{word}` in: {self}");
        }
        self
    }

    /// The exit code.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}\n{} after {:?}", self.shown, self.status, self.wall)?;
        writeln!(f, "--- stdout\n{}", String::from_utf8_lossy(&self.out))?;
        write!(f, "--- stderr\n{}", self.err)
    }
}
