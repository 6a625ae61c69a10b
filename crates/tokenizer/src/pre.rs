//! The pre-tokenizers that `tokenizer.ggml.pre` names.
//!
//! A name is one line of [`PRE_TOKENIZERS`]. The patterns are those of the models' own `tokenizer.json`; their trailing
//! `\s+(?!\S)|\s+` is [`Pattern::AndSpaces`].

use crate::TokenizerError;
use crate::split::Pattern::{self, AndSpaces, Plain};

/// How the words of a vocabulary are cut, and what goes with it.
#[derive(Debug)]
pub(crate) struct PreTokenizer {
    /// The names that files use.
    names: &'static [&'static str],
    pub(crate) patterns: &'static [Pattern],
    /// A word that is a token is that token, whatever the merges say.
    pub(crate) ignore_merges: bool,
    /// Whether a sequence begins with BOS if the file does not say.
    pub(crate) add_bos: bool,
}

const GPT2: Pattern = AndSpaces(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+");
const ONE_DIGIT: Pattern = Plain(r"\p{N}");
const UP_TO_3_DIGITS: Pattern = AndSpaces(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
);
const QWEN2: Pattern = AndSpaces(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
);
const QWEN35: Pattern = AndSpaces(concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}",
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+",
));
const TEKKEN: Pattern = AndSpaces(concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+",
));
const GPT4O: Pattern = AndSpaces(concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+",
));
const DEEPSEEK_V3: &[Pattern] = &[
    Plain(r"\p{N}{1,3}"),
    Plain("[一-龥\u{3040}-ゟ゠-ヿ]+"),
    AndSpaces(concat!(
        r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##,
        r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+",
    )),
];
const FALCON: &[Pattern] = &[Plain(r"[\p{P}\$\+<=>\^~\|`]+"), GPT2, Plain("[0-9][0-9][0-9]")];
const DEFAULT: &[Pattern] =
    &[Plain(r"[\p{P}\$\+<=>\^~\|]+"), GPT2, Plain(r"\p{N}+"), Plain("[0-9][0-9][0-9]")];

const fn pre(names: &'static [&'static str], patterns: &'static [Pattern]) -> PreTokenizer {
    PreTokenizer { names, patterns, ignore_merges: false, add_bos: false }
}

const PRE_TOKENIZERS: &[PreTokenizer] = &[
    pre(&["default"], DEFAULT),
    pre(&["gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "exaone4", "gigachat", "mellum"], &[GPT2]),
    pre(
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"],
        &[ONE_DIGIT, GPT2],
    ),
    pre(&["qwen2", "deepseek-r1-qwen", "megrez", "stablelm2", "hunyuan"], &[QWEN2]),
    pre(&["qwen35"], &[QWEN35]),
    PreTokenizer {
        ignore_merges: true,
        add_bos: true,
        ..pre(&["llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"], &[UP_TO_3_DIGITS])
    },
    pre(&["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"], &[UP_TO_3_DIGITS]),
    PreTokenizer { ignore_merges: true, add_bos: true, ..pre(&["tekken"], &[TEKKEN]) },
    pre(&["gpt-4o", "llama4"], &[GPT4O]),
    pre(&["deepseek-v3", "hunyuan-dense"], DEEPSEEK_V3),
    pre(&["falcon"], FALCON),
];

/// The pre-tokenizer of a name; a file without one means `default`.
pub(crate) fn pre_tokenizer(name: Option<&str>) -> Result<&'static PreTokenizer, TokenizerError> {
    let name = name.unwrap_or("default");
    PRE_TOKENIZERS.iter().find(|pre| pre.names.contains(&name)).ok_or_else(|| {
        let known = PRE_TOKENIZERS.iter().flat_map(|pre| pre.names).copied().collect::<Vec<_>>().join(", ");
        TokenizerError::UnknownPreTokenizer { pre: name.to_string(), known }
    })
}
