//! Which of the pages that could be skipped each query row reads.
//!
//! A row skips the pages with the smallest estimated weights, as many as together weigh at most a share `sparsity` of all:
//! of what it has read already, and of the estimates. Weights are compared by quarters of an octave, so a row may read a
//! few pages more than it had to.
//!
//! What a row reads follows from its own figures alone, summed in the order of pages.

/// Weights that are smaller by more than so many quarters of an octave than what may be skipped are counted together.
const CLASSES: usize = 64;

/// Estimated weights of pages, and what follows from them.
#[derive(Debug, Default)]
pub(super) struct Choice {
    n_rows: usize,
    /// `[n_pages][n_rows]`
    weights: Vec<f32>,
    /// of each row, the least class that is read
    least: Vec<u32>,
    /// rows that read a page
    rows: Vec<u16>,
}

/// The class of a weight, which is positive: quarters of an octave.
fn class(weight: f32) -> u32 {
    weight.to_bits() >> 21
}

impl Choice {
    /// Room for the estimates of `n_pages` pages and `n_rows` rows.
    pub(super) fn set_shape(&mut self, n_pages: usize, n_rows: usize) {
        self.n_rows = n_rows;
        self.weights.resize(n_pages * n_rows, 0.0);
    }

    /// Where the estimates of page `page` go, counted from the first that could be skipped.
    pub(super) fn weights_mut(&mut self, page: usize) -> &mut [f32] {
        &mut self.weights[page * self.n_rows..][..self.n_rows]
    }

    /// Chooses; `read` is what the pages that every row reads weigh for each.
    pub(super) fn choose(&mut self, read: &[f32], sparsity: f32) {
        self.least.clear();
        for (row, read) in read.iter().enumerate() {
            let weights = self.weights.iter().skip(row).step_by(self.n_rows);
            let total: f32 = weights.clone().fold(*read, |sum, weight| sum + weight);
            let budget = sparsity * total;
            let most = class(budget);
            let mut of_class = [0.0; CLASSES];
            for weight in weights.filter(|weight| class(**weight) < most) {
                of_class[((most - class(*weight)) as usize).min(CLASSES) - 1] += weight;
            }
            let mut skipped = 0.0;
            let is_skipped = |weight: &&f32| {
                skipped += **weight;
                skipped <= budget
            };
            let n_skipped = of_class.iter().rev().take_while(is_skipped).count();
            self.least.push(most.saturating_sub((CLASSES - n_skipped) as u32));
        }
    }

    /// The rows that read page `page`.
    pub(super) fn rows(&mut self, page: usize) -> &[u16] {
        let weights = &self.weights[page * self.n_rows..][..self.n_rows];
        self.rows.clear();
        let rows = weights.iter().zip(&self.least).enumerate();
        self.rows.extend(
            rows.filter(|(_, (weight, least))| class(**weight) >= **least).map(|(row, _)| row as u16),
        );
        &self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A choice among pages with `weights`, `[n_pages][n_rows]`: for each page the rows that read it.
    fn chosen(weights: &[&[f32]], read: &[f32], sparsity: f32) -> Vec<Vec<u16>> {
        let mut choice = Choice::default();
        choice.set_shape(weights.len(), read.len());
        for (page, weights) in weights.iter().enumerate() {
            choice.weights_mut(page).copy_from_slice(weights);
        }
        choice.choose(read, sparsity);
        (0..weights.len()).map(|page| choice.rows(page).to_vec()).collect()
    }

    #[test]
    fn the_smallest_pages_are_skipped_as_long_as_the_share_allows() {
        let weights: [&[f32]; 4] = [&[4.0, 1.0], &[1.0, 1.0], &[0.5, 1.0], &[0.1, 1.0]];
        // Row 0 weighs 10 in all, and may skip 1: the last two, not the third. Row 1 weighs 5: nothing.
        assert_eq!(chosen(&weights, &[4.4, 1.0], 0.1), [vec![0, 1], vec![0, 1], vec![1], vec![1]]);
        // What was read counts: 100 in all, so row 1 may skip all of its pages.
        assert_eq!(chosen(&weights, &[4.4, 96.0], 0.1)[0], [0]);
        assert!(chosen(&weights, &[4.4, 0.0], 0.0).iter().all(|rows| rows == &[0, 1]));
    }

    #[test]
    fn what_is_skipped_never_weighs_more_than_its_share_and_little_less_than_it_could() {
        let mut state = 7u64;
        let mut random = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        for spread in [0.0, 1.0, 8.0, 40.0, 100.0] {
            for n_pages in [1, 2, 7, 300] {
                for sparsity in [0.0, 1e-6, 0.01, 0.1, 0.5, 0.99] {
                    let weights: Vec<f32> =
                        (0..n_pages).map(|_| (spread * (random() - 0.5)).exp2()).collect();
                    let read = random();
                    let rows: Vec<&[f32]> = weights.chunks(1).collect();
                    let skips: Vec<bool> =
                        chosen(&rows, &[read], sparsity).iter().map(Vec::is_empty).collect();
                    let total: f64 = weights.iter().map(|w| f64::from(*w)).sum::<f64>() + f64::from(read);
                    let budget = f64::from(sparsity) * total;
                    let of = |skipped: bool| {
                        weights
                            .iter()
                            .zip(&skips)
                            .filter(move |(_, s)| **s == skipped)
                            .map(|(w, _)| f64::from(*w))
                    };
                    let skipped: f64 = of(true).sum();
                    let what = format!("{n_pages} pages, spread {spread}, sparsity {sparsity}");
                    assert!(skipped <= budget * (1.0 + 1e-5), "{what}: {skipped} of {budget}");
                    // All that is a quarter of an octave larger, or as large as the budget, would have been too much.
                    let least = of(false).fold(f64::INFINITY, f64::min);
                    let next: f64 = of(false).filter(|w| class(*w as f32) == class(least as f32)).sum();
                    let is_next = class(least as f32) >= class(budget as f32) || least < budget * 2e-5;
                    assert!(is_next || skipped + next > budget * (1.0 - 1e-5), "{what}");
                }
            }
        }
    }
}
