//! Heredocs: their markers on a line and the lines that follow.

use crate::ast::Heredoc;
use crate::diagnostic::{Diagnostic, Findings};
use crate::expand::{split_raw, unquote_words};
use crate::lines::Lines;
use crate::span::{Span, Spanned, Text};
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
    // Most delimiters are plain words, or such in quotes; only others need the lexer.
    let quoted = ['\'', '"']
        .into_iter()
        .find_map(|quote| delimiter.strip_prefix(quote)?.strip_suffix(quote));
    let name = quoted.unwrap_or(delimiter);
    if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Some(Marker {
            name: name.to_owned(),
            expand: quoted.is_none(),
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
    // What is in `${...}` splits into words, too, and loses its escapes: that takes the lexer.
    if line.contains("${") {
        let words = split_raw(line).unwrap_or_default();
        return markers_of(words.iter().map(String::as_str), is_command);
    }
    markers_of(split_plain(line).unwrap_or_default(), is_command)
}

fn markers_of<'w>(words: impl IntoIterator<Item = &'w str>, is_command: bool) -> Vec<Marker> {
    let mut found = Vec::new();
    let mut open: Option<&str> = None;
    for word in words {
        match open.take() {
            Some(mark) => found.extend(marker(&format!("{mark}{word}"))),
            None if is_command && word.trim_start_matches(|c: char| c.is_ascii_digit()) == "<<" => {
                open = Some(word);
            }
            None => found.extend(marker(word)),
        }
    }
    found
}

/// Splits a line without `${` at unquoted white space; none when a quote is open.
fn split_plain(line: &str) -> Option<Vec<&str>> {
    let mut words = Vec::new();
    let mut begin = None;
    let mut quote = None;
    let mut chars = line.char_indices();
    while let Some((at, c)) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            words.extend(begin.take().and_then(|begin: usize| line.get(begin..at)));
            continue;
        }
        begin.get_or_insert(at);
        match (c, quote) {
            ('"' | '\'', None) => quote = Some(c),
            (_, Some(open)) if c == open => quote = None,
            ('\\', None) => {
                chars.next();
            }
            // In double quotes an escape only means something before these three.
            ('\\', Some('"')) if chars.as_str().starts_with(['"', '$', '\\']) => {
                chars.next();
            }
            _ => {}
        }
    }
    if quote.is_some() {
        return None;
    }
    words.extend(begin.and_then(|begin| line.get(begin..)));
    Some(words)
}

/// Takes the lines of every heredoc that `line` opens. Without its end a heredoc reaches to the
/// end of the file and is an error at `span`.
pub(crate) fn read(
    line: &str,
    is_command: bool,
    span: Span,
    lines: &mut Lines<'_>,
    findings: &mut Findings,
) -> Option<Vec<Heredoc>> {
    let mut found = Vec::new();
    for marker in markers(line, is_command) {
        let Some(content) = content(&marker, lines) else {
            findings.error(|| {
                let shown: String = marker.name.chars().take(40).collect();
                Diagnostic::error(
                    "unterminated-heredoc",
                    format!("the heredoc `{shown}` has no end"),
                    span,
                )
                .with_help(format!("end it with a line that holds only `{shown}`"))
            });
            return None;
        };
        found.push(Heredoc {
            name: marker.name,
            content,
            expand: marker.expand,
            strip_tabs: marker.strip_tabs,
            fd: marker.fd,
        });
    }
    Some(found)
}

/// The lines up to the delimiter, which is taken; none when there is no delimiter.
fn content(marker: &Marker, lines: &mut Lines<'_>) -> Option<Text> {
    let mut value = String::new();
    let mut start = None;
    for line in lines {
        let start = *start.get_or_insert(line.start);
        let without_tabs = |text| {
            if marker.strip_tabs {
                str::trim_start_matches(text, '\t')
            } else {
                text
            }
        };
        if without_tabs(line.body) == marker.name {
            return Some(Spanned::new(value, Span::new(start, line.start)));
        }
        value.push_str(without_tabs(line.text));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Marker, marker, markers, split_plain, split_raw};

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
    fn both_splitters_agree() {
        let parts = [
            "<<A", " ", "\"", "'", "\\", "$", "$x", "<<", "-", "\u{e9}", "\u{2003}",
        ];
        // Every line of five parts.
        for n in 0..parts.len().pow(5) {
            let line: String = (0..5)
                .map(|place| parts[n / parts.len().pow(place) % parts.len()])
                .collect();
            let fast: Option<Vec<_>> =
                split_plain(&line).map(|words| words.into_iter().filter_map(marker).collect());
            let slow: Option<Vec<_>> = split_raw(&line)
                .ok()
                .map(|words| words.iter().filter_map(|w| marker(w)).collect());
            assert_eq!(fast, slow, "{line:?}");
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
            ("RUN \"a\\\" <<A\" <<B", &["B"]),
            ("RUN 'a\\' <<A", &["A"]),
            ("RUN \"a\\x <<A\" <<\"B\\x\"", &["B\\x"]),
            ("RUN $x <<A $( <<B", &["A", "B"]),
            ("RUN ${x:- <<A } <<B", &["A", "B"]),
            ("RUN \u{2003}<<A\\", &["A"]),
        ] {
            let found: Vec<_> = markers(line, true).into_iter().map(|m| m.name).collect();
            assert_eq!(found, want, "{line}");
        }
    }
}
