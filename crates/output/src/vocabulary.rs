//! The tokens of a model, in the form that constraints work on.
//!
//! A trie of the bytes of all tokens says, for a grammar at any place of a text, which tokens continue it. A control
//! token (`<|im_end|>`) has no bytes that a text could spell: in the trie it lies below the byte 0xFF, which no UTF-8
//! has, so that a grammar can name it and no text can be mistaken for it. A user-defined token (`<tool_call>` of Qwen)
//! is text: a grammar's `"<tool_call>"` is matched by the token as well as by its letters.

use std::sync::Arc;

use llguidance::ParserFactory;
use llguidance::earley::SlicedBiasComputer;
use lossy_tokenizer::{EncodeOptions, Tokenizer};
use toktrie::{InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use crate::error::VocabularyError;

/// Tokens and bytes that the trie can hold, with room to spare: it counts nodes in 22 bits.
const MOST: usize = 4_000_000;
/// Longer tokens never continue a constrained text: the trie counts depth in 10 bits.
const MOST_TOKEN_BYTES: usize = 1_000;

/// The tokens of a model, for constraints. Built once for a model; a clone shares everything.
#[derive(Clone)]
pub struct Vocabulary {
    inner: Arc<Inner>,
}

struct Inner {
    tokenizer: Tokenizer,
    factory: ParserFactory,
    n_vocab: usize,
}

impl Vocabulary {
    /// Builds the tables. `n_vocab` is the length of the model's logits, which is often more than the tokenizer has;
    /// tokens between the two are never allowed. Takes half a second for 150,000 tokens.
    ///
    /// # Errors
    /// No token ends an answer, or there are too many tokens.
    pub fn new(tokenizer: &Tokenizer, n_vocab: usize) -> Result<Vocabulary, VocabularyError> {
        let n_tokens = tokenizer.n_vocab().min(n_vocab);
        let ends: Vec<TokenId> =
            tokenizer.end_of_generation().filter(|&id| (id as usize) < n_tokens).collect();
        let words: Vec<Vec<u8>> = (0..n_tokens as u32).map(|id| trie_bytes(tokenizer, id)).collect();
        let bytes = words.iter().map(Vec::len).sum();
        if n_tokens >= MOST || bytes >= MOST {
            return Err(VocabularyError::TooLarge { tokens: n_tokens, bytes, limit: MOST });
        }
        let Some(&end) = ends.first() else { return Err(VocabularyError::NoEnd) };
        let trie = TokTrie::from(&TokRxInfo::new(n_tokens as u32, end), &words).with_eos_tokens(&ends);
        let env: TokEnv = Arc::new(Env::new(trie, tokenizer.clone()));
        let slices = SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&env, InferenceCapabilities::default(), &slices)
            .map_err(|error| VocabularyError::Tables(error.to_string()))?;
        factory.quiet();
        Ok(Vocabulary { inner: Arc::new(Inner { tokenizer: tokenizer.clone(), factory, n_vocab: n_tokens }) })
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.inner.tokenizer
    }

    /// Tokens that a constrained text may have: those of the tokenizer that have a logit.
    pub fn n_vocab(&self) -> usize {
        self.inner.n_vocab
    }

    pub(crate) fn factory(&self) -> &ParserFactory {
        &self.inner.factory
    }

    /// The control token that a text is the name of.
    pub(crate) fn control_token(&self, text: &str) -> Option<u32> {
        let tokenizer = self.tokenizer();
        tokenizer.token_id(text).filter(|&id| tokenizer.is_special(id) && (id as usize) < self.n_vocab())
    }

    /// The bytes that a token adds to the text that a constraint sees; none for a control token.
    pub(crate) fn text_bytes(&self, id: u32) -> Vec<u8> {
        match self.tokenizer().is_special(id) {
            true => Vec::new(),
            false => self.tokenizer().token_bytes(id).unwrap_or_default(),
        }
    }
}

impl std::fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vocabulary").field("n_vocab", &self.n_vocab()).finish_non_exhaustive()
    }
}

/// The bytes of a token in the trie; none if it must never be chosen.
fn trie_bytes(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    let bytes = tokenizer.token_bytes(id).unwrap_or_default();
    if bytes.is_empty() || bytes.len() > MOST_TOKEN_BYTES {
        return Vec::new();
    }
    if !tokenizer.is_special(id) {
        // a lone byte 0xFF is text too, but below it lie the control tokens; no UTF-8 has it
        return if bytes[0] == TokTrie::SPECIAL_TOKEN_MARKER { Vec::new() } else { bytes };
    }
    let mut named = vec![TokTrie::SPECIAL_TOKEN_MARKER];
    named.extend(bytes);
    named
}

/// How the trie's library asks for tokens of a text that the grammar leaves no choice about.
struct Env {
    trie: TokTrie,
    tokenizer: Tokenizer,
    /// Whether a piece from the middle of a text is encoded as it would be there. SentencePiece puts a space before it.
    canonical: bool,
}

impl Env {
    fn new(trie: TokTrie, tokenizer: Tokenizer) -> Env {
        let mut env = Env { trie, tokenizer, canonical: true };
        env.canonical = ["a b", "{\"name\": \"x\"}\n"].iter().all(|text| env.encoded(text).is_some());
        env
    }

    /// The ids of a text, if they spell it.
    fn encoded(&self, text: &str) -> Option<Vec<TokenId>> {
        let options = EncodeOptions { add_special: false, parse_special: false };
        let ids = self.tokenizer.encode(text, options).ok()?;
        let spelled = ids.iter().all(|&id| !self.trie.token(id).is_empty());
        (spelled && self.trie.decode_raw(&ids) == text.as_bytes()).then_some(ids)
    }
}

impl TokenizerEnv for Env {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| {
            self.encoded(text).unwrap_or_else(|| self.trie.greedy_tokenize(text.as_bytes()))
        })
    }

    fn tokenize_is_canonical(&self) -> bool {
        self.canonical
    }
}
