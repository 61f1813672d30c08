//! Annotations that workflows of GitHub show beside the lines that they are about.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::printable;
use kiln_engine::SourceText;

/// An annotation of a workflow of GitHub, an `error` or a `warning`: `::error file=…,line=…::…`.
pub(crate) fn annotation(
    level: &str,
    source: &SourceText,
    lines: Option<(usize, usize)>,
    text: &str,
) -> String {
    let workspace = std::env::var_os("GITHUB_WORKSPACE").map(PathBuf::from);
    let file = match &source.file {
        Some(file) => in_repository(file, workspace.as_deref()),
        None => source.name.clone(),
    };
    command(level, &file, lines, text)
}

/// The path of a file in its repository: GitHub knows no other.
fn in_repository(file: &Path, workspace: Option<&Path>) -> String {
    let whole = std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf());
    let below = workspace.and_then(|top| whole.strip_prefix(top).ok());
    let path = below.unwrap_or_else(|| file.strip_prefix("./").unwrap_or(file));
    path.display().to_string()
}

fn command(level: &str, file: &str, lines: Option<(usize, usize)>, text: &str) -> String {
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let mut out = format!("::{level} file={}", property(file));
    if let Some((first, last)) = lines {
        out.push_str(&format!(",line={first},endLine={last}"));
    }
    out.push_str("::");
    out.push_str(&data(text));
    out
}

/// Text as workflow commands take it.
fn data(text: &str) -> String {
    let text = printable::text(text).replace("##[", "## [");
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// Text of others where workflow commands are read: a line that would be one (`::add-mask::…`, `##[…]…`)
/// is marked, and none any more.
pub(crate) fn inert(text: &str) -> Cow<'_, str> {
    match is_here() && is_command(text) {
        true => without_commands(text).into(),
        false => text.into(),
    }
}

fn is_command(text: &str) -> bool {
    text.contains("##[") || text.lines().any(|line| line.trim_start().starts_with("::"))
}

fn without_commands(text: &str) -> String {
    let lines = text.split('\n').map(|line| {
        let mark = if line.trim_start().starts_with("::") {
            "| "
        } else {
            ""
        };
        format!("{mark}{}", line.replace("##[", "## ["))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether annotations are read here.
pub(crate) fn is_here() -> bool {
    std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_is_no_command() {
        for (text, want) in [
            ("a\nb ::c\n", None),
            ("::add-mask::x", Some("| ::add-mask::x")),
            ("a\n  ::error::x\nb", Some("a\n|   ::error::x\nb")),
            ("#5 0.1 ##[add-mask]x", Some("#5 0.1 ## [add-mask]x")),
        ] {
            assert_eq!(is_command(text), want.is_some(), "{text}");
            assert_eq!(without_commands(text), want.unwrap_or(text));
        }
    }

    #[test]
    fn annotations_hold_any_text() {
        assert_eq!(
            command("error", "a,b/Dockerfile", Some((3, 4)), "100% bad:\nreally"),
            "::error file=a%2Cb/Dockerfile,line=3,endLine=4::100%25 bad:%0Areally"
        );
        assert_eq!(command("warning", "D", None, "x"), "::warning file=D::x");
        let at = |file: &str, top: Option<&str>| in_repository(Path::new(file), top.map(Path::new));
        assert_eq!(at("/w/a/Dockerfile", Some("/w")), "a/Dockerfile");
        assert_eq!(at("./a/Dockerfile", None), "a/Dockerfile");
        assert_eq!(at("/x/Dockerfile", Some("/w")), "/x/Dockerfile");
    }
}
