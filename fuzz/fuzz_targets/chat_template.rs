//! Any template and any message: an error or a prompt, within the limits; no control token of what a message says.
#![no_main]

#[path = "../../crates/tokenizer/tests/hostile/mod.rs"]
mod hostile;

use hostile::{Outcome, run};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Input {
    template: String,
    content: String,
}

fuzz_target!(|input: Input| {
    let outcome = run(&input.template, &input.content);
    // a template can write the character itself, by an escape or by its number
    let writes_it = input.template.contains(['§', '\\', '%']);
    assert!(outcome != Outcome::ControlToken || writes_it);
});
