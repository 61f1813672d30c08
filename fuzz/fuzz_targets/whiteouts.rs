#![no_main]

#[path = "../checks/whiteouts.rs"]
mod whiteouts;

libfuzzer_sys::fuzz_target!(|data: &[u8]| whiteouts::check(data));
