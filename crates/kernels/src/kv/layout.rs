//! Where each code lies.
//!
//! ```text
//! head     keys [BLOCKS][rows][32] · values [head_dim/32][rows][32] · gains of keys [128] · gains of values [128] · padding
//! keys     of a block of 32 tokens; rows of four bits, then of two, then of one; in each, quads by falling bits, as far as
//!          they have such a part. Byte 4i+z of a row belongs to channel z of the quad:
//!            four bits  two rows: tokens i | 8+i << 4, then 16+i | 24+i << 4
//!            two bits   one row: token 8k+i at bits 2k
//!            one bit    half a row: token 8k+i at bit k, or 4+k for every second quad that has one
//! values   of 32 channels; byte 4i+z of a row belongs to token 4j+z:
//!            2, 3     one row of the two low bits: channel 8k+i at bits 2k
//!            3        half a row of the high bit: channel 8k+i at bit k, or 4+k for odd j; behind all rows of low bits
//!            4        two rows: channels i | 8+i << 4, then 16+i | 24+i << 4
//! ```
//! A load of 32 bytes gives several vectors by shift and mask, in which four neighbouring bytes are four terms of one sum:
//! the order that `maddubs`, `vpdpbusd` and `sdot` want, with the other operand a broadcast of 32 bits.

use super::head::HeadCode;
use super::keys::{KeyCode, QUAD, has_four, has_one, has_two};
use super::{BLOCK_TOKENS, BLOCKS};
use crate::page::PAGE_TOKENS;

/// Bytes of a row.
pub(super) const ROW: usize = 32;
/// Quads of tokens in a page.
pub(super) const TOKEN_QUADS: usize = PAGE_TOKENS / 4;

/// Rows of 32 channels of values of a page.
pub(super) fn value_rows(bits: u8) -> usize {
    TOKEN_QUADS * usize::from(bits) / 2
}

/// The parts of a head, to read.
pub(super) struct Parts<'a> {
    /// `[BLOCKS * rows]`
    pub keys: &'a [[u8; ROW]],
    /// `[head_dim/32 * rows]`
    pub values: &'a [[u8; ROW]],
    pub key_gains: &'a [u8; PAGE_TOKENS],
    pub value_gains: &'a [u8; PAGE_TOKENS],
}

/// The parts of a head, to write.
pub(super) struct PartsMut<'a> {
    pub keys: &'a mut [[u8; ROW]],
    pub values: &'a mut [[u8; ROW]],
    pub key_gains: &'a mut [u8; PAGE_TOKENS],
    pub value_gains: &'a mut [u8; PAGE_TOKENS],
}

/// Rows of keys and of values.
fn rows(code: &HeadCode) -> (usize, usize) {
    let head_dim = code.keys.head_dim();
    (BLOCKS * code.keys.planes.rows(), head_dim / 32 * value_rows(code.values.bits))
}

/// Bytes of a head: a multiple of 64.
pub(super) fn bytes(code: &HeadCode) -> usize {
    let (keys, values) = rows(code);
    ((keys + values) * ROW + 2 * PAGE_TOKENS).next_multiple_of(64)
}

pub(super) fn parts<'a>(code: &HeadCode, bytes: &'a [u8]) -> Parts<'a> {
    let (n_keys, n_values) = rows(code);
    let (keys, rest) = bytes.split_at(n_keys * ROW);
    let (values, rest) = rest.split_at(n_values * ROW);
    let gains = rest.as_chunks().0;
    Parts {
        keys: keys.as_chunks().0,
        values: values.as_chunks().0,
        key_gains: &gains[0],
        value_gains: &gains[1],
    }
}

pub(super) fn parts_mut<'a>(code: &HeadCode, bytes: &'a mut [u8]) -> PartsMut<'a> {
    let (n_keys, n_values) = rows(code);
    let (keys, rest) = bytes.split_at_mut(n_keys * ROW);
    let (values, rest) = rest.split_at_mut(n_values * ROW);
    let (key_gains, rest) = rest.split_first_chunk_mut().expect("gains of keys");
    let (value_gains, _) = rest.split_first_chunk_mut().expect("gains of values");
    PartsMut { keys: keys.as_chunks_mut().0, values: values.as_chunks_mut().0, key_gains, value_gains }
}

/// Writes the codes of a block of tokens, `[head_dim]` stored positions of 32 tokens, into the block's rows.
#[inline(always)]
pub(super) fn pack_keys(code: &KeyCode, codes: &[[u8; BLOCK_TOKENS]], rows: &mut [[u8; ROW]]) {
    rows.as_flattened_mut().fill(0);
    for (quad, codes) in codes.as_chunks::<QUAD>().0.iter().enumerate().take(code.planes.n_stored) {
        let (bits, place) = (code.bits[quad], code.planes.of_quad[quad]);
        for (z, codes) in codes.iter().enumerate() {
            for i in 0..8 {
                let byte = 4 * i + z;
                let mut token: [u8; 4] = std::array::from_fn(|k| codes[8 * k + i]);
                if has_four(bits) {
                    rows[place.four][byte] = token[0] & 15 | token[1] << 4;
                    rows[place.four + 1][byte] = token[2] & 15 | token[3] << 4;
                    token = token.map(|code| code >> 4);
                }
                if has_two(bits) {
                    rows[place.two][byte] = (0..4).map(|k| (token[k] & 3) << (2 * k)).fold(0, |a, b| a | b);
                    token = token.map(|code| code >> 2);
                }
                if has_one(bits) {
                    let high = (0..4).map(|k| (token[k] & 1) << k).fold(0, |a, b| a | b);
                    rows[place.one / 2][byte] |= high << (4 * (place.one % 2));
                }
            }
        }
    }
}

/// The inverse of [`pack_keys`]; positions that store nothing are left alone.
#[inline(always)]
pub(super) fn unpack_keys(code: &KeyCode, rows: &[[u8; ROW]], codes: &mut [[u8; BLOCK_TOKENS]]) {
    let quads = codes.as_chunks_mut::<QUAD>().0;
    for (quad, codes) in quads.iter_mut().enumerate().take(code.planes.n_stored) {
        let (bits, place) = (code.bits[quad], code.planes.of_quad[quad]);
        codes.as_flattened_mut().fill(0);
        let mut up = 0;
        if has_four(bits) {
            (0..4).for_each(|k| spread(&rows[place.four + k / 2], 4 * (k % 2), 15, up, k, codes));
            up += 4;
        }
        if has_two(bits) {
            (0..4).for_each(|k| spread(&rows[place.two], 2 * k, 3, up, k, codes));
            up += 2;
        }
        if has_one(bits) {
            let half = 4 * (place.one % 2);
            (0..4).for_each(|k| spread(&rows[place.one / 2], half + k, 1, up, k, codes));
        }
    }
}

/// Adds `(byte >> shift & mask) << up` of byte 4i+z of a row to column 8k+i of line z.
#[inline(always)]
fn spread(row: &[u8; ROW], shift: usize, mask: u8, up: u8, k: usize, lines: &mut [[u8; 32]; 4]) {
    for (z, line) in lines.iter_mut().enumerate() {
        for i in 0..8 {
            line[8 * k + i] |= (row[4 * i + z] >> shift & mask) << up;
        }
    }
}

/// Writes the codes of 32 channels of a page, `[PAGE_TOKENS]` tokens of 32, into the rows of those channels.
#[inline(always)]
pub(super) fn pack_values(bits: u8, codes: &[[u8; 32]; PAGE_TOKENS], rows: &mut [[u8; ROW]]) {
    rows.as_flattened_mut().fill(0);
    for (j, codes) in codes.as_chunks::<4>().0.iter().enumerate() {
        for (z, codes) in codes.iter().enumerate() {
            for i in 0..8 {
                let byte = 4 * i + z;
                let channel = |k: usize| codes[8 * k + i];
                if bits == 4 {
                    rows[2 * j][byte] = channel(0) | channel(1) << 4;
                    rows[2 * j + 1][byte] = channel(2) | channel(3) << 4;
                } else {
                    rows[j][byte] = (0..4).map(|k| (channel(k) & 3) << (2 * k)).fold(0, |a, b| a | b);
                }
                if bits == 3 {
                    let row = &mut rows[TOKEN_QUADS + j / 2][byte];
                    for k in 0..4 {
                        *row |= (channel(k) >> 2 & 1) << (4 * (j % 2) + k);
                    }
                }
            }
        }
    }
}

/// The inverse of [`pack_values`].
#[inline(always)]
pub(super) fn unpack_values(bits: u8, rows: &[[u8; ROW]], codes: &mut [[u8; 32]; PAGE_TOKENS]) {
    for (j, codes) in codes.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        codes.as_flattened_mut().fill(0);
        for k in 0..4 {
            if bits == 4 {
                spread(&rows[2 * j + k / 2], 4 * (k % 2), 15, 0, k, codes);
            } else {
                spread(&rows[j], 2 * k, 3, 0, k, codes);
            }
            if bits == 3 {
                spread(&rows[TOKEN_QUADS + j / 2], 4 * (j % 2) + k, 1, 2, k, codes);
            }
        }
    }
}
