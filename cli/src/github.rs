//! Annotations that workflows of GitHub show beside the lines that they are about.

/// An annotation of a workflow of GitHub: `::error file=…,line=…::…`.
pub(crate) fn error(file: &str, lines: Option<(usize, usize)>, text: &str) -> String {
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let mut out = format!("::error file={}", property(file));
    if let Some((first, last)) = lines {
        out.push_str(&format!(",line={first},endLine={last}"));
    }
    out.push_str("::");
    out.push_str(&data(text));
    out
}

/// Text as workflow commands take it.
fn data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// Whether annotations are read here.
pub(crate) fn is_here() -> bool {
    std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_hold_any_text() {
        assert_eq!(
            error("a,b/Dockerfile", Some((3, 4)), "100% bad:\nreally"),
            "::error file=a%2Cb/Dockerfile,line=3,endLine=4::100%25 bad:%0Areally"
        );
        assert_eq!(error("D", None, "x"), "::error file=D::x");
    }
}
