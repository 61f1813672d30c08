//! Six builds as the tree and as plain lines, held against what was recorded.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use kiln_engine::solver::event::{Event, Outcome, Stream, Warning, WarningCode};
use kiln_engine::solver::explain::{Change, Found, InputKind, Reason};
use kiln_engine::solver::key::Key;
use kiln_engine::solver::plan::{Forced, Lines, VertexId};

use super::model::Model;
use super::plain::{Folds, Plain};
use super::tty::Tty;

/// Columns and lines of the terminal.
const SIZE: (usize, usize) = (72, 16);

/// What happens in a build, told briefly.
enum Told {
    /// Steps that are needed, by their names; the vertices are their places in the list.
    Needs(&'static [&'static str]),
    /// A step begins.
    Starts(usize),
    /// A step prints.
    Prints(usize, &'static str),
    /// A transfer of a step: bytes so far, and in all.
    Moves(usize, &'static str, u64, Option<u64>),
    /// Why a step ran or not.
    Because(usize, Reason),
    /// A step is over, after so many milliseconds.
    Ends(usize, Outcome, u64),
    /// A step has failed.
    Fails(usize, &'static str),
    /// A step that the target does not need.
    Skips(&'static str),
    /// Something to know.
    Warns(&'static str),
    /// The tree as it is now is recorded.
    Frame,
}

use Told::*;

impl Told {
    fn events(&self) -> Vec<Event> {
        let vertex = |n: &usize| VertexId::new(*n);
        let finished = |n: &usize, outcome: &Outcome, took, error| Event::Finished {
            vertex: vertex(n),
            outcome: outcome.clone(),
            took: Duration::from_millis(took),
            error,
            key: None,
        };
        let one = match self {
            Needs(names) => {
                let planned = names.iter().enumerate().map(|(n, name)| Event::Planned {
                    vertex: VertexId::new(n),
                    name: (*name).into(),
                    lines: None,
                });
                return planned.collect();
            }
            Starts(n) => {
                let vertex = vertex(n);
                return vec![Event::Started { vertex }, Event::Began { vertex }];
            }
            Prints(n, text) => Event::Log {
                vertex: vertex(n),
                stream: Stream::Out,
                bytes: text.as_bytes().to_vec(),
            },
            Moves(n, label, current, total) => Event::Progress {
                vertex: vertex(n),
                label: (*label).into(),
                current: *current,
                total: *total,
            },
            Because(n, reason) => Event::Explained {
                vertex: vertex(n),
                reason: reason.clone(),
            },
            Ends(n, outcome, took) => finished(n, outcome, *took, None),
            Fails(n, error) => finished(n, &Outcome::Failed, 700, Some((*error).into())),
            Skips(name) => Event::Skipped {
                name: (*name).into(),
                lines: Lines { first: 9, last: 9 },
            },
            Warns(text) => Event::Warning(Warning::new(WarningCode::RemoteCache, *text)),
            Frame => return Vec::new(),
        };
        vec![one]
    }
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../testdata/golden/progress")
        .join(name)
}

/// The lines of plain progress, without the time at which a line of output came.
fn plain(explain: bool, build: &[Told]) -> String {
    let (mut model, mut view) = (Model::default(), Plain::new(explain, Folds::None));
    let mut out = String::new();
    for event in build.iter().flat_map(Told::events) {
        model.apply(&event);
        out.push_str(&view.lines(&event, &model));
    }
    let lines = out.lines().map(|line| {
        let mut words: Vec<&str> = line.splitn(3, ' ').collect();
        let is_time = |word: &str| word.len() == 5 && word.starts_with("0.0");
        if words.len() == 3 && is_time(words[1]) {
            words[1] = "0.000";
        }
        words.join(" ") + "\n"
    });
    lines.collect()
}

/// The frames of the tree, in the order in which they were asked for, and the last.
fn tree(explain: bool, build: &[Told]) -> String {
    let (mut model, mut view) = (Model::default(), Tty::new("Building web".into(), explain));
    let (width, height) = SIZE;
    let mut out = String::new();
    let mut frame = |view: &Tty, model: &Model, height| {
        let lines = view.frame(model, width, height);
        let text = anstream::adapter::strip_str(&lines.join("\n")).to_string();
        let lines = text.lines().map(|line| format!("|{line:width$}|\n"));
        out.push_str(&lines.collect::<String>());
        out.push('\n');
    };
    for told in build {
        for event in told.events() {
            model.apply(&event);
            view.note(&event);
        }
        if matches!(told, Frame) {
            frame(&view, &model, height);
        }
    }
    frame(&view, &model, usize::MAX);
    out
}

/// What is shown where so little time passes while it is made that every clock still shows nothing.
fn at_once(show: impl Fn() -> String) -> String {
    loop {
        let start = Instant::now();
        let shown = show();
        if start.elapsed() < Duration::from_millis(40) {
            return shown;
        }
    }
}

/// A test of each view for each build.
macro_rules! builds {
    ($($name:ident, $explain:literal: [$($told:expr),* $(,)?],)*) => {
        mod of {
            $(
                mod $name {
                    #[allow(clippy::wildcard_imports, reason = "what a build is told with")]
                    use super::super::*;

                    fn build() -> Vec<Told> {
                        vec![$($told),*]
                    }

                    #[test]
                    fn plain_lines() {
                        let file = golden(concat!(stringify!($name), ".plain.txt"));
                        kiln_testkit::golden::check(&file, &at_once(|| plain($explain, &build())));
                    }

                    #[test]
                    fn tree_of_steps() {
                        let file = golden(concat!(stringify!($name), ".tree.txt"));
                        kiln_testkit::golden::check(&file, &at_once(|| tree($explain, &build())));
                    }
                }
            )*
        }
    };
}

fn hours_ago(hours: u64) -> SystemTime {
    SystemTime::now() - Duration::from_secs(hours * 3600 + 60)
}

fn hit(found: Found) -> Reason {
    Reason::Hit {
        key: Key::from_hex(&"2c7a10b0".repeat(8)).unwrap(),
        ran_at: hours_ago(5),
        took: Duration::from_secs(3),
        found,
    }
}

fn remote() -> Found {
    Found::Remote("cache.example/web".into())
}

fn changed(changes: &[(InputKind, &str, &str)]) -> Reason {
    let changes = changes.iter().map(|(kind, name, field)| Change {
        kind: *kind,
        name: (*name).into(),
        fields: vec![(*field).into()],
        before: None,
    });
    Reason::Changed {
        ran_at: hours_ago(2),
        changes: changes.collect(),
    }
}

builds! {
    first, false: [
        Needs(&["[internal] load build context", "[build 1/3] FROM debian:bookworm", "[build 2/3] COPY . /src", "[build 3/3] RUN make -C /src"]),
        Starts(0),
        Starts(1),
        Moves(1, "sha256:5f1d0b2c7a10", 12_000_000, Some(48_000_000)),
        Frame,
        Ends(0, Outcome::InPlace, 12),
        Moves(1, "sha256:5f1d0b2c7a10", 48_000_000, Some(48_000_000)),
        Ends(1, Outcome::Fetched, 2_345),
        Because(2, Reason::New),
        Starts(2),
        Ends(2, Outcome::Ran, 98),
        Starts(3),
        Prints(3, "cc -c main.c\ncc -c parse.c\n"),
        Prints(3, "10%\r50%\rlinking"),
        Frame,
        Prints(3, "\n"),
        Ends(3, Outcome::Ran, 65_432),
    ],
    unchanged, false: [
        Needs(&["[internal] load build context", "[1/2] FROM busybox", "[2/2] RUN make"]),
        Starts(0),
        Ends(0, Outcome::InPlace, 3),
        Starts(1),
        Ends(1, Outcome::Cached(Found::Local), 1),
        Starts(2),
        Because(2, hit(Found::Local)),
        Ends(2, Outcome::Cached(Found::Local), 0),
    ],
    changed, false: [
        Needs(&["[1/3] FROM busybox", "[2/3] COPY src /src", "[3/3] RUN wc -l /src/*"]),
        Starts(0),
        Ends(0, Outcome::Cached(Found::Local), 1),
        Starts(1),
        Because(1, changed(&[
            (InputKind::Files, "src/a.txt", "content"),
            (InputKind::Files, "src/b.txt", "mode"),
            (InputKind::Files, "src/c.txt", "added"),
            (InputKind::Files, "src/d.txt", "removed"),
        ])),
        Ends(1, Outcome::Ran, 20),
        Starts(2),
        Because(2, Reason::Gone { ran_at: hours_ago(30), removed: true }),
        Prints(2, "12 /src/a.txt\nno end of line"),
        Frame,
        Ends(2, Outcome::Ran, 310),
    ],
    failed, false: [
        Needs(&["[a 1/2] FROM busybox", "[a 2/2] RUN make test", "[b 2/2] RUN sleep 60", "[c 1/1] COPY --from=a /out /"]),
        Starts(0),
        Ends(0, Outcome::Cached(Found::Local), 1),
        Starts(1),
        Starts(2),
        Prints(1, "3 tests, 1 failed\n"),
        Fails(1, "process \"/bin/sh -c make test\" did not complete successfully: exit code: 2\nand more"),
        Ends(2, Outcome::Cancelled, 650),
        Ends(3, Outcome::NotReached, 0),
    ],
    shared, false: [
        Needs(&["[1/3] FROM busybox", "[2/3] RUN make", "[3/3] RUN make install"]),
        Starts(0),
        Ends(0, Outcome::Cached(Found::Local), 1),
        Starts(1),
        Because(1, hit(remote())),
        Ends(1, Outcome::Cached(remote()), 40),
        Starts(2),
        Moves(2, "layer 2b0e81f2c9aa of cache.example/web", 500_000, None),
        Frame,
        Moves(2, "layer 2b0e81f2c9aa of cache.example/web", 2_000_000, Some(2_000_000)),
        Warns("the remote cache `cache.example/web` is slow: it is not asked any more"),
        Ends(2, Outcome::Ran, 1_500),
    ],
    explained, true: [
        Needs(&["[1/5] FROM busybox", "[2/5] RUN a", "[3/5] RUN b", "[4/5] RUN c", "[5/5] RUN with a name that is longer than what a terminal of this width can show"]),
        Skips("[test 2/2] RUN make test"),
        Starts(0),
        Ends(0, Outcome::Cached(Found::Local), 1),
        Starts(1),
        Because(1, hit(Found::Local)),
        Ends(1, Outcome::Cached(Found::Local), 0),
        Starts(2),
        Because(2, Reason::Forced(Forced::Step("3".into()))),
        Ends(2, Outcome::Ran, 5),
        Starts(3),
        Because(3, Reason::Expired { ran_at: hours_ago(72) }),
        Ends(3, Outcome::Ran, 5),
        Starts(4),
        Because(4, changed(&[(InputKind::Arg, "VERSION", "value")])),
        Prints(4, "1\n2\n3\n4\n5\n6\n7\n8\n"),
        Frame,
        Ends(4, Outcome::Ran, 7),
    ],
}
