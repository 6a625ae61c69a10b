//! Adapters of low rank (LoRA, arXiv 2106.09685): `W + B A`.

use lossy_eval::Random;
use lossy_kernels::dense::{Into, View, ViewMut};

use crate::real::Real;

/// What is added to one matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// columns of `b`, rows of `a`
    rank: usize,
    /// `[rank, n_cols]`
    pub(crate) a: Vec<f32>,
    /// `[n_rows, rank]`
    pub(crate) b: Vec<f32>,
}

impl Adapter {
    /// One that changes nothing yet: `b` is 0, and `a` as large as a row of a common matrix.
    ///
    /// # Panics
    /// A length is 0.
    pub fn new([n_rows, n_cols]: [usize; 2], rank: usize, mut random: Random) -> Adapter {
        assert!(n_rows > 0 && n_cols > 0 && rank > 0, "an adapter of {n_rows} × {n_cols}, rank {rank}");
        // Evenly spread, with a variance of 1 / n_cols.
        let most = (3.0 / n_cols as f64).sqrt();
        let a = (0..rank * n_cols).map(|_| (most * (2.0 * random.unit() - 1.0)) as f32).collect();
        Adapter { rank, a, b: vec![0.0; n_rows * rank] }
    }

    /// Rows and columns of the matrix.
    pub fn shape(&self) -> [usize; 2] {
        [self.b.len() / self.rank, self.a.len() / self.rank]
    }

    /// Of the product.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// `[rank, n_cols]`
    pub fn a(&self) -> &[f32] {
        &self.a
    }

    /// `[n_rows, rank]`
    pub fn b(&self) -> &[f32] {
        &self.b
    }

    /// What llama.cpp calls the two parts of a matrix's adapter.
    pub fn names(matrix: &str) -> [String; 2] {
        ["lora_a", "lora_b"].map(|part| format!("{matrix}.{part}"))
    }

    /// Adds `B A` to rows, the first of which is row `first` of the matrix.
    pub(super) fn apply(&self, first: usize, rows: &mut [f32]) {
        let n_cols = self.shape()[1];
        let n_rows = rows.len() / n_cols;
        let b = View::rows(&self.b[first * self.rank..][..n_rows * self.rank], self.rank);
        f32::product(Into::Add, ViewMut::rows(rows, n_cols), b, View::rows(&self.a, n_cols));
    }

    /// The gradients of `a` and `b`.
    pub(crate) fn gradients(&self, input: &[f32], d_y: &[f32]) -> [Vec<f32>; 2] {
        gradients(self.rank, [&self.a, &self.b], input, d_y)
    }
}

/// Of `y = B A x`, with rows of tokens: `d_a = (d_y B)ᵀ x` and `d_b = d_yᵀ (x Aᵀ)`.
fn gradients<F: Real>(rank: usize, [a, b]: [&[F]; 2], input: &[F], d_y: &[F]) -> [Vec<F>; 2] {
    let (n_rows, n_cols) = (b.len() / rank, a.len() / rank);
    let n_tokens = input.len() / n_cols;
    let [mut inner, mut d_inner] = [(); 2].map(|()| vec![F::default(); n_tokens * rank]);
    let (x, d_y) = (View::rows(input, n_cols), View::rows(d_y, n_rows));
    F::product(Into::Set, ViewMut::rows(&mut inner, rank), x, View::rows(a, n_cols).transposed());
    F::product(Into::Set, ViewMut::rows(&mut d_inner, rank), d_y, View::rows(b, rank));
    let [mut d_a, mut d_b] = [a.len(), b.len()].map(|len| vec![F::default(); len]);
    F::product(Into::Set, ViewMut::rows(&mut d_a, n_cols), View::rows(&d_inner, rank).transposed(), x);
    F::product(Into::Set, ViewMut::rows(&mut d_b, rank), d_y.transposed(), View::rows(&inner, rank));
    [d_a, d_b]
}

#[cfg(test)]
mod tests {
    use super::*;
    use lossy_testkit::noise;

    const RANK: usize = 3;
    const SHAPE: [usize; 2] = [5, 7];
    const N_TOKENS: usize = 4;

    fn wide(seed: u64, len: usize) -> Vec<f64> {
        noise(seed, len).into_iter().map(f64::from).collect()
    }

    /// `Σ y · weights` for `y = B A x`, written out.
    fn loss(a: &[f64], b: &[f64], input: &[f64], weights: &[f64]) -> f64 {
        let [n_rows, n_cols] = SHAPE;
        let mut sum = 0.0;
        for token in 0..N_TOKENS {
            for row in 0..n_rows {
                for part in 0..RANK {
                    for col in 0..n_cols {
                        sum += weights[token * n_rows + row]
                            * b[row * RANK + part]
                            * a[part * n_cols + col]
                            * input[token * n_cols + col];
                    }
                }
            }
        }
        sum
    }

    #[test]
    fn gradients_are_those_of_finite_differences_in_float64() {
        let [n_rows, n_cols] = SHAPE;
        let (a, b) = (wide(1, RANK * n_cols), wide(2, n_rows * RANK));
        let (input, weights) = (wide(3, N_TOKENS * n_cols), wide(4, N_TOKENS * n_rows));
        let found = gradients(RANK, [&a, &b], &input, &weights);
        let h = 1e-6;
        for at in 0..a.len() {
            let moved = |step: f64| {
                let mut a = a.clone();
                a[at] += step;
                loss(&a, &b, &input, &weights)
            };
            let wanted = (moved(h) - moved(-h)) / (2.0 * h);
            assert!((found[0][at] - wanted).abs() < 1e-8, "a {at}: {} is not {wanted}", found[0][at]);
        }
        for at in 0..b.len() {
            let moved = |step: f64| {
                let mut b = b.clone();
                b[at] += step;
                loss(&a, &b, &input, &weights)
            };
            let wanted = (moved(h) - moved(-h)) / (2.0 * h);
            assert!((found[1][at] - wanted).abs() < 1e-8, "b {at}: {} is not {wanted}", found[1][at]);
        }
    }

    #[test]
    fn an_adapter_changes_nothing_at_first_and_then_adds_its_product() {
        let mut adapter = Adapter::new(SHAPE, RANK, Random::new(9, 0));
        let [n_rows, n_cols] = SHAPE;
        let before = noise(5, n_rows * n_cols);
        let mut rows = before.clone();
        adapter.apply(0, &mut rows);
        assert_eq!((rows, adapter.shape(), adapter.rank()), (before.clone(), SHAPE, RANK));
        adapter.b = noise(6, n_rows * RANK);
        let mut rows = before.clone();
        adapter.apply(0, &mut rows);
        for (at, (found, before)) in rows.iter().zip(&before).enumerate() {
            let (row, col) = (at / n_cols, at % n_cols);
            let product: f32 =
                (0..RANK).map(|part| adapter.b[row * RANK + part] * adapter.a[part * n_cols + col]).sum();
            assert!((found - before - product).abs() < 1e-6, "{row}, {col}");
        }
        // Some rows alone.
        let mut some = before[2 * n_cols..4 * n_cols].to_vec();
        adapter.apply(2, &mut some);
        for (some, whole) in some.iter().zip(&rows[2 * n_cols..4 * n_cols]) {
            assert!((some - whole).abs() < 1e-6);
        }
    }
}
