//! Docker and kiln, driven alike.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use kiln_tests::corpus::{self, Case, Facts, Tree};
use serde_json::{Value, json};

/// Something that builds images.
pub(super) struct Engine {
    title: &'static str,
    words: Vec<String>,
    root: PathBuf,
}

/// What a build gave.
pub(super) enum Built {
    /// Lines of the image's config, history and files.
    Image([Vec<String>; 3]),
    Check(Vec<String>),
    /// It failed, and said this.
    Failed(String),
}

impl Built {
    /// For a file that a later run reads instead of building again.
    fn to_json(&self) -> Value {
        match self {
            Self::Image(lines) => json!({ "image": lines }),
            Self::Check(lines) => json!({ "check": lines }),
            Self::Failed(why) => json!({ "failed": why }),
        }
    }

    fn from_json(value: &Value) -> Option<Self> {
        let lines = |value: &Value| -> Option<Vec<String>> {
            let list = value.as_array()?;
            list.iter().map(|l| Some(l.as_str()?.to_owned())).collect()
        };
        if let Some(why) = value["failed"].as_str() {
            return Some(Self::Failed(why.to_owned()));
        }
        if let Some(found) = lines(&value["check"]) {
            return Some(Self::Check(found));
        }
        let image = &value["image"];
        Some(Self::Image([
            lines(&image[0])?,
            lines(&image[1])?,
            lines(&image[2])?,
        ]))
    }
}

impl Engine {
    pub(super) fn docker(root: &Path) -> Self {
        let words = std::env::var("KILN_CONFORMANCE_DOCKER").unwrap_or_else(|_| "docker".into());
        Self {
            title: "docker",
            words: words.split_whitespace().map(str::to_owned).collect(),
            root: root.to_path_buf(),
        }
    }

    pub(super) fn kiln(binary: &Path, store: &Path) -> Self {
        let words = [binary, Path::new("--root"), store];
        Self {
            title: "kiln",
            words: words.map(|w| w.to_string_lossy().into_owned()).to_vec(),
            root: "/".into(),
        }
    }

    pub(super) fn title(&self) -> &'static str {
        self.title
    }

    pub(super) fn is_kiln(&self) -> bool {
        self.title == "kiln"
    }

    pub(super) fn version(&self) -> Result<String> {
        let arguments: &[&str] = match self.title {
            "docker" => &["version", "--format", "Docker {{.Server.Version}}"],
            _ => &["--version"],
        };
        let output = self
            .command(Path::new("/"), &[])?
            .args(arguments)
            .output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// A path as the engine sees it.
    fn inside(&self, path: &Path) -> Result<PathBuf> {
        let below = path
            .strip_prefix(&self.root)
            .with_context(|| format!("{} is outside of the engine's root", path.display()))?;
        Ok(Path::new("/").join(below))
    }

    /// The engine's command, started in `dir` (as the engine sees it).
    fn command(&self, dir: &Path, env: &[(String, String)]) -> Result<Command> {
        let mut words: Vec<String> = Vec::new();
        for word in &self.words {
            match word.as_str() {
                "{env}" => words.extend(env.iter().map(|(n, v)| format!("{n}={v}"))),
                word => words.push(word.replace("{dir}", &dir.to_string_lossy())),
            }
        }
        let (program, arguments) = words.split_first().context("no command for the engine")?;
        let mut command = Command::new(program);
        command.args(arguments).env_remove("SOURCE_DATE_EPOCH");
        if !self.words.iter().any(|w| w.contains("{dir}")) {
            command.current_dir(dir);
            command.envs(env.iter().map(|(n, v)| (n, v)));
        }
        Ok(command)
    }

    fn succeed(&self, arguments: &[&str]) -> Result<()> {
        let output = self
            .command(Path::new("/"), &[])?
            .args(arguments)
            .output()?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("{} {}: {stderr}", self.title, arguments.join(" "));
        }
        Ok(())
    }

    pub(super) fn save(&self, images: &[&str], archive: &Path) -> Result<()> {
        let inside = self.inside(archive)?;
        let mut arguments = vec!["save", "-o", inside.to_str().context("path")?];
        arguments.extend(images);
        self.succeed(&arguments)
    }

    pub(super) fn load(&self, archive: &Path) -> Result<()> {
        let inside = self.inside(archive)?;
        self.succeed(&["load", "-i", inside.to_str().context("path")?])
    }

    /// Builds a case whose context has been written, and looks at the result.
    pub(super) fn build(&self, case: &Case, context: &Path, scratch: &Path) -> Result<Built> {
        let inside = self.inside(context)?;
        let build = |words: &[&str]| -> Result<std::process::Output> {
            let mut command = self.command(&inside, &case.env)?;
            command.args(["build", "--network", "host"]).args(words);
            Ok(command.arg(".").output()?)
        };
        for base in &case.bases {
            let file = format!("{base}.Dockerfile");
            let built = build(&["-t", base, "-f", &file])?;
            if !built.status.success() {
                bail!("base {base}: {}", String::from_utf8_lossy(&built.stderr));
            }
        }
        let mut words: Vec<&str> = case.build.iter().map(String::as_str).collect();
        if case.check_only {
            words.push("--call=check,format=json");
            let output = build(&words)?;
            let mut lines = corpus::check_lines(&output.stdout);
            // kiln's own rules have no counterpart.
            lines.retain(|l| !l.starts_with("Kiln"));
            return Ok(Built::Check(lines));
        }
        let tag = format!("kiln-conformance/{}", case.name.to_lowercase());
        words.extend(["-t", &tag]);
        let output = build(&words)?;
        if !output.status.success() {
            return Ok(Built::Failed(
                String::from_utf8_lossy(&output.stderr).into_owned(),
            ));
        }
        let archive = scratch.join(format!("{}.tar", self.title));
        self.save(&[&tag], &archive)?;
        let facts = Facts::of_archive(&archive);
        std::fs::remove_file(&archive)?;
        self.succeed(&["rmi", &tag])?;
        let files = facts.tree.lines(&Tree::default());
        Ok(Built::Image([facts.config, facts.history, files]))
    }

    /// The same, but what an earlier run found in `kept` for the same case is taken.
    pub(super) fn build_once(
        &self,
        case: &Case,
        context: &Path,
        scratch: &Path,
        kept: Option<&Path>,
    ) -> Result<Built> {
        let Some(kept) = kept else {
            return self.build(case, context, scratch);
        };
        let path = kept.join(format!("{}.json", case.name.replace('/', "-")));
        let text = format!("{case:?}");
        if let Ok(bytes) = std::fs::read(&path)
            && let Ok(value) = serde_json::from_slice::<Value>(&bytes)
            && value["case"] == text
            && let Some(built) = Built::from_json(&value["built"])
        {
            return Ok(built);
        }
        let built = self.build(case, context, scratch)?;
        let value = json!({ "case": text, "built": built.to_json() });
        std::fs::write(&path, value.to_string())?;
        Ok(built)
    }
}
