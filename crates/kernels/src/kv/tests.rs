//! Codes against the formula, attention over codes against attention over what they stand for, and every instruction set
//! against the scalar twin.

use lossy_testkit::noise;

use super::*;
use crate::Isa;
use crate::page::{FRAMES, FrameTable, Partial, Rows, TokenQueries};

mod estimate;
mod rows;

struct Case {
    code: HeadCode,
    statistics: KeyStatistics,
    frames: FrameTable,
    exact: HeadF32,
    bytes: Vec<u8>,
}

const PAGE: usize = 3;

fn rotation(head_dim: usize, position: usize) -> impl Iterator<Item = (f32, f32)> {
    (0..head_dim / 2).map(move |pair| {
        let angle = position as f64 * 10_000f64.powf(-2.0 * pair as f64 / head_dim as f64);
        (angle.cos() as f32, angle.sin() as f32)
    })
}

/// Keys with a mean and deviations that differ by channel, rotated for their positions; values with outliers.
fn case(head_dim: usize, key_bits: f32, value_bits: u8, isa: Isa) -> Case {
    let deviation: Vec<f32> = (0..head_dim).map(|c| 2.0 * 0.93f32.powi((c * 7 % head_dim) as i32)).collect();
    let mean: Vec<f32> = noise(1, head_dim).iter().map(|x| 3.0 * x).collect();
    let raw = noise(2, PAGE_TOKENS * head_dim);
    let mut values: Vec<f32> = vec![0.0; 2 * PAGE_TOKENS * head_dim];
    for t in 0..PAGE_TOKENS {
        let row: Vec<f32> = (0..head_dim).map(|c| mean[c] + deviation[c] * raw[t * head_dim + c]).collect();
        for (pair, (cos, sin)) in rotation(head_dim, PAGE * PAGE_TOKENS + t).enumerate() {
            let (a, b) = (row[pair], row[pair + head_dim / 2]);
            let at = |channel: usize| (t / 8 * head_dim + channel) * 8 + t % 8;
            values[at(pair)] = a * cos - b * sin;
            values[at(pair + head_dim / 2)] = b * cos + a * sin;
        }
    }
    for (row, source) in values[PAGE_TOKENS * head_dim..]
        .chunks_exact_mut(head_dim)
        .zip(noise(3, PAGE_TOKENS * head_dim).chunks_exact(head_dim))
    {
        row.copy_from_slice(source);
        row[5] *= 9.0;
        hadamard(row);
    }
    let mut exact = HeadF32::default();
    exact.load(ExactHead::new(KvType::F32, head_dim, bytemuck::cast_slice(&values)));
    // Statistics as calibration would find them, in the frames' rotation.
    let rows: Vec<(f32, f32)> =
        (0..=PAGE * FRAMES + FRAMES).flat_map(|frame| rotation(head_dim, frame * FRAME_TOKENS)).collect();
    let (cos, sin) = rows.into_iter().unzip();
    let frames = FrameTable::new(head_dim / 2, cos, sin);
    let mut statistics = KeyStatistics {
        mean: vec![0.0; head_dim],
        variance: vec![0.0; head_dim],
        query_square: vec![1.0; head_dim],
    };
    let keys = |t: usize, c: usize| values[(t / 8 * head_dim + c) * 8 + t % 8];
    let turned = |t: usize, c: usize| {
        let pair = c % (head_dim / 2);
        let frame = frames.page(PAGE).frame(t / FRAME_TOKENS);
        let (a, b) = (keys(t, pair), keys(t, pair + head_dim / 2));
        let (cos, sin) = (frame.cos[pair], frame.sin[pair]);
        if c < head_dim / 2 { a * cos + b * sin } else { b * cos - a * sin }
    };
    let n = PAGE_TOKENS as f32;
    for c in 0..head_dim {
        statistics.mean[c] = (0..PAGE_TOKENS).map(|t| turned(t, c)).sum::<f32>() / n;
        statistics.variance[c] =
            (0..PAGE_TOKENS).map(|t| (turned(t, c) - statistics.mean[c]).powi(2)).sum::<f32>() / n;
    }
    let code = HeadCode::new(
        KeyCode::new(&statistics, key_bits),
        ValueCode::new(vec![0.1; head_dim], 1.7, value_bits),
    );
    let mut bytes = vec![0xA5; code.bytes()];
    code.pack(isa, frames.page(PAGE), &exact, &mut bytes);
    Case { code, statistics, frames, exact, bytes }
}

/// Outputs `[n_heads, head_dim]` after division by the sum.
fn attend(
    case: &Case,
    isa: Isa,
    n_heads: usize,
    queries: &[f32],
    n_sinks: usize,
    from_codes: bool,
) -> Vec<f32> {
    let head_dim = case.code.head_dim();
    let mut token = TokenQueries::default();
    token.set(Rows::new(queries, queries.len(), 0), n_heads, head_dim, 1.0);
    let mut records = vec![0.0; n_heads * (8 + head_dim)];
    let mut partial = Partial::new(&mut records, head_dim);
    let exact = case.exact.head();
    let mut first = vec![0u8; 2 * 32 * head_dim * 4];
    exact.copy_first(32, &mut first);
    let sinks = (n_sinks > 0).then(|| Sinks {
        head: ExactHead::with_capacity(KvType::F32, head_dim, 32, &first),
        n_tokens: n_sinks,
    });
    if from_codes {
        let stored = Stored { bytes: &case.bytes, sinks, next: Some(&case.bytes) };
        case.code.attend_token(isa, case.frames.page(PAGE), stored, &mut token, &mut partial);
    } else {
        let mut out = HeadF32::default();
        case.code.unpack(isa, case.frames.page(PAGE), &case.bytes, &mut out);
        if let Some(sinks) = sinks {
            out.copy_from(sinks.head, sinks.n_tokens);
        }
        out.head().attend_token(isa, 0..PAGE_TOKENS, &mut token, None, &mut partial);
    }
    records
        .chunks_exact(8 + head_dim)
        .flat_map(|r| r[8..].iter().map(|x| x / r[1]).collect::<Vec<_>>())
        .collect()
}

const SHAPES: [(usize, f32, u8); 13] = [
    (256, 2.0, 2),
    (160, 3.0, 2),
    (64, 5.0, 4),
    (128, 6.0, 3),
    (64, 2.0, 2),
    (64, 2.25, 2),
    (64, 3.0, 3),
    (64, 4.0, 4),
    (32, 2.0, 2),
    (96, 2.5, 3),
    (128, 2.0, 2),
    (128, 4.0, 4),
    (64, 1.0, 2),
];

#[test]
fn all_instruction_sets_have_the_bits_of_the_scalar_twin() {
    for (head_dim, key_bits, value_bits) in SHAPES {
        let wanted = case(head_dim, key_bits, value_bits, Isa::Scalar);
        for isa in Isa::tested() {
            let got = case(head_dim, key_bits, value_bits, isa);
            assert_eq!(got.bytes, wanted.bytes, "{isa}: codes of {head_dim} channels, {key_bits} bits");
            for n_heads in [1, 2, 3, 4, 7] {
                for size in [0.0, 0.02, 1.0] {
                    let queries: Vec<f32> = noise(9, n_heads * head_dim).iter().map(|x| x * size).collect();
                    let n_sinks = n_heads - 1;
                    let got = attend(&got, isa, n_heads, &queries, n_sinks, true);
                    let wanted = attend(&wanted, Isa::Scalar, n_heads, &queries, n_sinks, true);
                    let same = got.iter().zip(&wanted).position(|(a, b)| a.to_bits() != b.to_bits());
                    assert_eq!(same, None, "{isa}, {head_dim} channels, {n_heads} heads, size {size}");
                }
            }
        }
    }
}

/// What `unpack` makes, which every instruction set makes with the same bits.
#[track_caller]
fn unpacked_alike(unpack: impl Fn(Isa, &mut HeadF32)) -> HeadF32 {
    let of = |isa: Isa| {
        let mut out = HeadF32::default();
        unpack(isa, &mut out);
        out
    };
    let bits = |page: &HeadF32| -> Vec<u32> {
        let (keys, values) = page.keys_and_values();
        keys.iter().chain(values).map(|x| x.to_bits()).collect()
    };
    let wanted = of(Isa::Scalar);
    for isa in Isa::tested() {
        let same = bits(&of(isa)).iter().zip(bits(&wanted)).position(|(a, b)| *a != b);
        assert_eq!(same, None, "{isa}");
    }
    wanted
}

#[test]
fn all_instruction_sets_unpack_the_same_bits() {
    for (head_dim, key_bits, value_bits) in SHAPES {
        let case = case(head_dim, key_bits, value_bits, Isa::Scalar);
        unpacked_alike(|isa, out| case.code.unpack(isa, case.frames.page(PAGE), &case.bytes, out));
    }
}

#[test]
fn attention_over_codes_is_attention_over_what_they_stand_for() {
    let isa = Isa::best();
    for (head_dim, key_bits, value_bits) in SHAPES {
        let case = case(head_dim, key_bits, value_bits, isa);
        let queries: Vec<f32> = noise(4, 3 * head_dim).iter().map(|x| x * 0.3).collect();
        for n_sinks in [0, 8] {
            let got = attend(&case, isa, 3, &queries, n_sinks, true);
            let wanted = attend(&case, isa, 3, &queries, n_sinks, false);
            let size = (wanted.iter().map(|x| x * x).sum::<f32>() / wanted.len() as f32).sqrt();
            let error = (got.iter().zip(&wanted).map(|(a, b)| (a - b).powi(2)).sum::<f32>()
                / wanted.len() as f32)
                .sqrt();
            let bound = calibrated_rounding(&case, &queries);
            assert!(error < bound * size, "{head_dim} channels, {key_bits} bits: {error} of {size}, {bound}");
        }
    }
}

#[test]
fn more_bits_lose_less() {
    let mut last = f32::INFINITY;
    for bits in [1u8, 2, 3, 4] {
        let case = case(64, f32::from(bits), bits.max(2), Isa::best());
        let mut out = HeadF32::default();
        case.code.unpack(Isa::best(), case.frames.page(PAGE), &case.bytes, &mut out);
        let (keys, exact) = (out.parts().0.as_flattened(), case.exact.parts().0.as_flattened());
        let error: f32 = keys.iter().zip(exact).map(|(a, b)| (a - b).powi(2)).sum();
        let size: f32 = exact.iter().map(|x| x * x).sum();
        let share = error / size;
        assert!(share < last * 0.5, "{bits} bits: {share} after {last}");
        last = share;
    }
    assert!(last < 3e-3, "{last}");
}

#[test]
fn a_head_has_the_bytes_that_its_bits_say() {
    for (head_dim, key_bits, value_bits) in SHAPES {
        let case = case(head_dim, key_bits, value_bits, Isa::Scalar);
        let codes = PAGE_TOKENS * head_dim * usize::from(value_bits) / 8
            + case.code.keys.quad_bits().iter().map(|b| PAGE_TOKENS * usize::from(*b) / 2).sum::<usize>();
        let bytes = codes + 2 * PAGE_TOKENS;
        // At most half a row per block is padding.
        assert!(
            (bytes..bytes + BLOCKS * 16 + 64).contains(&case.code.bytes()),
            "{} {bytes}",
            case.code.bytes()
        );
    }
}

/// What attention over codes needs, whatever the code.
fn attend_with(
    head_dim: usize,
    n_heads: usize,
    queries: &[f32],
    fill: impl FnOnce(&mut TokenQueries, &mut Partial<'_>),
) -> Vec<f32> {
    let mut token = TokenQueries::default();
    token.set(Rows::new(queries, queries.len(), 0), n_heads, head_dim, 1.0);
    let mut records = vec![0.0; n_heads * (8 + head_dim)];
    fill(&mut token, &mut Partial::new(&mut records, head_dim));
    records
        .chunks_exact(8 + head_dim)
        .flat_map(|r| r[8..].iter().map(|x| x / r[1]).collect::<Vec<_>>())
        .collect()
}

/// How far `got` is from `wanted`, as a share of it.
fn distance(got: &[f32], wanted: &[f32]) -> f32 {
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|x| x * x).sum::<f32>().sqrt();
    norm(&mut got.iter().zip(wanted).map(|(a, b)| a - b)) / norm(&mut wanted.iter().copied())
}

/// How far attention over codes may be from attention over what they stand for, as a share of it, by the rounding of
/// queries and weights to integers:
///
/// ```text
/// score     s[t] = u·Σ_c n[c]·z[t][c] + …    n[c] is off by at most ½ and by √(1/12) on average, so s[t] by
///           σ = u·√(Σ_c z[t][c]² / 12)       binary orders, and the weight 2^s[t] by the share σ·ln 2
/// weight    one of 64 to 128 that share a unit of 1/top of the largest is off by √(1/12) units on average, all
///           together by √(128/12)/top of √Σw², which is at least the largest
/// output    Σ w·v of values about 0 that have nothing to do with each other is off by the same share as the weights
/// 2^x       within 1.1e-4, in the sum of weighted values and in that of weights
/// ```
/// Three standard deviations of both roundings, and the exponential's bound. `deviations`: σ of each token.
fn rounding(deviations: impl Iterator<Item = f32>, top: f32) -> f32 {
    let scores = std::f32::consts::LN_2 * deviations.fold(0.0, f32::max);
    let weights = (PAGE_TOKENS as f32 / 12.0).sqrt() / top;
    3.0 * scores.hypot(weights) + 2.2e-4
}

/// σ of a token: `unit` is the value of an integer of 1, `centred` the codes that integers meet.
fn deviation(unit: f32, centred: impl Iterator<Item = f32>) -> f32 {
    unit * (centred.map(|z| z * z).sum::<f32>() / 12.0).sqrt()
}

#[test]
fn queries_meet_each_of_two_codes_as_if_there_were_no_other() {
    let cases = [case(64, 2.0, 2, Isa::Scalar), case(64, 4.0, 3, Isa::Scalar)];
    let queries = noise(4, 2 * 64);
    let new = || {
        let mut token = TokenQueries::default();
        token.set(Rows::new(&queries, queries.len(), 0), 2, 64, 1.0);
        token
    };
    let meet = |token: &mut TokenQueries, case: &Case| {
        let mut records = vec![0.0; 2 * (8 + 64)];
        let stored = Stored { bytes: &case.bytes, sinks: None, next: None };
        let mut partial = Partial::new(&mut records, 64);
        case.code.attend_token(Isa::Scalar, case.frames.page(PAGE), stored, token, &mut partial);
        records
    };
    let mut token = new();
    for case in [&cases[0], &cases[1], &cases[0]] {
        assert!(meet(&mut token, case) == meet(&mut new(), case));
    }
}

/// [`rounding`] of calibrated codes: integers meet codes times the token's gain, in the frame of the keys.
fn calibrated_rounding(case: &Case, queries: &[f32]) -> f32 {
    let (d, keys) = (case.code.head_dim(), &case.code.keys);
    // Seen at position 0, keys are as they were coded.
    let mut unpacked = HeadF32::default();
    case.code.unpack(Isa::best(), case.frames.page(0), &case.bytes, &mut unpacked);
    let n_heads = queries.len() / d;
    let mut token = TokenQueries::default();
    token.set(Rows::new(queries, queries.len(), 0), n_heads, d, 1.0);
    let prepared = query::PreparedQueries::of(keys, token.queries_and_weights().0);
    let deviations = (0..n_heads).flat_map(|head| {
        let unit = prepared.head(head).unit;
        let (unpacked, keys) = (&unpacked, &keys);
        (0..PAGE_TOKENS).filter(|t| t % FRAME_TOKENS == 0).map(move |t| {
            let centred = (0..d)
                .filter(|c| keys.step[*c] > 0.0)
                .map(|c| (unpacked.keys_and_values().0[key_index(d, t, c)] - keys.mean[c]) / keys.step[c]);
            deviation(unit, centred)
        })
    });
    rounding(deviations, 255.0)
}

/// [`rounding`] of KIVI's codes, which integers of a group's own meet.
fn grouped_rounding(code: &GroupedCode, bytes: &[u8], unpacked: &HeadF32, queries: &[f32]) -> f32 {
    let (d, size) = (code.head_dim(), code.group_size());
    let parts = code.parts(bytes);
    let deviations = queries.chunks_exact(d).flat_map(|query| {
        let parts = &parts;
        (0..PAGE_TOKENS).map(move |t| {
            let mut scale = grouped::GroupScale::EMPTY;
            for c in 0..d {
                scale.step[c] = grouped::to_f32(parts.key_scales[t / size * d + c]);
                scale.mean[c] =
                    grouped::to_f32(parts.key_minima[t / size * d + c]) + scale.step[c] * code.middle();
            }
            let unit = query::FrameQuery::still(code.operand(&scale), query).unit;
            let centred = (0..d)
                .filter(|c| scale.step[*c] > 0.0)
                .map(|c| (unpacked.keys_and_values().0[key_index(d, t, c)] - scale.mean[c]) / scale.step[c]);
            deviation(unit, centred)
        })
    });
    rounding(deviations, 255.0)
}

/// [`rounding`] of eight-bit codes: 16-bit integers meet keys.
fn q8_rounding(head_dim: usize, unpacked: &HeadF32, queries: &[f32]) -> f32 {
    let deviations = queries.chunks_exact(head_dim).flat_map(|query| {
        let unit = query.iter().map(|q| q.abs()).fold(0.0, f32::max) / q8::TOP;
        let key = move |t: usize, c: usize| unpacked.keys_and_values().0[key_index(head_dim, t, c)];
        (0..PAGE_TOKENS).map(move |t| deviation(unit, (0..head_dim).map(|c| key(t, c))))
    });
    rounding(deviations, q8::TOP)
}

/// Attention over a packed page has the scalar twin's bits, and is within `bound(queries)` of attention over what the
/// codes stand for.
#[track_caller]
fn assert_attends_as_it_unpacks(
    code: &impl RotatedCode,
    bytes: &[u8],
    unpacked: &HeadF32,
    bound: impl Fn(&[f32]) -> f32,
) {
    let head_dim = code.head_dim();
    for n_heads in [1, 2, 3, 4, 7] {
        for size in [0.0, 0.02, 0.3] {
            let queries: Vec<f32> = noise(9, n_heads * head_dim).iter().map(|x| x * size).collect();
            let of = |isa: Isa| {
                attend_with(head_dim, n_heads, &queries, |token, partial| {
                    code.attend_token(isa, Stored { bytes, sinks: None, next: Some(bytes) }, token, partial)
                })
            };
            let wanted = of(Isa::Scalar);
            for isa in Isa::tested() {
                let got = of(isa);
                let same = got.iter().zip(&wanted).position(|(a, b)| a.to_bits() != b.to_bits());
                assert_eq!(same, None, "{isa}, {head_dim} channels, {n_heads} heads, size {size}");
            }
            let exact = attend_with(head_dim, n_heads, &queries, |token, partial| {
                unpacked.head().attend_token(Isa::best(), 0..PAGE_TOKENS, token, None, partial)
            });
            let (distance, bound) = (distance(&wanted, &exact), bound(&queries));
            assert!(
                distance < bound,
                "{head_dim} channels, {n_heads} heads, size {size}: {distance} of {bound}"
            );
        }
    }
}

#[test]
fn eight_bit_codes_have_the_bits_of_the_scalar_twin_and_stand_for_what_they_were() {
    for head_dim in [32, 64, 96, 128, 256] {
        let exact = case(head_dim, 2.0, 2, Isa::best()).exact;
        let code = Q8Code::new(head_dim);
        let mut bytes = vec![0xA5; code.bytes()];
        code.pack(&exact, &mut bytes);
        let unpacked = unpacked_alike(|isa, out| code.unpack(isa, &bytes, out));
        let (got, wanted) = (unpacked.keys_and_values(), exact.keys_and_values());
        assert!(distance(got.0, wanted.0) < 6e-3 && distance(got.1, wanted.1) < 6e-3);
        let bound = |queries: &[f32]| q8_rounding(head_dim, &unpacked, queries);
        assert_attends_as_it_unpacks(&code, &bytes, &unpacked, bound);
    }
}

#[test]
fn grouped_codes_have_the_bits_of_the_scalar_twin_and_stand_for_what_they_were() {
    for (head_dim, bits, group_size) in
        [(32, 2, 32), (64, 2, 32), (64, 4, 64), (96, 2, 32), (128, 2, 128), (128, 4, 32), (256, 2, 64)]
    {
        let exact = case(head_dim, 2.0, 2, Isa::best()).exact;
        let code = GroupedCode::new(head_dim, bits, group_size);
        let mut bytes = vec![0xA5; code.bytes()];
        code.pack(&exact, &mut bytes);
        let unpacked = unpacked_alike(|isa, out| code.unpack(isa, &bytes, out));
        let (got, wanted) = (unpacked.keys_and_values(), exact.keys_and_values());
        let most = if bits == 2 { 0.5 } else { 0.1 };
        assert!(distance(got.0, wanted.0) < most && distance(got.1, wanted.1) < most);
        let bound = |queries: &[f32]| grouped_rounding(&code, &bytes, &unpacked, queries);
        assert_attends_as_it_unpacks(&code, &bytes, &unpacked, bound);
    }
}
