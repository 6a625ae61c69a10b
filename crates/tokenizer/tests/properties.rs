//! What holds for any keys, any text and any ids.

use std::collections::BTreeSet;

use lossy_tokenizer::{EncodeOptions, SpecialIds, Tokenizer, TokenizerKeys};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Keys that own their texts.
#[derive(Debug, Clone, Default)]
struct Keys {
    model: String,
    pre: Option<String>,
    tokens: Vec<String>,
    scores: Vec<f32>,
    token_types: Vec<i32>,
    merges: Vec<String>,
    ids: SpecialIds,
    flags: [Option<bool>; 3],
}

impl Keys {
    fn borrowed(&self) -> TokenizerKeys<'_> {
        TokenizerKeys {
            model: &self.model,
            pre: self.pre.as_deref(),
            tokens: self.tokens.iter().map(String::as_str).collect(),
            scores: self.scores.clone(),
            token_types: self.token_types.clone(),
            merges: self.merges.iter().map(String::as_str).collect(),
            ids: self.ids,
            add_bos: self.flags[0],
            add_eos: self.flags[1],
            add_space_prefix: self.flags[2],
        }
    }
}

fn id() -> impl Strategy<Value = Option<u64>> {
    proptest::option::of(prop_oneof![0..40u64, Just(u64::from(u32::MAX)), any::<u64>()])
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,12}",
        "[abĠ ▁<>|0-9x\n]{0,16}",
        vec(
            select(vec!["<s>", "</s>", "<|im_end|>", "<0x0A>", "<0xE2>", "a", "ab", " ", "é", "日", "\u{0}"]),
            0..8
        )
        .prop_map(|parts| parts.concat()),
    ]
}

/// Lists of any length, mostly that of the tokens.
fn about<T: std::fmt::Debug + Clone + 'static>(
    n: usize,
    of: impl Strategy<Value = T> + Clone + 'static,
) -> BoxedStrategy<Vec<T>> {
    prop_oneof![5 => vec(of.clone(), n), 1 => vec(of, 0..50)].boxed()
}

/// Texts of tokens; mostly without two that are equal, which is an error by itself.
fn tokens() -> impl Strategy<Value = Vec<String>> {
    (vec(text(), 0..40), 0..4u8).prop_map(|(mut tokens, n)| {
        let mut seen = BTreeSet::new();
        tokens.retain(|token| n == 0 || seen.insert(token.clone()));
        tokens
    })
}

fn hostile_keys() -> impl Strategy<Value = Keys> {
    let names = ["smollm", "qwen2", "llama-bpe", "gpt-2", "default", "deepseek-v3", "nonsense"];
    let score = prop_oneof![any::<f32>(), -30.0..0.0f32];
    let flags = (any::<Option<bool>>(), any::<Option<bool>>(), any::<Option<bool>>());
    let ids = (id(), id(), id(), id(), id());
    (
        select(vec!["gpt2", "llama", "bert"]),
        proptest::option::of(select(names.to_vec())),
        tokens(),
        flags,
        ids,
    )
        .prop_flat_map(move |(model, pre, tokens, flags, (bos, eos, unknown, eot, fim_pad))| {
            let pairs = if tokens.is_empty() { vec![String::new()] } else { tokens.clone() };
            let pair = (select(pairs.clone()), select(pairs)).prop_map(|(a, b)| format!("{a} {b}"));
            let merge = prop_oneof![4 => pair, 1 => text()];
            let types = about(tokens.len(), prop_oneof![4 => 1..7i32, 1 => any::<i32>()]);
            (about(tokens.len(), score.clone()), types, vec(merge, 0..20)).prop_map(
                move |(scores, token_types, merges)| Keys {
                    model: model.to_string(),
                    pre: pre.map(str::to_string),
                    tokens: tokens.clone(),
                    scores,
                    token_types,
                    merges,
                    ids: SpecialIds { bos, eos, unknown, eot, fim_pad, ..SpecialIds::default() },
                    flags: [flags.0, flags.1, flags.2],
                },
            )
        })
}

/// GPT-2's characters of bytes, written down a second time.
fn byte_characters() -> Vec<String> {
    let printable = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut moved = (256..).filter_map(char::from_u32);
    let character = |byte| if printable(byte) { char::from_u32(byte) } else { moved.next() };
    (0..256).map(character).map(|character| character.unwrap().to_string()).collect()
}

/// All bytes, and merges of known tokens; a control and a user-defined token at the end.
fn byte_level_keys() -> impl Strategy<Value = Keys> {
    let common: Vec<usize> =
        b"  abcdefgh0123.\n\xc3\xa9\xe2\x82\xac".iter().map(|&byte| usize::from(byte)).collect();
    let pick = prop_oneof![2 => select(common), 1 => 0..400usize];
    let names =
        select(vec!["smollm", "dbrx", "llama-bpe", "gpt-2", "default", "tekken", "superbpe", "deepseek-v3"]);
    (vec((pick.clone(), pick), 1..60), names).prop_map(|(pairs, pre)| {
        let mut tokens = byte_characters();
        let mut merges = Vec::new();
        for (a, b) in pairs {
            let (a, b) = (tokens[a % tokens.len()].clone(), tokens[b % tokens.len()].clone());
            if !tokens.contains(&format!("{a}{b}")) && a.len() + b.len() < 40 {
                tokens.push(format!("{a}{b}"));
                merges.push(format!("{a} {b}"));
            }
        }
        merges.extend(merges.is_empty().then(|| "a b".to_string()));
        if !tokens.contains(&"ab".to_string()) {
            tokens.push("ab".to_string());
        }
        let mut token_types = vec![1; tokens.len()];
        tokens.extend(["<|im_end|>".to_string(), "<tool>".to_string()]);
        token_types.extend([3, 4]);
        let flags = [Some(false), None, None];
        Keys {
            model: "gpt2".to_string(),
            pre: Some(pre.to_string()),
            tokens,
            token_types,
            merges,
            flags,
            ..Keys::default()
        }
    })
}

fn sentencepiece_keys() -> impl Strategy<Value = Keys> {
    vec(("[▁abcé日]{1,4}", -9i8..0), 1..30).prop_map(|normal| {
        let mut keys = Keys { model: "llama".to_string(), ..Keys::default() };
        let mut seen = BTreeSet::new();
        let bytes = (0..256).map(|byte| (format!("<0x{byte:02X}>"), 6, 0));
        let special = ["<unk>", "<s>", "</s>"]
            .into_iter()
            .zip([2, 3, 3])
            .map(|(text, kind)| (text.to_string(), kind, 0));
        // as every real vocabulary: without ▁ a space would become the bytes of ▁
        let normal = normal.into_iter().chain([("▁".to_string(), -10)]).map(|(text, score)| (text, 1, score));
        for (text, kind, score) in special.chain(bytes).chain(normal) {
            if seen.insert(text.clone()) {
                keys.tokens.push(text);
                keys.token_types.push(kind);
                keys.scores.push(f32::from(score));
            }
        }
        keys
    })
}

fn any_text() -> impl Strategy<Value = String> {
    let alphabet = vec![
        " ",
        "  ",
        "\n",
        "\r\n",
        "\t",
        "a",
        "b",
        "ab",
        "é",
        "e\u{301}",
        "€",
        "日",
        "😀",
        "1",
        "23",
        "'s",
        "'LL",
        ".",
        "<|im_end|>",
        "<tool>",
        "\u{0}",
    ];
    prop_oneof![any::<String>(), vec(select(alphabet), 0..60).prop_map(|parts| parts.concat())]
}

const PLAIN: EncodeOptions = EncodeOptions { add_special: false, parse_special: false };
const PARSE: EncodeOptions = EncodeOptions { add_special: true, parse_special: true };

fn streamed(tokenizer: &Tokenizer, ids: &[u32], special: bool) -> String {
    let stream = tokenizer.stream();
    let mut stream = if special { stream.with_special() } else { stream };
    ids.iter().map(|&id| stream.push(id)).collect::<String>() + &stream.finish()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn any_keys_give_a_tokenizer_that_works_or_an_error(keys in hostile_keys(), text in any_text(), ids in vec(any::<u32>(), 0..9)) {
        match Tokenizer::from_keys(&keys.borrowed()) {
            Err(error) => prop_assert!(!error.to_string().is_empty()),
            Ok(tokenizer) => {
                let n_vocab = tokenizer.n_vocab() as u32;
                for options in [PLAIN, PARSE] {
                    if let Ok(ids) = tokenizer.encode(&text, options) {
                        prop_assert!(ids.iter().all(|&id| id < n_vocab));
                        tokenizer.decode(&ids, true);
                    }
                }
                let some = ids.iter().map(|id| if n_vocab > 0 && id % 2 == 0 { id % n_vocab } else { *id }).collect::<Vec<_>>();
                prop_assert_eq!(tokenizer.decode(&some, true), streamed(&tokenizer, &some, false));
                for id in some {
                    prop_assert_eq!(tokenizer.token_text(id).is_some(), id < n_vocab);
                    prop_assert_eq!(tokenizer.token_bytes(id).is_some(), id < n_vocab);
                }
            }
        }
    }

    #[test]
    fn a_text_comes_back_from_byte_level_bpe(keys in byte_level_keys(), text in any_text()) {
        let tokenizer = Tokenizer::from_keys(&keys.borrowed()).unwrap();
        for options in [PLAIN, PARSE] {
            let ids = tokenizer.encode(&text, options).unwrap();
            prop_assert_eq!(&tokenizer.decode(&ids, false), &text);
        }
        let end = tokenizer.token_id("<|im_end|>").unwrap();
        prop_assert!(!tokenizer.encode(&text, PLAIN).unwrap().contains(&end));
    }

    #[test]
    fn a_text_comes_back_from_sentencepiece_with_bytes(keys in sentencepiece_keys(), text in any_text()) {
        let tokenizer = Tokenizer::from_keys(&keys.borrowed()).unwrap();
        let ids = tokenizer.encode(&text, PLAIN).unwrap();
        prop_assert_eq!(tokenizer.decode(&ids, false), text.replace('▁', " "));
    }

    #[test]
    fn a_stream_gives_the_text_of_all_ids(bpe in byte_level_keys(), spm in sentencepiece_keys(), ids in vec(0..500u32, 0..40)) {
        for keys in [bpe, spm] {
            let tokenizer = Tokenizer::from_keys(&keys.borrowed()).unwrap();
            prop_assert_eq!(streamed(&tokenizer, &ids, true), tokenizer.decode(&ids, false));
            prop_assert_eq!(streamed(&tokenizer, &ids, false), tokenizer.decode(&ids, true));
            let bytes: Vec<u8> = ids.iter().filter_map(|&id| tokenizer.token_bytes(id)).flatten().collect();
            let whole = String::from_utf8_lossy(&bytes);
            let ours = tokenizer.decode(&ids, false);
            // but for the space that SentencePiece puts before a text
            prop_assert!(ours == whole || whole.strip_prefix(' ') == Some(&ours));
        }
    }

    #[test]
    fn ids_equal_those_of_the_tokenizers_crate(keys in byte_level_keys(), text in any_text()) {
        use tokenizers::pre_tokenizers::{byte_level::ByteLevel, sequence::Sequence, digits::Digits};
        let mut keys = keys;
        keys.pre = Some("smollm".to_string());
        let tokenizer = Tokenizer::from_keys(&keys.borrowed()).unwrap();
        let vocab = keys.tokens.iter().enumerate().map(|(id, text)| (text.clone(), id as u32)).collect::<Vec<_>>();
        let merges = keys.merges.iter().map(|merge| merge.split_once(' ').map(|(a, b)| (a.to_string(), b.to_string())).unwrap());
        let model = tokenizers::models::bpe::BPE::builder()
            .vocab_and_merges(vocab.into_iter().collect::<tokenizers::models::bpe::Vocab>(), merges.collect())
            .build()
            .unwrap();
        let mut theirs = tokenizers::Tokenizer::new(model);
        theirs.with_pre_tokenizer(Some(Sequence::new(vec![Digits::new(true).into(), ByteLevel::new(false, true, true).into()])));
        theirs.add_tokens([tokenizers::AddedToken::from("<tool>", false).normalized(false)]).unwrap();
        let ids = theirs.encode(text.as_str(), false).unwrap().get_ids().to_vec();
        prop_assert_eq!(tokenizer.encode(&text, PLAIN).unwrap(), ids);
    }
}
