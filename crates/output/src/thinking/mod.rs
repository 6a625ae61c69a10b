//! What a model thinks before it answers: where it stands in the text, how long it may be, and what follows it.

mod mask;

use std::sync::Arc;

use lossy_engine::Mask;
use lossy_tokenizer::EncodeOptions;

use crate::marker::Marker;
use crate::vocabulary::Vocabulary;
use mask::ThinkingMask;

/// How a family of models marks its thoughts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThinkingFormat {
    open: &'static str,
    close: &'static str,
    /// What ends the thoughts when their budget is spent.
    closing: &'static str,
}

/// All formats. The first whose end a template has is its own.
const FORMATS: [ThinkingFormat; 3] = [
    ThinkingFormat { open: "<think>", close: "</think>", closing: "\n</think>\n\n" },
    ThinkingFormat { open: "[THINK]", close: "[/THINK]", closing: "[/THINK]" },
    ThinkingFormat { open: "<seed:think>", close: "</seed:think>", closing: "\n</seed:think>" },
];

impl ThinkingFormat {
    /// The format that a chat template knows, if any.
    pub fn of_template(source: &str) -> Option<ThinkingFormat> {
        FORMATS.into_iter().find(|format| source.contains(format.close))
    }

    /// What begins the thoughts.
    pub fn open(&self) -> &'static str {
        self.open
    }

    /// What ends them.
    pub fn close(&self) -> &'static str {
        self.close
    }

    /// Whether a rendered prompt has opened the thoughts already, so that the answer begins within them.
    pub fn is_opened_by(&self, prompt: &str) -> bool {
        prompt.trim_end().ends_with(self.open)
    }
}

/// The format of thoughts with what is known of a vocabulary about it. Built once for a model.
#[derive(Clone, Debug)]
pub struct Thinking {
    vocabulary: Vocabulary,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    open: Marker,
    close: Marker,
    /// The token that opens, if it is one.
    open_token: Option<u32>,
    /// The tokens that end the thoughts when the budget is spent.
    closing: Vec<u32>,
    /// Tokens of nothing but line breaks, which may stand before the answer.
    line_breaks: Vec<u32>,
}

impl Thinking {
    /// Looks up what belongs to the format.
    pub fn new(vocabulary: &Vocabulary, format: ThinkingFormat) -> Thinking {
        let options = EncodeOptions { add_special: false, parse_special: true };
        let encode = |text: &str| vocabulary.tokenizer().encode(text, options).unwrap_or_default();
        let only = |ids: Vec<u32>| if ids.len() == 1 { ids.first().copied() } else { None };
        let all = 0..vocabulary.n_vocab() as u32;
        let breaks = |&id: &u32| {
            let bytes = vocabulary.text_bytes(id);
            !bytes.is_empty() && bytes.iter().all(|&byte| byte == b'\n')
        };
        let shared = Shared {
            open: Marker::new(vocabulary, format.open, true),
            close: Marker::new(vocabulary, format.close, false),
            open_token: only(encode(format.open)),
            closing: encode(format.closing),
            line_breaks: all.filter(breaks).collect(),
        };
        Thinking { vocabulary: vocabulary.clone(), shared: Arc::new(shared) }
    }

    /// The mask of an answer that may begin with thoughts, and `opened` if the prompt has opened them. `budget` is the
    /// most tokens that the thoughts may have; then they are ended. `answer` holds for what follows them: if there is
    /// one, the text cannot end within the thoughts, and thoughts that the prompt has not opened can only be opened by
    /// a token of their own.
    pub fn mask(&self, opened: bool, budget: Option<usize>, answer: Option<Box<dyn Mask>>) -> Box<dyn Mask> {
        Box::new(ThinkingMask::new(self.vocabulary.clone(), Arc::clone(&self.shared), opened, budget, answer))
    }
}

#[cfg(test)]
mod tests;
