//! One case: prose, header lines, and files.
//!
//! ```text
//! What the case shows.
//! build: --build-arg X=1
//! -- Dockerfile --
//! FROM busybox
//! -- bin/tool 0755 --
//! -- link -> bin/tool --
//! -- dir/ 0750 --
//! ```

use std::fmt::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A case of the corpus.
#[derive(Clone, Debug, Default)]
pub struct Case {
    /// The folder and the file's name without its ending: `copy/wildcard`.
    pub name: String,
    /// What it shows.
    pub prose: String,
    /// Words for the build command.
    pub build: Vec<String>,
    /// Environment of the build command.
    pub env: Vec<(String, String)>,
    /// Shell commands that run in the context directory.
    pub setup: Vec<String>,
    /// Images that are built first, each from the section `NAME.Dockerfile`.
    pub bases: Vec<String>,
    /// The build must fail.
    pub fails: bool,
    /// Text of kiln's error.
    pub error: Option<String>,
    /// Why kiln gives another result than Docker, on purpose.
    pub differs: Option<String>,
    /// Nothing is built: the case is about `--check`.
    pub check_only: bool,
    /// The context.
    pub sections: Vec<Section>,
}

/// A file, link or directory of a context.
#[derive(Clone, Debug)]
pub enum Section {
    /// A file with its mode.
    File {
        /// Below the context.
        path: String,
        /// Permission bits.
        mode: u32,
        /// Bytes.
        content: String,
    },
    /// A symbolic link.
    Link {
        /// Below the context.
        path: String,
        /// What it says.
        target: String,
    },
    /// A directory with its mode.
    Dir {
        /// Below the context.
        path: String,
        /// Permission bits.
        mode: u32,
    },
}

/// Every case below `dir`, in the order of their names.
pub fn all(dir: &Path) -> Vec<Case> {
    let mut cases = Vec::new();
    let groups = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    for group in groups.map(|g| g.unwrap().path()).filter(|g| g.is_dir()) {
        for file in std::fs::read_dir(&group).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|e| e == "case") {
                let stem = |p: &Path| p.file_stem().unwrap().to_string_lossy().into_owned();
                let name = format!("{}/{}", stem(&group), stem(&path));
                let text = std::fs::read_to_string(&path)
                    .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                cases.push(Case::parse(&name, &text));
            }
        }
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

impl Case {
    /// Reads a case's text; panics with its name if there is something wrong with it.
    #[must_use]
    pub fn parse(name: &str, text: &str) -> Self {
        let mut case = Self {
            name: name.to_owned(),
            ..Self::default()
        };
        let (mut crlf, mut bom, mut unterminated) = (Vec::new(), Vec::new(), Vec::new());
        for line in text.split_inclusive('\n') {
            let bare = line.trim_end_matches('\n');
            if let Some(section) = section(bare) {
                case.sections.push(section);
                continue;
            }
            match case.sections.last_mut() {
                Some(Section::File { content, .. }) => content.push_str(line),
                Some(_) if bare.is_empty() => {}
                Some(other) => panic!("{name}: content in {other:?}"),
                None => match bare.split_once(": ") {
                    Some(("build", v)) => case.build.extend(words(v)),
                    Some(("env", v)) => {
                        let (n, v) = v.split_once('=').unwrap_or((v, ""));
                        case.env.push((n.into(), v.into()));
                    }
                    Some(("setup", v)) => case.setup.push(v.into()),
                    Some(("base", v)) => case.bases.push(v.trim().into()),
                    Some(("crlf", v)) => crlf.push(v.trim().to_owned()),
                    Some(("bom", v)) => bom.push(v.trim().to_owned()),
                    Some(("unterminated", v)) => unterminated.push(v.trim().to_owned()),
                    Some(("result", "fails")) => case.fails = true,
                    Some(("error", v)) => case.error = Some(v.into()),
                    Some(("differs", v)) => case.differs = Some(v.into()),
                    Some(("check", "only")) => case.check_only = true,
                    _ => drop(writeln!(case.prose, "{bare}")),
                },
            }
        }
        for section in &mut case.sections {
            if let Section::File { path, content, .. } = section {
                if unterminated.contains(path) && content.ends_with('\n') {
                    content.pop();
                }
                if crlf.contains(path) {
                    *content = content.replace('\n', "\r\n");
                }
                if bom.contains(path) {
                    content.insert(0, '\u{feff}');
                }
            }
        }
        assert!(!case.sections.is_empty(), "{name} has no files");
        case
    }

    /// The folder that it is in.
    #[must_use]
    pub fn group(&self) -> &str {
        self.name.split('/').next().unwrap_or_default()
    }

    /// The text of a file.
    #[must_use]
    pub fn file(&self, wanted: &str) -> Option<&str> {
        self.sections.iter().find_map(|s| match s {
            Section::File { path, content, .. } if path == wanted => Some(content.as_str()),
            _ => None,
        })
    }

    /// Its Dockerfile: the one that `-f` names, or the default.
    #[must_use]
    pub fn dockerfile(&self) -> Option<&str> {
        let flag = self.build.iter().position(|w| w == "-f" || w == "--file");
        let named = flag.and_then(|at| self.build.get(at + 1));
        self.file(named.map_or("Dockerfile", String::as_str))
    }

    /// Writes the context into a new directory.
    pub fn write(&self, dir: &Path) {
        std::fs::create_dir_all(dir).unwrap();
        let at = |path: &str| -> PathBuf {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        };
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        for section in &self.sections {
            match section {
                Section::File {
                    path,
                    mode: bits,
                    content,
                } => {
                    std::fs::write(at(path), content).unwrap();
                    mode(&at(path), *bits);
                }
                Section::Link { path, target } => symlink(target, at(path)).unwrap(),
                Section::Dir { path, .. } => std::fs::create_dir_all(at(path)).unwrap(),
            }
        }
        for command in &self.setup {
            let done = Command::new("/bin/sh")
                .args(["-euc", command])
                .current_dir(dir)
                .output()
                .unwrap();
            let stderr = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.success(), "{}: {command}: {stderr}", self.name);
        }
        // Last, so that no mode is in the way.
        for section in &self.sections {
            if let Section::Dir { path, mode: bits } = section {
                mode(&at(path), *bits);
            }
        }
    }
}

/// `-- PATH[ MODE] --`, `-- PATH -> TARGET --` or `-- PATH/[ MODE] --`.
fn section(line: &str) -> Option<Section> {
    let inner = line.strip_prefix("-- ")?.strip_suffix(" --")?;
    if let Some((path, target)) = inner.split_once(" -> ") {
        return Some(Section::Link {
            path: path.into(),
            target: target.into(),
        });
    }
    let (path, mode) = match inner.rsplit_once(' ') {
        Some((path, mode)) if mode.starts_with('0') => (path, u32::from_str_radix(mode, 8).ok()),
        _ => (inner, None),
    };
    Some(match path.strip_suffix('/') {
        Some(dir) => Section::Dir {
            path: dir.into(),
            mode: mode.unwrap_or(0o755),
        },
        None => Section::File {
            path: path.into(),
            mode: mode.unwrap_or(0o644),
            content: String::new(),
        },
    })
}

/// Splits words as a shell does, quotes and all, without expanding anything.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut current: Option<String> = None;
    let mut quote = None;
    for c in text.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                current.get_or_insert_default();
            }
            (None, ' ' | '\t') => words.extend(current.take()),
            (_, c) => current.get_or_insert_default().push(c),
        }
    }
    words.extend(current);
    words
}
