//! Any bytes, taken for each kind of answer of a hub: a list of files, a header, the beginning of a file.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| lossy::read_hub_answer(data));
