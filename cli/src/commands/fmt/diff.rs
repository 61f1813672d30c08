//! What formatting changes, as a unified diff.
//!
//! Formatting keeps the order of lines; it only drops blank ones. So lines belong together where
//! they differ in nothing but white space and case.

/// Lines around a change that are shown.
const CONTEXT: usize = 3;

/// One line of the diff, with its line end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change<'a> {
    Same(&'a str),
    Old(&'a str),
    New(&'a str),
}

/// The difference of two texts; empty when there is none.
pub(super) fn unified(name: &str, old: &str, new: &str) -> String {
    let changes = changes(old, new);
    let mut out = String::new();
    let mut at = 0;
    while let Some(next) = position(&changes, at, |c| !matches!(c, Change::Same(_))) {
        if out.is_empty() {
            out = format!("--- {name}\n+++ {name}\n");
        }
        let start = next.saturating_sub(CONTEXT).max(at);
        // The hunk goes on as long as the next change is near.
        let mut end = next;
        while let Some(change) = position(&changes, end, |c| !matches!(c, Change::Same(_))) {
            if change > end + 2 * CONTEXT {
                break;
            }
            end = change + 1;
        }
        end = (end + CONTEXT).min(changes.len());
        hunk(&changes, start, end, &mut out);
        at = end;
    }
    out
}

fn position(
    changes: &[Change<'_>],
    from: usize,
    found: impl Fn(&Change<'_>) -> bool,
) -> Option<usize> {
    changes
        .iter()
        .skip(from)
        .position(found)
        .map(|at| from + at)
}

/// Whether two lines differ in nothing but white space and case.
fn belong(old: &str, new: &str) -> bool {
    let ink = |line: &'_ str| -> String {
        let chars = line.chars().filter(|c| !c.is_whitespace());
        chars.map(|c| c.to_ascii_lowercase()).collect()
    };
    ink(old) == ink(new)
}

fn changes<'a>(old: &'a str, new: &'a str) -> Vec<Change<'a>> {
    let mut out = Vec::new();
    let mut added = Vec::new();
    let mut new = new.split_inclusive('\n').peekable();
    for old in old.split_inclusive('\n') {
        match new.next_if(|new| belong(old, new)) {
            Some(new) if new == old => {
                out.append(&mut added);
                out.push(Change::Same(old));
            }
            // New lines come after all the old ones that they replace.
            Some(new) => {
                out.push(Change::Old(old));
                added.push(Change::New(new));
            }
            None => out.push(Change::Old(old)),
        }
    }
    out.append(&mut added);
    out.extend(new.map(Change::New));
    out
}

fn hunk(changes: &[Change<'_>], start: usize, end: usize, out: &mut String) {
    let count = |changes: &[Change<'_>]| {
        let old = changes.iter().filter(|c| !matches!(c, Change::New(_)));
        let new = changes.iter().filter(|c| !matches!(c, Change::Old(_)));
        (old.count(), new.count())
    };
    let shown = changes.get(start..end).unwrap_or_default();
    let (before_old, before_new) = count(changes.get(..start).unwrap_or_default());
    let (old, new) = count(shown);
    // A range of no lines is named after the line before it.
    let range = |before: usize, count: usize| {
        let first = before + usize::from(count > 0);
        format!("{first},{count}")
    };
    let (old, new) = (range(before_old, old), range(before_new, new));
    out.push_str(&format!("@@ -{old} +{new} @@\n"));
    for change in shown {
        let (sign, line) = match change {
            Change::Same(line) => (' ', line),
            Change::Old(line) => ('-', line),
            Change::New(line) => ('+', line),
        };
        out.push(sign);
        out.push_str(line);
        if !line.ends_with('\n') {
            out.push_str("\n\\ No newline at end of file\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::unified;

    #[test]
    fn diffs() {
        let same = "a\nb\nc\nd\ne\nf\ng\nh\ni\n";
        for (old, new, want) in [
            (same, same, ""),
            (
                "a  b",
                "a b\n",
                "@@ -1,1 +1,1 @@\n-a  b\n\\ No newline at end of file\n+a b\n",
            ),
            ("a\n\n\nb\n", "a\n\nb\n", "@@ -1,4 +1,3 @@\n a\n \n-\n b\n"),
            ("\n\na\n", "a\n", "@@ -1,3 +1,1 @@\n-\n-\n a\n"),
            ("a\n\n", "a\n", "@@ -1,2 +1,1 @@\n a\n-\n"),
            (
                "run a\n\trun b\nc\n",
                "RUN a\nRUN b\nc\n",
                "@@ -1,3 +1,3 @@\n-run a\n-\trun b\n+RUN a\n+RUN b\n c\n",
            ),
        ] {
            let want = match want {
                "" => String::new(),
                hunks => format!("--- f\n+++ f\n{hunks}"),
            };
            assert_eq!(unified("f", old, new), want, "{old:?}");
        }
        // Changes that are far apart have hunks of their own.
        let old = format!(" x\n{same} y\n");
        let new = format!("x\n{same}y\n");
        let found = unified("f", &old, &new);
        assert_eq!(
            found,
            "--- f\n+++ f\n@@ -1,4 +1,4 @@\n- x\n+x\n a\n b\n c\n@@ -8,4 +8,4 @@\n g\n h\n i\n- y\n+y\n"
        );
    }
}
