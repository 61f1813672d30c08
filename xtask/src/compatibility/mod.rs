//! `cargo xtask compatibility`: what other tools read of what kiln writes.

mod facts;
mod readers;
mod report;
mod samples;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::shell::need_root;
use crate::{deps, paths};
use readers::{Place, Reader};
use samples::{Sample, Samples};

/// Writes one image in every form that kiln has, gives each to the tools that read that form, looks
/// at what they unpack, and writes docs/compatibility.md.
///
///   KILN_COMPATIBILITY_RUN   words that run a command of the container tools (skopeo, umoci, podman,
///                            docker, crane, oras, cosign), such as "chroot /peers"; without it they
///                            are looked for here
///   KILN_COMPATIBILITY_ROOT  where their file system starts, if they have a root of their own: the
///                            images are written below it (default: /)
///   KILN_BIN                 the kiln that writes (default: a build of this workspace)
///
/// Those of the container tools that are here as well, in another version, have a second column. Readers
/// of tar run here; those of npm are installed into a temporary folder. A tool that is missing has no
/// column, and the page says so.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// Only the readers whose name contains this; nothing is written then.
    only: Option<String>,
}

/// Where tools run, and where they find files.
pub(crate) struct Bench {
    words: Vec<String>,
    root: PathBuf,
    work: PathBuf,
}

/// What a reader made of a sample.
pub(crate) enum Outcome {
    /// It does not read this form.
    NotItsForm,
    /// It took it.
    Read,
    /// It refused, and said this.
    Refused(String),
}

/// A reader with what it did.
pub(crate) struct Findings {
    pub(crate) reader: &'static Reader,
    pub(crate) version: String,
    /// One for each sample.
    pub(crate) outcomes: Vec<Outcome>,
    /// One for each fact, if it unpacked anything.
    pub(crate) facts: Option<Vec<String>>,
}

impl Findings {
    /// The reader and its version.
    fn title(&self) -> String {
        format!("{} {}", self.reader.name, self.version)
    }
}

impl Bench {
    fn new() -> Self {
        let words = std::env::var("KILN_COMPATIBILITY_RUN").unwrap_or_default();
        let root = std::env::var_os("KILN_COMPATIBILITY_ROOT");
        let root = root.map_or_else(|| "/".into(), PathBuf::from);
        Self {
            words: words.split_whitespace().map(str::to_owned).collect(),
            work: root.join("var/tmp/kiln-compatibility"),
            root,
        }
    }

    /// Where a reader is looked for.
    fn places(&self, reader: &Reader) -> Vec<Place> {
        match reader.place {
            Place::Container if !self.words.is_empty() => vec![Place::Container, Place::Here],
            _ => vec![Place::Here],
        }
    }

    /// A path as a reader sees it.
    fn seen_by(&self, place: Place, path: &Path) -> Result<String> {
        let path = match place {
            Place::Here => path.to_path_buf(),
            Place::Container => {
                let below = path.strip_prefix(&self.root);
                let below =
                    below.with_context(|| format!("{} is outside of the root", path.display()))?;
                Path::new("/").join(below)
            }
        };
        path.into_os_string()
            .into_string()
            .map_err(|path| anyhow::anyhow!("{} is not text", PathBuf::from(path).display()))
    }

    /// Runs a script where the reader is; its arguments are `$1` and so on. Gives what it printed, or
    /// what it said where it failed.
    fn script(
        &self,
        place: Place,
        text: &str,
        arguments: &[&str],
    ) -> Result<Result<String, String>> {
        let own = ["sh", "-euc", text, "sh"];
        let mut words: Vec<&str> = match place {
            Place::Here => Vec::new(),
            Place::Container => self.words.iter().map(String::as_str).collect(),
        };
        words.extend(own);
        words.extend(arguments);
        let (program, arguments) = words.split_first().context("no command")?;
        let output = std::process::Command::new(program)
            .args(arguments)
            .current_dir(&self.work)
            .env("TOOLS", self.work.join("tools"))
            .stdin(std::process::Stdio::null())
            .output()
            .with_context(|| format!("`{program}` of KILN_COMPATIBILITY_RUN"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        Ok(if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            let both = format!("{}\n{}", text(&output.stdout), text(&output.stderr));
            Err(complaint(&both))
        })
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    need_root("compatibility")?;
    deps::install(deps::FIXTURES)?;
    let bench = Bench::new();
    let _ = std::fs::remove_dir_all(&bench.work);
    std::fs::create_dir_all(bench.work.join("tools"))?;
    let kiln = paths::kiln("dev")?;
    let samples = Samples::write(&kiln, &bench.work)?;
    let mut all = Vec::new();
    let mut absent = Vec::new();
    for reader in readers::ALL {
        if (options.only.as_ref()).is_some_and(|only| !reader.name.contains(only.as_str())) {
            continue;
        }
        let mut versions = Vec::new();
        for place in bench.places(reader) {
            let Ok(version) = bench.script(place, reader.version, &[])? else {
                continue;
            };
            // What a distribution adds is no part of it.
            let version = version.split('+').next().unwrap_or_default().to_owned();
            if version.is_empty() || versions.contains(&version) {
                continue;
            }
            println!("{} {version}", reader.name);
            all.push(observe(&bench, reader, place, version.clone(), &samples)?);
            versions.push(version);
        }
        if versions.is_empty() {
            let mut known = readers::NOT_PACKAGED.iter();
            let why = known.find(|(name, _)| *name == reader.name);
            absent.push(match why {
                Some((name, why)) => format!("{name} ({why})"),
                None => reader.name.to_owned(),
            });
        }
    }
    if all.is_empty() {
        bail!("none of the readers is here");
    }
    let page = report::render(&samples, &all, &absent);
    if options.only.is_some() {
        print!("{page}");
    } else {
        let path = paths::workspace().join("docs/compatibility.md");
        std::fs::create_dir_all(path.parent().context("no parent")?)?;
        std::fs::write(&path, page)?;
        println!("{}", path.display());
    }
    std::fs::remove_dir_all(&bench.work).context("the temporary folder")
}

/// Gives a reader each sample of a form that it reads.
fn observe(
    bench: &Bench,
    reader: &'static Reader,
    place: Place,
    version: String,
    samples: &Samples,
) -> Result<Findings> {
    let mut outcomes = Vec::new();
    let mut facts = None;
    for sample in &samples.all {
        let Some(script) = reader.script_for(sample.form) else {
            outcomes.push(Outcome::NotItsForm);
            continue;
        };
        let out = bench.work.join("out");
        std::fs::create_dir_all(out.join("root"))?;
        let taken = bench.script(
            place,
            script,
            &[
                &sample_for(bench, place, sample)?,
                &bench.seen_by(place, &out)?,
                &bench.seen_by(place, &samples.storage)?,
                &samples.registry.address(),
            ],
        )?;
        outcomes.push(match taken {
            Ok(_) => Outcome::Read,
            Err(why) => Outcome::Refused(why),
        });
        let unpacked = out.join("root");
        if facts.is_none() && sample.whole && unpacked.join("c").is_dir() {
            facts = Some(facts::look(&unpacked));
        }
        std::fs::remove_dir_all(&out).context("what a reader unpacked")?;
    }
    Ok(Findings {
        reader,
        version,
        outcomes,
        facts,
    })
}

/// Where the reader finds a sample: a path, or a name in the registry.
fn sample_for(bench: &Bench, place: Place, sample: &Sample) -> Result<String> {
    match &sample.place {
        samples::Place::File(path) => bench.seen_by(place, path),
        samples::Place::Registry(name) => Ok(name.clone()),
    }
}

/// What a tool that failed says of it: the last line that tells an error, or the last line; without
/// the folders of paths and without digests and ids, which differ from run to run.
fn complaint(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<&str> = lines.collect();
    let of_error = lines.iter().rfind(|l| l.to_lowercase().contains("error: "));
    let line = of_error.or(lines.last()).copied();
    let words = line.unwrap_or("it fails without a word").split(' ');
    let words = words.map(|word| match word.rsplit_once('/') {
        Some((_, name)) if word.starts_with('/') => name,
        _ => word,
    });
    let text: String = words.collect::<Vec<_>>().join(" ");
    let parts = text.split_inclusive(|c: char| !c.is_ascii_hexdigit());
    let parts = parts.map(
        |part| match part.trim_end_matches(|c: char| !c.is_ascii_hexdigit()) {
            number if number.len() > 8 => part.replace(number, "…"),
            _ => part.to_owned(),
        },
    );
    let text = parts.collect::<String>().replace(['|', '`'], "'");
    text.chars().take(160).collect()
}
