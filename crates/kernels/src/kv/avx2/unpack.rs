//! Codes to float32, for prompts. The operations on floats are those of the plain forms, in the same order.
//!
//! A vector of codes has four neighbouring bytes in each of eight lanes: four channels of eight tokens, or four tokens of eight
//! channels. So a shift and a mask give eight values that stand side by side in the result too.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::super::grouped::{self, GroupedCode, Half};
use super::super::head::{HeadCode, HeadF32};
use super::super::keys::{KeyCode, QUAD};
use super::super::layout::{self, ROW, TOKEN_QUADS, value_rows};
use super::super::q8::{self, Q8Code};
use super::super::{BLOCK_TOKENS, RotatedCode};
use super::q8::widened;
use super::scores::{self, QuadCodes};
use super::values::codes_of;
use super::{MAX_DIM, gains, grouped::halves};
use crate::math::avx2::{load, store};
use crate::page::{FRAME_TOKENS, LANES, PAGE_TOKENS, PageFrames};

/// Byte `z` of each lane.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn byte(codes: __m256i, z: usize) -> __m256 {
    let shifted = _mm256_srl_epi32(codes, _mm_cvtsi32_si128(8 * z as i32));
    _mm256_cvtepi32_ps(_mm256_and_si256(shifted, _mm256_set1_epi32(255)))
}

/// Gives `put` the codes of keys of each block, channel by channel in stored order, of four times eight tokens: the block, the
/// stored position and the codes. Positions that store nothing are left out.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn each_key(code: &KeyCode, rows: &[[u8; ROW]], mut put: impl FnMut(usize, usize, [__m256; 4])) {
    let mut buffer = [MaybeUninit::<QuadCodes>::uninit(); MAX_DIM / QUAD];
    for (block, rows) in rows.chunks_exact(code.planes.rows().max(1)).enumerate() {
        for (quad, codes) in scores::unpack(code, rows, &mut buffer).iter().enumerate() {
            for z in 0..QUAD {
                let mut of_channel = [_mm256_setzero_ps(); 4];
                for (to, codes) in of_channel.iter_mut().zip(codes) {
                    *to = byte(*codes, z);
                }
                put(block, QUAD * quad + z, of_channel);
            }
        }
    }
}

/// Gives `put` the codes of 32 channels of values, token by token: the token and the codes.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn each_value<const BITS: u8>(rows: &[[u8; ROW]], mut put: impl FnMut(usize, [__m256; 4])) {
    assert!(rows.len() == value_rows(BITS));
    for j in 0..TOKEN_QUADS {
        let [a, b] = codes_of::<BITS, 0>(rows, j);
        let [c, d] = codes_of::<BITS, 1>(rows, j);
        for z in 0..4 {
            put(4 * j + z, [byte(a, z), byte(b, z), byte(c, z), byte(d, z)]);
        }
    }
}

/// See [`HeadCode::unpack`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(in super::super) fn unpack(head: &HeadCode, frames: PageFrames<'_>, packed: &[u8], out: &mut HeadF32) {
    let code = &head.keys;
    let d = code.head_dim();
    let parts = layout::parts(head, packed);
    let (keys, values) = out.parts_mut();
    for position in QUAD * code.planes.n_stored..d {
        let channel = usize::from(code.order[position]);
        for group in keys.chunks_exact_mut(d) {
            group[channel] = [code.mean[channel]; LANES];
        }
    }
    each_key(code, parts.keys, |block, position, codes| {
        let channel = usize::from(code.order[position]);
        let (mean, step) = (_mm256_set1_ps(code.mean[channel]), _mm256_set1_ps(code.step[channel]));
        let middle = _mm256_set1_ps(code.middle_at(position));
        let gain_codes = parts.key_gains[block * BLOCK_TOKENS..].as_chunks::<8>().0;
        for k in 0..4 {
            let centred = _mm256_sub_ps(codes[k], middle);
            let step = _mm256_mul_ps(step, gains(&gain_codes[k]));
            let to = &mut keys[(block * BLOCK_TOKENS / LANES + k) * d + channel];
            store(to, _mm256_add_ps(mean, _mm256_mul_ps(centred, step)));
        }
    });
    for (at, group) in keys.chunks_exact_mut(d).enumerate() {
        frames.frame(at * LANES / FRAME_TOKENS).turn(group);
    }
    let values_code = &head.values;
    let mut steps = [[0.0; 8]; PAGE_TOKENS / 8];
    for (to, codes) in steps.iter_mut().zip(parts.value_gains.as_chunks().0) {
        store(to, _mm256_mul_ps(_mm256_set1_ps(values_code.step()), gains(codes)));
    }
    let (steps, middle) = (steps.as_flattened(), _mm256_set1_ps(values_code.middle()));
    for (part, rows) in parts.values.chunks_exact(value_rows(values_code.bits)).enumerate() {
        let means = values_code.mean[32 * part..][..32].as_chunks::<8>().0;
        let put = |token: usize, codes: [__m256; 4]| {
            let step = _mm256_set1_ps(steps[token]);
            let to = values[token * d + 32 * part..][..32].as_chunks_mut::<8>().0;
            for ((to, codes), mean) in to.iter_mut().zip(codes).zip(means) {
                store(to, _mm256_add_ps(load(mean), _mm256_mul_ps(_mm256_sub_ps(codes, middle), step)));
            }
        };
        match values_code.bits {
            2 => each_value::<2>(rows, put),
            3 => each_value::<3>(rows, put),
            _ => each_value::<4>(rows, put),
        }
    }
}

/// See [`RotatedCode::unpack`](super::super::RotatedCode::unpack).
#[target_feature(enable = "avx2,fma,f16c")]
pub(in super::super) fn unpack_grouped(code: &GroupedCode, packed: &[u8], out: &mut HeadF32) {
    let (d, size) = (code.head_dim(), code.group_size());
    let parts = code.parts(packed);
    let (keys, values) = out.parts_mut();
    each_key(&code.keys, parts.keys, |block, channel, codes| {
        let at = block * BLOCK_TOKENS / size * d + channel;
        let scale = _mm256_set1_ps(grouped::to_f32(parts.key_scales[at]));
        let min = _mm256_set1_ps(grouped::to_f32(parts.key_minima[at]));
        for (k, codes) in codes.into_iter().enumerate() {
            let to = &mut keys[(block * BLOCK_TOKENS / LANES + k) * d + channel];
            store(to, _mm256_add_ps(min, _mm256_mul_ps(scale, codes)));
        }
    });
    for (part, rows) in parts.values.chunks_exact(value_rows(code.bits())).enumerate() {
        let (scales, minima) = (&parts.value_scales[32 * part / size], &parts.value_minima[32 * part / size]);
        let (scales, minima) = (floats(scales), floats(minima));
        let put = |token: usize, codes: [__m256; 4]| {
            let (scale, min) = (_mm256_set1_ps(scales[token]), _mm256_set1_ps(minima[token]));
            let to = values[token * d + 32 * part..][..32].as_chunks_mut::<8>().0;
            for (to, codes) in to.iter_mut().zip(codes) {
                store(to, _mm256_add_ps(min, _mm256_mul_ps(scale, codes)));
            }
        };
        match code.bits() {
            2 => each_value::<2>(rows, put),
            _ => each_value::<4>(rows, put),
        }
    }
}

/// Sixteen bits of each token as float32.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn floats(from: &[Half; PAGE_TOKENS]) -> [f32; PAGE_TOKENS] {
    let mut out = [0.0; PAGE_TOKENS];
    for (to, from) in out.as_chunks_mut().0.iter_mut().zip(from.as_chunks().0) {
        store(to, halves(from));
    }
    out
}

/// Both codes of each of eight pairs of bytes.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn pairs(codes: &[[u8; 2]; 8]) -> [__m256; 2] {
    let words = widened(codes);
    [_mm256_srai_epi32::<16>(_mm256_slli_epi32::<16>(words)), _mm256_srai_epi32::<16>(words)]
        .map(|x| _mm256_cvtepi32_ps(x))
}

/// See [`RotatedCode::unpack`](super::super::RotatedCode::unpack).
#[target_feature(enable = "avx2,fma,f16c")]
pub(in super::super) fn unpack_q8(code: &Q8Code, packed: &[u8], out: &mut HeadF32) {
    let d = code.head_dim();
    let parts = code.parts(packed);
    let (keys, values) = out.parts_mut();
    for block in 0..d / q8::BLOCK {
        let scales = floats(&parts.key_scales[block]);
        let scales = scales.as_chunks::<8>().0;
        for (group, keys) in keys.chunks_exact_mut(d).enumerate() {
            let scale = load(&scales[group]);
            let channels = &mut keys[block * q8::BLOCK..][..q8::BLOCK];
            let codes = &parts.keys[group / 4 * d / 2 + block * q8::BLOCK / 2..];
            for (to, codes) in channels.as_chunks_mut::<2>().0.iter_mut().zip(codes) {
                for (to, codes) in to.iter_mut().zip(pairs(&codes[group % 4])) {
                    store(to, _mm256_mul_ps(scale, codes));
                }
            }
        }
        let scales = floats(&parts.value_scales[block]);
        for (pair, codes) in parts.values.chunks_exact(d / 8).enumerate() {
            for (j, codes) in codes[block * q8::BLOCK / 8..][..q8::BLOCK / 8].iter().enumerate() {
                for (token, codes) in (2 * pair..).zip(pairs(codes)) {
                    let to = &mut values[token * d + block * q8::BLOCK + 8 * j..].as_chunks_mut::<8>().0[0];
                    store(to, _mm256_mul_ps(_mm256_set1_ps(scales[token]), codes));
                }
            }
        }
    }
}
