//! Files of the context: what rules may know of them, and files that are copied in vain.

use super::{At, Findings, Rule};

/// What rules ask of the main context. Paths are relative to it, without `.` or `..` in them.
pub trait ContextFiles: Send + Sync + std::fmt::Debug {
    /// Whether the ignore file leaves a path out with all that is below it. An empty path is the
    /// context itself; one may have a slash in front, as it was written.
    fn leaves_out(&self, path: &str) -> bool;
    /// The text of a file that is part of the context.
    fn read(&self, path: &str) -> Option<String>;
    /// The names at its top.
    fn names(&self) -> Vec<String>;
}

/// A source of COPY or ADD that is taken from the main context, expanded.
pub(crate) fn check_source(is_add: bool, source: &str, at: At, findings: &Findings) {
    let Some(context) = findings.context() else {
        return;
    };
    let mut path = clean(source);
    // As BuildKit, which leaves a slash in front where it is: a pattern that names a directory at the top
    // does not match it then, and one for any depth does.
    if source.starts_with('/') && !path.is_empty() {
        path.insert(0, '/');
    }
    if context.leaves_out(&path) {
        let path = if path.is_empty() { "." } else { &path };
        let keyword = if is_add { "ADD" } else { "COPY" };
        let detail = format!("`{keyword}` names `{path}`, which the ignore file leaves out");
        findings.report(Rule::CopyIgnoredFile, at, detail);
    }
}

/// A path below the context's root; empty for the root itself.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}
