//! The text of an answer from its tokens, with the control tokens that mean something in it.

use lossy_tokenizer::{DecodeStream, Tokenizer};

use crate::thinking::ThinkingFormat;
use crate::tools::ToolFormat;

/// Turns the tokens of an answer into the text that a [`PartParser`](crate::PartParser) reads. Control tokens print
/// nothing, except those that mark thoughts and calls.
#[derive(Debug, Clone)]
pub struct OutputStream {
    tokenizer: Tokenizer,
    stream: DecodeStream,
    visible: Vec<u32>,
}

impl OutputStream {
    /// Starts after a prompt.
    pub fn new(
        tokenizer: &Tokenizer,
        prompt: &[u32],
        tools: Option<ToolFormat>,
        thinking: Option<ThinkingFormat>,
    ) -> OutputStream {
        let of_tools = tools.map_or(&[][..], |format| format.format().words()).iter().copied();
        let of_thinking = thinking.into_iter().flat_map(|format| [format.open(), format.close()]);
        let tokens = of_tools.chain(of_thinking).filter_map(|text| tokenizer.token_id(text));
        let visible = tokens.filter(|&id| tokenizer.is_special(id)).collect();
        OutputStream { tokenizer: tokenizer.clone(), stream: tokenizer.stream_after(prompt), visible }
    }

    /// The text that is certain after one more token; possibly empty.
    pub fn push(&mut self, id: u32) -> String {
        if !self.visible.contains(&id) {
            return self.stream.push(id);
        }
        let before = self.stream.finish();
        before + self.tokenizer.token_text(id).unwrap_or_default()
    }

    /// What is left of a character that is not complete.
    pub fn finish(&mut self) -> String {
        self.stream.finish()
    }
}
