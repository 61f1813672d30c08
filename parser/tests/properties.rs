//! Properties of any Dockerfile, and of those that the project has.

#[path = "../../fuzz/checks/dockerfile.rs"]
mod dockerfile;

use std::path::{Path, PathBuf};

use kiln_parser::{LineIndex, format, parse};
use proptest::prelude::*;

#[test]
fn spans_point_at_the_source() {
    let source = "ARG v=\"1 2\"\nFROM --platform=\"$P\" a \\\n  AS e\nENV k=v \\\n # c\n  l=é\nCOPY [\"a\\u0062\", \"c\"]\n";
    let parsed = parse(source);
    let mut words = Vec::new();
    dockerfile::for_each_text(&parsed.dockerfile, &mut |text| {
        words.push(&source[text.span.start..text.span.end]);
    });
    for word in [
        "v",
        "\"1 2\"",
        "platform",
        "\"$P\"",
        "a",
        "k",
        "l",
        "\"a\\u0062\"",
        "\"c\"",
    ] {
        assert!(words.contains(&word), "{word} is not in {words:?}");
    }
    let index = LineIndex::new(source);
    let env = &parsed.dockerfile.instructions[2];
    assert_eq!(
        (index.position(env.span.start), index.position(env.span.end)),
        ((4, 1), (6, 6))
    );
    assert_eq!(
        (index.line_text(3), index.line_text(99), index.line_count()),
        ("  AS e", "", 8)
    );
    assert_eq!(index.position(source.find('é').expect("é") + 2), (6, 6));
}

/// All files below a directory.
fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// The Dockerfiles below `testdata/`, also those that are sections of a file.
fn project_dockerfiles() -> Vec<(PathBuf, String)> {
    let mut paths = Vec::new();
    files(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata"),
        &mut paths,
    );
    let mut found = Vec::new();
    for path in paths {
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        let name = path.file_name().map(|name| name.to_string_lossy());
        if name.is_some_and(|name| name.starts_with("Dockerfile")) {
            found.push((path, text));
        } else if path.extension().is_some_and(|e| e == "case") {
            let section = text.split_once("-- Dockerfile --\n").map(|(_, rest)| rest);
            let is_header =
                |line: &&str| line.starts_with("-- ") && line.trim_end().ends_with(" --");
            let section = section.unwrap_or("").split_inclusive('\n');
            found.push((path, section.take_while(|line| !is_header(line)).collect()));
        }
    }
    found
}

#[test]
fn project_dockerfiles_format() {
    let found = project_dockerfiles();
    assert!(found.len() >= 4, "{found:?}");
    for (path, text) in found {
        dockerfile::check(text.as_bytes());
        if !parse(&text).has_errors() {
            format(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        }
    }
}

/// Words that stand in arguments, so that quotes, escapes and line breaks meet.
const WORD: &str = "(a|b=c|d=\"e  f\"|'g h'|\\$\\{i:-j  k\\}|\\$\\(l  m\\)|`n  o`|\\\\ |\\\\\"|#p|--q=r|<<E|\"|'|&&|;|\u{e9}\u{a0}|\\[\"s\", *\"t\"\\])";

/// What may stand between them.
const SPACE: &str = "( |  |\t|[ \t]{0,2}\\\\[ \t]?\r?\n[ \t]{0,6}|\\\\\n # c\n\n|`\n  |)";

proptest! {
    #[test]
    fn any_text_parses(source in "\\PC{0,200}") {
        dockerfile::check(source.as_bytes());
    }

    #[test]
    fn near_dockerfiles_parse(
        lines in proptest::collection::vec(
            (
                "(FROM|RUN|COPY|ADD|ENV|ARG|LABEL|CMD|ONBUILD|HEALTHCHECK|VOLUME|SHELL|#|# escape=`|FORM| |)",
                "[ \t]?",
                "[-a-c=\"'\\\\`$<E\\[\\], #\u{e9}\u{a0}]{0,16}",
                "(\n|\r\n| \\\\\n|`\n|\nE\n)",
            ),
            0..12,
        ),
        head in "(\u{feff})?(FROM x\n)?",
    ) {
        let body: String = lines.into_iter().map(|(a, b, c, d)| format!("{a}{b}{c}{d}")).collect();
        dockerfile::check(format!("{head}{body}").as_bytes());
    }

    #[test]
    fn good_dockerfiles_format(
        head in "(# escape=`\n|# syntax=a\n|\n|)",
        lines in proptest::collection::vec(
            (
                "[ \t]?(run|Run|CMD|entrypoint|env a=b|LABEL c=d|arg|copy e|ADD|expose|volume|user|workdir|healthcheck cmd|onbuild run|copy --link|SHELL \\[\"sh\"\\])",
                proptest::collection::vec((SPACE, WORD), 1..5),
                "[ \t]{0,2}(\n|\r\n|\n\n|\n  # c \n|\n\n\n\n)(x\n E\nE\n)?",
            ),
            1..5,
        ),
    ) {
        let mut text = format!("{head}from  x\n");
        for (keyword, words, end) in lines {
            let before = text.len();
            text.push_str(&keyword);
            text.push(' ');
            for (space, word) in words {
                text.push_str(&space);
                text.push_str(&word);
            }
            text.push_str(&end);
            // An instruction that is wrong would hide all others.
            if parse(&text).has_errors() {
                text.truncate(before);
            }
        }
        let formatted = format(&text);
        prop_assert!(formatted.is_ok(), "{:?}: {:?}", text, formatted);
        dockerfile::check(text.as_bytes());
    }
}
