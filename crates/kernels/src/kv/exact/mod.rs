//! Exact storage: keys and values of one page of one KV head as f16 or f32.
//!
//! ```text
//! keys   [PAGE_TOKENS/8][head_dim][8]   token t, channel d at (t/8, d, t%8)
//! values [PAGE_TOKENS][head_dim]        right behind the keys
//! ```
//! Keys of eight tokens stand side by side, so that a vector lane is a token and a score needs no sum across lanes.

mod append;
mod scalar;

#[cfg(target_arch = "x86_64")]
mod avx2;

use std::ops::Range;

use bytemuck::Pod;
use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::Isa;
use crate::page::{LANES, PAGE_TOKENS, Partial, Tile, TokenQueries};

pub use append::{AppendError, Part};

/// Element type of an exact KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvType {
    /// float32
    F32,
    /// IEEE half
    F16,
}

impl KvType {
    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        match self {
            KvType::F32 => 4,
            KvType::F16 => 2,
        }
    }

    /// Its name in flags and reports.
    pub fn name(self) -> &'static str {
        match self {
            KvType::F32 => "f32",
            KvType::F16 => "f16",
        }
    }

    /// Bytes of the keys and values of one page of one KV head.
    pub fn bytes_per_head(self, head_dim: usize) -> usize {
        self.bytes_of_tokens(PAGE_TOKENS, head_dim)
    }

    /// Bytes of the keys and values of `n_tokens` tokens of one KV head.
    pub fn bytes_of_tokens(self, n_tokens: usize, head_dim: usize) -> usize {
        2 * n_tokens * head_dim * self.bytes()
    }
}

/// Where channel `channel` of the key of token `token` lies among the keys of a head.
pub fn key_index(head_dim: usize, token: usize, channel: usize) -> usize {
    (token / LANES * head_dim + channel) * LANES + token % LANES
}

/// A storage type of [`KvType`].
trait Element: Pod {
    /// Whether it is the 16-bit type; the other one is f32.
    const IS_F16: bool;
    /// Bits of the smallest positive f32 that does not become a finite element.
    const LIMIT: u32;
    fn from_f32(x: f32) -> Self;
    fn to_f32(self) -> f32;
}

impl Element for f16 {
    const IS_F16: bool = true;
    /// 65520: halfway between the largest f16 and the next power of two, so it rounds to infinity.
    const LIMIT: u32 = 0x477f_f000;
    fn from_f32(x: f32) -> f16 {
        f16::from_f32(x)
    }
    fn to_f32(self) -> f32 {
        f16::to_f32(self)
    }
}

impl Element for f32 {
    const IS_F16: bool = false;
    /// infinity
    const LIMIT: u32 = 0x7f80_0000;
    fn from_f32(x: f32) -> f32 {
        x
    }
    fn to_f32(self) -> f32 {
        self
    }
}

/// Keys and values of one page of one KV head, to read.
#[derive(Clone, Copy, Debug)]
pub struct ExactHead<'a> {
    kv_type: KvType,
    head_dim: usize,
    bytes: &'a [u8],
}

/// The same with its element type.
struct TypedHead<'a, E> {
    /// `[PAGE_TOKENS/8 * head_dim][8]`
    pub keys: &'a [[E; LANES]],
    /// `[PAGE_TOKENS * head_dim / 8][8]`
    pub values: &'a [[E; 8]],
    pub head_dim: usize,
}

impl<'a> ExactHead<'a> {
    /// `bytes` are laid out as the module says.
    ///
    /// # Panics
    /// Their number is not [`KvType::bytes_per_head`], or they are not aligned to an element.
    pub fn new(kv_type: KvType, head_dim: usize, bytes: &'a [u8]) -> ExactHead<'a> {
        assert_eq!(bytes.len(), kv_type.bytes_per_head(head_dim), "bytes of a page");
        ExactHead { kv_type, head_dim, bytes }
    }

    fn typed<E: Element>(&self) -> TypedHead<'a, E> {
        let (keys, values) = self.bytes.split_at(self.bytes.len() / 2);
        TypedHead {
            keys: bytemuck::cast_slice(keys),
            values: bytemuck::cast_slice(values),
            head_dim: self.head_dim,
        }
    }

    /// The same for a head that holds `capacity` tokens, a multiple of 8, in the same layout.
    ///
    /// # Panics
    /// As [`new`](ExactHead::new), for that number of tokens.
    pub fn with_capacity(
        kv_type: KvType,
        head_dim: usize,
        capacity: usize,
        bytes: &'a [u8],
    ) -> ExactHead<'a> {
        assert!(capacity.is_multiple_of(LANES), "room for {capacity} tokens");
        assert_eq!(bytes.len(), kv_type.bytes_of_tokens(capacity, head_dim), "bytes of {capacity} tokens");
        ExactHead { kv_type, head_dim, bytes }
    }

    /// Channels.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Copies the first `capacity` tokens into bytes laid out for as many, see
    /// [`with_capacity`](ExactHead::with_capacity).
    ///
    /// # Panics
    /// There are fewer tokens, or `out` has another length than they take.
    pub fn copy_first(&self, capacity: usize, out: &mut [u8]) {
        let half = self.kv_type.bytes_of_tokens(capacity, self.head_dim) / 2;
        let (keys, values) = out.split_at_mut(half);
        keys.copy_from_slice(&self.bytes[..half]);
        values.copy_from_slice(&self.bytes[self.bytes.len() / 2..][..half]);
    }

    /// Everything as float32, in the same layout.
    ///
    /// # Panics
    /// `out` has another length.
    pub fn to_f32(&self, out: &mut [f32]) {
        match self.kv_type {
            KvType::F16 => bytemuck::cast_slice::<u8, f16>(self.bytes).convert_to_f32_slice(out),
            KvType::F32 => out.copy_from_slice(bytemuck::cast_slice(self.bytes)),
        }
    }

    /// The values as float32, in the same layout.
    ///
    /// # Panics
    /// `out` has another length.
    pub fn values_to_f32(&self, out: &mut [f32]) {
        let values = &self.bytes[self.bytes.len() / 2..];
        match self.kv_type {
            KvType::F16 => bytemuck::cast_slice::<u8, f16>(values).convert_to_f32_slice(out),
            KvType::F32 => out.copy_from_slice(bytemuck::cast_slice(values)),
        }
    }

    /// The first `n_tokens` as float32, into a whole page of the same layout.
    ///
    /// # Panics
    /// There are fewer tokens, or `out` is not a page.
    pub fn copy_tokens_to_f32(&self, n_tokens: usize, out: &mut [f32]) {
        let mut own = vec![0.0; self.bytes.len() / self.kv_type.bytes()];
        self.to_f32(&mut own);
        let (keys, values) = own.split_at(own.len() / 2);
        let (to_keys, to_values) = out.split_at_mut(PAGE_TOKENS * self.head_dim);
        for token in 0..n_tokens {
            for d in 0..self.head_dim {
                let at = key_index(self.head_dim, token, d);
                to_keys[at] = keys[at];
            }
        }
        let n = n_tokens * self.head_dim;
        to_values[..n].copy_from_slice(&values[..n]);
    }

    /// Partial softmax of one token's query heads over some tokens of the page. The beginning of `next`, the page that
    /// will be read after this one, is fetched into the cache meanwhile.
    ///
    /// # Panics
    /// There are no tokens, or they are not in the page, or `token` has another `head_dim`.
    pub fn attend_token(
        &self,
        isa: Isa,
        tokens: Range<usize>,
        token: &mut TokenQueries,
        next: Option<ExactHead<'_>>,
        partial: &mut Partial<'_>,
    ) {
        assert!(!tokens.is_empty() && tokens.end <= PAGE_TOKENS, "tokens {tokens:?} of a page");
        assert_eq!(token.head_dim(), self.head_dim, "head_dim of queries and keys");
        let next = next.map(|head| head.bytes);
        match self.kv_type {
            KvType::F16 => attend_token::<f16>(isa, self.typed(), tokens, token, next, partial),
            KvType::F32 => attend_token::<f32>(isa, self.typed(), tokens, token, next, partial),
        }
    }

    /// Converts the first `n_tokens` of the page, and at most as many as complete a group of 16, to float32. As much of
    /// `next`, the page that will be read after this one, is fetched into the cache meanwhile.
    ///
    /// # Panics
    /// `n_tokens` is more than a page.
    pub fn load_tile(&self, isa: Isa, n_tokens: usize, next: Option<ExactHead<'_>>, tile: &mut Tile) {
        assert!(n_tokens <= PAGE_TOKENS, "{n_tokens} tokens of a page");
        // Where the next page begins, seen from this one; without one, what is read is fetched.
        let ahead =
            next.map_or(0, |next| next.bytes.as_ptr().addr().wrapping_sub(self.bytes.as_ptr().addr()));
        match self.kv_type {
            KvType::F16 => load_tile::<f16>(isa, self.typed(), n_tokens, ahead, tile),
            KvType::F32 => load_tile::<f32>(isa, self.typed(), n_tokens, ahead, tile),
        }
    }
}

fn attend_token<E: Element>(
    isa: Isa,
    head: TypedHead<'_, E>,
    tokens: Range<usize>,
    token: &mut TokenQueries,
    next: Option<&[u8]>,
    partial: &mut Partial<'_>,
) {
    match isa {
        Isa::Scalar => scalar::attend_token(&head, tokens, token, partial),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Avx2` exists only if detection saw avx2, fma and f16c.
        Isa::Avx2(avx2) => unsafe {
            avx2::attend_token(avx2.extension(), &head, tokens, token, next, partial)
        },
    }
}

fn load_tile<E: Element>(
    isa: Isa,
    head: TypedHead<'_, E>,
    n_tokens: usize,
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables, reason = "nothing is fetched there"))]
    ahead: usize,
    tile: &mut Tile,
) {
    tile.set_shape(head.head_dim);
    match isa {
        Isa::Scalar => scalar::load_tile(&head, n_tokens, tile),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Avx2` exists only if detection saw avx2, fma and f16c.
        Isa::Avx2(_) => unsafe { avx2::load_tile(&head, n_tokens, ahead, tile) },
    }
}

/// Keys and values of one page of one KV head, to write.
#[derive(Debug)]
pub struct ExactHeadMut<'a> {
    kv_type: KvType,
    head_dim: usize,
    bytes: &'a mut [u8],
}

/// The same with its element type.
struct TypedHeadMut<'a, E> {
    /// `[PAGE_TOKENS/8 * head_dim][8]`
    pub keys: &'a mut [[E; LANES]],
    /// `[PAGE_TOKENS * head_dim / 8][8]`
    pub values: &'a mut [[E; 8]],
    pub head_dim: usize,
}

impl<'a> ExactHeadMut<'a> {
    /// As [`ExactHead::new`].
    ///
    /// # Panics
    /// As there.
    pub fn new(kv_type: KvType, head_dim: usize, bytes: &'a mut [u8]) -> ExactHeadMut<'a> {
        assert_eq!(bytes.len(), kv_type.bytes_per_head(head_dim), "bytes of a page");
        ExactHeadMut { kv_type, head_dim, bytes }
    }

    fn typed<E: Element>(&mut self) -> TypedHeadMut<'_, E> {
        let middle = self.bytes.len() / 2;
        let (keys, values) = self.bytes.split_at_mut(middle);
        TypedHeadMut {
            keys: bytemuck::cast_slice_mut(keys),
            values: bytemuck::cast_slice_mut(values),
            head_dim: self.head_dim,
        }
    }

    /// Takes what a float32 head holds, rounded; what is too large for the type becomes its largest value.
    ///
    /// # Panics
    /// The head has another type or size.
    pub fn set_f32(&mut self, source: ExactHead<'_>) {
        let source: &[f32] = bytemuck::cast_slice(source.bytes);
        match self.kv_type {
            KvType::F32 => bytemuck::cast_slice_mut::<u8, f32>(self.bytes).copy_from_slice(source),
            KvType::F16 => {
                let largest = f16::MAX.to_f32();
                let to: &mut [f16] = bytemuck::cast_slice_mut(self.bytes);
                assert_eq!(to.len(), source.len(), "values of a page");
                for (to, x) in to.iter_mut().zip(source) {
                    *to = f16::from_f32(x.clamp(-largest, largest));
                }
            }
        }
    }

    /// Copies the first `n_tokens` from another page, and nothing of the tokens behind them.
    ///
    /// # Panics
    /// The two have different types, or there are fewer tokens in a page.
    pub fn copy_from(&mut self, source: ExactHead<'_>, n_tokens: usize) {
        assert_eq!((self.kv_type, self.head_dim), (source.kv_type, source.head_dim), "types of two pages");
        assert!(n_tokens <= PAGE_TOKENS, "{n_tokens} tokens of a page");
        let token = self.head_dim * self.kv_type.bytes();
        let middle = self.bytes.len() / 2;
        let n_whole = n_tokens / LANES * LANES;
        let keys = ..n_whole * token;
        let values = middle..middle + n_tokens * token;
        self.bytes[keys].copy_from_slice(&source.bytes[keys]);
        // Of the last eight tokens, those that are there.
        let (vector, some) = (LANES * self.kv_type.bytes(), (n_tokens - n_whole) * self.kv_type.bytes());
        for channel in 0..if some == 0 { 0 } else { self.head_dim } {
            let lanes = n_whole * token + channel * vector..n_whole * token + channel * vector + some;
            self.bytes[lanes.clone()].copy_from_slice(&source.bytes[lanes]);
        }
        self.bytes[values.clone()].copy_from_slice(&source.bytes[values]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_copied_are_the_first_tokens_and_nothing_else() {
        const HEAD_DIM: usize = 4;
        for kv_type in [KvType::F16, KvType::F32] {
            let width = kv_type.bytes();
            let source = vec![1; 2 * PAGE_TOKENS * HEAD_DIM * width];
            for n in [0, 1, 7, 8, 9, 127, PAGE_TOKENS] {
                let mut bytes = vec![0; source.len()];
                let source = ExactHead::new(kv_type, HEAD_DIM, &source);
                ExactHeadMut::new(kv_type, HEAD_DIM, &mut bytes).copy_from(source, n);
                let (keys, values) = bytes.split_at(bytes.len() / 2);
                for token in 0..PAGE_TOKENS {
                    let wanted = u8::from(token < n);
                    for channel in 0..HEAD_DIM {
                        let key = ((token / LANES * HEAD_DIM + channel) * LANES + token % LANES) * width;
                        let value = (token * HEAD_DIM + channel) * width;
                        assert!(keys[key..][..width].iter().all(|byte| *byte == wanted), "{token} of {n}");
                        assert!(
                            values[value..][..width].iter().all(|byte| *byte == wanted),
                            "{token} of {n}"
                        );
                    }
                }
            }
        }
    }
}
