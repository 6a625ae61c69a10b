//! Control tokens that mean something in an answer.

use lossy_tokenizer::Tokenizer;

use crate::thinking::ThinkingFormat;
use crate::tools::ToolFormat;

/// The control tokens that mark thoughts and calls, such as `[TOOL_CALLS]` where that is one. Others print nothing; these must be
/// part of the text that a [`PartParser`](crate::PartParser) reads.
pub fn visible_tokens(
    tokenizer: &Tokenizer,
    tools: Option<ToolFormat>,
    thinking: Option<ThinkingFormat>,
) -> Vec<u32> {
    let of_tools = tools.map_or(&[][..], |format| format.format().words()).iter().copied();
    let of_thinking = thinking.into_iter().flat_map(|format| [format.open(), format.close()]);
    let tokens = of_tools.chain(of_thinking).filter_map(|text| tokenizer.token_id(text));
    tokens.filter(|&id| tokenizer.is_special(id)).collect()
}

#[cfg(test)]
mod tests {
    use lossy_tokenizer::TokenizerKeys;

    use super::*;

    #[test]
    fn only_control_tokens_of_the_format_are_named() {
        let tokens = vec!["a", "<think>", "</think>", "<|im_end|>", "<tool_call>"];
        let keys = TokenizerKeys {
            model: "llama",
            tokens,
            token_types: vec![1, 3, 1, 3, 3],
            scores: vec![0.0; 5],
            ..Default::default()
        };
        let tokenizer = Tokenizer::from_keys(&keys).unwrap();
        let thinking = ThinkingFormat::of_template("<think></think>");
        assert_eq!(visible_tokens(&tokenizer, None, thinking), [1]);
        assert_eq!(visible_tokens(&tokenizer, Some(ToolFormat::generic()), None), [4]);
        assert_eq!(visible_tokens(&tokenizer, None, None), [0; 0]);
    }
}
