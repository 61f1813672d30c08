//! Any text as an ignore file; its last line is a path that is matched.

use kiln_parser::Ignore;

/// Checks what holds for any text.
pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (file, path) = text.rsplit_once('\n').unwrap_or(("", text));
    let Ok(ignore) = Ignore::parse(file) else {
        return;
    };
    let verdict = ignore.verdict(path);
    let lines = file.lines().count();
    assert!(verdict.line.is_none_or(|line| (1..=lines).contains(&line)));
    assert!(verdict.line.is_some() || !verdict.excluded);

    // What a walk need not enter holds nothing.
    for (at, _) in path.match_indices('/').filter(|(at, _)| *at > 0) {
        let dir = &path[..at];
        if !ignore.may_reinclude_below(dir) {
            assert!(ignore.verdict(dir).excluded, "{dir:?}");
            assert!(verdict.excluded, "{path:?} is below {dir:?}");
        }
    }

    // The patterns as they were understood say the same. White space at their ends, which only
    // comes about where `.` is taken out beside it, would be lost.
    if ignore.patterns().any(|(text, ..)| text != text.trim()) {
        return;
    }
    let shown: Vec<String> = ignore
        .patterns()
        .map(|(text, negated, _)| {
            if negated {
                format!("!{text}")
            } else {
                text.to_owned()
            }
        })
        .collect();
    match Ignore::from_patterns(&shown) {
        Ok(again) => assert_eq!(again.verdict(path).excluded, verdict.excluded, "{shown:?}"),
        Err(error) => panic!("{shown:?}: {error}"),
    }
}
