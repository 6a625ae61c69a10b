//! The operand of a matrix product: rows of activations, exact or as int8.
//!
//! int8: blocks of 32 columns with a scale `absmax / 127` in f32, codes rounded to the nearest integer (ties to even).
//! Beside the codes each block has what offsets and minima of weights multiply: the sums of its codes.

mod quantize;
#[cfg(target_arch = "x86_64")]
mod tiles;

#[cfg(target_arch = "x86_64")]
pub(crate) use tiles::{LEAST_TOKENS, TILE_TOKENS, TileQ8};

use crate::Compute;

/// Columns of a block.
pub(crate) const COLS: usize = 32;

/// How the operand of a quantized matrix is represented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActivationKind {
    /// float32, exact
    F32,
    /// int8 in blocks of 32 with a float32 scale
    Q8,
}

impl ActivationKind {
    /// `f32` or `q8`
    pub fn name(self) -> &'static str {
        match self {
            ActivationKind::F32 => "f32",
            ActivationKind::Q8 => "q8",
        }
    }
}

/// 32 columns of a token as int8, with what products need beside the codes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub(crate) struct BlockQ8 {
    /// codes behind the last column are 0
    pub codes: [i8; COLS],
    /// a value is `scale · code`
    pub scale: f32,
    /// −8 and −16 times the sum of the codes: where sums of integers begin for codes from which 8 or 16 is subtracted
    pub minus_sums: [i32; 2],
    /// the sums of the first and the last 16 codes
    pub half_sums: [i16; 2],
    /// `scale` times the sum of the codes; apart from `scale`, since compilers load floats that are neighbours as one vector, and
    /// kernels want either in all lanes
    pub scaled_sum: f32,
    /// the sums of the codes in columns 4j and 4j + 1, and in 4j + 2 and 4j + 3, over all quads `j`
    pub pair_sums: [i16; 2],
    /// the same over the first half of the quads
    pub first_pair_sums: [i16; 2],
}

const _: () = assert!(size_of::<BlockQ8>() == 60);

impl BlockQ8 {
    /// Where sums of integers begin for codes from which `offset` is subtracted, a power of two and at least 8: `−offset · Σ code`, as
    /// an integer and by how many bits it has to be shifted left.
    #[inline(always)]
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(dead_code, reason = "the scalar form subtracts offsets from codes")
    )]
    pub const fn minus_sum(&self, offset: i16) -> (i32, u32) {
        assert!(offset >= 8 && (offset as u16).is_power_of_two());
        if offset == 8 { (self.minus_sums[0], 0) } else { (self.minus_sums[1], offset.trailing_zeros() - 4) }
    }

    /// Codes `4j..4j + 4`.
    #[inline(always)]
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "vectors take four codes at once"))]
    pub fn quad(&self, j: usize) -> i32 {
        let quads: &[[u8; 4]; COLS / 4] = bytemuck::cast_ref(&self.codes);
        i32::from_le_bytes(quads[j])
    }
}

/// Activations of some tokens, ready to be multiplied; a buffer to be reused.
#[derive(Clone, Debug)]
pub struct Activations {
    kind: ActivationKind,
    n_tokens: usize,
    n_cols: usize,
    /// whether `rows` are kept beside the codes
    keeps_rows: bool,
    /// `[n_tokens, n_cols]`; if they are not kept, room for one. There is more behind it: buffers only grow, since rows of
    /// different lengths take turns.
    rows: Vec<f32>,
    /// `[n_tokens, n_blocks]`, and more behind it; empty unless `kind` is `Q8`
    blocks: Vec<BlockQ8>,
    /// the same as tiles, if kernels read them
    #[cfg(target_arch = "x86_64")]
    tiles: tiles::TileRows,
}

/// The activations of a range of tokens, as kernels read them.
#[derive(Clone, Copy)]
pub(crate) struct Operand<'a> {
    pub kind: ActivationKind,
    pub n_tokens: usize,
    pub n_cols: usize,
    /// `[n_tokens, n_cols]`; may be empty if `kind` is `Q8`
    pub rows: &'a [f32],
    /// `[n_tokens, n_blocks]`; empty unless `kind` is `Q8`
    pub blocks: &'a [BlockQ8],
    /// `[⌈n_tokens / 16⌉, n_blocks]`; empty where no kernel reads tiles
    #[cfg(target_arch = "x86_64")]
    pub tiles: &'a [TileQ8],
}

impl Operand<'_> {
    /// int8 blocks of a token.
    pub fn n_blocks(&self) -> usize {
        self.n_cols.div_ceil(COLS)
    }
}

impl Activations {
    /// An empty buffer that will hold activations of this kind.
    pub fn new(kind: ActivationKind) -> Activations {
        Activations {
            kind,
            n_tokens: 0,
            n_cols: 0,
            keeps_rows: true,
            rows: Vec::new(),
            blocks: Vec::new(),
            #[cfg(target_arch = "x86_64")]
            tiles: tiles::TileRows::default(),
        }
    }

    /// The same for matrices none of which [reads floats](crate::Matrix::reads_floats): int8 codes then have no rows of
    /// float32 beside them, which take four times as much.
    ///
    /// # Panics
    /// A product with a matrix that reads floats, later.
    pub fn without_rows(self) -> Activations {
        let keeps_rows = self.kind == ActivationKind::F32;
        Activations { keeps_rows, ..self }
    }

    /// An empty buffer for activations that are represented in the same way.
    pub fn empty(&self) -> Activations {
        Activations { keeps_rows: self.keeps_rows, ..Activations::new(self.kind) }
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        let bytes = 4 * self.rows.capacity() + size_of::<BlockQ8>() * self.blocks.capacity();
        #[cfg(target_arch = "x86_64")]
        let bytes = bytes + self.tiles.bytes();
        bytes
    }

    /// How the activations are represented.
    pub fn kind(&self) -> ActivationKind {
        self.kind
    }

    /// Rows held.
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// Values in a row.
    pub fn n_cols(&self) -> usize {
        self.n_cols
    }

    /// Takes `rows`, `[n_tokens, n_cols]`.
    ///
    /// # Panics
    /// `rows` is not a whole number of rows.
    pub fn set(&mut self, cx: &Compute, rows: &[f32], n_cols: usize) {
        self.fill(cx, rows, n_cols, None::<fn(&[f32], &mut [f32])>);
    }

    /// Takes the RMS norm of each row, `x / sqrt(mean(x²) + eps) · weight`: `rows` is `[n_tokens, n_cols]`, `weight` `[n_cols]`.
    /// The values are those of [`rms_norm`](crate::rms_norm).
    ///
    /// # Panics
    /// `rows` is not a whole number of rows.
    pub fn set_rms_norm(&mut self, cx: &Compute, rows: &[f32], weight: &[f32], eps: f32) {
        let norm = |row: &[f32], out: &mut [f32]| {
            crate::elementwise::rms_norm_row(cx.isa, row, weight, eps, out);
        };
        self.fill(cx, rows, weight.len(), Some(norm));
    }

    /// Takes what `make` makes of each row, or the rows as they are.
    fn fill(
        &mut self,
        cx: &Compute,
        rows: &[f32],
        n_cols: usize,
        make: Option<impl Fn(&[f32], &mut [f32]) + Sync>,
    ) {
        self.fill_rows(cx, rows, n_cols, make);
        #[cfg(target_arch = "x86_64")]
        self.tiles.set(cx, &self.blocks[..self.n_blocks()], n_cols.div_ceil(COLS));
    }

    /// Blocks of all tokens.
    fn n_blocks(&self) -> usize {
        match self.kind {
            ActivationKind::F32 => 0,
            ActivationKind::Q8 => self.n_tokens * self.n_cols.div_ceil(COLS),
        }
    }

    fn fill_rows(
        &mut self,
        cx: &Compute,
        rows: &[f32],
        n_cols: usize,
        make: Option<impl Fn(&[f32], &mut [f32]) + Sync>,
    ) {
        assert!(n_cols > 0 && rows.len().is_multiple_of(n_cols), "{} values, rows of {n_cols}", rows.len());
        self.n_cols = n_cols;
        self.n_tokens = rows.len() / n_cols;
        let n_kept = if self.keeps_rows { rows.len() } else { 0 };
        let n_blocks = self.n_blocks();
        grow(&mut self.rows, n_kept.max(n_cols));
        grow(&mut self.blocks, n_blocks);
        let room_len = if self.keeps_rows { 0 } else { n_cols };
        struct Token<'a> {
            from: &'a [f32],
            row: &'a mut [f32],
            blocks: &'a mut [BlockQ8],
        }
        // `room` is for a row that is not kept.
        let one = |token: &mut Token, room: &mut [f32]| {
            let is_kept = !token.row.is_empty();
            let to = if is_kept { &mut *token.row } else { room };
            let row: &[f32] = match &make {
                Some(make) => {
                    make(token.from, to);
                    to
                }
                None if !is_kept => token.from,
                None => {
                    to.copy_from_slice(token.from);
                    to
                }
            };
            if !token.blocks.is_empty() {
                quantize::row(cx.isa, row, token.blocks);
            }
        };
        let (kept, room) = self.rows.split_at_mut(n_kept);
        let mut kept = kept.chunks_exact_mut(n_cols);
        let mut blocks = self.blocks[..n_blocks].chunks_exact_mut(n_cols.div_ceil(COLS));
        let mut tokens = rows.chunks_exact(n_cols).map(|from| Token {
            from,
            row: kept.next().unwrap_or_default(),
            blocks: blocks.next().unwrap_or_default(),
        });
        // A fork costs about as much as a few thousand values.
        if rows.len() < 8192 {
            tokens.for_each(|mut token| one(&mut token, &mut room[..room_len]));
            return;
        }
        let tokens_per_task = 4096_usize.div_ceil(n_cols);
        let mut tasks = Vec::new();
        loop {
            let task: Vec<Token> = tokens.by_ref().take(tokens_per_task).collect();
            if task.is_empty() {
                break;
            }
            tasks.push(task);
        }
        let needs_room = !self.keeps_rows && make.is_some();
        cx.pool.run_mut(&mut tasks, |_, task| {
            let mut room = vec![0.0; if needs_room { room_len } else { 0 }];
            task.iter_mut().for_each(|token| one(token, &mut room));
        });
    }

    /// The tokens of a range.
    pub(crate) fn operand(&self, tokens: std::ops::Range<usize>) -> Operand<'_> {
        let n_blocks = self.n_cols.div_ceil(COLS);
        let blocks = match self.kind {
            ActivationKind::F32 => &[],
            ActivationKind::Q8 => &self.blocks[tokens.start * n_blocks..tokens.end * n_blocks],
        };
        Operand {
            kind: self.kind,
            n_tokens: tokens.len(),
            n_cols: self.n_cols,
            rows: if self.keeps_rows {
                &self.rows[tokens.start * self.n_cols..tokens.end * self.n_cols]
            } else {
                &[]
            },
            blocks,
            #[cfg(target_arch = "x86_64")]
            tiles: self.tiles.of(tokens, n_blocks),
        }
    }
}

/// Makes room for `n` values; what they are is unspecified.
fn grow<T: Clone + Default>(buffer: &mut Vec<T>, n: usize) {
    if buffer.len() < n {
        buffer.resize(n, T::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    /// One row, few rows, and so many that threads share them.
    #[test]
    fn codes_are_the_same_whether_rows_are_kept_or_not() {
        let n_cols = 70;
        for isa in Isa::available() {
            let cx = Compute::with_isa(2, isa);
            let weight: Vec<f32> = (0..n_cols).map(|i| 1.0 + i as f32 / 50.0).collect();
            let mut kept = Activations::new(ActivationKind::Q8);
            let mut dropped = kept.empty().without_rows();
            for n_tokens in [1, 5, 400, 2] {
                let rows: Vec<f32> = (0..n_cols * n_tokens).map(|i| (i as f32 * 0.37).sin() * 3.0).collect();
                let same = |kept: &Activations, dropped: &Activations| {
                    let (kept, dropped) = (kept.operand(0..n_tokens), dropped.operand(0..n_tokens));
                    assert_eq!(kept.blocks, dropped.blocks, "{isa}, {n_tokens} rows");
                    assert!(kept.rows.len() == n_cols * n_tokens && dropped.rows.is_empty());
                };
                kept.set(&cx, &rows, n_cols);
                dropped.set(&cx, &rows, n_cols);
                same(&kept, &dropped);
                kept.set_rms_norm(&cx, &rows, &weight, 1e-5);
                dropped.set_rms_norm(&cx, &rows, &weight, 1e-5);
                same(&kept, &dropped);
            }
            assert!(kept.bytes() - dropped.bytes() >= 4 * n_cols * 399);
        }
    }

    #[test]
    fn float32_activations_are_rows() {
        let mut activations = Activations::new(ActivationKind::F32).without_rows();
        activations.set(&Compute::with_isa(1, Isa::Scalar), &[1.0, 2.0], 2);
        assert_eq!(activations.operand(0..1).rows, [1.0, 2.0]);
    }
}
