//! Running other programs, with errors that name them.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// A program with its arguments.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    dir: Option<PathBuf>,
}

impl Run {
    pub(crate) fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            ..Self::default()
        }
    }

    /// A script for `sh -euc`; its arguments are `$1` and so on.
    pub(crate) fn script(text: &str) -> Self {
        Self::new("sh").args(["-euc", text, "sh"])
    }

    pub(crate) fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub(crate) fn arg(self, arg: impl Into<OsString>) -> Self {
        self.args([arg])
    }

    pub(crate) fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    pub(crate) fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// The command, for those that need more of it than this type offers.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .envs(self.env.iter().map(|(n, v)| (n, v)));
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command
    }

    /// As a user would type it.
    pub(crate) fn shown(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.args);
        words.map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }

    /// Runs it with this program's own output streams.
    pub(crate) fn run(&self) -> Result<()> {
        let status = self.command().status().with_context(|| self.shown())?;
        if !status.success() {
            bail!("`{}` failed: {status}", self.shown());
        }
        Ok(())
    }

    /// Runs it and returns what it wrote to stdout.
    pub(crate) fn capture(&self) -> Result<String> {
        let out = self
            .command()
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .output()
            .with_context(|| self.shown())?;
        if !out.status.success() {
            let error = String::from_utf8_lossy(&out.stderr);
            bail!(
                "`{}` failed: {}\n{}",
                self.shown(),
                out.status,
                error.trim_end()
            );
        }
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "-_=./:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Whether a program of this name is on the path.
pub(crate) fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Fails with a sentence where the user is not root.
pub(crate) fn need_root(chore: &str) -> Result<()> {
    let id = Run::new("id").arg("-u").capture()?;
    if id.trim() != "0" {
        bail!("`cargo xtask {chore}` makes root file systems and runs builds: run it as root");
    }
    Ok(())
}
