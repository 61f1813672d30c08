//! `cargo xtask conformance`: the corpus built with Docker and with kiln, compared.

mod engine;
mod report;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use kiln_tests::corpus::{self, Case};

use crate::paths;
use crate::shell::need_root;
use engine::{Built, Engine};

/// Builds each case of testdata/corpus with Docker and with kiln, compares image config, history
/// and files (or the warnings of `--check`), and writes tests/conformance/RESULTS.md.
///
///   KILN_CONFORMANCE_DOCKER  words that run docker (default: `docker`). `{dir}` in them becomes the
///                            context's directory, where the command must start, and `{env}` becomes
///                            NAME=VALUE words: "chroot /peers env -C {dir} {env} docker"; without
///                            them directory and environment are set on the command itself
///   KILN_CONFORMANCE_ROOT    where docker's file system starts, if it runs in a root of its own:
///                            contexts are written below it (default: /)
///   KILN_BIN                 the kiln to compare (default: a build of this workspace)
///
/// Docker must have the images busybox and debian:bookworm; kiln is given the same ones.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// Only the cases whose name contains this; nothing is written then.
    only: Option<String>,
    /// Keep Docker's results in this directory, and use those that are there.
    #[arg(long, value_name = "DIR")]
    kept: Option<PathBuf>,
}

/// How a case came out.
pub(crate) enum Verdict {
    /// The same in every respect.
    Same,
    /// Other results, for the reason that the case gives.
    Deliberate(String),
    /// Other results.
    Different(Vec<String>),
}

pub(crate) fn run(options: &Options) -> Result<()> {
    need_root("conformance")?;
    let root = std::env::var_os("KILN_CONFORMANCE_ROOT").map_or_else(|| "/".into(), PathBuf::from);
    let work = root.join("var/tmp/kiln-conformance");
    let _ = std::fs::remove_dir_all(&work);
    std::fs::create_dir_all(&work)?;
    if let Some(kept) = &options.kept {
        std::fs::create_dir_all(kept).with_context(|| kept.display().to_string())?;
    }
    let docker = Engine::docker(&root);
    let kiln = Engine::kiln(&paths::kiln("dev")?, &work.join("store"));
    let bases = work.join("bases.tar");
    docker.save(&["busybox", "debian:bookworm"], &bases)?;
    kiln.load(&bases)?;

    let cases = corpus::all(&paths::workspace().join("testdata/corpus"));
    let cases: Vec<Case> = cases
        .into_iter()
        .filter(|c| {
            options
                .only
                .as_ref()
                .is_none_or(|o| c.name.contains(o.as_str()))
        })
        .collect();
    let next = AtomicUsize::new(0);
    let verdicts: Mutex<Vec<(usize, Verdict)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some((at, case)) = {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    cases.get(at).map(|c| (at, c))
                } {
                    let dir = work.join(format!("case-{at}"));
                    let verdict = match compare(case, &dir, &docker, &kiln, options.kept.as_deref())
                    {
                        Ok(verdict) => verdict,
                        Err(e) => Verdict::Different(vec![format!("{e:#}")]),
                    };
                    if let Verdict::Different(lines) = &verdict {
                        println!("{}:\n  {}", case.name, lines.join("\n  "));
                    }
                    let _ = std::fs::remove_dir_all(&dir);
                    if let Ok(mut verdicts) = verdicts.lock() {
                        verdicts.push((at, verdict));
                    }
                }
            });
        }
    });
    let mut verdicts = verdicts.into_inner().unwrap_or_default();
    verdicts.sort_by_key(|(at, _)| *at);
    let results: Vec<(&Case, Verdict)> = verdicts
        .into_iter()
        .filter_map(|(at, verdict)| Some((cases.get(at)?, verdict)))
        .collect();
    let different = results
        .iter()
        .filter(|(_, v)| matches!(v, Verdict::Different(_)))
        .count();
    println!("{} cases, {different} different", results.len());
    if options.only.is_none() {
        let path = paths::workspace().join("tests/conformance/RESULTS.md");
        std::fs::create_dir_all(path.parent().context("no parent")?)?;
        std::fs::write(&path, report::render(&results, &docker, &kiln)?)?;
        println!("{}", path.display());
    }
    let _ = std::fs::remove_dir_all(&work);
    if different > 0 {
        bail!("{different} cases are built differently");
    }
    Ok(())
}

fn compare(
    case: &Case,
    dir: &Path,
    docker: &Engine,
    kiln: &Engine,
    kept: Option<&Path>,
) -> Result<Verdict> {
    let mut results = Vec::new();
    for engine in [docker, kiln] {
        // Each has its own copy: nothing that one does can be seen by the other.
        let context = dir.join(engine.title());
        case.write(&context);
        let kept = kept.filter(|_| !engine.is_kiln());
        results.push(engine.build_once(case, &context, dir, kept)?);
    }
    let (Some(ours), Some(theirs)) = (results.pop(), results.pop()) else {
        bail!("no result");
    };
    let difference = difference(&theirs, &ours);
    Ok(match (&case.differs, difference.is_empty()) {
        (_, true) => Verdict::Same,
        (Some(reason), false) => Verdict::Deliberate(reason.clone()),
        (None, false) => Verdict::Different(difference),
    })
}

/// What is not the same: `-` Docker's, `+` kiln's.
fn difference(theirs: &Built, ours: &Built) -> Vec<String> {
    match (theirs, ours) {
        (Built::Failed(_), Built::Failed(_)) => Vec::new(),
        (Built::Failed(why), _) => vec![format!("Docker fails: {}", last_lines(why))],
        (_, Built::Failed(why)) => vec![format!("kiln fails: {}", last_lines(why))],
        (Built::Check(theirs), Built::Check(ours)) => lines(theirs, ours),
        (Built::Image(theirs), Built::Image(ours)) => theirs
            .iter()
            .zip(ours)
            .flat_map(|(theirs, ours)| lines(theirs, ours))
            .collect(),
        _ => vec!["one built an image, the other did not".into()],
    }
}

fn lines(theirs: &[String], ours: &[String]) -> Vec<String> {
    if theirs == ours {
        return Vec::new();
    }
    let missing = theirs.iter().filter(|l| !ours.contains(l));
    let extra = ours.iter().filter(|l| !theirs.contains(l));
    let mut found: Vec<String> = missing.map(|l| format!("- {l}")).collect();
    found.extend(extra.map(|l| format!("+ {l}")));
    if found.is_empty() {
        found.push("the same lines in another order or number".into());
    }
    found
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join(" | ")
}
