#![no_main]

/// The file is private to its crate, and needs nothing of it.
#[allow(dead_code, reason = "some of it is for the rest of the crate")]
#[path = "../../executor/src/source/git/url.rs"]
mod source;

use source::GitUrl;

#[path = "../checks/git_url.rs"]
mod git_url;

libfuzzer_sys::fuzz_target!(|data: &[u8]| git_url::check(data));
