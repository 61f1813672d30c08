//! `kiln explain-context`.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use kiln_tests::{Context, Lab};
use serde_json::{Value, json};

fn context(lab: &Lab) -> Context {
    let context = lab.context(
        "context",
        &[
            ("Dockerfile", "FROM busybox\nCOPY . /c/\n"),
            (
                ".dockerignore",
                "# what a build does not need\nnode_modules\n*.log\n/docs\n!docs/*.md\ndocs/draft.md\n",
            ),
            ("src/a.c", "0123456789"),
            ("src/b.log", "01234"),
            ("debug.log", "0123"),
            ("docs/guide.md", "012"),
            ("docs/draft.md", "01234567"),
            ("docs/img/x.png", "01"),
            ("node_modules/x/index.js", "012345"),
            ("node_modules/y.js", "0"),
        ],
    );
    context.link("link", "src").dir("empty");
    context
}

fn rows(text: &str) -> Vec<Vec<&str>> {
    text.lines()
        .map(|line| {
            line.split("  ")
                .map(str::trim)
                .filter(|w| !w.is_empty())
                .collect()
        })
        .filter(|row: &Vec<_>| row.len() > 1)
        .collect()
}

#[test]
fn every_path_has_its_rule() {
    let lab = Lab::new();
    let context = context(&lab);
    let out = lab
        .kiln(["explain-context"])
        .dir(context.path())
        .output()
        .ok();
    let found = rows(out.stdout());
    for row in [
        &["in", "24B", "Dockerfile", "no rule matches"][..],
        &["in", "-", "src/", "no rule matches"],
        &["in", "10B", "src/a.c", "no rule matches"],
        // One star does not reach into directories.
        &["in", "5B", "src/b.log", "no rule matches"],
        &["out", "4B", "debug.log", ".dockerignore:3: *.log"],
        &["partial", "-", "docs/", ".dockerignore:4: /docs"],
        &["in", "3B", "docs/guide.md", ".dockerignore:5: !docs/*.md"],
        &[
            "out",
            "8B",
            "docs/draft.md",
            ".dockerignore:6: docs/draft.md",
        ],
        // No rule could bring anything in here back.
        &["out", "2B", "docs/img/ (1 file)", ".dockerignore:4: /docs"],
        &[
            "out",
            "7B",
            "node_modules/ (2 files)",
            ".dockerignore:2: node_modules",
        ],
        &["in", "-", "empty/", "no rule matches"],
        &["in", "0B", "link", "no rule matches"],
    ] {
        assert!(found.iter().any(|r| r == row), "{row:?}: {out}");
    }
    assert!(!out.stdout().contains("y.js"), "{out}");
    let ends = "\nin:  6 files, 121B\nout: 5 files, 21B";
    assert!(out.stdout().ends_with(ends), "{out}");
    let all = lab
        .kiln(["explain-context", "--all"])
        .dir(context.path())
        .output()
        .ok();
    let row = [
        "out",
        "1B",
        "node_modules/y.js",
        ".dockerignore:2: node_modules",
    ];
    assert!(rows(all.stdout()).iter().any(|r| r == &row), "{all}");
    assert!(all.stdout().ends_with(ends), "{all}");
    // Nothing is written to a store.
    assert!(!lab.store().exists());
}

#[test]
fn paths_show_all_rules_that_match() {
    let lab = Lab::new();
    let context = context(&lab);
    let out = lab
        .kiln(["explain-context"])
        .arg(context.path())
        .args([
            "docs/draft.md",
            "./node_modules/x",
            "src",
            "nowhere.log",
            "docs/img",
        ])
        .output()
        .ok();
    let paragraphs = [
        "docs/draft.md: out; 8B\n",
        ".dockerignore:4: /docs          matches docs/   out\n",
        ".dockerignore:5: !docs/*.md     matches it      in\n",
        ".dockerignore:6: docs/draft.md  matches it      out\n",
        "node_modules/x/: out; holds 0 files, 0B that are in, 1 file, 6B that are out\n",
        ".dockerignore:2: node_modules   matches node_modules/   out\n",
        "src/: in; holds 2 files, 15B that are in, 0 files, 0B that are out\n  no rule matches\n",
        "nowhere.log: out; nothing is there\n",
    ];
    let squeezed = |text: &str| {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        text.lines().map(|l| words(l) + "\n").collect::<String>()
    };
    let shown = squeezed(out.stdout());
    for part in paragraphs {
        assert!(shown.contains(&squeezed(part)), "{part}: {out}");
    }
    let bad = lab
        .kiln(["explain-context"])
        .arg(context.path())
        .arg("../x")
        .output()
        .orderly();
    assert_eq!(bad.code(), Some(2), "{bad}");
}

#[test]
fn json_says_the_same() {
    let lab = Lab::new();
    let context = context(&lab);
    let run = |paths: &[&str]| -> Value {
        let out = lab
            .kiln(["explain-context", "--format=json"])
            .arg(context.path())
            .args(paths)
            .output()
            .ok();
        serde_json::from_str(out.stdout()).unwrap()
    };
    let whole = run(&[]);
    assert_eq!(whole["ignore_file"], ".dockerignore");
    assert_eq!(whole["totals"]["out"], json!({"files": 5, "bytes": 21}));
    assert_eq!(
        whole["largest"][1],
        json!({"path": "Dockerfile", "bytes": 24})
    );
    let entry = |path: &str| {
        let entries = whole["entries"].as_array().unwrap();
        entries.iter().find(|e| e["path"] == path).unwrap().clone()
    };
    let rule = json!({"file": ".dockerignore", "line": 2, "pattern": "node_modules"});
    assert_eq!(
        entry("node_modules"),
        json!({
            "path": "node_modules", "kind": "directory", "status": "out", "bytes": 0,
            "rule": rule, "holds": {"files": 2, "bytes": 7},
        })
    );
    assert_eq!(entry("docs")["status"], "partial");
    assert_eq!(entry("link")["kind"], "symlink");
    assert_eq!(entry("src/a.c")["rule"], Value::Null);
    let one = run(&["docs/guide.md"]);
    assert_eq!(one["paths"][0]["status"], "in");
    assert_eq!(one["paths"][0]["matches"][1]["negated"], true);
    assert_eq!(one["paths"][0]["matches"][0]["matched"], "docs");
}

#[test]
fn the_dockerfiles_own_ignore_file_counts() {
    let lab = Lab::new();
    let context = lab.context(
        "context",
        &[
            ("sub/dev.Dockerfile", "FROM busybox\n"),
            ("sub/dev.Dockerfile.dockerignore", "a\n"),
            (".dockerignore", "b\n"),
            ("a", ""),
            ("b", ""),
        ],
    );
    for (arguments, out_of_it) in [(&["-f", "sub/dev.Dockerfile"][..], "a"), (&[][..], "b")] {
        let out = lab
            .kiln(["explain-context"])
            .args(arguments)
            .dir(context.path())
            .output()
            .ok();
        let found = rows(out.stdout());
        let excluded: Vec<_> = found
            .iter()
            .filter(|r| r[0] == "out")
            .map(|r| r[2])
            .collect();
        assert_eq!(excluded, [out_of_it], "{out}");
    }
    std::fs::remove_file(context.at(".dockerignore")).unwrap();
    let out = lab
        .kiln(["explain-context", "."])
        .dir(context.path())
        .output()
        .ok();
    assert!(out.stdout().starts_with("rules: none"), "{out}");
    for wrong in ["https://h.example/r.git", "-"] {
        let out = lab.kiln(["explain-context", wrong]).output().orderly();
        assert_eq!(out.code(), Some(2), "{out}");
    }
    lab.kiln(["explain-context", "/nowhere"])
        .fails()
        .says(&["/nowhere"]);
}

#[test]
fn a_build_sees_what_is_explained() {
    let lab = Lab::new();
    let context = context(&lab);
    lab.kiln(["build", "-t", "x"])
        .last(context.path())
        .output()
        .ok();
    let out = lab
        .kiln(["run", "--rm", "x", "find", "/c", "-type", "f"])
        .output()
        .ok();
    let mut built: Vec<&str> = out
        .stdout()
        .lines()
        .filter_map(|line| line.strip_prefix("/c/"))
        .collect();
    built.sort_unstable();
    let explained = lab
        .kiln(["explain-context", "--format=json"])
        .arg(context.path())
        .output()
        .ok();
    let value: Value = serde_json::from_str(explained.stdout()).unwrap();
    let mut told: Vec<&str> = value["entries"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|e| e["status"] == "in" && e["kind"] == "file")
        .map(|e| e["path"].as_str().unwrap())
        .collect();
    told.sort_unstable();
    assert_eq!(built, told);
}
