//! Tables for durations, modes and switches.

use proptest::prelude::*;

use super::{
    allowed_flags, parse_bool_flag, parse_chmod, parse_device, parse_duration, parse_mount,
};

#[test]
fn devices() {
    for (text, name, required) in [
        ("vendor.com/gpu", "vendor.com/gpu", false),
        ("vendor.com/gpu=all", "vendor.com/gpu=all", false),
        ("name=vendor.com/gpu=0,required", "vendor.com/gpu=0", true),
        ("required=true,vendor.com/gpu=*", "vendor.com/gpu=*", true),
        ("v1.com/a_b-c.d=x,required=false", "v1.com/a_b-c.d=x", false),
    ] {
        let spec = parse_device(text).unwrap();
        assert_eq!(
            (spec.name.as_str(), spec.required),
            (name, required),
            "{text}"
        );
    }
    for (text, error) in [
        ("", "the device is empty"),
        ("required", "the device has no name"),
        ("gpu", "`gpu` is not the name of a device"),
        ("vendor.com/", "`vendor.com/` is not the name of a device"),
        ("1vendor/a=b", "`1vendor/a=b` is not the name of a device"),
        ("v/a=b,v/a=c", "unknown device option `v/a`"),
        ("name=v/a,name=v/b", "a second device name: `v/b`"),
        (
            "v/a,required=perhaps",
            "the device option `required` is neither true nor false: \"perhaps\"",
        ),
    ] {
        assert_eq!(parse_device(text).unwrap_err().message, error, "{text}");
    }
}

#[test]
fn durations() {
    for (text, want) in [
        ("0", 0),
        ("0s", 0),
        ("1ns", 1),
        ("500ms", 500_000_000),
        ("1m30s", 90_000_000_000),
        ("1.5h", 5_400_000_000_000),
        (".5s", 500_000_000),
        ("1.s", 1_000_000_000),
        ("+2us", 2_000),
        ("3µs", 3_000),
        ("3μs", 3_000),
        ("1s1s", 2_000_000_000),
        ("0.1234567891s", 123_456_789),
        ("9223372036854775807ns", i64::MAX as u64),
        ("0.33333333333333333333333333333333h", 1_199_999_999_999),
    ] {
        assert_eq!(parse_duration(text).as_ref(), Ok(&want), "{text}");
    }
    for text in [
        "",
        "-1s",
        "1",
        "s",
        ".s",
        "1x",
        "1 s",
        "1s ",
        "1.2.3s",
        "9223372036854775808ns",
        "99999999999999999999h",
        "1h-1m",
    ] {
        assert!(parse_duration(text).is_err(), "{text}");
    }
}

#[test]
fn modes() {
    // Mode, bits before, result for a file, result for a directory.
    for (text, before, file, dir) in [
        ("0755", 0o600, 0o755, 0o755),
        ("644", 0o7777, 0o644, 0o644),
        ("0", 0o777, 0, 0),
        ("4755", 0o644, 0o4755, 0o4755),
        ("+x", 0o644, 0o755, 0o755),
        ("u+x", 0o644, 0o744, 0o744),
        ("a=rx", 0o7777, 0o555, 0o7555),
        ("=r", 0o777, 0o444, 0o444),
        ("go-w", 0o666, 0o644, 0o644),
        ("u=rwX,go=rX", 0o640, 0o644, 0o755),
        ("u=rwX,go=rX", 0o750, 0o755, 0o755),
        ("g=u", 0o740, 0o770, 0o770),
        ("o=g-w", 0o760, 0o764, 0o764),
        ("u+s", 0o755, 0o4755, 0o4755),
        ("g+s", 0o755, 0o2755, 0o2755),
        ("+t", 0o755, 0o1755, 0o1755),
        ("u+t", 0o755, 0o1755, 0o1755),
        ("o+s", 0o755, 0o755, 0o755),
        ("u-s,g-s", 0o6755, 0o755, 0o755),
        ("ug+rw-x", 0o711, 0o661, 0o661),
        ("a=,u+r", 0o777, 0o400, 0o400),
    ] {
        let spec = parse_chmod(text).expect(text);
        assert_eq!(spec.apply(before, false), file, "{text} on a file");
        assert_eq!(spec.apply(before, true), dir, "{text} on a directory");
    }
    assert_eq!(parse_chmod("0755").map(|m| m.fixed()), Ok(Some(0o755)));
    assert_eq!(parse_chmod("a+x").map(|m| m.fixed()), Ok(None));
    for text in [
        "", "8", "0o755", "10000", "rwx", "u", "u+rz", "u+x,", ",u+x", "u+x g+x", "x+r", "+7",
        "755,u+x",
    ] {
        assert!(parse_chmod(text).is_err(), "{text}");
    }
}

#[test]
fn switches() {
    for (value, want) in [
        (None, Some(true)),
        (Some("TRUE"), Some(true)),
        (Some("false"), Some(false)),
        (Some(""), None),
        (Some("1"), None),
    ] {
        assert_eq!(parse_bool_flag(value).ok(), want, "{value:?}");
    }
}

#[test]
fn flags_of_instructions() {
    assert_eq!(allowed_flags("from"), ["platform"]);
    assert!(allowed_flags("COPY").contains(&"parents"));
    assert!(!allowed_flags("ADD").contains(&"from"));
    assert!(allowed_flags("WORKDIR").is_empty());
}

proptest! {
    #[test]
    fn nothing_panics(text in "\\PC{0,20}", near in "[-+=,\"a-z0-9.]{0,24}") {
        for text in [&text, &near] {
            let _ = parse_duration(text);
            let _ = parse_chmod(text);
            let _ = parse_mount(text);
            let _ = parse_device(text);
        }
    }

    #[test]
    fn modes_stay_in_twelve_bits(who in "[ugoa]{0,3}", op in "[-+=]", what in "[rwxXst]{0,4}", before in 0u32..0o10000) {
        let spec = parse_chmod(&format!("{who}{op}{what}")).expect("a mode");
        prop_assert!(spec.apply(before, false) <= 0o7777);
        prop_assert!(spec.apply(before, true) <= 0o7777);
    }
}
