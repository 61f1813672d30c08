//! Dockerfiles in another encoding than UTF-8: as with all who read them, comments may be.

use kiln_parser::{LineIndex, Span, parse};

/// A place that is no UTF-8, and must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is not UTF-8 text")]
pub(super) struct NoText {
    /// From 1.
    line: usize,
}

/// The text of a Dockerfile, with replacement characters for what is no UTF-8 in its comments.
pub(super) fn dockerfile(bytes: Vec<u8>) -> Result<String, NoText> {
    let bytes = match String::from_utf8(bytes) {
        Ok(text) => return Ok(text),
        Err(error) => error.into_bytes(),
    };
    let (mut text, mut replaced) = (String::with_capacity(bytes.len()), Vec::new());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            replaced.push(text.len());
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    // A line of a here-document is none of the Dockerfile's, whatever it begins with.
    let parsed = parse(&text);
    let documents: Vec<Span> = parsed
        .dockerfile
        .instructions
        .iter()
        .flat_map(|instruction| instruction.heredocs())
        .map(|document| document.content.span)
        .collect();
    let is_comment = |at: &usize| {
        let start = text.get(..*at).and_then(|before| before.rfind('\n'));
        let line = text.get(start.map_or(0, |end| end + 1)..*at);
        line.is_some_and(|line| line.trim_start().starts_with('#'))
            && !documents.iter().any(|d| (d.start..d.end).contains(at))
    };
    match replaced.iter().find(|at| !is_comment(at)) {
        None => Ok(text),
        Some(at) => Err(NoText {
            line: LineIndex::new(&text).line(*at),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::dockerfile;

    #[test]
    fn comments_alone_may_be_in_another_encoding() {
        let cases: [(&[u8], Result<&str, usize>); 9] = [
            (b"# caf\xe9\nFROM a\n", Ok("# caf\u{fffd}\nFROM a\n")),
            (b"# caf\xc3\xa9\nFROM a\n", Ok("# caf\u{e9}\nFROM a\n")),
            (
                b"FROM a\n  # \xe9\xe8\n",
                Ok("FROM a\n  # \u{fffd}\u{fffd}\n"),
            ),
            (
                b"FROM a\nRUN x \\\n# \xe9\n  y\n",
                Ok("FROM a\nRUN x \\\n# \u{fffd}\n  y\n"),
            ),
            (
                b"# syntax=x\xe9\nFROM a\n",
                Ok("# syntax=x\u{fffd}\nFROM a\n"),
            ),
            (b"FROM a\nRUN echo \xe9\n", Err(2)),
            (b"FROM a\nLABEL a=b # \xe9\n", Err(2)),
            (b"FROM a\nRUN <<E\n# \xe9\nE\n", Err(3)),
            (b"\xff\xfeF\0R\0O\0M\0", Err(1)),
        ];
        for (bytes, want) in cases {
            let found = dockerfile(bytes.to_vec());
            let found = found.as_deref().map_err(|e| e.line);
            assert_eq!(found, want, "{bytes:?}");
        }
    }
}
