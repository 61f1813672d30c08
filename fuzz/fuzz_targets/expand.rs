#![no_main]

#[path = "../checks/expand.rs"]
mod expand;

libfuzzer_sys::fuzz_target!(|data: &[u8]| expand::check(data));
