use super::*;
use lossy_quant::dequantize;

/// Normally distributed numbers, from a seed.
fn normal(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from((state >> 33) as u32) / f64::from(1u32 << 31)
    };
    (0..n).map(|_| ((0..12).map(|_| uniform()).sum::<f64>() - 6.0) as f32).collect()
}

/// Moments of inputs that hang together, and are not equally large.
fn moments(n: usize, n_samples: usize, seed: u64) -> Moments {
    let (mut x, mut sums) = (vec![0.0f64; n], vec![0.0f64; n * n]);
    for sample in 0..n_samples {
        let noise = normal(n, seed + 7919 * sample as u64);
        for i in 0..n {
            let before = if i > 0 { x[i - 1] } else { 0.0 };
            x[i] = f64::from(noise[i]) * (1.0 + (i % 5) as f64) + 0.8 * before;
        }
        for i in 0..n {
            for j in 0..n {
                sums[i * n + j] += x[i] * x[j] / n_samples as f64;
            }
        }
    }
    Moments::new(n, sums.iter().map(|&x| x as f32).collect()).unwrap()
}

fn identity(n: usize) -> Moments {
    Moments::new(n, (0..n * n).map(|at| if at / n == at % n { 1.0 } else { 0.0 }).collect()).unwrap()
}

fn decoded(dtype: DType, bytes: &[u8], n: usize) -> Vec<f32> {
    let mut values = vec![0.0; n];
    dequantize(dtype, bytes, &mut values).unwrap();
    values
}

fn plain(dtype: DType, matrix: Matrix<'_>, weights: Option<&[f32]>) -> Vec<u8> {
    let mut out = Vec::new();
    for row in matrix.values.chunks_exact(matrix.n_cols) {
        let mut bytes = vec![0; dtype.bytes_for(row.len()).unwrap()];
        lossy_quant::quantize(dtype, row, weights, &mut bytes).unwrap();
        out.extend(bytes);
    }
    out
}

fn with_feedback(dtype: DType, matrix: Matrix<'_>, moments: &Moments, n_threads: usize) -> Vec<u8> {
    quantize(dtype, matrix, None, moments, &Factor::of(moments).unwrap(), n_threads).unwrap()
}

/// Σ over rows of (w − q)ᵀ H (w − q), in f64.
fn loss(matrix: Matrix<'_>, rounded: &[f32], moments: &Moments) -> f64 {
    let n = matrix.n_cols;
    let mut sum = 0.0;
    for (row, rounded) in matrix.values.chunks_exact(n).zip(rounded.chunks_exact(n)) {
        let d: Vec<f64> = row.iter().zip(rounded).map(|(w, q)| f64::from(w - q)).collect();
        for i in 0..n {
            for j in 0..n {
                sum += d[i] * f64::from(moments.values[i * n + j]) * d[j];
            }
        }
    }
    sum
}

const TYPES: [DType; 12] = [
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::Q8_0,
    DType::Q2K,
    DType::Q3K,
    DType::Q4K,
    DType::Q5K,
    DType::Q6K,
    DType::IQ4NL,
    DType::IQ4XS,
];

#[test]
fn inputs_that_know_nothing_of_each_other_give_plain_rounding_bit_for_bit() {
    let values = normal(256 * 70, 1);
    let matrix = Matrix { values: &values, n_cols: 256 };
    for dtype in TYPES {
        assert_eq!(with_feedback(dtype, matrix, &identity(256), 2), plain(dtype, matrix, None), "{dtype}");
    }
}

#[test]
fn feedback_loses_less_in_every_format() {
    let values = normal(256 * 8, 2);
    let matrix = Matrix { values: &values, n_cols: 256 };
    let moments = moments(256, 1024, 3);
    for dtype in TYPES {
        let before = loss(
            matrix,
            &decoded(dtype, &plain(dtype, matrix, Some(&moments.mean_squares())), values.len()),
            &moments,
        );
        let after =
            loss(matrix, &decoded(dtype, &with_feedback(dtype, matrix, &moments, 1), values.len()), &moments);
        assert!(after < 0.8 * before, "{dtype}: {after} is not much below {before}");
    }
}

/// The plain algorithm in f64: no blocks, and U from the inverse of H by a Cholesky factorization of its own.
#[test]
fn codes_are_those_of_a_naive_twin() {
    let n = 160;
    let values = normal(n * 5, 4);
    let matrix = Matrix { values: &values, n_cols: n };
    let moments = moments(n, 600, 5);
    let squares = moments.mean_squares();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| squares[b].total_cmp(&squares[a]));
    let mean = squares.iter().map(|&x| f64::from(x)).sum::<f64>() / n as f64;
    let h = |i: usize, j: usize| {
        f64::from(moments.values[order[i] * n + order[j]]) + if i == j { 0.01 * mean } else { 0.0 }
    };
    let upper = naive_upper(n, &h);
    let (mut n_same, mut wanted_all) = (0, Vec::new());
    for row in values.chunks_exact(n) {
        let grid = fit(DType::Q4_0, row, Some(&squares)).unwrap();
        let mut open: Vec<f64> = order.iter().map(|&col| f64::from(row[col])).collect();
        let mut wanted = vec![0.0f32; n];
        for j in 0..n {
            let rounded = grid.round(order[j], open[j] as f32);
            wanted[order[j]] = rounded.value;
            let error = (open[j] - f64::from(rounded.value)) / upper[j * n + j];
            for k in j + 1..n {
                open[k] -= error * upper[j * n + k];
            }
        }
        wanted_all.extend(wanted);
    }
    let found = decoded(DType::Q4_0, &with_feedback(DType::Q4_0, matrix, &moments, 1), values.len());
    n_same += found.iter().zip(&wanted_all).filter(|(a, b)| a == b).count();
    // Single precision puts a few values that lie between two levels on the other side.
    assert!(n_same * 100 >= values.len() * 98, "{n_same} of {} values", values.len());
    let (found, wanted) = (loss(matrix, &found, &moments), loss(matrix, &wanted_all, &moments));
    assert!((found / wanted - 1.0).abs() < 0.02, "{found}, not {wanted}");
}

/// Upper triangular U with H⁻¹ = Uᵀ U: Gauss–Jordan, then Cholesky.
fn naive_upper(n: usize, h: &dyn Fn(usize, usize) -> f64) -> Vec<f64> {
    let mut a: Vec<f64> = (0..n * n).map(|at| h(at / n, at % n)).collect();
    let mut inverse: Vec<f64> = (0..n * n).map(|at| if at / n == at % n { 1.0 } else { 0.0 }).collect();
    for i in 0..n {
        let pivot = a[i * n + i];
        for j in 0..n {
            a[i * n + j] /= pivot;
            inverse[i * n + j] /= pivot;
        }
        for k in (0..n).filter(|&k| k != i) {
            let factor = a[k * n + i];
            for j in 0..n {
                a[k * n + j] -= factor * a[i * n + j];
                inverse[k * n + j] -= factor * inverse[i * n + j];
            }
        }
    }
    let mut upper = vec![0.0; n * n];
    for i in 0..n {
        for j in i..n {
            let sum: f64 = (0..i).map(|k| upper[k * n + i] * upper[k * n + j]).sum();
            let rest = inverse[i * n + j] - sum;
            upper[i * n + j] = if i == j { rest.sqrt() } else { rest / upper[i * n + i] };
        }
    }
    upper
}

#[test]
fn threads_change_no_bit() {
    let values = normal(96 * 200, 6);
    let matrix = Matrix { values: &values, n_cols: 96 };
    let moments = moments(96, 300, 7);
    let one = with_feedback(DType::IQ4NL, matrix, &moments, 1);
    for n_threads in [2, 3, 7] {
        assert_eq!(with_feedback(DType::IQ4NL, matrix, &moments, n_threads), one);
    }
}

#[test]
fn damping_rises_until_the_factorization_succeeds() {
    // Fewer samples than columns: H has no full rank. And columns that are 0 throughout.
    let few = moments(96, 10, 8);
    Factor::of(&few).unwrap();
    let mut dead = few.clone();
    for i in 0..96 {
        dead.values[5 * 96 + i] = 0.0;
        dead.values[i * 96 + 5] = 0.0;
    }
    Factor::of(&dead).unwrap();
    // Slightly indefinite, as sums in single precision can be.
    let mut broken = identity(64);
    (broken.values[1], broken.values[64]) = (1.05, 1.05);
    Factor::of(&broken).unwrap();
    (broken.values[1], broken.values[64]) = (1e6, 1e6);
    assert!(matches!(Factor::of(&broken), Err(FeedbackError::Indefinite)));
    let unseen = Moments::new(32, vec![0.0; 32 * 32]).unwrap();
    assert!(!unseen.is_seen() && few.is_seen());
}

#[test]
fn what_does_not_fit_is_refused_with_its_place() {
    assert!(matches!(Moments::new(3, vec![0.0; 8]), Err(FeedbackError::Size { found: 8, n_cols: 3 })));
    let mut values = vec![0.0; 9];
    values[5] = f32::NAN;
    let error = Moments::new(3, values.clone()).unwrap_err().to_string();
    assert_eq!(error, "the mean product of columns 1 and 2 is NaN");
    (values[5], values[4]) = (0.0, -1.0);
    assert!(Moments::new(3, values).unwrap_err().to_string().contains("columns 1 and 1 is -1"));
    let mut weights = normal(64 * 70, 9);
    weights[64 * 66 + 1] = f32::INFINITY;
    let matrix = Matrix { values: &weights, n_cols: 64 };
    let (right, wrong) = (identity(64), identity(32));
    let error = quantize(DType::Q4_0, matrix, None, &right, &Factor::of(&right).unwrap(), 2).unwrap_err();
    assert_eq!(error.to_string(), "row 66: value 1 is inf");
    assert!(quantize(DType::Q4_0, matrix, None, &wrong, &Factor::of(&wrong).unwrap(), 2).is_err());
}
