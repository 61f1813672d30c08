#![no_main]

#[path = "../checks/image_json.rs"]
mod image_json;

libfuzzer_sys::fuzz_target!(|data: &[u8]| image_json::check(data));
