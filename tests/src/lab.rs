//! A place for one test.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::context::Context;
use crate::kiln::Kiln;
use crate::leaks;

/// A store, scratch space, and the check that nothing outlives the test.
#[derive(Debug)]
pub struct Lab {
    dir: TempDir,
    group: Option<PathBuf>,
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

impl Lab {
    /// An empty store in a fresh directory.
    #[must_use]
    pub fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("kiln-lab-")
            .tempdir()
            .unwrap();
        for name in ["tmp", "home"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let group = leaks::make_group(dir.path());
        Self { dir, group }
    }

    /// The directory of this test alone.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A path in the scratch space.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The store's directory.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// A new directory of this name with these files in it.
    pub fn context(&self, name: &str, files: &[(&str, &str)]) -> Context {
        let context = Context::new(self.path(name));
        for (path, text) in files {
            context.write(path, text);
        }
        context
    }

    /// A context that has a Dockerfile only.
    pub fn dockerfile(&self, text: &str) -> Context {
        self.context("context", &[("Dockerfile", text)])
    }

    /// `kiln` with this lab's store.
    #[must_use]
    pub fn kiln<I, S>(&self, arguments: I) -> Kiln
    where
        I: IntoIterator<Item = S>,
        S: AsRef<std::ffi::OsStr>,
    {
        Kiln::new(self, self.group.as_deref()).args(arguments)
    }

    /// A shell that runs `script`, in which `kiln` is the binary under test with this lab's store.
    #[must_use]
    pub fn shell(&self, script: &str) -> Kiln {
        Kiln::shell(self, self.group.as_deref(), script)
    }

    /// `kiln build --progress=rawjson … CONTEXT`.
    #[must_use]
    pub fn build(&self, context: &Context) -> Kiln {
        self.kiln(["build", "--progress=rawjson"])
            .last(context.path())
    }

    /// Output of a command in a container of `image`, which must succeed.
    pub fn run(&self, image: &str, command: &[&str]) -> String {
        let run = self
            .kiln(["run", "--rm", "--network", "none", image])
            .args(command);
        run.output().ok().stdout().to_owned()
    }

    /// Makes an image of one layer with the tool under test.
    pub fn import(&self, tar: &[u8], name: &str) {
        let file = self.path("import.tar");
        std::fs::write(&file, tar).unwrap();
        self.kiln(["import", "-c", r#"CMD ["/bin/sh"]"#])
            .arg(&file)
            .arg(name)
            .output()
            .ok();
        std::fs::remove_file(file).unwrap();
    }

    /// The configuration of an image, as `kiln inspect` shows it.
    #[must_use]
    pub fn inspect(&self, image: &str) -> serde_json::Value {
        let text = self
            .kiln(["inspect", image])
            .output()
            .ok()
            .stdout()
            .to_owned();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        value[0].clone()
    }

    /// Kills every process of this lab at once, whatever it is.
    pub fn kill_all(&self) {
        let group = self.group.as_ref().unwrap();
        std::fs::write(group.join("cgroup.kill"), "1").unwrap();
    }

    /// Waits until nothing of kiln is left: no process, mount, cgroup or temporary file; panics
    /// with what is left after ten seconds.
    pub fn assert_clean(&self) {
        let tmp = self.path("tmp");
        let mut left = Vec::new();
        for _ in 0..200 {
            left = leaks::find(self.dir.path(), &self.store(), &tmp, self.group.as_deref());
            if left.is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("left behind:\n  {}", left.join("\n  "));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if !failed {
            self.assert_clean();
        }
        if let Some(group) = &self.group {
            leaks::remove_group(group);
        }
        if failed && std::env::var_os("KILN_TEST_KEEP").is_some() {
            self.dir.disable_cleanup(true);
            eprintln!("kept: {}", self.dir.path().display());
        }
    }
}
