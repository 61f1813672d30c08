//! Any text as the value of a flag.

use kiln_parser::flags::{
    allowed_flags, is_bool_flag, is_repeatable_flag, parse_bool_flag, parse_chmod, parse_duration,
    parse_mount,
};

/// Checks what holds for any text.
pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(nanoseconds) = parse_duration(text) {
        assert_eq!(parse_duration(&format!("{nanoseconds}ns")), Ok(nanoseconds));
    }
    if let Ok(mode) = parse_chmod(text) {
        for before in [0, 0o644, 0o1750, 0o7777] {
            for is_dir in [false, true] {
                assert!(mode.apply(before, is_dir) <= 0o7777);
            }
        }
        if let Some(fixed) = mode.fixed() {
            assert_eq!(mode.apply(0o123, false), fixed);
        }
    }
    if let Ok(mount) = parse_mount(text) {
        assert!(mount.mode.is_none() || !mount.kind.name().is_empty());
        assert!(
            [&mount.target, &mount.from, &mount.source, &mount.id]
                .into_iter()
                .flatten()
                .all(|value| !value.is_empty() && value.len() <= text.len())
        );
    }
    let _ = parse_bool_flag(Some(text));
    for flag in allowed_flags(text) {
        assert!(!(is_bool_flag(flag) && is_repeatable_flag(flag)));
    }
}
