//! Tables of expansions, checked against what `docker build` makes of them.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{ExpandError, Fuel, Lookup, expand_raw, expand_word, expand_words, split_raw};

fn env() -> BTreeMap<String, String> {
    [
        ("PWD", "/home"),
        ("x", "value"),
        ("empty", ""),
        ("list", "a b  c"),
        ("path", "/usr/lib/x.tar.gz"),
        ("한", "k"),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .collect()
}

fn word(text: &str) -> Result<String, ExpandError> {
    expand_word(text, '\\', &env(), &mut Fuel::default()).map(|e| e.text)
}

#[test]
fn words_expand() {
    let cases = [
        // Quotes and escapes.
        ("hello", "hello"),
        ("he'll'o", "hello"),
        ("he'llo$x'", "hello$x"),
        ("\"he'llo\"", "he'llo"),
        ("he\\'llo", "he'llo"),
        ("he\\\\llo", "he\\llo"),
        ("abc\\tdef", "abctdef"),
        ("\"abc\\tdef\"", "abc\\tdef"),
        ("'abc\\tdef'", "abc\\tdef"),
        ("hello\\", "hello"),
        ("\"hello\\\\\"", "hello\\"),
        ("\"a\\\"b\\$x\"", "a\"b$x"),
        ("\"\"", ""),
        // Plain names.
        ("$x.", "value."),
        ("${x}y", "valuey"),
        ("$xy", ""),
        ("\"$x\"", "value"),
        ("'$x'", "$x"),
        ("\\$x", "$x"),
        ("$", "$"),
        ("he$", "he$"),
        ("$.", "$."),
        ("\"$\"", "$"),
        ("$한", "k"),
        // Positional and special names are unset.
        ("a$1b", "ab"),
        ("$12x", "x"),
        ("$@$*$#$?$-$$$!$0", ""),
        ("${@}${1}", ""),
        // Defaults and alternatives.
        ("${x-d}${u-d}${empty-d}", "valued"),
        ("${x:-d}${u:-d}${empty:-d}", "valuedd"),
        ("${x+a}${u+a}${empty+a}", "aa"),
        ("${x:+a}${u:+a}${empty:+a}", "a"),
        ("${u:-${v:-$x}}", "value"),
        ("${u:-'${x}'}", "${x}"),
        ("${u:-\"${x} }\"}", "value }"),
        ("${u:-a\\}b}", "a}b"),
        ("${u-a:b}", "a:b"),
        ("${x?m}${empty?m}${x:?m}", "valuevalue"),
        // Patterns.
        ("${path#*/}", "usr/lib/x.tar.gz"),
        ("${path##*/}", "x.tar.gz"),
        ("${path%.*}", "/usr/lib/x.tar"),
        ("${path%%.*}", "/usr/lib/x"),
        ("${path%/*}", "/usr/lib"),
        ("${path#z}", "/usr/lib/x.tar.gz"),
        ("${u#z}", ""),
        ("${path/\\//_}", "_usr/lib/x.tar.gz"),
        ("${path//\\//_}", "_usr_lib_x.tar.gz"),
        ("${path/tar/zip}", "/usr/lib/x.zip.gz"),
        ("${path/./}", "/usr/lib/xtar.gz"),
        ("${path/l*b/$x}", "/usr/value/x.tar.gz"),
        ("${path//\\//\\/}", "\\/usr\\/lib\\/x.tar.gz"),
        ("${x/a/$1}", "vlue"),
        ("${x///}", "value"),
        ("${x//?/.}", "....."),
        ("{$x}", "{value}"),
        ("$list", "a b  c"),
    ];
    for (text, want) in cases {
        assert_eq!(word(text).as_deref(), Ok(want), "{text}");
    }
}

#[test]
fn malformed_words_fail() {
    for text in [
        "'a",
        "\"a",
        "a\"b'c'",
        "${",
        "${}",
        "${x",
        "${:x}",
        "${{x}}",
        "${x:}",
        "${x=1}",
        "${x!}",
        "${x:-y",
        "${x/a}",
        "${x//a}",
        "${x/a/b",
        "${u?}",
        "${u:?no}",
        "${empty:?}",
        "${x#\\q}",
        "${.}",
        "\"${x\"",
        "${x:/a/b}",
    ] {
        assert!(word(text).is_err(), "{text}: {:?}", word(text));
    }
    assert_eq!(
        word("${u?need $x}"),
        Err(ExpandError::Required {
            name: "u".to_owned(),
            message: "need value".to_owned()
        })
    );
    let deep = format!("{}{}", "${a:-".repeat(5000), "}".repeat(5000));
    assert!(matches!(word(&deep), Err(ExpandError::Depth { .. })));
}

#[test]
fn the_escape_can_be_a_backtick() {
    for (text, want) in [
        ("`$x", "$x"),
        ("\\$x", "\\value"),
        ("\"a`\"b`n\"", "a\"b`n"),
        ("C:\\a", "C:\\a"),
    ] {
        assert_eq!(
            expand_word(text, '`', &env(), &mut Fuel::default())
                .map(|e| e.text)
                .as_deref(),
            Ok(want),
            "{text}"
        );
    }
}

#[test]
fn words_split_after_expansion() {
    let cases: [(&str, &[&str]); 10] = [
        ("hello world", &["hello", "world"]),
        ("  a\tb ", &["a", "b"]),
        ("$list d", &["a", "b", "c", "d"]),
        ("\"$list\" d", &["a b  c", "d"]),
        ("'a b'c\\ d e", &["a bc d", "e"]),
        ("\"\" a", &["a"]),
        ("$empty", &[]),
        ("x$list", &["xa", "b", "c"]),
        ("$u$x", &["value"]),
        ("", &[]),
    ];
    for (text, want) in cases {
        let found = expand_words(text, '\\', &env(), &mut Fuel::default()).expect("well formed");
        assert_eq!(found, want, "{text}");
    }
}

#[test]
fn raw_text_keeps_quotes() {
    for (text, want) in [
        ("'$x' \"$x\"\n", "'value' \"value\"\n"),
        ("it's \\$x", "it's $x"),
        ("a\\nb \\\\", "anb \\"),
        ("${u:-\"d\"}", "\"d\""),
    ] {
        assert_eq!(
            expand_raw(text, '\\', &env(), &mut Fuel::default())
                .map(|e| e.text)
                .as_deref(),
            Ok(want),
            "{text}"
        );
    }
}

#[test]
fn names_are_reported() {
    let found = expand_word(
        "$x ${u} ${v:-d} $x $u ${w+a}",
        '\\',
        &env(),
        &mut Fuel::default(),
    )
    .expect("well formed");
    assert_eq!(found.used, ["x", "u", "v", "w"]);
    assert_eq!(found.unmatched, ["u"]);
}

#[test]
fn splitting_changes_nothing_inside_words() {
    for (text, want) in [
        (
            "cat <<'A' \"b c\" d\\ e",
            &["cat", "<<'A'", "\"b c\"", "d\\ e"][..],
        ),
        (
            "${x:-y} $z ${a/b/c} ${q}",
            &["${x:-y}", "$z", "${a/b/c}", "${q}"],
        ),
    ] {
        assert_eq!(split_raw(text).expect("well formed"), want, "{text}");
    }
    assert!(split_raw("it's").is_err());
}

#[test]
fn lookups() {
    let pairs = vec![
        ("a".to_owned(), "1".to_owned()),
        ("a".to_owned(), "2".to_owned()),
    ];
    assert_eq!(Lookup::get(&pairs.as_slice(), "a").as_deref(), Some("2"));
    assert_eq!(Lookup::get(&pairs, "b"), None);
    assert_eq!(
        Lookup::get(&|n: &str| Some(n.to_uppercase()), "q").as_deref(),
        Some("Q")
    );
}

proptest! {
    #[test]
    fn plain_text_is_kept(text in "[^$'\"\\\\]*") {
        prop_assert_eq!(word(&text), Ok(text.clone()));
        prop_assert_eq!(expand_raw(&text, '\\', &env(), &mut Fuel::default()).map(|e| e.text), Ok(text));
    }

    #[test]
    fn nothing_panics(text in "[$@{}:/#%+?'\"\\\\`\\-a-c*. \u{e9}]{0,40}", backtick in any::<bool>()) {
        let escape = if backtick { '`' } else { '\\' };
        let _ = expand_word(&text, escape, &env(), &mut Fuel::default());
        let _ = expand_words(&text, escape, &env(), &mut Fuel::default());
        let _ = expand_raw(&text, escape, &env(), &mut Fuel::default());
    }
}
