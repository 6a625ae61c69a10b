//! The same text at two positions: what a scheme makes of it does not depend on where it stands.

use std::sync::Arc;

use lossy_kernels::{ActivationKind, Compute, Isa, KvType};
use lossy_testkit::noise;

use super::tests::layout;
use super::{Budget, KvPool, PAGE_TOKENS, Rows, Span, append_layer, attend_layer, conformance::GEOMETRY};
use crate::positions::Positions;
use crate::positions::tests::rotated;
use crate::positions::{Rope, RopeConfig, RopeScaling};

const D: usize = GEOMETRY.head_dim;
const N_QUERY: usize = GEOMETRY.n_kv_heads * GEOMETRY.heads_per_kv * D;
const N_KV: usize = GEOMETRY.n_kv_heads * D;
const N_TOKENS: usize = 5 * PAGE_TOKENS + 9;
/// The last tokens come one by one.
const N_ANSWER: usize = 20;

/// Attention of layer 0 over a text that begins at position `start`: outputs of the prompt, and of the answer.
fn outputs(scheme: &str, start: usize) -> (Vec<f32>, Vec<f32>) {
    let config = RopeConfig { base: 10_000.0, scaling: RopeScaling::None };
    let rope = Rope::new(&config, D).starting_at(start);
    let queries = rotated(&rope, &noise(1, N_TOKENS * N_QUERY), N_QUERY, |token| token);
    let keys = rotated(&rope, &noise(2, N_TOKENS * N_KV), N_KV, |token| token);
    let values = noise(3, N_TOKENS * N_KV);
    let positions = Arc::new(Positions::linear(rope, N_TOKENS));
    // Exact tokens in f32: in f16 a key is rounded otherwise at each position.
    let pool = KvPool::with_layout(
        GEOMETRY,
        super::CacheLayout { exact: KvType::F32, ..layout(scheme) },
        positions,
        Budget::new(None),
    );
    let cx = Compute::with_isa(1, Isa::best());
    let mut cache = pool.sequence();
    let mut pass = |n: usize| {
        let rows = cache.len()..cache.len() + n;
        cache.reserve(n).expect("no budget");
        let mut out = vec![f32::NAN; n * N_QUERY];
        for layer in 0..GEOMETRY.n_layers {
            let mut spans = [Span { cache: &mut cache, rows: 0..n, one_by_one: false }];
            let of = |values: &[f32], width: usize| values[rows.start * width..rows.end * width].to_vec();
            let (keys, values, queries) = (of(&keys, N_KV), of(&values, N_KV), of(&queries, N_QUERY));
            append_layer(&cx, layer, &mut spans, Rows::new(&keys, N_KV, 0), Rows::new(&values, N_KV, 0))
                .expect("finite values");
            if layer == 0 {
                attend_layer(
                    &cx,
                    layer,
                    &spans,
                    ActivationKind::Q8,
                    &[Rows::new(&queries, N_QUERY, 0)],
                    &mut out,
                );
            }
        }
        cache.advance(n);
        out
    };
    let prompt = pass(N_TOKENS - N_ANSWER);
    (prompt, (0..N_ANSWER).flat_map(|_| pass(1)).collect())
}

fn distance(got: &[f32], wanted: &[f32]) -> f64 {
    let norm =
        |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    norm(&mut got.iter().zip(wanted).map(|(a, b)| a - b)) / norm(&mut wanted.iter().copied())
}

#[test]
fn the_same_text_has_the_same_result_at_another_position() {
    for scheme in ["k2v2", "k3v3", "k4v2:sinks=0,residual=0", "k4v4:calibration=none"] {
        let (here, there) = (outputs(scheme, 0), outputs(scheme, 6000));
        // What differs is float32's rounding of the rotation, and a code in some thousands that lay between two.
        let (prompt, answer) = (distance(&there.0, &here.0), distance(&there.1, &here.1));
        assert!(prompt < 2e-3, "{scheme}: the prompt's outputs differ by {prompt}");
        // Queries that differ in their last bits are rounded to other integers now and then.
        assert!(answer < 1e-2, "{scheme}: the answer's outputs differ by {answer}");
    }
}

#[test]
fn a_scheme_of_rotated_keys_loses_as_much_at_another_position() {
    // Their groups see other numbers at each position: not the same codes, but the same loss.
    let exact = outputs("f16", 0);
    for scheme in ["q8", "kivi2", "kivi4", "kivi2:residual=128"] {
        let loss = |start: usize| {
            let (prompt, answer) = outputs(scheme, start);
            distance(&prompt, &exact.0) + distance(&answer, &exact.1)
        };
        let (here, there) = (loss(0), loss(6000));
        assert!((0.85..1.15).contains(&(there / here)), "{scheme} loses {here} at 0 and {there} at 6,000");
    }
}
