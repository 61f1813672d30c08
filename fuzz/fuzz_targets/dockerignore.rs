#![no_main]

#[path = "../checks/dockerignore.rs"]
mod dockerignore;

libfuzzer_sys::fuzz_target!(|data: &[u8]| dockerignore::check(data));
