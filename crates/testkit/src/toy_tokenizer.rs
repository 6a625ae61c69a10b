//! A tokenizer of single bytes, and of the few longer tokens that matter to whoever works on tokens.

use lossy_tokenizer::{Tokenizer, TokenizerKeys};

/// Control tokens; the second ends an answer.
const CONTROL: [&str; 6] = ["<s>", "</s>", "<|user|>", "[TOOL_CALLS]", "[ARGS]", "<|python_tag|>"];
/// Tokens of text that are found before the text around them is cut.
const USER_DEFINED: [&str; 4] = ["<tool_call>", "</tool_call>", "<think>", "</think>"];
/// Tokens that no encoding has, but that a model may choose.
const LONG: [&str; 9] = ["{\"", "\":", "\",\"", "}}", ">Ċ", "ĊĊ", "Ġthe", "l>{", "truefalse"];

/// All 256 bytes, then control, user-defined and long tokens.
///
/// # Panics
/// Never: the keys are right.
pub fn toy_tokenizer() -> Tokenizer {
    let bytes: Vec<String> = (0..=255).map(spelled).collect();
    let mut tokens: Vec<&str> = bytes.iter().map(String::as_str).collect();
    let mut token_types = vec![1; tokens.len()];
    for (texts, kind) in [(&CONTROL[..], 3), (&USER_DEFINED[..], 4), (&LONG[..], 1)] {
        tokens.extend(texts);
        token_types.extend(vec![kind; texts.len()]);
    }
    // a merge whose token exists: a list without merges is an error
    let merges = vec!["{ \""];
    let ids = lossy_tokenizer::SpecialIds { bos: Some(256), eos: Some(257), ..Default::default() };
    let keys = TokenizerKeys {
        model: "gpt2",
        pre: Some("gpt-2"),
        tokens,
        token_types,
        merges,
        ids,
        ..Default::default()
    };
    Tokenizer::from_keys(&keys).expect("the toy tokenizer's keys are right")
}

/// GPT-2's character for a byte.
fn spelled(byte: u8) -> String {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let code = match printable(byte) {
        true => u32::from(byte),
        false => 256 + (0..byte).filter(|&other| !printable(other)).count() as u32,
    };
    char::from_u32(code).map(String::from).unwrap_or_default()
}
