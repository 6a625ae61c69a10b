//! Products of float32 matrices as they lie in memory: for statistics of weights and for training, not for inference.
//!
//! [`product`] is the `gemm` crate's (Goto's algorithm: blocks that fit the caches, packed, and a kernel of FMA or AVX-512),
//! on the thread that calls. Whoever has several threads gives each a product of its own, so that no sum depends on their
//! number. [`product_plain`] is its twin, three loops, for any kind of number.

use std::ops::{Add, Mul};

use gemm_common::Parallelism;

/// A matrix in a slice: element (row, column) lies at `row · row_stride + column · col_stride`.
#[derive(Clone, Copy, Debug)]
pub struct View<'a, T> {
    values: &'a [T],
    n_rows: usize,
    n_cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T> View<'a, T> {
    /// `[n_rows, n_cols]`, whose rows begin `stride` values apart.
    ///
    /// # Panics
    /// It is not within `values`.
    pub fn new(values: &'a [T], n_rows: usize, n_cols: usize, stride: usize) -> View<'a, T> {
        assert!(is_within(values.len(), n_rows, n_cols, stride), "a matrix is not within its values");
        View { values, n_rows, n_cols, row_stride: stride, col_stride: 1 }
    }

    /// `[n_rows, n_cols]` without gaps: rows follow from the length.
    ///
    /// # Panics
    /// `values` are no whole rows.
    pub fn rows(values: &'a [T], n_cols: usize) -> View<'a, T> {
        assert!(n_cols > 0 && values.len().is_multiple_of(n_cols), "no whole rows");
        View::new(values, values.len() / n_cols, n_cols, n_cols)
    }

    /// `[n_cols, n_rows]` of the same values.
    pub fn transposed(self) -> View<'a, T> {
        View {
            values: self.values,
            n_rows: self.n_cols,
            n_cols: self.n_rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }
}

/// A matrix that is written, `[n_rows, n_cols]`, whose rows begin `stride` values apart.
#[derive(Debug)]
pub struct ViewMut<'a, T> {
    values: &'a mut [T],
    n_rows: usize,
    n_cols: usize,
    stride: usize,
}

impl<'a, T> ViewMut<'a, T> {
    /// See [`View::new`].
    ///
    /// # Panics
    /// It is not within `values`, or rows overlap.
    pub fn new(values: &'a mut [T], n_rows: usize, n_cols: usize, stride: usize) -> ViewMut<'a, T> {
        assert!(is_within(values.len(), n_rows, n_cols, stride), "a matrix is not within its values");
        ViewMut { values, n_rows, n_cols, stride }
    }

    /// See [`View::rows`].
    ///
    /// # Panics
    /// `values` are no whole rows.
    pub fn rows(values: &'a mut [T], n_cols: usize) -> ViewMut<'a, T> {
        assert!(n_cols > 0 && values.len().is_multiple_of(n_cols), "no whole rows");
        let n_rows = values.len() / n_cols;
        ViewMut::new(values, n_rows, n_cols, n_cols)
    }
}

/// Whether rows do not overlap, and the last one ends within `len` values.
fn is_within(len: usize, n_rows: usize, n_cols: usize, stride: usize) -> bool {
    stride >= n_cols
        && (n_rows == 0
            || (n_rows - 1)
                .checked_mul(stride)
                .and_then(|start| start.checked_add(n_cols))
                .is_some_and(|end| end <= len))
}

/// What becomes of what was in the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Into {
    /// the product takes its place
    Set,
    /// the product is added to it
    Add,
}

/// `out = a · b`, or `out += a · b`.
///
/// # Panics
/// Shapes do not fit.
pub fn product(into: Into, out: ViewMut<'_, f32>, a: View<'_, f32>, b: View<'_, f32>) {
    check(&out, &a, &b);
    if a.n_cols == 0 {
        return product_plain(into, out, a, b);
    }
    if out.n_rows == 0 || out.n_cols == 0 {
        return;
    }
    let gemm = gemm_f32::gemm::f32::get_gemm_fn();
    let stride = |stride: usize| isize::try_from(stride).expect("a stride is less than a slice");
    // SAFETY: `View::new` and `ViewMut::new` checked that every element is within its slice, `check` that the shapes are
    // those of a product; `out` is borrowed mutably, so it is apart from the others, and its rows do not overlap.
    unsafe {
        gemm(
            out.n_rows,
            out.n_cols,
            a.n_cols,
            out.values.as_mut_ptr(),
            1,
            stride(out.stride),
            into == Into::Add,
            a.values.as_ptr(),
            stride(a.col_stride),
            stride(a.row_stride),
            b.values.as_ptr(),
            stride(b.col_stride),
            stride(b.row_stride),
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// The twin of [`product`].
///
/// # Panics
/// Shapes do not fit.
pub fn product_plain<T>(into: Into, out: ViewMut<'_, T>, a: View<'_, T>, b: View<'_, T>)
where
    T: Copy + Default + Add<Output = T> + Mul<Output = T>,
{
    check(&out, &a, &b);
    for row in 0..out.n_rows {
        for col in 0..out.n_cols {
            let mut sum = T::default();
            for k in 0..a.n_cols {
                let left = a.values[row * a.row_stride + k * a.col_stride];
                sum = sum + left * b.values[k * b.row_stride + col * b.col_stride];
            }
            let value = &mut out.values[row * out.stride + col];
            *value = if into == Into::Add { *value + sum } else { sum };
        }
    }
}

fn check<T>(out: &ViewMut<'_, T>, a: &View<'_, T>, b: &View<'_, T>) {
    let fits = out.n_rows == a.n_rows && out.n_cols == b.n_cols && a.n_cols == b.n_rows;
    assert!(
        fits,
        "[{}, {}] is no product of [{}, {}] and [{}, {}]",
        out.n_rows, out.n_cols, a.n_rows, a.n_cols, b.n_rows, b.n_cols
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use lossy_testkit::noise;

    /// Sums of `k` products of numbers near 1, in another order: a few units in the last place of √k.
    fn bound(k: usize) -> f32 {
        4e-6 * (k as f32).sqrt() + 1e-6
    }

    fn view((values, rows, cols): &(Vec<f32>, usize, usize), flip: bool, gap: usize) -> View<'_, f32> {
        let view = View::new(values, *rows, *cols, cols + gap);
        if flip { view.transposed() } else { view }
    }

    #[test]
    fn products_are_those_of_the_twin_whatever_the_shapes_strides_and_transpositions() {
        for (m, n, k) in [
            (0, 3, 2),
            (3, 0, 2),
            (3, 2, 0),
            (1, 1, 1),
            (1, 40, 33),
            (40, 1, 33),
            (7, 9, 5),
            (65, 49, 300),
            (128, 96, 64),
        ] {
            for (left, right) in [(false, false), (false, true), (true, false), (true, true)] {
                for into in [Into::Set, Into::Add] {
                    let gap = 3;
                    let [a, b] = [(1, m, k, left), (2, k, n, right)].map(|(seed, rows, cols, flip)| {
                        let (rows, cols) = if flip { (cols, rows) } else { (rows, cols) };
                        (noise(seed, rows * (cols + gap)), rows, cols)
                    });
                    let (left_view, right_view) = (view(&a, left, gap), view(&b, right, gap));
                    let mut found = noise(3, m * (n + gap));
                    let mut wanted = found.clone();
                    product(into, ViewMut::new(&mut found, m, n, n + gap), left_view, right_view);
                    let out = ViewMut::new(&mut wanted, m, n, n + gap);
                    product_plain(into, out, left_view, right_view);
                    for (found, wanted) in found.iter().zip(&wanted) {
                        assert!((found - wanted).abs() <= bound(k), "{m} {n} {k}: {found} {wanted}");
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "[2, 2] is no product of [2, 3] and [2, 2]")]
    fn shapes_that_do_not_fit_are_refused() {
        product(
            Into::Set,
            ViewMut::rows(&mut [0.0; 4], 2),
            View::rows(&[0.0; 6], 3),
            View::rows(&[0.0; 4], 2),
        );
    }

    #[test]
    #[should_panic(expected = "not within its values")]
    fn a_matrix_beyond_its_slice_is_refused() {
        View::new(&[0.0f32; 9], 4, 2, 3);
    }
}
