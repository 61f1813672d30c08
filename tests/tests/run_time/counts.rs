//! What small commands cost: system calls, bytes and statements of the database.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use kiln_tests::{Lab, counts, setting, tool};

/// `cargo xtask bench --counts --record` records what they take now, if that is meant to be more.
#[test]
fn commands_take_no_more_than_is_recorded() {
    let lab = Lab::new();
    let binary = std::fs::canonicalize(setting("KILN_TEST_BIN")).unwrap();
    let recorded = counts::Recorded::read(&counts::recorded_at()).unwrap();
    let mut excess = Vec::new();
    let kind = tool("stat", ["-f", "-c", "%T", &lab.dir().to_string_lossy()]);
    let is_usual = ["ext2/ext3", "xfs", "btrfs"].contains(&kind.trim());
    for name in counts::NAMES {
        // Elsewhere kiln reads the files of a context each time.
        if counts::has_context(name) && !is_usual {
            continue;
        }
        let counted = counts::fewest(&binary, lab.dir(), name, &recorded).unwrap();
        let statements = counted[counts::STATEMENTS];
        assert_eq!(statements == 0, name == "version", "{name}: {counted:?}");
        excess.extend(counts::excess(&counted, name, &recorded));
    }
    assert!(excess.is_empty(), "{}", excess.join("\n"));
}
