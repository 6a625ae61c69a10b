//! Matrix products: weights of any format, packed once, times the activations of some tokens.
//!
//! Weights are packed into *strips* of eight rows (`tile` shows how codes lie in them); a product is computed strip by
//! strip: [`strips::Strips::dot`] gives all products of a few strips with all tokens, and what follows (storing, adding,
//! SwiGLU) is applied while those are in cache. Strips are handed out to threads dynamically, since another process may
//! take a core away: a share of what is left at a time, as [`cut`] cuts it.
//!
//! For a given instruction set every result has the same bits whatever the number of tokens in the call, their order and
//! the number of threads, because every kernel does the float operations of a (row, token) in one order: see `quantized`.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod float;
mod formats;
mod matrix;
mod quantized;
mod strips;
pub(crate) mod tile;

pub use matrix::{Matrix, PackError};

use crate::{Activations, Compute, Isa, elementwise};
use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;
use tile::ROWS;

/// Strips computed at once with few tokens: enough to make the call cheap.
const STRIPS_FEW: usize = 8;
/// Tokens computed at once: their sums stay in cache.
const TOKENS: usize = 512;

/// `out = [w x for w in weights]`: out is `[n_tokens, Σ n_rows]`, each token's products side by side. One fork for all.
///
/// # Panics
/// A matrix has another number of columns than `x`, or `out` another length.
pub fn matmul(cx: &Compute, weights: &[&Matrix], x: &Activations, out: &mut [f32]) {
    let width = weights.iter().map(|w| w.n_rows()).sum();
    let out = Out::new(out, x.n_tokens(), width);
    products(cx, weights, x, |index, rows, tokens, sums| {
        let before: usize = weights[..index].iter().map(|w| w.n_rows()).sum();
        let cols = before + rows.start..before + rows.end;
        for (token, sums) in tokens.zip(sums) {
            // SAFETY: these rows of this matrix belong to this task alone.
            let out = unsafe { out.part(token, cols.clone()) };
            copy(&sums[..cols.len()], out);
        }
    });
}

/// `out += w x` (a residual connection): out is `[n_tokens, n_rows]`.
///
/// # Panics
/// The matrix has another number of columns than `x`, or `out` another length.
pub fn matmul_add(cx: &Compute, weight: &Matrix, x: &Activations, out: &mut [f32]) {
    let out = Out::new(out, x.n_tokens(), weight.n_rows());
    products(cx, &[weight], x, |_, rows, tokens, sums| {
        for (token, sums) in tokens.zip(sums) {
            // SAFETY: these rows belong to this task alone.
            let out = unsafe { out.part(token, rows.clone()) };
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
        }
    });
}

/// `out = silu(gate x) · (up x)`: out is `[n_tokens, n_rows]`.
///
/// # Panics
/// The matrices differ in shape, have another number of columns than `x`, or `out` has another length.
pub fn matmul_swiglu(cx: &Compute, gate: &Matrix, up: &Matrix, x: &Activations, out: &mut [f32]) {
    assert_eq!(gate.n_rows(), up.n_rows(), "gate and up have the same rows");
    assert_eq!(up.n_cols(), x.n_cols(), "{up:?} and activations of another width");
    let out = Out::new(out, x.n_tokens(), gate.n_rows());
    products(cx, &[gate], x, |_, rows, tokens, gates| {
        UP_SUMS.with_borrow_mut(|sums| {
            let strips = rows.start / ROWS..rows.end.div_ceil(ROWS);
            let ups = dot(cx, up, strips, x, tokens.clone(), sums);
            for (token, (gate, up)) in tokens.zip(gates.zip(ups)) {
                // SAFETY: these rows belong to this task alone.
                let out = unsafe { out.part(token, rows.clone()) };
                elementwise::silu_mul(cx.isa, &gate[..out.len()], &up[..out.len()], out);
            }
        });
    });
}

/// The sums of some rows, to where they belong. They are too few for a call of `memcpy`.
fn copy(sums: &[f32], out: &mut [f32]) {
    let ((strips, rest), (to_strips, to_rest)) = (sums.as_chunks::<ROWS>(), out.as_chunks_mut::<ROWS>());
    to_strips.iter_mut().zip(strips).for_each(|(to, strip)| *to = *strip);
    to_rest.iter_mut().zip(rest).for_each(|(to, sum)| *to = *sum);
}

thread_local! {
    static CUTS: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
    static SUMS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    static UP_SUMS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Sums of a few strips, token by token.
type Sums<'a> = std::slice::ChunksExact<'a, f32>;

/// Calls `finish(matrix, rows, tokens, sums)` for every matrix, once for each (row, token).
fn products(
    cx: &Compute,
    weights: &[&Matrix],
    x: &Activations,
    finish: impl Fn(usize, Range<usize>, Range<usize>, Sums) + Sync,
) {
    for weight in weights {
        assert_eq!(weight.n_cols(), x.n_cols(), "{weight:?} and activations of another width");
    }
    if x.n_tokens() == 0 {
        return;
    }
    // What few tokens read comes from memory, and long runs of it come faster; with more, threads may differ in speed.
    let group = if x.n_tokens() <= few_tokens(cx.isa) { STRIPS_FEW } else { many_strips(cx.isa) };
    let shares = if x.n_tokens() <= 4 { 1 } else { 2 };
    let n_strips: usize = weights.iter().map(|w| w.n_strips()).sum();
    let n_threads = cx.pool.n_threads();
    CUTS.with_borrow_mut(|cuts| {
        cut(n_strips, if n_threads == 1 { 1 } else { n_threads * shares }, cuts);
        cx.pool.run(cuts.len() - 1, |task| {
            let mut before = 0;
            for (index, weight) in weights.iter().enumerate() {
                // What the task has of this matrix.
                let first = cuts[task].max(before) - before;
                let end = cuts[task + 1].min(before + weight.n_strips()).saturating_sub(before);
                before += weight.n_strips();
                SUMS.with_borrow_mut(|sums| {
                    for first in (first..end).step_by(group) {
                        let strips = first..end.min(first + group);
                        let rows = strips.start * ROWS..weight.n_rows().min(strips.end * ROWS);
                        for start in (0..x.n_tokens()).step_by(TOKENS) {
                            let tokens = start..x.n_tokens().min(start + TOKENS);
                            let sums = dot(cx, weight, strips.clone(), x, tokens.clone(), sums);
                            finish(index, rows.clone(), tokens, sums);
                        }
                    }
                });
            }
        });
    });
}

/// Most tokens for which weights are read as one long stream.
fn few_tokens(isa: Isa) -> usize {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(avx2) => avx2::few_tokens(avx2),
        Isa::Scalar => 16,
    }
}

/// Strips computed at once with more tokens.
fn many_strips(isa: Isa) -> usize {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(avx2) => avx2::many_strips(avx2),
        Isa::Scalar => 2,
    }
}

/// Where tasks begin, and the end, `[0, …, n_strips]`. Each takes one part in `shares` of the strips that are left, so that
/// tasks are few and threads finish together; an even number, since strips are computed in pairs.
fn cut(n_strips: usize, shares: usize, cuts: &mut Vec<usize>) {
    cuts.clear();
    cuts.push(0);
    let (mut at, share) = (0, 1.0 / shares as f32);
    while at < n_strips {
        let n = ((n_strips - at) as f32 * share) as usize;
        at = n_strips.min(at + n.next_multiple_of(2).max(2));
        cuts.push(at);
    }
}

/// The products of some strips with some tokens.
fn dot<'a>(
    cx: &Compute,
    weight: &Matrix,
    strips: Range<usize>,
    x: &Activations,
    tokens: Range<usize>,
    sums: &'a mut Vec<f32>,
) -> Sums<'a> {
    let n = strips.len();
    let mut list: [&[u8]; STRIPS_FEW] = [&[]; STRIPS_FEW];
    for (entry, strip) in list.iter_mut().zip(strips) {
        *entry = weight.strip(strip);
    }
    let len = tokens.len() * n * ROWS;
    if sums.len() < len {
        sums.resize(len, 0.0);
    }
    let sums = &mut sums[..len];
    weight.strips().dot(cx.isa, &list[..n], x.operand(tokens), sums);
    sums.chunks_exact(n * ROWS)
}

/// Rows `[n_tokens, width]` that several tasks write to, each its own columns.
struct Out<'a> {
    start: *mut f32,
    n_tokens: usize,
    width: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: `part` asks its caller not to hand out a part twice.
unsafe impl Sync for Out<'_> {}

impl<'a> Out<'a> {
    fn new(out: &'a mut [f32], n_tokens: usize, width: usize) -> Out<'a> {
        assert_eq!(out.len(), n_tokens * width, "out is [{n_tokens}, {width}]");
        Out { start: out.as_mut_ptr(), n_tokens, width, borrow: PhantomData }
    }

    /// Columns of a token.
    ///
    /// # Safety
    /// No two parts that live at the same time overlap.
    #[allow(clippy::mut_from_ref, reason = "parts are disjoint, which the caller promises")]
    unsafe fn part(&self, token: usize, cols: Range<usize>) -> &mut [f32] {
        assert!(token < self.n_tokens && cols.start <= cols.end && cols.end <= self.width);
        // SAFETY: inside the slice that `new` got, by the assertion; exclusive, by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(token * self.width + cols.start), cols.len()) }
    }
}

#[cfg(test)]
mod tests;
