//! The pre-tokenizers that `tokenizer.ggml.pre` names.
//!
//! A name is one line of [`PRE_TOKENIZERS`]. The patterns are those of the models' own `tokenizer.json`; their trailing
//! `\s+(?!\S)|\s+` is [`Pattern::AndSpaces`]. So is whether a text is normalized before it is cut, which llama.cpp leaves
//! out.

use crate::TokenizerError;
use crate::split::Pattern::{self, AndSpaces, Plain, Thousands};

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
    /// Whether characters are composed first: Unicode's normalization form C.
    pub(crate) is_composed: bool,
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

const SEED_CODER: Pattern = AndSpaces(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+",
);
const NEWLINE: Pattern = Plain(r"[\r\n]");
/// Letters that are used in words of English, Chinese, Korean and others; the ranges are the model's own.
const CJK: Pattern = Plain("[一-龥ࠀ-一가-\u{d7ff}]+");
const DEEPSEEK_LLM: &[Pattern] = &[
    NEWLINE,
    Plain(concat!(
        r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\x{1f7d}ᾀ-ᾴᾶ-ᾼ",
        "\u{1fbe}ῂ-ῄῆ-ῌῐ-\u{1fd3}ῖ-\u{1fdb}ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u{2126}ℨ\u{212a}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿ",
        "ﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+",
    )),
    Plain("\\s?[!-/:-~！-／：-～‘-‟\u{3000}-。]+"),
    Plain(r"\s+$"),
    CJK,
    ONE_DIGIT,
];
const DEEPSEEK_CODER: &[Pattern] = &[NEWLINE, Plain(r"\s?\p{L}+"), Plain(r"\s?\p{P}+"), CJK, ONE_DIGIT];
const SUPERBPE: &[Pattern] = &[Plain(r"\p{N}+"), Thousands];
const BLOOM: Pattern = Plain(r" ?[^(\s|.,!?…。，、।۔،)]+");

const fn pre(names: &'static [&'static str], patterns: &'static [Pattern]) -> PreTokenizer {
    PreTokenizer { names, patterns, ignore_merges: false, add_bos: false, is_composed: false }
}

/// The same for models whose tokenizer composes characters.
const fn composed(names: &'static [&'static str], patterns: &'static [Pattern]) -> PreTokenizer {
    PreTokenizer { is_composed: true, ..pre(names, patterns) }
}

const PRE_TOKENIZERS: &[PreTokenizer] = &[
    pre(&["default"], DEFAULT),
    pre(&["gpt-2", "phi-2", "jais", "trillion", "exaone4", "gigachat", "mellum"], &[GPT2]),
    // the tokenizer of GPT-NeoX
    composed(&["mpt", "olmo"], &[GPT2]),
    pre(
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"],
        &[ONE_DIGIT, GPT2],
    ),
    composed(&["qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan"], &[QWEN2]),
    pre(&["megrez"], &[QWEN2]),
    composed(&["qwen35"], &[QWEN35]),
    PreTokenizer {
        ignore_merges: true,
        add_bos: true,
        ..pre(&["llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"], &[UP_TO_3_DIGITS])
    },
    pre(&["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"], &[UP_TO_3_DIGITS]),
    PreTokenizer { ignore_merges: true, add_bos: true, ..pre(&["tekken"], &[TEKKEN]) },
    pre(&["gpt-4o", "llama4"], &[GPT4O]),
    pre(&["deepseek-v3", "hunyuan-dense"], DEEPSEEK_V3),
    pre(&["deepseek-llm"], DEEPSEEK_LLM),
    pre(&["deepseek-coder"], DEEPSEEK_CODER),
    pre(&["seed-coder"], &[SEED_CODER]),
    pre(&["superbpe"], SUPERBPE),
    pre(&["poro-chat", "bloom", "gpt3-finnish"], &[BLOOM]),
    pre(&["viking"], &[BLOOM, ONE_DIGIT]),
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

/// The patterns of GPT-2's words, as they are published.
pub(crate) fn gpt2() -> String {
    GPT2.published()
}

/// The name of the pre-tokenizer that cuts words by these published patterns, in this order; of several names the first.
pub(crate) fn name_of(patterns: &[String], ignore_merges: bool, is_composed: bool) -> Option<&'static str> {
    let is_it = |pre: &&PreTokenizer| {
        pre.ignore_merges == ignore_merges
            && pre.is_composed == is_composed
            && pre.patterns.iter().map(|pattern| pattern.published()).eq(patterns.iter().cloned())
    };
    PRE_TOKENIZERS.iter().find(is_it).map(|pre| pre.names[0])
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use proptest::sample::select;
    use tokenizers::pre_tokenizers::{
        PreTokenizerWrapper, sequence::Sequence, split::Split, split::SplitPattern,
    };
    use tokenizers::{
        OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _, SplitDelimiterBehavior,
    };

    use super::*;
    use crate::split::Splitter;

    #[test]
    fn an_unknown_name_is_an_error_that_lists_the_known_ones() {
        let error = pre_tokenizer(Some("nonsense")).unwrap_err().to_string();
        assert!(
            error.starts_with("pre-tokenizer `nonsense` is not known (known: default, gpt-2, "),
            "{error}"
        );
        assert_eq!(pre_tokenizer(None).unwrap().patterns, DEFAULT);
    }

    #[test]
    fn no_name_stands_twice() {
        let mut names: Vec<&str> = PRE_TOKENIZERS.iter().flat_map(|pre| pre.names).copied().collect();
        let n_names = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), n_names);
    }

    /// The published pattern with its look-ahead, run by the backtracking engine of the `tokenizers` crate.
    fn backtracking(pre: &PreTokenizer) -> Sequence {
        let split = |pattern: &Pattern| {
            let regex = SplitPattern::Regex(pattern.published());
            let split = Split::new(regex, SplitDelimiterBehavior::Isolated, false);
            PreTokenizerWrapper::from(split.unwrap())
        };
        Sequence::new(pre.patterns.iter().map(split).collect())
    }

    /// Every pre-tokenizer twice: ours, and the crate's.
    static BOTH: LazyLock<Vec<(Splitter, Sequence)>> = LazyLock::new(|| {
        PRE_TOKENIZERS.iter().map(|pre| (Splitter::new(pre.patterns), backtracking(pre))).collect()
    });

    proptest! {

        #[test]
        fn words_are_those_of_the_published_patterns(
            any in any::<String>(),
            parts in proptest::collection::vec(
                select(vec![
                    " ", "  ", "   ", "\n", "\r\n", "\t", "\u{a0}", "\u{3000}", "a", "Bc", "É", "e\u{301}", "日本", "ひ", "1", "२३",
                    "4567", "1234567890", "٣٤٥", "²", "'s", "'LL", "'", ".", "!!", "/", "$", "😀", "\u{200d}", "\u{0}", "ǅ", "ʰ",
                ]),
                0..40,
            ),
        ) {
            for text in [any, parts.concat()] {
                for ((splitter, published), pre) in BOTH.iter().zip(PRE_TOKENIZERS) {
                    let mut ours = Vec::new();
                    splitter.split(&text, |word| ours.push(word));
                    let mut pieces = PreTokenizedString::from(text.as_str());
                    published.pre_tokenize(&mut pieces).unwrap();
                    let theirs = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
                    let theirs: Vec<&str> = theirs.into_iter().map(|(word, _, _)| word).collect();
                    prop_assert_eq!(&ours, &theirs, "{}", pre.names[0]);
                }
            }
        }
    }
}
