use super::*;
use lossy_testkit::noise;

fn random(seed: u64, len: usize) -> Vec<f64> {
    noise(seed, len).into_iter().map(f64::from).collect()
}

/// That `gradient` is the derivative of `f` at `x`, value by value, by central differences.
fn check(what: &str, x: &[f64], gradient: &[f64], f: impl Fn(&[f64]) -> f64) {
    let h = 1e-5;
    for i in 0..x.len() {
        let at = |step: f64| {
            let mut x = x.to_vec();
            x[i] += step;
            f(&x)
        };
        let wanted = (at(h) - at(-h)) / (2.0 * h);
        let error = (gradient[i] - wanted).abs();
        assert!(error < 1e-7 * (1.0 + wanted.abs()), "{what}, value {i}: {} is not {wanted}", gradient[i]);
    }
}

#[test]
fn the_norm_has_the_gradients_of_finite_differences() {
    let (n, eps) = (6, 1e-3);
    let [x, w, d_y] = [(1, 3 * n), (2, n), (3, 3 * n)].map(|(seed, len)| random(seed, len));
    let loss = |x: &[f64], w: &[f64]| {
        let mut y = vec![0.0; x.len()];
        rms_norm(x, w, eps, &mut y);
        dot(&y, &d_y)
    };
    let (mut d_x, mut d_w) = (vec![0.0; x.len()], vec![0.0; n]);
    rms_norm_backward(&x, &w, eps, &d_y, &mut d_x, &mut d_w);
    check("x", &x, &d_x, |x| loss(x, &w));
    check("weight", &w, &d_w, |w| loss(&x, w));
}

#[test]
fn both_rotations_turn_their_pairs_and_have_the_gradients_of_finite_differences() {
    let (head_dim, n_heads, n_tokens) = (6, 2, 3);
    for is_interleaved in [false, true] {
        let angles = noise(4, n_tokens * head_dim / 2);
        // A length other than 1, as YaRN has it.
        let [cos, sin] = [f32::cos, f32::sin].map(|f| angles.iter().map(|&a| 1.1 * f(a)).collect::<Vec<_>>());
        let rotations = Rotations::<f64>::new(&cos, &sin, head_dim, is_interleaved);
        let [x, d_y] = [5, 6].map(|seed| random(seed, n_tokens * n_heads * head_dim));
        let loss = |x: &[f64]| {
            let mut y = x.to_vec();
            rotations.turn(&mut y, n_heads);
            dot(&y, &d_y)
        };
        let mut d_x = d_y.clone();
        rotations.turn_back(&mut d_x, n_heads);
        check("x", &x, &d_x, loss);
        let mut unit = vec![0.0; n_tokens * n_heads * head_dim];
        unit[0] = 1.0;
        rotations.turn(&mut unit, n_heads);
        let partner = if is_interleaved { 1 } else { 3 };
        assert_eq!((unit[0], unit[partner]), (f64::from(cos[0]), f64::from(sin[0])));
    }
}

/// Attention as it is defined, one query and one key at a time.
fn plain_attention(attention: &Attention<'_, f64>) -> Vec<f64> {
    let Attention { q, k, v, n_heads, n_kv_heads, head_dim } = *attention;
    let n_tokens = q.len() / (n_heads * head_dim);
    let mut out = vec![0.0; q.len()];
    for token in 0..n_tokens {
        for head in 0..n_heads {
            let kv = head / (n_heads / n_kv_heads);
            let query = &q[(token * n_heads + head) * head_dim..][..head_dim];
            let of = |rows: &[f64], at: usize, c: usize| rows[(at * n_kv_heads + kv) * head_dim + c];
            let scores: Vec<f64> = (0..=token)
                .map(|at| {
                    (0..head_dim).map(|c| query[c] * of(k, at, c)).sum::<f64>() / (head_dim as f64).sqrt()
                })
                .collect();
            let sum: f64 = scores.iter().map(|score| score.exp()).sum();
            for c in 0..head_dim {
                out[(token * n_heads + head) * head_dim + c] =
                    (0..=token).map(|at| scores[at].exp() / sum * of(v, at, c)).sum();
            }
        }
    }
    out
}

#[test]
fn attention_is_that_of_its_definition_across_pieces_of_queries() {
    for n_tokens in [1, 5, QUERIES, QUERIES + 1, 2 * QUERIES + 3] {
        let (n_heads, n_kv_heads, head_dim) = (4, 2, 3);
        let q = random(7, n_tokens * n_heads * head_dim);
        let [k, v] = [8, 9].map(|seed| random(seed, n_tokens * n_kv_heads * head_dim));
        let attention = Attention { q: &q, k: &k, v: &v, n_heads, n_kv_heads, head_dim };
        let mut found = vec![0.0; q.len()];
        attention.forward(&mut found);
        for (found, wanted) in found.iter().zip(plain_attention(&attention)) {
            assert!((found - wanted).abs() < 1e-12, "{n_tokens}: {found} {wanted}");
        }
    }
}

#[test]
fn attention_has_the_gradients_of_finite_differences() {
    let (n_tokens, n_heads, n_kv_heads, head_dim) = (7, 4, 2, 3);
    let [q, d_out] = [10, 11].map(|seed| random(seed, n_tokens * n_heads * head_dim));
    let [k, v] = [12, 13].map(|seed| random(seed, n_tokens * n_kv_heads * head_dim));
    let loss = |q: &[f64], k: &[f64], v: &[f64]| {
        let mut out = vec![0.0; q.len()];
        Attention { q, k, v, n_heads, n_kv_heads, head_dim }.forward(&mut out);
        dot(&out, &d_out)
    };
    let [d_q, d_k, d_v] = Attention { q: &q, k: &k, v: &v, n_heads, n_kv_heads, head_dim }.backward(&d_out);
    check("q", &q, &d_q, |q| loss(q, &k, &v));
    check("k", &k, &d_k, |k| loss(&q, k, &v));
    check("v", &v, &d_v, |v| loss(&q, &k, v));
}

#[test]
fn every_gate_has_the_gradients_of_finite_differences() {
    use GateFunction::{Gelu, GeluTanh, QuickGelu, Relu, ReluSquared, Silu};
    for function in [Silu, Gelu, GeluTanh, QuickGelu, Relu, ReluSquared] {
        let [gate, up, d_h] = [14, 15, 16].map(|seed| random(seed, 40));
        let loss = |gate: &[f64], up: &[f64]| {
            let mut h = vec![0.0; gate.len()];
            gated(function, gate, up, &mut h);
            dot(&h, &d_h)
        };
        let (mut d_gate, mut d_up) = (gate.clone(), up.clone());
        gated_backward(function, &mut d_gate, &mut d_up, &d_h);
        check("gate", &gate, &d_gate, |gate| loss(gate, &up));
        check("up", &up, &d_up, |up| loss(&gate, up));
    }
}
