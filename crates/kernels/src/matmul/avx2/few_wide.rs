//! Some tokens with vectors of 512 bits: tiles of two strips, side by side, are unpacked in registers and used at once.
//!
//! Up to eight tokens have their sums in registers. More meet the two strips by eights: the strips come from memory once, and then
//! from the caches. To unpack them again costs less than to write a panel and read it.

use super::block::Tokens;
use super::few::{FAR_AHEAD, fetch_far};
use super::planes::wide;
use super::unpack::{factors, scales};
use super::wide::{Kept, WideScaleVectors, add_wide_block, wide_dots};
use super::{Format, Place, ROWS};
use crate::activations::Operand;
use crate::isa::Avx512;
use crate::matmul::formats::{Group, Tile, groups};
use crate::matmul::tile::Planes;
use crate::simd::{load_256, store_some_floats, with_const};
use std::arch::x86_64::*;

/// Most tokens. Then panels are as fast.
pub(super) const MOST_TOKENS: usize = 32;

/// Tokens whose sums are in registers.
const TOKENS: usize = 8;

/// The groups of two strips.
type Pair<'a, F> = [&'a [<F as Format>::Group]; 2];

pub(super) fn dot<F: Format>(proof: Avx512, strips: &[&[u8]], x: Operand, sums: &mut [[f32; ROWS]]) {
    let n_parts = x.n_tokens.div_ceil(TOKENS);
    for (index, some) in strips.chunks(2).enumerate() {
        let kept = Kept { place: Place { first: 2 * index, n_strips: strips.len() }, n_kept: some.len() };
        // One that is missing is the other again, and not kept.
        let pair = [some[0], some[some.len() - 1]].map(groups::<F>);
        for part in 0..n_parts {
            let of = |part: usize| x.n_tokens * part / n_parts;
            let (first, n) = (of(part), of(part + 1) - of(part));
            with_const!(
                T = n, in [1, 2, 3, 4, 5, 6, 7, 8],
                // SAFETY: an `Avx512` exists only if detection saw these features.
                unsafe { tokens::<F, T>(proof, pair, &x, first, kept, sums) }
            );
        }
    }
}

/// Writes the sums of the `T` tokens from `first` on.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
fn tokens<F: Format, const T: usize>(
    _: Avx512,
    pair: Pair<F>,
    x: &Operand,
    first: usize,
    kept: Kept,
    sums: &mut [[f32; ROWS]],
) {
    let mut x = Tokens::<T>::new(x, first, 0, pair[0].len() * F::Group::TILES);
    let mut acc = [_mm512_setzero_ps(); T];
    // What comes behind both strips is fetched in the order in which it lies, two tiles for two tiles. Two streams of short strips would
    // find memory half as fast.
    let mut ahead = FAR_AHEAD.max(2 * size_of_val(pair[0]));
    for (a, b) in pair[0].iter().zip(pair[1]) {
        let factors = [factors(a.factors()), factors(b.factors())];
        for (a, b) in a.tiles()[..F::Group::TILES].iter().zip(&b.tiles()[..F::Group::TILES]) {
            // SAFETY: once for each tile of the first strip.
            let x = unsafe { x.next() };
            fetch_far::<F>(a, ahead, 2);
            ahead += size_of::<Tile<F>>();
            let codes = codes::<F>([a, b]);
            let scales = both_scales::<F>(factors, [a, b]);
            let factors = scales.half_factors();
            let [total] = wide_dots::<F, 1, T>(|j, _| codes[j], |half, _| factors[half], x);
            for t in 0..T {
                acc[t] = add_wide_block::<F>(acc[t], total[t], &scales, x[t]);
            }
        }
    }
    for t in 0..T {
        store_some_floats(sums[kept.sums(0, first + t)].as_flattened_mut(), acc[t]);
    }
}

/// Those of two tiles, side by side.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
#[inline]
fn both_scales<F: Format>(factors: [[__m256; 2]; 2], tiles: [&Tile<F>; 2]) -> WideScaleVectors {
    let [a, b] = [scales::<F>(factors[0], tiles[0]), scales::<F>(factors[1], tiles[1])];
    let floats = |a, b| _mm512_insertf32x8::<1>(_mm512_castps256_ps512(a), b);
    WideScaleVectors {
        scale: floats(a.scale, b.scale),
        min: floats(a.min, b.min),
        half_scales: side_by_side(a.half_scales, b.half_scales),
        half_mins: side_by_side(a.half_mins, b.half_mins),
    }
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
#[inline]
fn side_by_side(a: __m256i, b: __m256i) -> __m512i {
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(a), b)
}

/// The whole codes of two tiles, quad by quad.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
#[inline]
fn codes<F: Format>(tiles: [&Tile<F>; 2]) -> [__m512i; 8] {
    let mut codes = match (F::planes(tiles[0]), F::planes(tiles[1])) {
        (Planes::Two(a), Planes::Two(b)) => wide::two_bits(vectors(&a.0, &b.0)),
        (Planes::Three(a, a_bits), Planes::Three(b, b_bits)) => {
            wide::three_bits(vectors(&a.0, &b.0), side_by_side(load_256(a_bits), load_256(b_bits)))
        }
        (Planes::Four(a), Planes::Four(b)) => wide::four_bits(vectors(&a.0, &b.0)),
        (Planes::Five(a, a_bits), Planes::Five(b, b_bits)) => {
            wide::five_bits(vectors(&a.0, &b.0), side_by_side(load_256(a_bits), load_256(b_bits)))
        }
        (Planes::Six(a, a_pairs), Planes::Six(b, b_pairs)) => {
            wide::six_bits(vectors(&a.0, &b.0), vectors(&a_pairs.0, &b_pairs.0))
        }
        (Planes::Eight(a), Planes::Eight(b)) => vectors(&a.0, &b.0),
        _ => unreachable!("tiles of one format have the same planes"),
    };
    if let Some(levels) = F::LEVELS {
        for j in 0..8 {
            codes[j] = wide::look_up(levels, codes[j]);
        }
    }
    codes
}

/// The vectors of the same plane of two tiles.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
#[inline]
fn vectors<const N: usize>(a: &[[u8; 32]; N], b: &[[u8; 32]; N]) -> [__m512i; N] {
    let mut vectors = [_mm512_setzero_si512(); N];
    for j in 0..N {
        vectors[j] = side_by_side(load_256(&a[j]), load_256(&b[j]));
    }
    vectors
}
