#![no_main]

#[path = "../checks/flags.rs"]
mod flags;

libfuzzer_sys::fuzz_target!(|data: &[u8]| flags::check(data));
