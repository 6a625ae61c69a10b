//! Any bytes, taken for the body of each kind of request to the server.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| lossy_server::read_request_bodies(data));
