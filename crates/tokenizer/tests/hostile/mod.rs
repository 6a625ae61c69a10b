//! One run of a stranger's template on a stranger's message: the property tests and the fuzz target share it.

use std::sync::LazyLock;

use lossy_tokenizer::{ChatTemplate, Message, RenderOptions, Tokenizer, TokenizerKeys};

/// What came of it. Panics and endless runs are found by whoever runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The template has a mistake, refuses the message, or exceeds a limit.
    Refused,
    /// A prompt of plain text.
    Plain,
    /// A prompt with the only control token, `<§>`. Wrong, if the template has no `§`.
    ControlToken,
}

const CONTROL: &str = "<§>";

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let printable = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut moved = (256..).filter_map(char::from_u32);
    let character = |byte| if printable(byte) { char::from_u32(byte) } else { moved.next() };
    let bytes: Vec<String> = (0..256).filter_map(character).map(String::from).collect();
    let mut tokens: Vec<&str> = bytes.iter().map(String::as_str).collect();
    tokens.extend(["ab", CONTROL]);
    let mut token_types = vec![1; tokens.len()];
    token_types[257] = 3;
    let keys = TokenizerKeys {
        model: "gpt2",
        pre: Some("gpt-2"),
        tokens,
        token_types,
        merges: vec!["a b"],
        ..TokenizerKeys::default()
    };
    Tokenizer::from_keys(&keys).expect("a vocabulary of all bytes is one")
});

/// Renders and encodes a conversation of one message.
pub fn run(template: &str, content: &str) -> Outcome {
    let Ok(template) = ChatTemplate::new(template, &[]) else { return Outcome::Refused };
    let message = Message::user(content);
    let options = RenderOptions { add_generation_prompt: true, ..RenderOptions::default() };
    match template.encode(&TOKENIZER, &[message], &options) {
        Err(_) => Outcome::Refused,
        Ok(ids) if ids.contains(&257) => Outcome::ControlToken,
        Ok(_) => Outcome::Plain,
    }
}
