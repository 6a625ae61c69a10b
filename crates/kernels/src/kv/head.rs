//! One head: packing, unpacking, and attention over it.

use super::encode::{self, Buffers, Lanes};
use super::exact::{ExactHead, KvType};
use super::keys::KeyCode;
use super::layout::{self, ROW, value_rows};
use super::stored::Stored;
use super::values::ValueCode;
use super::{BLOCK_TOKENS, BLOCKS, FRAME_TOKENS, estimate, gain, scalar};
use crate::Isa;
use crate::page::{LANES, PAGE_TOKENS, PageFrames, PageTurns, Partial, QueryRows, RowStates, TokenQueries};

#[cfg(target_arch = "x86_64")]
use super::avx2;

/// The code of one KV head.
#[derive(Clone, Debug)]
pub struct HeadCode {
    pub(super) keys: KeyCode,
    pub(super) values: ValueCode,
}

/// Keys and values of one page of one KV head as float32, in the layout of [`ExactHead`].
#[derive(Debug, Default)]
pub struct HeadF32 {
    head_dim: usize,
    values: Vec<f32>,
}

impl HeadF32 {
    /// Makes room for heads of `head_dim` channels.
    pub fn set_shape(&mut self, head_dim: usize) {
        self.head_dim = head_dim;
        self.values.resize(2 * PAGE_TOKENS * head_dim, 0.0);
    }

    /// Takes what an exact head holds.
    pub fn load(&mut self, head: ExactHead<'_>) {
        self.set_shape(head.head_dim());
        head.to_f32(&mut self.values);
    }

    /// Takes the first `n_tokens` tokens of another page.
    pub fn copy_from(&mut self, source: ExactHead<'_>, n_tokens: usize) {
        source.copy_tokens_to_f32(n_tokens, &mut self.values);
    }

    /// Takes the values of a whole page, and leaves the keys.
    ///
    /// # Panics
    /// `source` has another number of channels, or holds fewer tokens.
    pub fn copy_values_from(&mut self, source: ExactHead<'_>) {
        assert_eq!(source.head_dim(), self.head_dim, "channels of a head");
        source.values_to_f32(self.keys_and_values_mut().1);
    }

    /// Turns the key of each token by its angle.
    pub fn turn(&mut self, isa: Isa, turns: PageTurns<'_>) {
        turns.turn_keys(isa, self.parts_mut().0);
    }

    /// Keys `[PAGE_TOKENS/8][head_dim][8]` and values `[PAGE_TOKENS][head_dim]`.
    pub fn keys_and_values(&self) -> (&[f32], &[f32]) {
        self.values.split_at(PAGE_TOKENS * self.head_dim)
    }

    /// The same, to write.
    pub fn keys_and_values_mut(&mut self) -> (&mut [f32], &mut [f32]) {
        self.values.split_at_mut(PAGE_TOKENS * self.head_dim)
    }

    /// As attention reads it.
    pub fn head(&self) -> ExactHead<'_> {
        ExactHead::new(KvType::F32, self.head_dim, bytemuck::cast_slice(&self.values))
    }

    /// Keys by groups of tokens, and values.
    pub(super) fn parts(&self) -> (&[Lanes], &[f32]) {
        let (keys, values) = self.keys_and_values();
        (keys.as_chunks().0, values)
    }

    /// Keys and values, to write.
    pub(super) fn parts_mut(&mut self) -> (&mut [Lanes], &mut [f32]) {
        let (keys, values) = self.keys_and_values_mut();
        (keys.as_chunks_mut().0, values)
    }
}

impl HeadCode {
    /// Keys and values of one head.
    ///
    /// # Panics
    /// They have different numbers of channels.
    pub fn new(keys: KeyCode, values: ValueCode) -> HeadCode {
        assert_eq!(keys.head_dim(), values.mean.len(), "channels of keys and values");
        HeadCode { keys, values }
    }

    /// Channels.
    pub fn head_dim(&self) -> usize {
        self.keys.head_dim()
    }

    /// Bytes of a packed page of this head: a multiple of 64.
    pub fn bytes(&self) -> usize {
        layout::bytes(self)
    }

    /// Packs a page of which `exact` holds rotated keys and transformed values; `frames` are the rotations of its frames'
    /// first positions.
    ///
    /// # Panics
    /// `packed` does not have [`bytes`](HeadCode::bytes) bytes.
    pub fn pack(&self, isa: Isa, frames: PageFrames<'_>, exact: &HeadF32, packed: &mut [u8]) {
        assert_eq!(packed.len(), self.bytes(), "bytes of a packed head");
        assert_eq!(exact.head_dim, self.head_dim(), "channels of a head");
        match isa {
            Isa::Scalar => pack(self, frames, exact, packed),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an `Avx2` exists only if detection saw avx2, fma and f16c.
            Isa::Avx2(_) => unsafe { avx2::pack(self, frames, exact, packed) },
        }
    }

    /// The page that `packed` holds as float32: keys rotated as if its frames began where `frames` says, values transformed.
    ///
    /// # Panics
    /// `packed` does not have [`bytes`](HeadCode::bytes) bytes.
    pub fn unpack(&self, isa: Isa, frames: PageFrames<'_>, packed: &[u8], out: &mut HeadF32) {
        assert_eq!(packed.len(), self.bytes(), "bytes of a packed head");
        out.set_shape(self.head_dim());
        match isa {
            Isa::Scalar => unpack(self, frames, packed, out),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an `Avx2` exists only if detection saw avx2, fma and f16c.
            Isa::Avx2(_) => unsafe { avx2::unpack(self, frames, packed, out) },
        }
    }

    /// Partial softmax of one token's query heads over a packed page and its sinks, as if its frames began where `frames`
    /// says.
    ///
    /// # Panics
    /// `token` has another `head_dim`, `stored` another number of bytes, or there are no fewer sinks than tokens.
    pub fn attend_token(
        &self,
        isa: Isa,
        frames: PageFrames<'_>,
        stored: Stored<'_>,
        token: &mut TokenQueries,
        partial: &mut Partial<'_>,
    ) {
        assert_eq!(token.head_dim(), self.head_dim(), "head_dim of queries and keys");
        stored.attend(isa, self.bytes(), token, partial, |token, partial| match isa {
            Isa::Scalar => scalar::attend_token(self, frames, stored, token, partial),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an `Avx2` exists only if detection saw avx2, fma and f16c.
            Isa::Avx2(avx2) => unsafe {
                avx2::attend_token(avx2.extension(), self, frames, stored, token, partial)
            },
        });
    }

    /// Merges into `states` the softmax of query rows over a packed page, without its sinks, as if its frames began where
    /// `frames` says: of those that `rows` names. A row has the bits that it has as a head of
    /// [`attend_token`](HeadCode::attend_token).
    ///
    /// # Panics
    /// `queries` have another `head_dim`, `states` another number of rows, `stored` another number of bytes, there are
    /// no fewer sinks than tokens, or `rows` names one that is not there.
    pub fn attend_rows(
        &self,
        isa: Isa,
        frames: PageFrames<'_>,
        stored: Stored<'_>,
        queries: &mut QueryRows,
        rows: &[u16],
        mut states: RowStates<'_>,
    ) {
        stored.assert_rows(self.head_dim(), self.bytes(), queries, &states);
        match isa {
            Isa::Scalar => scalar::attend_rows(self, frames, stored, queries, rows, &mut states),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an `Avx2` exists only if detection saw avx2, fma and f16c.
            Isa::Avx2(avx2) => unsafe {
                avx2::attend_rows(avx2.extension(), self, frames, stored, queries, rows, &mut states)
            },
        }
    }

    /// Estimates, from a quarter of the code, what the tokens of a packed page weigh together for each query row, if a score
    /// of `shifts` (log₂) weighs 1. `frames` says where its frames are seen. To choose pages by, not to compute with.
    ///
    /// # Panics
    /// `queries` have another `head_dim`, `packed` another number of bytes, or rows, shifts and weights differ in number.
    pub fn estimate_rows(
        &self,
        isa: Isa,
        frames: PageFrames<'_>,
        packed: &[u8],
        queries: &mut QueryRows,
        shifts: &[f32],
        weights: &mut [f32],
    ) {
        assert_eq!(packed.len(), self.bytes(), "bytes of a packed head");
        assert_eq!(queries.head_dim(), self.head_dim(), "head_dim of queries and keys");
        assert_eq!((shifts.len(), weights.len()), (queries.n_rows(), queries.n_rows()), "rows");
        match isa {
            Isa::Scalar => estimate::estimate_rows(self, frames, packed, queries, shifts, weights),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an `Avx2` exists only if detection saw avx2, fma and f16c.
            Isa::Avx2(avx2) => unsafe {
                avx2::estimate_rows(avx2.extension(), self, frames, packed, queries, shifts, weights)
            },
        }
    }
}

#[inline(always)]
pub(super) fn pack(code: &HeadCode, frames: PageFrames<'_>, exact: &HeadF32, packed: &mut [u8]) {
    let head_dim = code.head_dim();
    let parts = layout::parts_mut(code, packed);
    let (keys, values) = exact.parts();
    let mut buffers = Buffers::default();
    let mut codes = vec![[0u8; BLOCK_TOKENS]; head_dim];
    let n_rows = code.keys.planes.rows();
    for block in 0..BLOCKS {
        let frame = frames.frame(block * BLOCK_TOKENS / FRAME_TOKENS);
        for group in 0..BLOCK_TOKENS / LANES {
            let at = block * BLOCK_TOKENS / LANES + group;
            let group_keys = &keys[at * head_dim..][..head_dim];
            let gains =
                encode::encode_keys(&code.keys, frame, group_keys, &mut buffers, |position, eight| {
                    codes[position][8 * group..][..8].copy_from_slice(&eight);
                });
            parts.key_gains[8 * at..][..8].copy_from_slice(&gains);
        }
        layout::pack_keys(&code.keys, &codes, &mut parts.keys[block * n_rows..][..n_rows]);
    }
    let mut codes = vec![[[0u8; 32]; PAGE_TOKENS]; head_dim / 32];
    let mut group = vec![[0.0; 8]; head_dim];
    for at in 0..PAGE_TOKENS / LANES {
        for (lane, row) in values[8 * at * head_dim..][..8 * head_dim].chunks_exact(head_dim).enumerate() {
            for (to, v) in group.iter_mut().zip(row) {
                to[lane] = *v;
            }
        }
        let gains = encode::encode_values(&code.values, &group, |channel, eight| {
            for (lane, code) in eight.into_iter().enumerate() {
                codes[channel / 32][8 * at + lane][channel % 32] = code;
            }
        });
        parts.value_gains[8 * at..][..8].copy_from_slice(&gains);
    }
    let n_rows = value_rows(code.values.bits);
    for (codes, rows) in codes.iter().zip(parts.values.chunks_exact_mut(n_rows)) {
        layout::pack_values(code.values.bits, codes, rows);
    }
}

#[inline(always)]
pub(super) fn unpack(code: &HeadCode, frames: PageFrames<'_>, packed: &[u8], out: &mut HeadF32) {
    let head_dim = code.head_dim();
    let parts = layout::parts(code, packed);
    let (keys, values) = out.parts_mut();
    let mut codes = vec![[0u8; BLOCK_TOKENS]; head_dim];
    let blocks = parts.keys.chunks(code.keys.planes.rows().max(1));
    for block in 0..BLOCKS {
        let rows: &[[u8; ROW]] = blocks.clone().nth(block).unwrap_or(&[]);
        layout::unpack_keys(&code.keys, rows, &mut codes);
        let frame = frames.frame(block * BLOCK_TOKENS / FRAME_TOKENS);
        for group in 0..BLOCK_TOKENS / LANES {
            let at = block * BLOCK_TOKENS / LANES + group;
            let gains = parts.key_gains.as_chunks::<8>().0[at];
            let eight = |position: usize| codes[position].as_chunks::<8>().0[group];
            encode::decode_keys(&code.keys, frame, &gains, eight, &mut keys[at * head_dim..][..head_dim]);
        }
    }
    let bits = code.values.bits;
    let (step, middle) = (code.values.step(), code.values.middle());
    let mut codes = [[0u8; 32]; PAGE_TOKENS];
    for (part, rows) in parts.values.chunks_exact(value_rows(bits)).enumerate() {
        layout::unpack_values(bits, rows, &mut codes);
        let mean: &[f32; 32] = code.values.mean[32 * part..].first_chunk().expect("32 channels");
        for (token, codes) in codes.iter().enumerate() {
            let step = step * gain::decode(parts.value_gains[token]);
            let to = &mut values[token * head_dim + 32 * part..][..32];
            for ((to, code), mean) in to.iter_mut().zip(codes).zip(mean) {
                *to = mean + (f32::from(*code) - middle) * step;
            }
        }
    }
}
