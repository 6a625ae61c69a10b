//! Rows in buffers that are used again.

/// Multiplies the first `n` values of each row of `row_len` by the row's scale.
pub(crate) fn scale_rows(rows: &mut [f32], row_len: usize, n: usize, scales: &[f32]) {
    for (row, scale) in rows.chunks_exact_mut(row_len).zip(scales).filter(|(_, scale)| **scale != 1.0) {
        row[..n].iter_mut().for_each(|x| *x *= scale);
    }
}

/// Keeps the given rows, which rise, and drops the others.
pub(crate) fn keep_rows(buffer: &mut Vec<f32>, row_len: usize, rows: &[usize]) {
    for (to, &from) in rows.iter().enumerate() {
        buffer.copy_within(from * row_len..(from + 1) * row_len, to * row_len);
    }
    buffer.truncate(rows.len() * row_len);
}

/// Sets the length; the contents are unspecified.
pub(crate) fn resize(buffer: &mut Vec<f32>, len: usize) {
    buffer.resize(len, 0.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_rows_move_to_the_front() {
        let mut buffer: Vec<f32> = (0..8u8).map(f32::from).collect();
        keep_rows(&mut buffer, 2, &[1, 3]);
        assert_eq!(buffer, [2.0, 3.0, 6.0, 7.0]);
        keep_rows(&mut buffer, 2, &[]);
        assert!(buffer.is_empty());
    }
}
