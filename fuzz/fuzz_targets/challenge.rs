#![no_main]

/// The file is private to its crate, and needs nothing of it.
#[path = "../../registry/src/auth/challenge.rs"]
mod source;

use source::{Challenge, parse};

#[path = "../checks/challenge.rs"]
mod challenge;

libfuzzer_sys::fuzz_target!(|data: &[u8]| challenge::check(data));
