//! Heredocs: their markers on a line and the lines that follow.

use crate::ast::Heredoc;
use crate::diagnostic::Diagnostic;
use crate::expand::{split_raw, unquote_words};
use crate::lines::Lines;
use crate::span::{Span, Spanned};
use crate::words::heredoc_marker;

/// The end of a heredoc and how to read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    /// Delimiter without quotes.
    pub(crate) name: String,
    expand: bool,
    strip_tabs: bool,
    fd: u32,
}

/// Reads one word as a marker.
///
/// The word is a marker only as a whole, so `a<<b` and `<<<x` are none, and `<<EOF)` asks for a
/// line `EOF)`.
pub(crate) fn marker(word: &str) -> Option<Marker> {
    let (fd, strip_tabs, delimiter) = heredoc_marker(word)?;
    let fd = if fd.is_empty() {
        0
    } else {
        fd.parse().unwrap_or(u32::MAX)
    };
    // Most delimiters are plain; only others need the lexer.
    if delimiter
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'_')
    {
        return Some(Marker {
            name: delimiter.to_owned(),
            expand: true,
            strip_tabs,
            fd,
        });
    }
    let [name] = <[String; 1]>::try_from(unquote_words(delimiter, false).ok()?).ok()?;
    let [quoted] = <[String; 1]>::try_from(unquote_words(delimiter, true).ok()?).ok()?;
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    Some(Marker {
        expand: quotes(&name) == quotes(&quoted),
        name,
        strip_tabs,
        fd,
    })
}

/// The markers on a line, from left to right. A line with open quotes has none. In a command the
/// delimiter may be a word of its own: `cat << EOF`.
fn markers(line: &str, is_command: bool) -> Vec<Marker> {
    if !line.contains("<<") {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut open: Option<String> = None;
    for word in split_raw(line).unwrap_or_default() {
        let word = match open.take() {
            Some(mark) => mark + &word,
            None => word,
        };
        let mark = word.trim_start_matches(|c: char| c.is_ascii_digit());
        if is_command && mark == "<<" {
            open = Some(word);
            continue;
        }
        found.extend(marker(&word));
    }
    found
}

/// Takes the lines of every heredoc that `line` opens. Without its end a heredoc reaches to the
/// end of the file and is an error at `span`.
pub(crate) fn read(
    line: &str,
    is_command: bool,
    span: Span,
    lines: &mut Lines<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Vec<Heredoc>> {
    let mut found = Vec::new();
    for marker in markers(line, is_command) {
        let mut value = String::new();
        let mut content: Option<Span> = None;
        let mut ended = false;
        for line in lines.by_ref() {
            let body = line.body();
            let text = if marker.strip_tabs {
                line.text.trim_start_matches('\t')
            } else {
                line.text
            };
            let body = if marker.strip_tabs {
                body.trim_start_matches('\t')
            } else {
                body
            };
            if body == marker.name {
                let at = Span::new(line.start, line.start);
                content.get_or_insert(at);
                ended = true;
                break;
            }
            value.push_str(text);
            let here = Span::new(line.start, line.start + line.text.len());
            content = Some(content.map_or(here, |before| before.to(here)));
        }
        if !ended {
            diagnostics.push(
                Diagnostic::error(
                    "unterminated-heredoc",
                    format!("the heredoc `{}` has no end", marker.name),
                    span,
                )
                .with_help(format!(
                    "end it with a line that holds only `{}`",
                    marker.name
                )),
            );
            return None;
        }
        let end = lines.last_end();
        found.push(Heredoc {
            name: marker.name,
            content: Spanned::new(value, content.unwrap_or(Span::new(end, end))),
            expand: marker.expand,
            strip_tabs: marker.strip_tabs,
            fd: marker.fd,
        });
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::{Marker, marker, markers};

    fn expected(name: &str, expand: bool, strip_tabs: bool, fd: u32) -> Option<Marker> {
        Some(Marker {
            name: name.to_owned(),
            expand,
            strip_tabs,
            fd,
        })
    }

    #[test]
    fn markers_of_words() {
        for (word, want) in [
            ("<<EOF", expected("EOF", true, false, 0)),
            ("<<-EOF", expected("EOF", true, true, 0)),
            ("<<'EOF'", expected("EOF", false, false, 0)),
            ("<<-\"EOF\"", expected("EOF", false, true, 0)),
            ("<<E'O'F", expected("EOF", false, false, 0)),
            ("3<<EOF", expected("EOF", true, false, 3)),
            ("99999999999<<EOF", expected("EOF", true, false, u32::MAX)),
            ("<<E\\ F", expected("E F", true, false, 0)),
            ("<<'a b'", expected("a b", false, false, 0)),
            ("<<$x", expected("$x", true, false, 0)),
            ("<<\\'a", expected("'a", true, false, 0)),
            ("<<", None),
            ("<<<a", None),
            ("<< ", None),
            ("<<''", None),
            ("a<<b", None),
        ] {
            assert_eq!(marker(word), want, "{word}");
        }
    }

    #[test]
    fn markers_of_lines() {
        for (line, want) in [
            ("RUN cat <<A 3<<B > f", &["A", "B"][..]),
            ("RUN echo \"<<A\" '<<B' <<C", &["C"]),
            ("RUN echo it's <<A", &[]),
            ("RUN echo \\<<A", &[]),
            ("RUN a", &[]),
        ] {
            let found: Vec<_> = markers(line, true).into_iter().map(|m| m.name).collect();
            assert_eq!(found, want, "{line}");
        }
    }
}
