//! Several measurements of one thing.

/// Mean, spread and middle of some numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Statistics {
    pub mean: f64,
    /// of the sample (divided by n - 1); 0 for a single number
    pub stddev: f64,
    pub median: f64,
}

impl Statistics {
    /// Of at least one number.
    ///
    /// # Panics
    /// Without numbers.
    pub fn of(values: &[f64]) -> Statistics {
        assert!(!values.is_empty(), "nothing was measured");
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let stddev = if values.len() > 1 { (squares / (n - 1.0)).sqrt() } else { 0.0 };
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        Statistics { mean, stddev, median }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_spread_and_middle() {
        let statistics = Statistics::of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
        assert_eq!((statistics.mean, statistics.median), (5.0, 4.5));
        assert!((statistics.stddev - 2.138).abs() < 1e-3, "{}", statistics.stddev);
        assert_eq!(Statistics::of(&[3.0]), Statistics { mean: 3.0, stddev: 0.0, median: 3.0 });
    }
}
