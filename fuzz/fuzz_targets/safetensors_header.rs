//! Any bytes, taken for a safetensors file: an error, or tensors that fill the data.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lossy_formats::hf::check_safetensors;

fuzz_target!(|data: &[u8]| {
    let _ = check_safetensors(data);
    // A header whose length is right, so that most inputs reach the JSON.
    let with_length = [&(data.len() as u64).to_le_bytes()[..], data].concat();
    let _ = check_safetensors(&with_length);
});
