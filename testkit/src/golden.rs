//! Texts that are kept in files: what is printed today must be what was recorded.

use std::path::Path;

/// Records anew, where it is set.
pub const UPDATE: &str = "KILN_UPDATE_GOLDEN";

/// Holds a text against the file that it was recorded in.
///
/// # Panics
/// They differ, or the file cannot be read or written.
pub fn check(path: &Path, text: &str) {
    if std::env::var_os(UPDATE).is_some() {
        let written = path
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| std::fs::write(path, text));
        assert!(written.is_ok(), "{}: {written:?}", path.display());
        return;
    }
    let recorded = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        recorded == text,
        "{} is not what is printed now; {UPDATE}=1 records it anew\n{}",
        path.display(),
        difference(&recorded, text),
    );
}

/// The lines from the first that differs to the last: `-` as recorded, `+` as printed.
fn difference(recorded: &str, text: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (recorded.lines().collect(), text.lines().collect());
    let same = |pairs: &mut dyn Iterator<Item = (&&str, &&str)>| {
        pairs.take_while(|(one, other)| one == other).count()
    };
    let before = same(&mut old.iter().zip(&new));
    let rest = old.len().min(new.len()) - before;
    let after = same(&mut old.iter().rev().zip(new.iter().rev()).take(rest));
    let part = |lines: &[&str], mark: &str| -> String {
        let lines = lines.iter().take(lines.len() - after).skip(before);
        lines.map(|line| format!("{mark} {line}\n")).collect()
    };
    let (old, new) = (part(&old, "-"), part(&new, "+"));
    match old.is_empty() && new.is_empty() {
        true => "only ends of lines differ".into(),
        false => old + &new,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_the_lines_that_differ() {
        for (old, new, shown) in [
            ("a\nb\nc\n", "a\nx\nc\n", "- b\n+ x\n"),
            ("a\nb\n", "a\n", "- b\n"),
            ("", "a\n", "+ a\n"),
            ("a\na\n", "a\na\na\n", "+ a\n"),
            ("a", "a\n", "only ends of lines differ"),
        ] {
            assert_eq!(difference(old, new), shown, "{old:?} {new:?}");
        }
    }

    #[test]
    #[should_panic(expected = "- old\n+ new")]
    fn another_text_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("golden");
        std::fs::write(&path, "same\nold\n").unwrap();
        check(&path, "same\nold\n");
        check(&path, "same\nnew\n");
    }

    #[test]
    #[should_panic(expected = "is not what is printed now")]
    fn what_is_not_recorded_is_told() {
        check(Path::new("/nonexistent/golden"), "text");
    }
}
