//! Any text as a word with variables. The first byte chooses the escape character.

use kiln_parser::{Expanded, Fuel, expand_raw, expand_word, expand_words};

/// Bytes that one expansion may handle here. The usual bound allows words that take seconds with the
/// fuzzer's counters in them; what holds for a small one holds for it.
const BOUND: usize = 4 << 20;

/// What one expansion can write at most, in bytes: its own text comes on top of what it handles.
const LARGEST: usize = BOUND + (1 << 20);

/// Checks what holds for any text.
pub(crate) fn check(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(rest) else {
        return;
    };
    let escape = if first % 2 == 0 { '\\' } else { '`' };
    let env = |name: &str| match name {
        "a" => Some("some/value.tar.gz".to_owned()),
        "b" => Some(String::new()),
        "c" => Some("x  y\n*?\\'\"${a}\u{e9}".to_owned()),
        "d" => Some("ab/".repeat(3000)),
        _ => None,
    };
    let word = expand_word(text, escape, &env, &mut Fuel::new(BOUND));
    for expanded in [
        &word,
        &expand_raw(text, escape, &env, &mut Fuel::new(BOUND)),
    ]
    .into_iter()
    .flatten()
    {
        names(expanded);
        assert!(expanded.text.len() <= LARGEST);
    }
    if !text.contains(['$', '\'', '"', escape]) {
        assert_eq!(word.map(|e| e.text).as_deref(), Ok(text), "plain text");
    }
    if let Ok(words) = expand_words(text, escape, &env, &mut Fuel::new(BOUND)) {
        assert!(words.iter().all(|word| !word.is_empty()));
    }
}

/// Each name is reported once, and what was unmatched was used.
fn names(expanded: &Expanded) {
    let used: std::collections::BTreeSet<_> = expanded.used.iter().collect();
    assert_eq!(used.len(), expanded.used.len(), "{:?}", expanded.used);
    assert!(expanded.unmatched.iter().all(|name| used.contains(name)));
}
