//! Text of others, made fit for a terminal: labels, names, lines of Dockerfiles and output may hold what
//! moves the cursor, or makes a terminal do something.
//!
//! These are the control characters of C0 and C1 (U+0000 to U+001F, U+007F to U+009F) and the sequences
//! that ESC begins, and the characters by which Unicode turns the direction of text that follows (U+202A to
//! U+202E, U+2066 to U+2069): with them a name is shown that is not the one that counts.

use std::borrow::Cow;

/// A line of output as text: what follows the last carriage return, without what moves the cursor.
pub(crate) fn line(bytes: &[u8]) -> String {
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    let last = bytes.rsplit(|b| *b == b'\r').next().unwrap_or(bytes);
    without_controls(&String::from_utf8_lossy(last), |_| false).replace('\t', "    ")
}

/// Text of one or more lines: line ends and tabs stay.
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    match text.contains(is_harmful) {
        true => without_controls(text, |c| c == '\n').into(),
        false => text.into(),
    }
}

/// Cells of a table's row, with tabs between them. A line end or tab in a cell would begin another.
pub(crate) fn row<'a>(cells: impl IntoIterator<Item = &'a str>) -> String {
    let cells = cells.into_iter().map(|cell| {
        let one_line = cell.replace(['\n', '\r', '\t'], " ");
        text(&one_line).into_owned()
    });
    cells.collect::<Vec<_>>().join("\t")
}

/// Text on one line, with a mark for each control character.
pub(crate) fn marked(text: &str) -> String {
    text.replace(moves, "?")
}

/// Text with marks for control characters, in which nothing has moved: each has as many bytes as before.
pub(crate) fn in_place(text: &str) -> Cow<'_, str> {
    let mut chars = text.chars().peekable();
    let mut is_lone_return = false;
    while let Some(c) = chars.next() {
        is_lone_return |= c == '\r' && chars.peek() != Some(&'\n');
    }
    if !is_lone_return && !text.contains(|c| is_harmful(c) && c != '\r') {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\r' if chars.peek() == Some(&'\n') => c,
            c if is_harmful(c) && c.is_ascii() => '?',
            c if is_harmful(c) && c.len_utf8() == 2 => '\u{bf}',
            c if is_harmful(c) => '\u{fffd}',
            c => c,
        });
    }
    out.into()
}

/// JSON with those control characters escaped that it may hold as they are.
pub(crate) fn json(json: String) -> String {
    let is_bare = |c: char| !c.is_ascii_control() && moves(c) || c == '\u{7f}';
    if !json.contains(is_bare) {
        return json;
    }
    let mut out = String::with_capacity(json.len() + 8);
    for c in json.chars() {
        match is_bare(c) {
            true => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => out.push(c),
        }
    }
    out
}

fn is_harmful(c: char) -> bool {
    moves(c) && !matches!(c, '\n' | '\t')
}

/// Whether it moves the cursor, or the text that follows.
fn moves(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` without control characters but tabs and those that are `kept`.
fn without_controls(text: &str, kept: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            if chars.next_if_eq(&'[').is_some() {
                while chars.next_if(|c| (' '..='?').contains(c)).is_some() {}
                chars.next_if(|c| ('@'..='~').contains(c));
            }
        } else if c == '\t' || kept(c) || !moves(c) {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clears a screen, sets a title, and the same by C1; a bell, DEL, a lone return; text backwards.
    const EVIL: &str = "a\u{1b}[2J\u{1b}]0;t\u{7}b\u{9b}2J\u{9d}c\u{7f}\u{85}d\u{90}\u{e9}\r\u{0}\u{8}\u{202e}\u{2069}e";

    #[test]
    fn lines_lose_what_moves_the_cursor() {
        let cases: [(&[u8], &str); 7] = [
            (b"plain", "plain"),
            (b"10%\r50%\r100%", "100%"),
            (b"done\r", "done"),
            (b"\x1b[31mred\x1b[0m\x1b[2K", "red"),
            (b"a\tb\x07", "a    b"),
            (b"\x1b[", ""),
            (b"\xc2\x9b31mx\xff", "31mx\u{fffd}"),
        ];
        for (bytes, want) in cases {
            assert_eq!(line(bytes), want);
        }
    }

    #[test]
    fn text_of_others_moves_nothing() {
        assert_eq!(text("one\n\ttwo \u{e9}"), "one\n\ttwo \u{e9}");
        assert_eq!(text("a\u{1b}[1\nb"), "a\nb");
        assert_eq!(row(["a\nb", "c\td"]), "a b\tc d");
        let is_clean = |text: &str| !text.contains(is_harmful);
        for made in [text(EVIL).into_owned(), row([EVIL]), marked(EVIL)] {
            assert!(is_clean(&made), "{made:?}");
            let words: String = made
                .chars()
                .filter(|c| "abcde\u{e9}".contains(*c))
                .collect();
            assert_eq!(words, "abcd\u{e9}e");
        }
        let same = in_place(EVIL);
        assert!(is_clean(&same), "{same:?}");
        let places = |text: &str| text.char_indices().map(|(at, _)| at).collect::<Vec<_>>();
        assert_eq!(places(&same), places(EVIL));
        assert_eq!(in_place("a\r\nb\n"), "a\r\nb\n");
    }

    #[test]
    fn json_says_the_same() {
        let value = serde_json::json!({ EVIL: [EVIL] });
        let written = json(value.to_string());
        assert!(is_plain(&written), "{written:?}");
        let read: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(read, value);
    }

    fn is_plain(text: &str) -> bool {
        !text.contains(moves)
    }
}
