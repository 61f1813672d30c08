//! The commands in README.md and in the pages of docs/ print what is written below them.
//!
//! A code block whose info string is `console` is a session: a line that begins with `# ` is a command, and
//! what follows up to the next one is its output. All blocks of a page run in one shell, as root, in a copy of
//! testdata/tour and with an empty store. Blocks that are marked `console no-test` do not run.
//!
//! What differs from run to run is left out of the comparison: times, sizes from a kilobyte on, and the order
//! of steps that run at once. Digests and other ids may differ, but what has the same one on the page must
//! have the same one here, and what has another one must have another.
//!
//! `KILN_UPDATE_GOLDEN=1` writes what was printed into the pages.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use kiln_tests::Lab;

/// The pages with commands; each has its test below.
const PAGES: &[&str] = &[
    "README.md",
    "docs/build.md",
    "docs/cache.md",
    "docs/images.md",
    "docs/run.md",
    "docs/settings.md",
    "docs/store.md",
];

/// Printed between the outputs of commands: ASCII's record separator.
const SEPARATOR: &str = "\u{1e}\n";

#[test]
fn the_readme_is_true() {
    check("README.md");
}

#[test]
fn the_page_on_builds_is_true() {
    check("docs/build.md");
}

#[test]
fn the_page_on_the_cache_is_true() {
    check("docs/cache.md");
}

#[test]
fn the_page_on_images_is_true() {
    check("docs/images.md");
}

#[test]
fn the_page_on_running_is_true() {
    check("docs/run.md");
}

#[test]
fn the_page_on_settings_is_true() {
    check("docs/settings.md");
}

#[test]
fn the_page_on_the_store_is_true() {
    check("docs/store.md");
}

#[test]
fn each_page_with_commands_has_its_test() {
    let mut names = vec!["README.md".to_owned()];
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if Path::new(&name).extension().is_some_and(|e| e == "md") {
            names.push(format!("docs/{name}"));
        }
    }
    for name in names {
        let commands = commands_of(&std::fs::read_to_string(root().join(&name)).unwrap());
        let tested = PAGES.contains(&name.as_str());
        assert_eq!(!commands.is_empty(), tested, "{name}");
    }
}

/// Keys that name files below /etc/kiln are left out: there are none.
#[test]
fn the_config_files_on_the_pages_are_read() {
    let lab = Lab::new();
    let mut count = 0;
    for name in PAGES {
        let page = std::fs::read_to_string(root().join(name)).unwrap();
        for rest in page.split("```toml\n").skip(1) {
            let (text, _) = rest.split_once("```").unwrap();
            let lines = text.lines().filter(|line| !line.contains("/etc/kiln/"));
            let config = lab.path("page.toml");
            std::fs::write(&config, lines.collect::<Vec<_>>().join("\n")).unwrap();
            let command = lab.kiln(["images"]).arg("--config").arg(&config);
            command.output().ok();
            count += 1;
        }
    }
    assert!(count >= 2, "{count}");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A command of a page.
#[derive(Debug)]
struct Command {
    /// Without the prompt.
    text: String,
    /// What the page says that it prints.
    output: String,
    /// The lines of the page, from 0, that have the output.
    lines: std::ops::Range<usize>,
}

/// The commands in a page that can be run.
fn commands_of(page: &str) -> Vec<Command> {
    let mut commands: Vec<Command> = Vec::new();
    let mut block: Option<&str> = None;
    let mut goes_on = false;
    for (at, line) in page.lines().enumerate() {
        if let Some(info) = line.strip_prefix("```") {
            block = if block.is_some() { None } else { Some(info) };
            continue;
        }
        if block != Some("console") {
            continue;
        }
        if let Some(command) = line.strip_prefix("# ") {
            goes_on = command.ends_with('\\');
            commands.push(Command {
                text: command.to_owned(),
                output: String::new(),
                lines: at + 1..at + 1,
            });
            continue;
        }
        let Some(last) = commands.last_mut() else {
            panic!("output without a command: {line}");
        };
        if goes_on {
            goes_on = line.ends_with('\\');
            last.text.push('\n');
            last.text.push_str(line);
            last.lines = at + 1..at + 1;
        } else {
            last.output.push_str(line);
            last.output.push('\n');
            last.lines.end = at + 1;
        }
    }
    commands
}

/// Runs the commands of a page and compares what they print.
fn check(name: &str) {
    let path = root().join(name);
    let page = std::fs::read_to_string(&path).unwrap();
    let commands = commands_of(&page);
    assert!(!commands.is_empty(), "{name} has no commands");

    let lab = Lab::new();
    lab.context("tour", &[]).copy_testdata("tour");
    let printed = run(&lab, &commands);

    let mut ids = Ids::default();
    let mut wrong = Vec::new();
    for (command, found) in commands.iter().zip(&printed) {
        if let Err(why) = compare(&command.output, found, &mut ids) {
            wrong.push((command, found, why));
        }
    }
    if wrong.is_empty() {
        return;
    }
    if std::env::var_os("KILN_UPDATE_GOLDEN").is_some() {
        let changes = wrong.iter().map(|(c, found, _)| (c.lines.clone(), *found));
        std::fs::write(&path, rewritten(&page, changes)).unwrap();
        return;
    }
    let shown = wrong.iter().map(|(command, found, why)| {
        let (text, expected) = (&command.text, &command.output);
        format!("# {text}\n{why}\n--- {name} says\n{expected}--- was printed\n{found}")
    });
    panic!("{}", shown.collect::<Vec<_>>().join("\n"));
}

/// What each command prints, on both streams.
fn run(lab: &Lab, commands: &[Command]) -> Vec<String> {
    let mut script = "exec 2>&1\ncd tour\n".to_owned();
    // Jobs of these have their output folded.
    script.push_str("unset GITHUB_ACTIONS GITLAB_CI KILN_PROGRESS BUILDKIT_PROGRESS\n");
    for command in commands {
        script.push_str(&command.text);
        script.push_str("\nprintf '\\036\\n'\n");
    }
    let output = lab.shell(&script).output().ok();
    let text = String::from_utf8_lossy(&output.out)
        .replace(lab.store().to_str().unwrap(), "/var/lib/kiln")
        .replace(lab.dir().to_str().unwrap(), "/tmp");
    let mut parts: Vec<String> = text.split(SEPARATOR).map(str::to_owned).collect();
    assert_eq!(parts.pop().as_deref(), Some(""), "{output}");
    assert_eq!(parts.len(), commands.len(), "{output}");
    parts
}

/// The page with other lines in these places.
fn rewritten<'a>(
    page: &str,
    changes: impl DoubleEndedIterator<Item = (std::ops::Range<usize>, &'a String)>,
) -> String {
    let mut lines: Vec<String> = page.lines().map(str::to_owned).collect();
    // From the end, so that the numbers of lines above stay what they are.
    for (range, found) in changes.rev() {
        drop(lines.splice(range, found.lines().map(str::to_owned)));
    }
    lines.join("\n") + "\n"
}

/// Which id of the page is which id of this run.
#[derive(Debug, Default)]
struct Ids {
    here: HashMap<String, String>,
    on_page: HashMap<String, String>,
}

impl Ids {
    /// Ids are told by their first digits, so that a short one is the same as the long one.
    fn meet(&mut self, on_page: &str, here: &str) -> Result<(), String> {
        let (on_page, here) = (on_page[..12].to_owned(), here[..12].to_owned());
        let known_here = self.here.entry(on_page.clone()).or_insert(here.clone());
        let known_page = self.on_page.entry(here.clone()).or_insert(on_page.clone());
        if *known_here == here && *known_page == on_page {
            return Ok(());
        }
        Err(format!(
            "{on_page} of the page was {known_here} before and is {here} now, which was {known_page}"
        ))
    }
}

/// Compares what a page says with what was printed.
fn compare(expected: &str, found: &str, ids: &mut Ids) -> Result<(), String> {
    let (expected, found) = (comparable(expected), comparable(found));
    let texts = |lines: &[Line]| lines.iter().map(|l| l.text.clone()).collect::<Vec<_>>();
    let (wanted, got) = (texts(&expected), texts(&found));
    if wanted != got {
        let missing = wanted.iter().filter(|line| !got.contains(line));
        let missing = missing.map(|line| format!("- {line}"));
        let surplus = got.iter().filter(|line| !wanted.contains(line));
        let surplus = surplus.map(|line| format!("+ {line}"));
        return Err(missing.chain(surplus).collect::<Vec<_>>().join("\n"));
    }
    for (expected, found) in expected.iter().zip(&found) {
        for (expected, found) in expected.ids.iter().zip(&found.ids) {
            ids.meet(expected, found)?;
        }
    }
    Ok(())
}

/// A line without what differs from run to run.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    text: String,
    ids: Vec<String>,
}

/// The lines of an output. Those of a build's steps are sorted by step, since steps run at once.
fn comparable(output: &str) -> Vec<Line> {
    let mut names: HashMap<&str, &str> = HashMap::new();
    let mut lines = Vec::new();
    for line in output.lines() {
        let step = line.split_once(' ').filter(|(number, _)| {
            let digits = number.strip_prefix('#').unwrap_or_default();
            !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
        });
        let Some((number, text)) = step else {
            lines.push(((String::new(), true, String::new()), normal(line)));
            continue;
        };
        // The first line of a number has the step's name.
        let name = (*names.entry(number).or_insert(text)).to_owned();
        let (moment, rest) = text.split_once(' ').unwrap_or((text, ""));
        if moment.parse::<f64>().is_ok() {
            // Output keeps its order.
            let line = normal(&format!("[{name}] {rest}"));
            lines.push(((name, true, String::new()), line));
        } else {
            let line = normal(&format!("[{name}] {text}"));
            lines.push(((name, false, line.text.clone()), line));
        }
    }
    if !names.is_empty() {
        lines.retain(|(_, line)| !line.text.is_empty());
        lines.sort_by(|(a, _), (b, _)| a.cmp(b));
    }
    lines.into_iter().map(|(_, line)| line).collect()
}

/// Words that may stand between a number and `ago`.
const UNITS: &[&str] = &[
    "s", "ms", "min", "h", "d", "second", "minute", "hour", "day", "week", "month", "year", "Less",
    "than", "a", "an", "About",
];

/// A line with its times, sizes and ids taken out and its blanks made single.
fn normal(line: &str) -> Line {
    let mut ids = Vec::new();
    let line = without_ids(line, &mut ids);
    let mut words: Vec<String> = Vec::new();
    for word in line.split_whitespace() {
        let (bare, end) = match word.strip_suffix([':', ',', ')']) {
            Some(bare) => (bare, &word[bare.len()..]),
            None => (word, ""),
        };
        let (open, bare) = match bare.strip_prefix('(') {
            Some(bare) => ("(", bare),
            None => ("", bare),
        };
        if matches!(bare, "ago" | "ms") {
            while words.last().is_some_and(|w| is_of_time(w)) {
                words.pop();
            }
            words.push(format!("TIME{end}"));
        } else if is_measured(bare, &["s", "ms"]) {
            words.push(format!("{open}TIME{end}"));
        } else if is_measured(bare, &["kB", "MB", "GB", "TB"]) {
            words.push(format!("{open}SIZE{end}"));
        } else if words.last().is_some_and(|w| w == "byte") && bare.parse::<u64>().is_ok() {
            // Random ids may begin alike.
            words.push(format!("PLACE{end}"));
        } else {
            words.push(word.to_owned());
        }
    }
    Line {
        text: words.join(" "),
        ids,
    }
}

fn is_of_time(word: &str) -> bool {
    word.parse::<f64>().is_ok()
        || UNITS.contains(&word)
        || UNITS.contains(&word.trim_end_matches('s'))
}

/// Whether a word is a number with one of these units.
fn is_measured(word: &str, units: &[&str]) -> bool {
    let mut numbers = units.iter().filter_map(|unit| word.strip_suffix(unit));
    numbers.any(|number| number.parse::<f64>().is_ok_and(f64::is_finite))
}

/// Takes out what has twelve hexadecimal digits or more, with hyphens among them.
fn without_ids(line: &str, ids: &mut Vec<String>) -> String {
    let is_part = |c: char| matches!(c, '0'..='9' | 'a'..='f' | '-');
    let mut text = String::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let is_run = is_part(first);
        let end = rest.find(|c| is_part(c) != is_run).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        rest = after;
        if is_run && run.chars().filter(|c| *c != '-').count() >= 12 {
            ids.push(run.to_owned());
            text.push_str("ID");
        } else {
            text.push_str(run);
        }
    }
    text
}

#[test]
fn what_differs_from_run_to_run_is_left_out() {
    let same = [
        ("#6 [x] RUN y\n#6 DONE 0.0s", "#6 [x] RUN y\n#6 DONE 12.3s"),
        (
            "changed since it ran 6 s ago: files a",
            "changed since it ran 17 s ago: files a",
        ),
        (
            "a   Less than a second ago   1.98MB",
            "a   2 hours ago   2.01MB",
        ),
        ("sha256:0123456789abcdef", "sha256:f123456789abcdef"),
        ("differs from byte 14 on", "differs from byte 15 on"),
        (
            "#1 [a] X\n#2 [b] Y\n#1 0.1 out\n#1 DONE 0.1s\n\n#2 DONE 0.2s\n",
            "#1 [b] Y\n#2 [a] X\n#1 DONE 0.2s\n#2 0.3 out\n#2 DONE 0.1s\n",
        ),
    ];
    for (a, b) in same {
        assert_eq!(compare(a, b, &mut Ids::default()), Ok(()), "{a} and {b}");
    }
    let different = [
        ("(3 cached, 3 ran)", "(4 cached, 2 ran)"),
        ("#1 [a] X\n#1 CACHED", "#1 [a] X\n#1 DONE 0.0s"),
        (
            "#1 [a] X\n#1 0.1 one\n#1 0.1 two",
            "#1 [a] X\n#1 0.1 two\n#1 0.1 one",
        ),
        ("one\ntwo", "two\none"),
        ("15B", "16B"),
        ("7", "8"),
        ("0123456789ab\n0123456789ab", "0123456789ab\n1123456789ab"),
        ("0123456789ab\n1123456789ab", "0123456789ab\n0123456789ab"),
    ];
    for (a, b) in different {
        assert!(compare(a, b, &mut Ids::default()).is_err(), "{a} and {b}");
    }
}
