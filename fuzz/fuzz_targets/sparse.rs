#![no_main]

#[path = "../checks/sparse.rs"]
mod sparse;

libfuzzer_sys::fuzz_target!(|data: &[u8]| sparse::check(data));
