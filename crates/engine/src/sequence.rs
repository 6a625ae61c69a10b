//! A cache of one scheme and one kind of positions, and the sequences in it.

use std::io::{Read, Write};
use std::sync::{Arc, OnceLock};

use lossy_kernels::ActivationKind;

use crate::cache::{HeldSlot, KvPool, KvScheme, KvSequence, PAGE_TOKENS, SavedError, SavedKey};
use crate::calibrate::Calibrated;
use crate::extent::Extent;
use crate::model::ModelSource;
use crate::positions::Positions;
use crate::{Hex, RequestError, prefix};

/// Tells the sequences of one engine from those of others.
pub(crate) type EngineId = Arc<()>;

/// Where sequences of one KV scheme and one kind of positions live; made by [`Engine::cache`](crate::Engine::cache).
///
/// An engine may have several at once. They share its budget, and their sequences can be in one batch. A cache lives as
/// long as anybody holds it or one of its sequences.
pub struct Cache {
    pub(crate) engine: EngineId,
    pub(crate) pool: Arc<KvPool>,
    pub(crate) scheme: KvScheme,
    pub(crate) extent: Extent,
    pub(crate) exact_prefill: bool,
    pub(crate) calibrated: Option<Calibrated>,
    pub(crate) source: ModelSource,
    pub(crate) activations: ActivationKind,
    /// what the bytes of a saved sequence depend on, once somebody asked
    pub(crate) saved_key: OnceLock<SavedKey>,
}

impl Cache {
    /// An empty sequence.
    pub fn sequence(self: &Arc<Self>) -> Sequence {
        Sequence { tokens: Vec::new(), kv: self.pool.sequence(), cache: self.clone() }
    }

    /// How keys and values are stored.
    pub fn kv(&self) -> &KvScheme {
        &self.scheme
    }

    /// How positions are told to the model.
    pub fn positions(&self) -> &Positions {
        self.pool.positions()
    }

    /// Context in tokens.
    pub fn n_ctx(&self) -> usize {
        self.extent.n_ctx
    }

    /// The statistics in use, and where they are from; `None` if the scheme needs none.
    pub fn calibrated(&self) -> Option<&Calibrated> {
        self.calibrated.as_ref()
    }

    /// Bits per cached key or value far from both ends of a sequence, scales and padding included.
    pub fn bits_per_value(&self) -> f64 {
        self.pool.bits_per_value()
    }

    /// Bytes per token far from both ends of a sequence.
    pub fn bytes_per_token(&self) -> usize {
        self.pool.bytes_per_token()
    }

    /// Bytes of all its sequences together, each page once.
    pub fn bytes_in_use(&self) -> usize {
        self.pool.bytes_in_use()
    }

    /// Bytes of the pages of a sequence of so many tokens, when it goes on token by token.
    pub fn bytes_of_length(&self, n_tokens: usize) -> usize {
        self.pool.bytes_of_length(n_tokens)
    }

    /// Whether a token has the same bits alone as together with others of its page: with the model's own positions in exact
    /// caches, and in those of `k2v2` to `k4v4` unless activations are float32. Then generated tokens are as good as a
    /// prompt's.
    pub fn computes_alike(&self) -> bool {
        let sees_alike = !self.exact_prefill || self.pool.packed().is_none();
        sees_alike && self.pool.computes_alike(self.activations)
    }

    /// The first page that tokens of a prompt after `len` may see as it is.
    pub(crate) fn first_exact(&self, len: usize) -> usize {
        match self.pool.packed() {
            Some(packed) if !self.exact_prefill => {
                (len / PAGE_TOKENS).saturating_sub(packed.window.recent_pages())
            }
            _ => 0,
        }
    }

    /// A sequence of `tokens` whose pages are in `slots`.
    pub(crate) fn sequence_of(self: &Arc<Self>, tokens: Vec<u32>, slots: Vec<HeldSlot>) -> Sequence {
        Sequence { kv: KvSequence::of_held(&self.pool, slots, tokens.len()), tokens, cache: self.clone() }
    }

    /// What the bytes of a saved sequence depend on. The cut of a prompt, threads and instruction set change no bit. The
    /// model's files are read whole the first time.
    pub(crate) fn saved_key(&self) -> &SavedKey {
        self.saved_key.get_or_init(|| {
            // Those of `auto` go on where the model's own end, so a cache can grow from one into the other. Others decide
            // the keys (YaRN), or at least what the model made of the text that it read.
            let positions = self.positions().scheme();
            let is_auto = positions.is_auto(self.source.info().trained());
            let positions = if is_auto { "auto".to_string() } else { positions.to_string() };
            let prefill =
                if self.exact_prefill && self.pool.packed().is_some() { "exact" } else { "as stored" };
            let digest = |calibrated: &Calibrated| Hex(&calibrated.calibration.digest()).to_string();
            let calibration = self.calibrated.as_ref().map_or("none".to_string(), digest);
            SavedKey::new(vec![
                ("model", self.source.fingerprint().to_string()),
                ("version of lossy", env!("CARGO_PKG_VERSION").to_string()),
                ("KV scheme", self.pool.layout().name.clone()),
                ("kind of activations", self.activations.name().to_string()),
                ("position map", positions),
                ("first position", self.extent.start.to_string()),
                ("prefill", prefill.to_string()),
                ("calibration", calibration),
            ])
        })
    }

    /// Reads a sequence that was [saved](Sequence::save) by a cache of the same model, scheme, activations, positions,
    /// statistics and way to read a prompt, and by this version of the program.
    ///
    /// # Errors
    /// It was saved by another, is longer than the context, or is damaged.
    pub fn restore(self: &Arc<Self>, input: impl Read) -> Result<Sequence, SavedError> {
        let (kv, tokens) = self.pool.restore(self.saved_key(), self.n_ctx(), input)?;
        let n_vocab = self.source.info().n_vocab;
        if tokens.iter().any(|&id| id as usize >= n_vocab) {
            return Err(SavedError::Damaged("it has a token that is not in the vocabulary"));
        }
        Ok(Sequence { tokens, kv, cache: self.clone() })
    }
}

/// The tokens of one conversation and their keys and values.
pub struct Sequence {
    tokens: Vec<u32>,
    pub(crate) kv: KvSequence,
    cache: Arc<Cache>,
}

impl Sequence {
    /// Where it lives.
    pub fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// Tokens in the cache.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Number of tokens in the cache.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// No tokens yet.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Tokens that the context still has room for.
    pub fn room(&self) -> usize {
        self.cache.n_ctx().saturating_sub(self.len())
    }

    /// Bytes of its pages, shared pages included.
    pub fn kv_bytes(&self) -> usize {
        self.kv.bytes()
    }

    /// Of the pages that its tokens saw, the share that they read, where the scheme lets them skip some: all layers and heads
    /// together, since it began or was forked. `None`: nothing could be skipped yet.
    pub fn share_of_pages_read(&self) -> Option<f64> {
        self.kv.share_of_pages_read()
    }

    /// Bytes of new pages that `n_new` more tokens need.
    pub fn bytes_needed(&self, n_new: usize) -> usize {
        self.kv.bytes_to_reserve(n_new)
    }

    /// Forgets everything from token `n_tokens` on. Returns how many tokens are left.
    ///
    /// Tokens that follow a cut see those before it as the scheme stores them. Where they must have the same bits as in a
    /// sequence that was never longer, cut at [`longest_faithful`](Sequence::longest_faithful).
    pub fn truncate(&mut self, n_tokens: usize) -> usize {
        let left = self.kv.truncate(n_tokens);
        self.tokens.truncate(left);
        left
    }

    /// The longest beginning, of at most `n_tokens`, that can go on with the same bits as a sequence that was never longer.
    /// An exact scheme can be cut anywhere; a lossy one where the recent tokens that it keeps exact are still there.
    pub fn longest_faithful(&self, n_tokens: usize) -> usize {
        self.kv.longest_faithful(n_tokens)
    }

    /// The sequence from which `prompt` can go on furthest, and from how many of its tokens; the first one among equals,
    /// `None` if no sequence begins like the prompt. With `faithful`, only as far as the bits are those of a prompt that is
    /// read anew; see [`longest_faithful`](Sequence::longest_faithful).
    pub fn longest_prefix<'a>(
        sequences: impl IntoIterator<Item = &'a Sequence>,
        prompt: &[u32],
        faithful: bool,
    ) -> Option<(&'a Sequence, usize)> {
        let lengths = sequences.into_iter().map(|sequence| {
            let n_reusable = prefix::reusable(sequence.tokens(), prompt);
            (sequence, if faithful { sequence.longest_faithful(n_reusable) } else { n_reusable })
        });
        lengths.filter(|(_, len)| *len > 0).reduce(|best, other| if other.1 > best.1 { other } else { best })
    }

    /// A second sequence that shares the pages so far.
    pub fn fork(&self) -> Sequence {
        Sequence { tokens: self.tokens.clone(), kv: self.kv.fork(), cache: self.cache.clone() }
    }

    /// Counts tokens whose keys and values are in the cache now.
    pub(crate) fn push(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
    }

    /// Begins to read a prompt, whose tokens stay exact for now if the cache is made so.
    pub(crate) fn begin_prompt(&mut self) {
        if self.cache.exact_prefill {
            self.kv.keep_exact();
        }
    }

    /// Ends the reading of a prompt.
    pub(crate) fn end_prompt(&mut self) {
        if self.cache.exact_prefill {
            self.kv.pack();
        }
    }

    /// Fails if `tokens` cannot follow.
    pub(crate) fn check(&self, tokens: &[u32]) -> Result<(), RequestError> {
        self.check_from(self.len(), tokens)
    }

    /// Fails if `tokens` cannot follow the first `n_before`.
    pub(crate) fn check_from(&self, n_before: usize, tokens: &[u32]) -> Result<(), RequestError> {
        let (n_prompt, n_ctx) = (n_before + tokens.len(), self.cache.n_ctx());
        if n_prompt > n_ctx {
            return Err(RequestError::TooLong { n_prompt, n_ctx });
        }
        let n_vocab = self.cache.source.info().n_vocab;
        match tokens.iter().find(|&&id| id as usize >= n_vocab) {
            Some(&id) => Err(RequestError::NoSuchToken { id, n_vocab }),
            None => Ok(()),
        }
    }

    /// Writes the tokens and the cache, to be [restored](Cache::restore) later.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn save(&self, out: impl Write) -> Result<(), SavedError> {
        self.kv.save(self.cache.saved_key(), &self.tokens, out)?;
        Ok(())
    }

    /// Brings the sequence to `n_tokens` by copies of its tokens and of their pages, again and again: as many bytes to read
    /// as after a real prefill, at the cost of copying. For measuring speed. Tokens behind its last whole page are replaced
    /// by copies too. A sequence that is as long already stays as it is.
    ///
    /// # Errors
    /// The context or the budget does not hold them, or the sequence has no whole page. It has not changed then.
    pub fn extend_with_copies(&mut self, n_tokens: usize) -> Result<(), RequestError> {
        if n_tokens <= self.len() {
            return Ok(());
        }
        let n_ctx = self.cache.n_ctx();
        if n_tokens > n_ctx {
            return Err(RequestError::TooLong { n_prompt: n_tokens, n_ctx });
        }
        let n_own = self.len() / PAGE_TOKENS * PAGE_TOKENS;
        if n_own == 0 {
            return Err(RequestError::NothingToCopy { n_tokens: self.len(), page: PAGE_TOKENS });
        }
        let mut longer = self.kv.fork();
        longer.truncate(n_own);
        longer.extend_with_copies(n_tokens)?;
        self.kv = longer;
        self.tokens = self.tokens[..n_own].iter().copied().cycle().take(n_tokens).collect();
        Ok(())
    }
}
