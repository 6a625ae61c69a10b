//! Any keys of a tokenizer, any text and any ids: an error, or a tokenizer whose stream gives the text of all ids.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use lossy_tokenizer::{EncodeOptions, SpecialIds, Tokenizer, TokenizerKeys};

#[derive(Debug, Arbitrary)]
struct Input {
    sentencepiece: bool,
    pre: u8,
    /// Also all bytes, spelled as the model does, so that most texts can be encoded.
    with_bytes: bool,
    tokens: Vec<(String, i8, f32)>,
    /// Pairs of tokens by position, or any text.
    merges: Vec<Result<(u8, u8), String>>,
    /// Make the lists of scores and types shorter.
    shorter: (u8, u8),
    ids: [Option<u64>; 5],
    flags: [Option<bool>; 3],
    text: String,
    to_decode: Vec<u32>,
}

fuzz_target!(|input: Input| {
    let mut tokens: Vec<(String, i32, f32)> =
        input.tokens.into_iter().map(|(text, kind, score)| (text, kind.into(), score)).collect();
    if input.with_bytes && input.sentencepiece {
        tokens.extend((0..256).map(|byte| (format!("<0x{byte:02X}>"), 6, 0.0)));
    } else if input.with_bytes {
        tokens.extend((0..0x144).filter_map(char::from_u32).map(|character| (character.to_string(), 1, 0.0)));
    }
    let joined: Vec<String> = input
        .merges
        .into_iter()
        .map(|merge| match merge {
            Ok((a, b)) if !tokens.is_empty() => {
                let text = |i: u8| tokens[usize::from(i) % tokens.len()].0.as_str();
                format!("{} {}", text(a), text(b))
            }
            Ok(_) => String::new(),
            Err(text) => text,
        })
        .collect();
    let names = ["smollm", "qwen2", "llama-bpe", "gpt-2", "default", "tekken", "deepseek-v3", "falcon"];
    let n_kept = |less: u8| tokens.len().saturating_sub(usize::from(less / 64));
    let [bos, eos, unknown, eot, fim_pad] = input.ids;
    let keys = TokenizerKeys {
        model: if input.sentencepiece { "llama" } else { "gpt2" },
        pre: names.get(usize::from(input.pre)).copied(),
        tokens: tokens.iter().map(|(text, _, _)| text.as_str()).collect(),
        scores: tokens.iter().take(n_kept(input.shorter.0)).map(|(_, _, score)| *score).collect(),
        token_types: tokens.iter().take(n_kept(input.shorter.1)).map(|(_, kind, _)| *kind).collect(),
        merges: joined.iter().map(String::as_str).collect(),
        ids: SpecialIds { bos, eos, unknown, eot, fim_pad, ..SpecialIds::default() },
        add_bos: input.flags[0],
        add_eos: input.flags[1],
        add_space_prefix: input.flags[2],
    };
    let Ok(tokenizer) = Tokenizer::from_keys(&keys) else { return };
    for parse_special in [false, true] {
        let options = EncodeOptions { add_special: parse_special, parse_special };
        let Ok(ids) = tokenizer.encode(&input.text, options) else { continue };
        assert!(ids.iter().all(|&id| (id as usize) < tokenizer.n_vocab()));
        tokenizer.decode(&ids, true);
    }
    let mut stream = tokenizer.stream();
    let streamed: String = input.to_decode.iter().map(|&id| stream.push(id)).collect();
    assert_eq!(streamed + &stream.finish(), tokenizer.decode(&input.to_decode, true));
});
