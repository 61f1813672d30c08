//! Tables of patterns and paths, and properties of the matcher.

use proptest::prelude::*;

use super::{Ignore, Verdict, clean};

fn of(patterns: &[&str]) -> Ignore {
    let patterns: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
    Ignore::from_patterns(&patterns).expect("well-formed patterns")
}

fn excluded(patterns: &[&str], path: &str) -> bool {
    of(patterns).verdict(path).excluded
}

#[test]
fn single_patterns() {
    for (pattern, path, want) in [
        ("**", "file", true),
        ("**/", "dir/file", true),
        ("**/**", "dir/file", true),
        ("dir/**", "dir/file", true),
        ("dir/**", "dir/a/file", true),
        ("dir/**", "dir", false),
        ("dir/**", "dirs/a", false),
        ("**/dir", "dir", true),
        ("**/dir", "dir/file", true),
        ("**/dir", "a/b/dir", true),
        ("**/dir", "adir", false),
        ("**/dir2/*", "dir/dir2/file", true),
        ("**/dir2/*", "dir2", false),
        ("**/dir2/**", "dir/dir2/dir3/file", true),
        ("**file", "file", true),
        ("**file", "dir/file", true),
        ("**file", "dir/myfile", true),
        ("**/file*txt", "dir/dir/file.txt", true),
        ("**/**/*.txt", "file.txt", true),
        ("**/**/*.txt2", "dir/dir/file.txt", false),
        ("a**/*.txt", "a/dir/file.txt", true),
        ("a**/*.txt", "a/file.txt", true),
        ("a/*.txt", "a/dir/file.txt", false),
        ("a/*.txt**", "a/file.txt", true),
        ("a[b-d]e", "ace", true),
        ("a[b-d]e", "aae", false),
        ("a[^b-d]e", "aze", true),
        ("a[!b]c", "a!c", true),
        (".*", ".foo", true),
        (".*", "foo", false),
        ("abc.def", "abcZdef", false),
        ("abc?def", "abcZdef", true),
        ("abc?def", "abc/def", false),
        ("**/.foo", "bar.foo", false),
        ("a(b)c/def", "a(b)c/def", true),
        ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
        ("a\\*b", "a*b", true),
        ("a\\*b", "axb", false),
        ("a\\\\", "a\\", true),
        ("\\<a\\>", "<a>", true),
        ("[[]x", "[x", true),
        ("[a&&b]x", "&x", true),
        ("[~~]x", "~x", true),
        ("[a*?]x", "*x", true),
        ("[\\]a]", "]", true),
        ("[x\\-]", "-", true),
        ("[\\-x]", "a", false),
        ("[a-ζ]*", "α", true),
        ("a[^a]b", "a☺b", true),
        ("a???b", "a☺b", false),
        ("a]", "a]", true),
        ("a^b*", "a^bc", false),
        ("\\d", "7", true),
        ("[\\d-z]x", "-x", true),
        ("[\\d-z]x", "zx", true),
        ("[\\d-z]x", "ax", false),
        ("[^\\w]x", "-x", true),
        ("[\\W]x", "_x", false),
        ("[\\W]x", "\u{e9}x", true),
        ("a\\sb", "a b", true),
        ("a\\tb", "a\tb", true),
        ("^a*", "ab", true),
        ("*^a", "a", true),
        ("**/^a*", "ab", true),
        ("**/^a*", "b/ab", false),
        ("a**b", "a/x/b", true),
        ("a**b", "ab", true),
        ("a**b", "axb", false),
        ("**/**/a?", "x/ab", true),
        ("**/a/**/b", "x/a/y/z/b/c", true),
        ("**aa", "xaaa/b", true),
        ("**aa", "xaab/b", false),
        ("a\\*", "a*/b", true),
        ("?", "\u{e9}/b", true),
        ("*", "a/b", true),
        ("a", "a/b/c", true),
        ("a/b", "a", false),
        ("docs/", "docs/x", true),
        ("./a//b/../c", "a/c", true),
        ("..", "a", false),
        (".", "a", false),
        ("/a", "a", false),
    ] {
        assert_eq!(excluded(&[pattern], path), want, "{pattern} on {path}");
    }
}

#[test]
fn later_patterns_decide() {
    for (patterns, path, want) in [
        (&["docs", "!docs/README.md"][..], "docs/README.md", false),
        (&["docs", "!docs/README.md"], "docs/other", true),
        (&["docs/*", "!docs/README.md"], "docs/README.md", false),
        (&["!a.go", "*.go"], "a.go", true),
        (&["*.go", "!a.go"], "a.go", false),
        (&["**", "!util/docker/web"], "util/docker/web/foo", false),
        (
            &["**", "!util/docker/web", "util/docker/web/foo"],
            "util/docker/web/foo",
            true,
        ),
        (&["*", "!a", "a/b"], "a/b/c", true),
        (&["*", "!a", "a/b"], "a/c", false),
        (&["*", "!*.md", "secret.md"], "secret.md", true),
        (&["!a"], "a", false),
    ] {
        assert_eq!(excluded(patterns, path), want, "{patterns:?} on {path}");
    }
}

#[test]
fn files_are_read_as_docker_reads_them() {
    let text = "\u{feff}# comment\r\n\r\n  /a/../b/  \n! c/ \n #d\n/\n!/e\n";
    let ignore = Ignore::parse(text).expect("well formed");
    let found: Vec<_> = ignore.patterns().collect();
    assert_eq!(
        found,
        [
            ("b", false, 3),
            ("c", true, 4),
            ("#d", false, 5),
            ("/", false, 6),
            ("e", true, 7)
        ]
    );
    assert!(!ignore.is_empty());
    assert!(Ignore::parse("# only\n\n").expect("well formed").is_empty());
}

#[test]
fn verdicts_name_the_line() {
    let ignore = Ignore::parse("# c\n*\n!a\na/b\n").expect("well formed");
    for (path, excluded, line) in [
        ("x", true, Some(2)),
        ("a", false, Some(3)),
        ("a/c", false, Some(3)),
        ("a/b/c", true, Some(4)),
        (".", false, None),
        ("", false, None),
    ] {
        assert_eq!(ignore.verdict(path), Verdict { excluded, line }, "{path}");
    }
    assert_eq!(
        Ignore::parse("!a").expect("well formed").verdict("a"),
        Verdict::default()
    );
}

#[test]
fn all_rules_that_match_are_told() {
    let ignore =
        Ignore::parse("*.md\ndocs\n!docs/*/keep\nother\n**/keep/a\n").expect("well formed");
    let found = |path| -> Vec<_> {
        let matches = ignore.matches(path);
        matches
            .map(|m| (m.line, m.negated, m.matched.to_owned()))
            .collect()
    };
    let text = str::to_owned;
    assert_eq!(found("src/a"), []);
    assert_eq!(found("a.md"), [(1, false, text("a.md"))]);
    assert_eq!(
        found("docs/x/keep/a/b"),
        [
            (2, false, text("docs")),
            (3, true, text("docs/x/keep")),
            (5, false, text("docs/x/keep/a")),
        ]
    );
}

#[test]
fn malformed_patterns() {
    for pattern in [
        "!", "[", "[]a]", "[-]", "[x-]", "[-x]", "\\", "[a-b-c]", "[^", "[^bc", "a[", "[z-a]",
        "\\q", "[a-\\d]",
    ] {
        let error = Ignore::parse(&format!("ok\n{pattern}")).expect_err(pattern);
        assert!(error.to_string().starts_with("line 2: "), "{error}");
    }
}

#[test]
fn excluded_directories_are_pruned_exactly() {
    for (patterns, dir, want) in [
        (&["a"][..], "a", false),
        (&["a", "!a/b"], "a", true),
        (&["*", "!a/b"], "a", true),
        (&["*", "!a/b"], "b", false),
        (&["*", "!a/b"], "ab", false),
        (&["*", "!a/b/*.c"], "a/b", true),
        (&["*", "!a/b/*.c"], "a/x", false),
        (&["*", "!*.md"], "a", false),
        (&["*", "!*/x"], "a", true),
        (&["*", "!*/x"], "a/b", false),
        (&["*", "!**/x"], "a/b", true),
        (&["*", "!a/**"], "b", false),
        (&["*", "!a/b/**"], "a", true),
        (&["*", "!a/**/x"], "a/q/r", true),
        (&["*", "!a?/x"], "a", false),
        (&["*", "!a?/x"], "ab", true),
        (&["!a/b", "a"], "a", false),
        (&["b", "!a/b"], "a", true),
    ] {
        assert_eq!(
            of(patterns).may_reinclude_below(dir),
            want,
            "{patterns:?} below {dir}"
        );
    }
}

#[test]
fn cleaning() {
    for (path, want) in [
        ("a", "a"),
        ("a/", "a"),
        ("./a", "a"),
        ("a//b/.", "a/b"),
        ("a/../b", "b"),
        ("../a", "../a"),
        ("../../a/..", "../.."),
        ("/..", "/"),
        ("/a/", "/a"),
        ("a/..", "."),
        ("!a/../b", "b"),
    ] {
        assert_eq!(clean(path), want, "{path}");
    }
}

/// Which rules match a path, by their definition: those that match its parent do, and the others
/// are looked at unless they could change nothing.
fn slow_matches(ignore: &Ignore, path: &str) -> Vec<bool> {
    let parent = match path.rsplit_once('/') {
        Some((parent, _)) => slow_matches(ignore, parent),
        None => vec![false; ignore.rules.len()],
    };
    let mut excluded = false;
    let mut found = Vec::new();
    for (rule, above) in ignore.rules.iter().zip(parent) {
        let matches = above || rule.negated == excluded && rule.pattern.matches(path);
        if matches {
            excluded = !rule.negated;
        }
        found.push(matches);
    }
    found
}

fn slow_verdict(ignore: &Ignore, path: &str) -> bool {
    let matches = slow_matches(ignore, path);
    let last = ignore.rules.iter().zip(matches).rfind(|(_, m)| *m);
    last.is_some_and(|(rule, _)| !rule.negated)
}

/// Whether a pattern matches, by the meaning of each character. Classes and escapes are left out.
fn is_match(pattern: &[char], path: &[char]) -> bool {
    match pattern {
        [] => path.is_empty(),
        ['*', '*', rest @ ..] => {
            let rest = rest.strip_prefix(&['/']).unwrap_or(rest);
            if rest.is_empty() {
                return true;
            }
            let after_slashes = (0..path.len()).filter(|at| path[*at] == '/');
            is_match(rest, path)
                || after_slashes
                    .into_iter()
                    .any(|at| is_match(rest, &path[at + 1..]))
        }
        ['*', rest @ ..] => {
            is_match(rest, path)
                || path
                    .split_first()
                    .is_some_and(|(c, left)| *c != '/' && is_match(pattern, left))
        }
        ['?', rest @ ..] => path
            .split_first()
            .is_some_and(|(c, left)| *c != '/' && is_match(rest, left)),
        [want, rest @ ..] => path
            .split_first()
            .is_some_and(|(c, left)| c == want && is_match(rest, left)),
    }
}

/// The same, with what Docker makes of a pattern whose only wildcard are two stars in front.
fn is_match_or_ends_so(pattern: &str, path: &str) -> bool {
    let chars = |text: &str| text.chars().collect::<Vec<_>>();
    match pattern.strip_prefix("**") {
        Some(rest) if !rest.contains(['*', '?']) => {
            path.ends_with(rest) || rest.strip_prefix('/') == Some(path)
        }
        _ => is_match(&chars(pattern), &chars(path)),
    }
}

#[test]
fn many_wildcards_take_little_time() {
    let path = "a/".repeat(1000);
    for unit in [
        "**/", "*/", "**/a*", "a*", "*a", "?*", "[ab]*", "**a", "a**",
    ] {
        let pattern = format!("{}b", unit.repeat(1000));
        let begin = std::time::Instant::now();
        let ignore = of(&["x", &format!("!{pattern}")]);
        assert!(!excluded(&[&pattern], &path), "{unit}");
        let _ = ignore.may_reinclude_below(&path);
        let took = begin.elapsed();
        assert!(
            took < std::time::Duration::from_secs(5),
            "{unit} took {took:?}"
        );
    }
    // More states than fit into one word.
    let many = "?".repeat(100);
    assert!(excluded(&[&many], &"x".repeat(100)));
    assert!(excluded(
        &[&format!("**/{many}")],
        &format!("a/{}", "x".repeat(100))
    ));
    assert!(!excluded(&[&many], &"x".repeat(101)));
}

proptest! {
    #[test]
    fn matches_are_those_of_the_definition(
        pattern in "[ab*?/]{1,7}",
        path in "[ab]{1,2}(/[ab]{1,2}){0,3}",
    ) {
        let cleaned = clean(&pattern);
        let parents = path.match_indices('/').map(|(at, _)| &path[..at]);
        let want = parents
            .chain(std::iter::once(path.as_str()))
            .any(|part| is_match_or_ends_so(&cleaned, part));
        prop_assert_eq!(excluded(&[&pattern], &path), want, "{}", cleaned);
    }

    #[test]
    fn nothing_panics(text in "[!#*?\\[\\]^a-c/.\\-\\\\ \n\u{e9}]{0,40}", path in "[a-c/.\u{e9}]{0,12}") {
        if let Ok(ignore) = Ignore::parse(&text) {
            let _ = ignore.verdict(&path);
            let _ = ignore.may_reinclude_below(&path);
        }
    }

    #[test]
    fn pruned_directories_hold_nothing(
        patterns in proptest::collection::vec("!?[a-c*?]{1,2}(/[a-c*?]{1,3}){0,2}", 1..5),
        dir in "[a-c]{1,2}(/[a-c]{1,2}){0,1}",
        rest in "[a-c]{1,2}(/[a-c]{1,2}){0,2}",
    ) {
        let ignore = Ignore::from_patterns(&patterns).expect("well formed");
        let path = format!("{dir}/{rest}");
        prop_assert_eq!(ignore.verdict(&path).excluded, slow_verdict(&ignore, &path));
        if !ignore.may_reinclude_below(&dir) {
            prop_assert!(ignore.verdict(&dir).excluded);
            prop_assert!(ignore.verdict(&path).excluded, "{} is included", path);
        }
    }
}
