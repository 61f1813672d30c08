//! The nearest earlier run, and what differs from it.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use super::*;
use crate::plan::Origin;

fn input(kind: InputKind, name: &str, field: &str, digest: &str) -> LabelledInput {
    LabelledInput {
        kind,
        name: name.into(),
        field: field.into(),
        digest: digest.into(),
    }
}

fn run(id: u8, project: &str, step: &str, instruction: &str, command: &str) -> Earlier {
    Earlier {
        removed: false,
        key: Key([id; 32]),
        project: project.into(),
        step: step.into(),
        instruction: instruction.into(),
        ran_at: SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(id)),
        inputs: vec![
            input(InputKind::Command, "", "", command),
            input(InputKind::User, "", "", "root"),
        ],
    }
}

#[test]
fn the_nearest_run_is_of_the_same_project_with_the_same_text_or_at_the_same_place() {
    let origin = Origin {
        project: "p".into(),
        step: "0:3".into(),
        instruction: "make".into(),
    };
    let now = [
        input(InputKind::Command, "", "", "make"),
        input(InputKind::User, "", "", "root"),
    ];
    type Case<'a> = (&'a str, Vec<Earlier>, &'a [&'a str], Option<u8>);
    let cases: [Case<'_>; 9] = [
        ("none", vec![], &[], None),
        (
            "same key",
            vec![run(9, "q", "1:1", "x", "y"), run(7, "q", "1:1", "x", "y")],
            &[],
            None,
        ),
        (
            "same text",
            vec![run(1, "p", "0:2", "make", "make")],
            &[],
            Some(1),
        ),
        (
            "same text before same step",
            vec![
                run(2, "p", "0:3", "test", "test"),
                run(1, "p", "0:2", "make", "make"),
            ],
            &[],
            Some(1),
        ),
        (
            "same step before another project",
            vec![
                run(1, "p", "0:3", "cc", "cc"),
                run(2, "q", "0:3", "make", "make"),
            ],
            &[],
            Some(1),
        ),
        (
            "another project that has the same text is none of its past",
            vec![run(1, "q", "0:3", "make", "make")],
            &[],
            None,
        ),
        (
            "not another step of this build",
            vec![run(1, "p", "0:3", "test", "test")],
            &["test"],
            None,
        ),
        (
            "most equal inputs, though older",
            vec![
                run(1, "p", "0:3", "make", "make"),
                run(2, "p", "0:3", "make", "make -j"),
            ],
            &[],
            Some(1),
        ),
        (
            "then the later",
            vec![
                run(1, "p", "0:3", "make", "m"),
                run(2, "p", "0:3", "make", "n"),
            ],
            &[],
            Some(2),
        ),
    ];
    for (what, earlier, others, want) in cases {
        let others: BTreeSet<String> = others.iter().map(ToString::to_string).collect();
        let key = Key([9; 32]);
        let found = match nearest(key, &now, &origin, &others, earlier) {
            Nearest::Same(run) => {
                assert_eq!((what, run.key), ("same key", key));
                continue;
            }
            Nearest::Other(run) => Some(run.key.0[0]),
            Nearest::None => None,
        };
        assert_eq!(found, want, "{what}");
    }
}

fn facts(path: &str, change: impl Fn(&mut PathFacts)) -> PathFacts {
    let mut facts = PathFacts {
        path: path.into(),
        kind: "file".into(),
        mode: Some(0o644),
        owner: Some((0, 0)),
        content: "c".into(),
        ..PathFacts::default()
    };
    change(&mut facts);
    facts
}

fn told(
    before: &[LabelledInput],
    now: &[LabelledInput],
    old: &[PathFacts],
    new: &[PathFacts],
) -> String {
    let listing = |digits: &str| {
        let paths = match digits {
            "old" => old.to_vec(),
            "new" => new.to_vec(),
            _ => return None,
        };
        Some(Listing {
            paths,
            ..Listing::default()
        })
    };
    let changes = compare(before, now, listing);
    let texts: Vec<String> = changes.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

#[test]
fn a_path_that_changed_is_named_with_what_changed_of_it() {
    let before = [input(InputKind::Files, "", "0", "old")];
    let now = [input(InputKind::Files, "", "0", "new")];
    let one = |change: fn(&mut PathFacts)| {
        told(&before, &now, &[facts("a", |_| {})], &[facts("a", change)])
    };
    assert_eq!(one(|f| f.content = "d".into()), "files a (content)");
    assert_eq!(one(|f| f.mode = Some(0o755)), "files a (mode)");
    assert_eq!(one(|f| f.owner = Some((1, 0))), "files a (owner)");
    assert_eq!(one(|f| f.xattrs = "x".into()), "files a (xattrs)");
    assert_eq!(one(|f| f.link = "x".into()), "files a (link target)");
    assert_eq!(one(|f| f.kind = "directory".into()), "files a (type)");
    assert_eq!(
        one(|f| f.path = "b".into()),
        "files a (removed), files b (added)"
    );
    assert_eq!(
        one(|f| {
            f.mode = Some(1);
            f.content = "d".into();
        }),
        "files a (content, mode)"
    );
    assert_eq!(
        one(|f| f.mode = None),
        "",
        "a flag says that modes do not count"
    );
    let gone = [input(InputKind::Files, "", "0", "forgotten")];
    assert_eq!(told(&gone, &now, &[], &[]), "files");
}

#[test]
fn what_only_follows_from_something_else_is_not_told() {
    let cases = [
        (
            vec![
                input(InputKind::Env, "A", "", "1"),
                input(InputKind::EnvOrder, "", "", "a"),
            ],
            vec![input(InputKind::EnvOrder, "", "", "b")],
            "env A (removed)",
        ),
        (
            vec![input(InputKind::EnvOrder, "", "", "a")],
            vec![input(InputKind::EnvOrder, "", "", "b")],
            "order of variables",
        ),
        (
            vec![
                input(InputKind::Mount, "/m", "source", "1"),
                input(InputKind::Files, "", "/m", "old"),
            ],
            vec![
                input(InputKind::Mount, "/m", "source", "2"),
                input(InputKind::Files, "", "/m", "new"),
            ],
            "mount /m (source)",
        ),
        (
            vec![],
            vec![
                input(InputKind::Mount, "/m", "id", "2"),
                input(InputKind::Mount, "/m", "type", "2"),
            ],
            "mount /m (added)",
        ),
        (
            vec![input(
                InputKind::BaseImage,
                "docker.io/library/a:1",
                "",
                "1",
            )],
            vec![input(
                InputKind::BaseImage,
                "docker.io/library/a:2",
                "",
                "2",
            )],
            "base image a:2 instead of a:1",
        ),
        (
            vec![input(InputKind::Step, "[2/3] RUN a", "", "1")],
            vec![input(InputKind::Step, "[3/4] RUN a", "", "2")],
            "result of [3/4] RUN a",
        ),
        (
            vec![input(InputKind::Step, "[2/3] RUN a", "", "1")],
            vec![input(InputKind::Step, "[2/3] RUN b", "", "2")],
            "it comes after [2/3] RUN b instead of [2/3] RUN a",
        ),
    ];
    for (before, now, want) in cases {
        let (old, new) = (vec![facts("a", |_| {})], vec![facts("b", |_| {})]);
        assert_eq!(told(&before, &now, &old, &new), want);
    }
}
