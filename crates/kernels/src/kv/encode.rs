//! From float32 to codes and back, eight tokens (lanes) at a time.
//!
//! The functions are plain loops over lanes. They are compiled once as they are, and once more where vectors of eight are
//! known to exist; both do the same operations in the same order and have the same bits.

use super::keys::{KeyCode, QUAD};
use super::values::ValueCode;
use super::{STEP, gain};
use crate::page::Frame;

/// Eight tokens.
pub(super) type Lanes = [f32; 8];

const SMALLEST_GAIN: f32 = 1.0 / 256.0;

#[inline(always)]
fn each(f: impl FnMut(usize) -> f32) -> Lanes {
    std::array::from_fn(f)
}

/// Turns channel pairs back by a frame's angle: `out` and `group` are `[head_dim]` by channel.
#[inline(always)]
fn turn_back(frame: Frame<'_>, group: &[Lanes], out: &mut [Lanes]) {
    let half = group.len() / 2;
    for pair in 0..half {
        let (a, b, cos, sin) = (group[pair], group[pair + half], frame.cos[pair], frame.sin[pair]);
        out[pair] = each(|l| a[l] * cos + b[l] * sin);
        out[pair + half] = each(|l| b[l] * cos - a[l] * sin);
    }
}

/// The code of `z / step + middle`, nearest, from 0 to `top`.
#[inline(always)]
fn nearest(scaled: f32, middle: f32, top: f32) -> f32 {
    // Cutting is rounding of what is half a step higher.
    ((scaled + (middle + 0.5)).max(0.0).min(top + 0.25) as i32) as f32
}

/// Buffers of the encoder, `[head_dim]` each.
#[derive(Default)]
pub(super) struct Buffers {
    turned: Vec<Lanes>,
    z: Vec<Lanes>,
}

/// Codes `[head_dim]` by stored position, and gain codes, of eight keys `[head_dim]` by channel.
#[inline(always)]
pub(super) fn encode_keys(
    code: &KeyCode,
    frame: Frame<'_>,
    group: &[Lanes],
    buffers: &mut Buffers,
    mut put: impl FnMut(usize, [u8; 8]),
) -> [u8; 8] {
    let head_dim = group.len();
    buffers.turned.resize(head_dim, [0.0; 8]);
    buffers.z.resize(head_dim, [0.0; 8]);
    turn_back(frame, group, &mut buffers.turned);
    let n_stored = QUAD * code.planes.n_stored;
    let mut square = [0.0; 8];
    for position in 0..n_stored {
        let k = buffers.turned[usize::from(code.order[position])];
        let (mean, inverse) = (code.mean_at[position], code.inverse_at[position]);
        let z = each(|l| (k[l] - mean) * inverse);
        square = each(|l| square[l] + z[l] * z[l]);
        buffers.z[position] = z;
    }
    let mut gains = each(|l| (square[l] / n_stored.max(1) as f32).sqrt().max(SMALLEST_GAIN));
    // Codes for a gain, the best gain for these codes, and once more.
    for _ in 0..2 {
        let inverse = gains.map(|g| 1.0 / g);
        let (mut product, mut square) = ([0.0; 8], [0.0; 8]);
        for position in 0..n_stored {
            let bits = code.bits[position / QUAD];
            let (step, middle, top) =
                (STEP[usize::from(bits)], code.middle_at(position), f32::from(code.top_at[position]));
            let (z, weight, per_step) = (buffers.z[position], code.weight_at[position], 1.0 / step);
            let level = each(|l| (nearest(z[l] * inverse[l] * per_step, middle, top) - middle) * step);
            product = each(|l| product[l] + weight * level[l] * z[l]);
            square = each(|l| square[l] + weight * level[l] * level[l]);
        }
        gains = each(|l| if square[l] > 0.0 { product[l] / square[l] } else { gains[l] });
    }
    let codes = gains.map(gain::encode);
    let inverse = codes.map(|code| 1.0 / gain::decode(code));
    for position in 0..n_stored {
        let bits = code.bits[position / QUAD];
        let (middle, top) = (code.middle_at(position), f32::from(code.top_at[position]));
        let (z, per_step) = (buffers.z[position], 1.0 / STEP[usize::from(bits)]);
        put(position, std::array::from_fn(|l| nearest(z[l] * inverse[l] * per_step, middle, top) as u8));
    }
    codes
}

/// Keys `[head_dim]` by channel of eight tokens; `at` gives the eight codes of a stored position.
#[inline(always)]
pub(super) fn decode_keys(
    code: &KeyCode,
    frame: Frame<'_>,
    gains: &[u8; 8],
    at: impl Fn(usize) -> [u8; 8],
    out: &mut [Lanes],
) {
    let gains = gains.map(gain::decode);
    for (position, channel) in code.order.iter().enumerate() {
        let channel = usize::from(*channel);
        let (mean, step, middle) = (code.mean[channel], code.step[channel], code.middle_at(position));
        out[channel] = if code.bits[position / QUAD] == 0 {
            [mean; 8]
        } else {
            let codes = at(position);
            each(|l| mean + (f32::from(codes[l]) - middle) * (step * gains[l]))
        };
    }
    frame.turn(out);
}

/// Codes `[head_dim]` and gain codes of eight transformed values `[head_dim]` by channel.
#[inline(always)]
pub(super) fn encode_values(
    code: &ValueCode,
    group: &[Lanes],
    mut put: impl FnMut(usize, [u8; 8]),
) -> [u8; 8] {
    let per_scale = 1.0 / code.scale;
    let z = |channel: usize| -> Lanes {
        let (v, mean) = (group[channel], code.mean[channel]);
        each(|l| (v[l] - mean) * per_scale)
    };
    let mut square = [0.0; 8];
    for channel in 0..group.len() {
        let z = z(channel);
        square = each(|l| square[l] + z[l] * z[l]);
    }
    let size = each(|l| (square[l] / group.len() as f32).sqrt().max(SMALLEST_GAIN));
    let (step, middle, top) = (STEP[usize::from(code.bits)], code.middle(), code.middle() * 2.0);
    let inverse = size.map(|s| 1.0 / (s * step));
    let mut product = [0.0; 8];
    for channel in 0..group.len() {
        let z = z(channel);
        let codes = each(|l| nearest(z[l] * inverse[l], middle, top));
        product = each(|l| product[l] + z[l] * ((codes[l] - middle) * step));
        put(channel, codes.map(|code| code as u8));
    }
    let gains = each(|l| if product[l] > 0.0 { square[l] / product[l] } else { 0.0 });
    gains.map(gain::encode)
}
