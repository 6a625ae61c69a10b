//! Attention over KIVI's codes; see `super::super::grouped`, the specification.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::super::RotatedCode;
use super::super::grouped::{GroupScale, GroupedCode, Half, Parts};
use super::super::layout::value_rows;
use super::super::stored::Stored;
use super::super::{BLOCK_TOKENS, BLOCKS};
use super::query::FrameQueries;
use super::scores::QuadCodes;
use super::weights::{self, Integers};
use super::{Ahead, LINES_OF_STEP, MAX_HEADS, block_sums, values};
use crate::isa::Extension;
use crate::math::avx2::{load, store, sum_across};
use crate::page::{PAGE_TOKENS, Partial, TokenQueries};

const GROUPS: usize = PAGE_TOKENS / 8;

/// See [`RotatedCode::attend_codes`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(in super::super) fn attend_grouped(
    extension: Extension,
    code: &GroupedCode,
    stored: Stored<'_>,
    token: &mut TokenQueries,
    partial: &mut Partial<'_>,
) {
    let d = code.head_dim();
    let n_heads = token.n_heads();
    let part_len = n_heads.div_ceil(n_heads.div_ceil(MAX_HEADS));
    let mut ahead = Ahead::new(stored.next);
    let (queries, weights) = token.parts();
    for row in (0..n_heads).step_by(part_len) {
        let end = (row + part_len).min(n_heads);
        let (queries, weights) = (&queries[row * d..end * d], &mut weights[row..end]);
        let (parts, first_token) = (code.parts(stored.bytes), stored.first_token());
        let mut job = Job { code, parts, first_token, row, extension, ahead: &mut ahead };
        match d / 16 {
            2 => job.attend_some::<2>(queries, weights, partial),
            4 => job.attend_some::<4>(queries, weights, partial),
            6 => job.attend_some::<6>(queries, weights, partial),
            8 => job.attend_some::<8>(queries, weights, partial),
            10 => job.attend_some::<10>(queries, weights, partial),
            12 => job.attend_some::<12>(queries, weights, partial),
            14 => job.attend_some::<14>(queries, weights, partial),
            _ => job.attend_some::<16>(queries, weights, partial),
        }
    }
    ahead.fetch(usize::MAX);
}

/// Eight values.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn halves(halves: &[Half; 8]) -> __m256 {
    // SAFETY: `halves` has 16 bytes.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(halves.as_ptr().cast()) })
}

/// Some heads against one page.
struct Job<'a> {
    code: &'a GroupedCode,
    parts: Parts<'a>,
    first_token: usize,
    /// first of the heads
    row: usize,
    extension: Extension,
    ahead: &'a mut Ahead,
}

impl Job<'_> {
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn attend_some<const V: usize>(
        &mut self,
        queries: &[f32],
        weights: &mut [[f32; PAGE_TOKENS]],
        partial: &mut Partial<'_>,
    ) {
        match weights.len() {
            1 => self.attend::<V, 1>(queries, weights, partial),
            2 => self.attend::<V, 2>(queries, weights, partial),
            3 => self.attend::<V, 3>(queries, weights, partial),
            _ => self.attend::<V, 4>(queries, weights, partial),
        }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn attend<const V: usize, const H: usize>(
        &mut self,
        queries: &[f32],
        weights: &mut [[f32; PAGE_TOKENS]],
        partial: &mut Partial<'_>,
    ) {
        let weights: &mut [[f32; PAGE_TOKENS]; H] = weights.try_into().expect("weights of H heads");
        self.score::<V, H>(queries, weights);
        let ones = [[1.0; 8]; GROUPS];
        for (h, weights) in weights.iter_mut().enumerate() {
            weights[..self.first_token].fill(f32::NEG_INFINITY);
            let (max, sum, _) = weights::exponentials(weights, &ones);
            partial.set(self.row + h, max, sum);
            self.ahead.fetch(LINES_OF_STEP);
        }
        let parts_per_group = self.code.group_size() / 32;
        for group in 0..self.parts.value_scales.len() {
            let (integers, base) = self.weights_of_group(group, weights);
            for part in group * parts_per_group..(group + 1) * parts_per_group {
                self.weigh(part, &integers, base, partial);
            }
        }
    }

    /// Scores of `H` heads with the page.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn score<const V: usize, const H: usize>(
        &mut self,
        queries: &[f32],
        scores: &mut [[f32; PAGE_TOKENS]; H],
    ) {
        let (code, d) = (self.code, self.code.head_dim());
        let n_rows = code.keys.planes.rows();
        let mut in_group = FrameQueries::<H>::EMPTY;
        let mut codes = [[MaybeUninit::<QuadCodes>::uninit(); 4]; V];
        let mut scale = GroupScale::EMPTY;
        let middle = _mm256_set1_ps(code.middle());
        for block in 0..BLOCKS {
            let first = block * BLOCK_TOKENS;
            if first.is_multiple_of(code.group_size()) {
                let of_group = first / code.group_size() * d..(first / code.group_size() + 1) * d;
                let from = self.parts.key_scales[of_group.clone()].as_chunks::<8>().0.iter();
                let from = from.zip(self.parts.key_minima[of_group].as_chunks::<8>().0);
                let to = scale.step.as_chunks_mut::<8>().0.iter_mut().zip(scale.mean.as_chunks_mut::<8>().0);
                for ((step, mean), (scale, min)) in to.zip(from) {
                    let scale = halves(scale);
                    store(step, scale);
                    store(mean, _mm256_fmadd_ps(scale, middle, halves(min)));
                }
                in_group.set_still::<V>(code.operand(&scale), queries);
            }
            self.ahead.fetch(LINES_OF_STEP);
            let rows = &self.parts.keys[block * n_rows..][..n_rows];
            let sums = block_sums(self.extension, &code.keys, rows, &in_group, &mut codes);
            for h in 0..H {
                let (unit, middle, mean) = (
                    _mm256_set1_ps(in_group.unit[h]),
                    _mm256_set1_ps(in_group.middle[h]),
                    _mm256_set1_ps(in_group.mean[h]),
                );
                let to = scores[h][first..][..BLOCK_TOKENS].as_chunks_mut::<8>().0;
                let sums = [sums[0][h][0], sums[0][h][1], sums[1][h][0], sums[1][h][1]];
                for (to, integers) in to.iter_mut().zip(sums) {
                    let centred = _mm256_sub_ps(_mm256_cvtepi32_ps(integers), middle);
                    store(to, _mm256_fmadd_ps(centred, unit, mean));
                }
            }
        }
    }

    /// Integers for the codes of a group of channels, and what all its channels have in common.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn weights_of_group<const H: usize>(
        &self,
        group: usize,
        weights: &[[f32; PAGE_TOKENS]; H],
    ) -> ([Integers; H], [f32; H]) {
        let mut scales = [[0.0; 8]; GROUPS];
        let mut middles = [[0.0; 8]; GROUPS];
        let from = self.parts.value_scales[group].as_chunks::<8>().0.iter();
        let from = from.zip(self.parts.value_minima[group].as_chunks::<8>().0);
        for ((to_scale, to_middle), (scale, min)) in scales.iter_mut().zip(&mut middles).zip(from) {
            let scale = halves(scale);
            store(to_scale, scale);
            store(to_middle, _mm256_fmadd_ps(scale, _mm256_set1_ps(self.code.middle()), halves(min)));
        }
        let mut integers = [Integers::EMPTY; H];
        let mut base = [0.0; H];
        let mut products = [0.0; PAGE_TOKENS];
        for h in 0..H {
            let tops = weights::scale(&weights[h], &scales, &mut products);
            integers[h].round(&products, tops);
            let mut sum = _mm256_setzero_ps();
            for (p, middle) in weights[h].as_chunks::<8>().0.iter().zip(&middles) {
                sum = _mm256_fmadd_ps(load(p), load(middle), sum);
            }
            base[h] = sum_across(sum);
        }
        (integers, base)
    }

    /// Weighted sums of 32 channels.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn weigh<const H: usize>(
        &mut self,
        part: usize,
        integers: &[Integers; H],
        base: [f32; H],
        partial: &mut Partial<'_>,
    ) {
        let n_rows = value_rows(self.code.bits());
        let rows = &self.parts.values[part * n_rows..][..n_rows];
        let [left, right] = match self.code.bits() {
            2 => values::sum_halves::<H, 2, { values::n_fit(2) }>(self.extension, rows, integers),
            _ => values::sum_halves::<H, 4, { values::n_fit(4) }>(self.extension, rows, integers),
        };
        self.ahead.fetch(2 * LINES_OF_STEP);
        for h in 0..H {
            let mut out = [_mm256_set1_ps(base[h]); 4];
            for (index, unit) in integers[h].units.iter().enumerate() {
                let factor = _mm256_set1_ps(unit.unit);
                let centre = _mm256_set1_ps(unit.total * self.code.middle());
                let (left, right) = (left[index][h], right[index][h]);
                for (out, integers) in out.iter_mut().zip([left[0], left[1], right[0], right[1]]) {
                    let centred = _mm256_sub_ps(_mm256_cvtepi32_ps(integers), centre);
                    *out = _mm256_fmadd_ps(centred, factor, *out);
                }
            }
            let to = partial.out_mut(self.row + h)[32 * part..][..32].as_chunks_mut::<8>().0;
            for (to, out) in to.iter_mut().zip(out) {
                store(to, out);
            }
        }
    }
}
