//! Estimated weights of a page against those of its unpacked keys, and every instruction set against the scalar twin.

use super::*;
use crate::page::QueryRows;

/// What a page of the case weighs for each query row.
fn estimate(case: &Case, isa: Isa, queries: &[f32], shifts: &[f32]) -> Vec<f32> {
    let head_dim = case.code.head_dim();
    let mut rows = QueryRows::default();
    rows.set(Rows::new(queries, head_dim, 0), 1, head_dim, 1.0);
    let mut weights = vec![f32::NAN; shifts.len()];
    case.code.estimate_rows(isa, case.frames.page(PAGE), &case.bytes, &mut rows, shifts, &mut weights);
    weights
}

/// The same by the definition: scores with unpacked keys, of which the less important channels are the mean.
fn by_definition(case: &Case, query: &[f32], shift: f32) -> f64 {
    let head_dim = case.code.head_dim();
    let half = head_dim / 2;
    let mut unpacked = HeadF32::default();
    case.code.unpack(Isa::Scalar, case.frames.page(PAGE), &case.bytes, &mut unpacked);
    let (keys, _) = unpacked.keys_and_values();
    let code = &case.code.keys;
    let is_read = |channel: usize| {
        let position = code.order.iter().position(|c| usize::from(*c) == channel).expect("every channel");
        position < head_dim / 4
    };
    let is_read: Vec<bool> = (0..head_dim).map(is_read).collect();
    let weight = |t: usize| {
        let frame = case.frames.page(PAGE).frame(t / FRAME_TOKENS);
        let key = |channel: usize| f64::from(keys[(t / 8 * head_dim + channel) * 8 + t % 8]);
        let score = (0..half).fold(0.0, |score, pair| {
            let (cos, sin) = (f64::from(frame.cos[pair]), f64::from(frame.sin[pair]));
            let back = |x: f64, y: f64| [x * cos + y * sin, y * cos - x * sin];
            let key = back(key(pair), key(pair + half));
            let query = back(f64::from(query[pair]), f64::from(query[pair + half]));
            let channel = |c: usize, key: f64| if is_read[c] { key } else { f64::from(code.mean[c]) };
            score + query[0] * channel(pair, key[0]) + query[1] * channel(pair + half, key[1])
        });
        (score - f64::from(shift)).exp2()
    };
    // Of a score that spreads as a Gaussian: the mean of its power of two, by both channels of a pair alike.
    let variance = |c: usize| if is_read[c] { 0.0 } else { f64::from(case.statistics.variance[c]) };
    let spread: f64 = (0..half)
        .map(|pair| {
            let size = f64::from(query[pair]).powi(2) + f64::from(query[pair + half]).powi(2);
            0.5 * size * (variance(pair) + variance(pair + half))
        })
        .sum();
    (0.5 * spread * std::f64::consts::LN_2).exp2() * (0..PAGE_TOKENS).map(weight).sum::<f64>()
}

#[test]
fn a_page_weighs_what_the_important_quarter_of_its_channels_says() {
    for (head_dim, key_bits) in [(64, 2.25), (64, 4.25), (32, 2.25), (128, 2.25)] {
        let case = case(head_dim, key_bits, 2, Isa::best());
        let queries = noise(11, 9 * head_dim);
        for (row, query) in queries.chunks_exact(head_dim).enumerate() {
            let query: Vec<f32> = query.iter().map(|q| q * 0.3).collect();
            for shift in [-3.0, 0.0, 20.0] {
                let got = f64::from(estimate(&case, Isa::best(), &query, &[shift])[0]);
                let wanted = by_definition(&case, &query, shift);
                // Powers are within 3 %; the rest is the rounding of the query to int8.
                assert!((got / wanted - 1.0).abs() < 0.1, "row {row} of {head_dim}: {got} and {wanted}");
            }
        }
    }
}

#[test]
fn every_instruction_set_estimates_with_the_same_bits() {
    for (head_dim, key_bits, value_bits) in SHAPES {
        let case = case(head_dim, key_bits, value_bits, Isa::best());
        for n_rows in [1, 2, 3, 4, 5, 6, 7, 8, 17] {
            for size in [0.0, 0.1, 3.0, 1e6] {
                let queries: Vec<f32> = noise(5, n_rows * head_dim).iter().map(|x| x * size).collect();
                let shifts: Vec<f32> = noise(6, n_rows).iter().map(|x| x * 10.0).collect();
                let bits = |isa| -> Vec<u32> {
                    estimate(&case, isa, &queries, &shifts).iter().map(|x| x.to_bits()).collect()
                };
                let wanted = bits(Isa::Scalar);
                for isa in Isa::tested() {
                    assert_eq!(bits(isa), wanted, "{isa}, {n_rows} rows of {head_dim}, k{key_bits}, {size}");
                }
            }
        }
    }
}
