//! Scripts that came from Windows: the kernel takes the carriage return at the end of `#!/bin/sh` for a part
//! of the interpreter's name, and a shell says no more than `not found`.

use std::path::Path;

use kiln_cache::{LayerId, Store};
use kiln_solver::plan::Exec;
use kiln_sys::RootDir;

use crate::error::Error;

/// The exit code of a shell that does not find a command.
const NOT_FOUND: i32 = 127;

/// Bytes of a first line that are looked at.
const FIRST_LINE: usize = 256;

/// Bytes of a script at most: what is larger is none.
const MAX_SCRIPT: u64 = 16 << 20;

/// Names the script whose first line ends with a carriage return, if a command failed for the want of
/// one that it names.
pub(super) fn blame_line_ends(
    error: Error,
    op: &Exec,
    store: &Store,
    below: &[LayerId],
    upper: &Path,
) -> Error {
    match error {
        Error::Command { text, code } if code == NOT_FOUND => match find(op, store, below, upper) {
            Some(script) => Error::CarriageReturn { text, code, script },
            None => Error::Command { text, code },
        },
        other => other,
    }
}

fn find(op: &Exec, store: &Store, below: &[LayerId], upper: &Path) -> Option<String> {
    let upper = RootDir::open_trusted(upper).ok()?;
    let view = store.view(below).ok()?;
    let argv = op.command.argv();
    let mut words = argv
        .iter()
        .flat_map(|word| word.split(|c: char| c.is_whitespace() || ";&|()\"'".contains(c)));
    words.find_map(|word| {
        if word.is_empty() || word.starts_with('-') {
            return None;
        }
        let at = Path::new(&op.cwd).join(word);
        let at = at.strip_prefix("/").unwrap_or(&at);
        let roots = [&upper, view.root()];
        let bytes = roots
            .into_iter()
            .find_map(|root| root.read(at, MAX_SCRIPT).ok())?;
        ends_with_return(&bytes).then(|| word.to_owned())
    })
}

/// Whether a text begins with `#!` and its first line ends with a carriage return.
fn ends_with_return(bytes: &[u8]) -> bool {
    let head = bytes.get(..FIRST_LINE).unwrap_or(bytes);
    let first = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    head.starts_with(b"#!") && first.ends_with(b"\r")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_scripts_with_a_return_in_the_first_line_count() {
        for (bytes, want) in [
            (&b"#!/bin/sh\r\necho\r\n"[..], true),
            (b"#!/bin/sh\r", true),
            (b"#!/bin/sh\necho\r\n", false),
            (b"echo\r\n", false),
            (b"", false),
            (b"#!\xff\r\n", true),
        ] {
            assert_eq!(ends_with_return(bytes), want, "{bytes:?}");
        }
    }
}
