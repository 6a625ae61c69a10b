use super::*;

fn values(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| (((i + seed) * 7919 + 13 * i * i) % 2003) as f32 * 0.01 - 10.0).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

const SIZES: [usize; 9] = [1, 2, 7, 8, 9, 31, 33, 64, 576];

#[test]
fn every_isa_has_the_bits_of_the_scalar_form() {
    for n in SIZES {
        let (x, w, y) = (values(n, 1), values(n, 2), values(n, 3));
        let (cos, sin) = (values(n, 4), values(n, 5));
        let mut wanted: Option<Vec<Vec<u32>>> = None;
        for isa in Isa::tested() {
            let (mut norm, mut gated) = (vec![0.0; n], vec![0.0; n]);
            rms_norm_row(isa, &x, &w, 1e-5, &mut norm);
            silu_mul(isa, &x, &y, &mut gated);
            let cx = Compute::with_isa(1, isa);
            let mut head: Vec<f32> = [x.clone(), y.clone()].concat();
            rope(
                &cx,
                &mut head,
                HeadRows { stride: 2 * n, offset: 0, n_heads: 1, head_dim: 2 * n },
                &cos,
                &sin,
            );
            let got = vec![bits(&norm), bits(&gated), bits(&head)];
            assert_eq!(got, *wanted.get_or_insert(got.clone()), "{isa}, {n} values");
        }
    }
}

#[test]
fn rms_norm_is_the_formula_and_does_not_depend_on_threads() {
    let (n_tokens, n_cols) = (60, 576);
    let (rows, weight) = (values(n_tokens * n_cols, 6), values(n_cols, 7));
    let mut first = None;
    for n_threads in [1, 3] {
        let cx = Compute::with_isa(n_threads, Isa::best());
        let mut out = vec![0.0; rows.len()];
        rms_norm(&cx, &rows, &weight, 1e-6, &mut out);
        for (row, out) in rows.chunks(n_cols).zip(out.chunks(n_cols)) {
            let mean = row.iter().map(|x| *x as f64 * *x as f64).sum::<f64>() / n_cols as f64;
            for ((x, w), out) in row.iter().zip(&weight).zip(out) {
                let wanted = *x as f64 / (mean + 1e-6).sqrt() * *w as f64;
                assert!((*out as f64 - wanted).abs() <= wanted.abs() * 1e-6, "{out} {wanted}");
            }
        }
        assert_eq!(bits(&out), *first.get_or_insert(bits(&out)));
    }
}

#[test]
fn rope_rotates_only_the_heads_it_is_told_and_only_their_rotary_part() {
    let cx = Compute::with_isa(1, Isa::best());
    let heads = HeadRows { stride: 40, offset: 8, n_heads: 2, head_dim: 12 };
    let before = values(3 * 40, 8);
    let (cos, sin) = (values(3 * 4, 9), values(3 * 4, 10));
    let mut rows = before.clone();
    rope(&cx, &mut rows, heads, &cos, &sin);
    for token in 0..3 {
        for at in 0..40 {
            let i = token * 40 + at;
            let inside = (8..32).contains(&at).then(|| (at - 8) % 12).filter(|d| *d < 8);
            let wanted = match inside {
                None => before[i],
                Some(d) if d < 4 => before[i] * cos[token * 4 + d] - before[i + 4] * sin[token * 4 + d],
                Some(d) => before[i] * cos[token * 4 + d - 4] + before[i - 4] * sin[token * 4 + d - 4],
            };
            assert!((rows[i] - wanted).abs() < 1e-4, "token {token}, value {at}");
        }
    }
}

#[test]
fn rms_norm_heads_is_rms_norm_of_each_head() {
    let cx = Compute::with_isa(2, Isa::best());
    let heads = HeadRows { stride: 50, offset: 10, n_heads: 4, head_dim: 10 };
    let (before, weight) = (values(500 * 50, 11), values(10, 12));
    let mut rows = before.clone();
    rms_norm_heads(&cx, &mut rows, heads, &weight, 1e-6);
    for (row, before) in rows.chunks(50).zip(before.chunks(50)) {
        assert_eq!(row[..10], before[..10]);
        let mut out = vec![0.0; 40];
        rms_norm(&cx, &before[10..], &weight, 1e-6, &mut out);
        assert_eq!(bits(&row[10..]), bits(&out));
    }
}

#[test]
fn add_bias_adds_to_every_row() {
    let mut rows = vec![1.0, 2.0, 3.0, 4.0];
    add_bias(&mut rows, &[10.0, 20.0]);
    assert_eq!(rows, [11.0, 22.0, 13.0, 24.0]);
}
