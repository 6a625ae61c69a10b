//! What a pass of more rows takes, and how many rows are worth it.
//!
//! Weights are read once for all rows of a pass, so on most machines a few more rows cost less than as many passes. How much less
//! is measured while texts are generated. A pass of `r` rows takes
//!
//! ```text
//! seconds(r) = level · shape(r)          shape(1) = 1
//! ```
//!
//! The level follows quickly what a text's length and the machine's other work make of it; the shape, which is all that a
//! choice depends on, follows slowly. Between rows that were measured it is a straight line.
//!
//! Of `n` texts, each with one certain token and drafts of which token `i` is right with probability `p_i`, so many rows are
//! run that `(n + Σ p_i) / shape(rows)` is largest.

/// Passes of more rows are not measured, and have no drafts.
const MOST_ROWS: usize = 64;
/// The share of the last pass in the level, and in the shape.
const LEVEL_WEIGHT: f64 = 0.3;
const SHAPE_WEIGHT: f64 = 0.1;
/// What a row more is taken to cost as long as only single rows were measured.
const ASSUMED_SLOPE: f64 = 0.1;
/// Where only fewer rows were measured, so many more are tried at most, or twice as many as were: on a machine where each row costs as
/// much as the first, the first try is no great loss.
const FIRST_TRY: usize = 3;
/// Drafts must promise to be so many times as fast as none.
const LEAST_GAIN: f64 = 1.02;
/// A draft whose first token is as probable as this, and which seems not to pay, is tried now and then: the machine may have been
/// busy when its rows were measured.
const WORTH_A_TRIAL: f64 = 0.4;
/// The first trial comes after so many refusals; each further one after twice as many, up to a limit.
const PATIENCE: usize = 64;
const MOST_PATIENCE: usize = 2048;
/// Rows of a trial.
const TRIED: usize = 3;

/// Times of passes by their rows.
#[derive(Debug)]
pub(crate) struct PassCosts {
    level: Option<f64>,
    /// by rows - 1
    shape: [Option<f64>; MOST_ROWS],
    n_refused: usize,
    patience: usize,
}

impl Default for PassCosts {
    fn default() -> PassCosts {
        PassCosts { level: None, shape: [None; MOST_ROWS], n_refused: 0, patience: PATIENCE }
    }
}

impl PassCosts {
    /// Learns from a pass.
    pub(crate) fn observe(&mut self, rows: usize, seconds: f64) {
        if rows == 0 || rows > MOST_ROWS || seconds <= 0.0 {
            return;
        }
        let expected = self.relative(rows);
        let level = *self.level.get_or_insert(seconds / expected);
        let shape = (rows > 1).then(|| &mut self.shape[rows - 1]);
        if let Some(shape @ None) = shape {
            *shape = Some((seconds / level).max(1.0));
            return;
        }
        // What something else held up says little.
        let seconds = seconds.clamp(0.5 * level * expected, 2.0 * level * expected);
        if let Some(Some(shape)) = shape {
            *shape = (*shape + SHAPE_WEIGHT * (seconds / level - *shape)).max(1.0);
        }
        self.level = Some(level + LEVEL_WEIGHT * (seconds / self.relative(rows) - level));
    }

    /// What a pass of so many rows takes, in passes of one.
    fn relative(&self, rows: usize) -> f64 {
        let known = |rows: usize| if rows == 1 { Some(1.0) } else { *self.shape.get(rows - 1)? };
        if let Some(shape) = known(rows) {
            return shape;
        }
        let point = |rows: usize| Some((rows as f64, known(rows)?));
        let below = (1..rows).rev().find_map(point).unwrap_or((1.0, 1.0));
        let slope = match (rows + 1..=MOST_ROWS).find_map(point) {
            Some(above) => (above.1 - below.1) / (above.0 - below.0),
            None if below.0 > 1.0 => (below.1 - 1.0) / (below.0 - 1.0),
            None => ASSUMED_SLOPE,
        };
        below.1 + (rows as f64 - below.0) * slope
    }

    /// How many tokens of each draft to run, in a pass that has `n_rows` certain rows. `chances` are those of each draft's
    /// tokens, and fall.
    pub(crate) fn choose(&mut self, n_rows: usize, chances: &[Vec<f64>]) -> Vec<usize> {
        let mut shares = vec![0; chances.len()];
        // The first pass runs plain, for the others to be compared with.
        if self.level.is_none() {
            return shares;
        }
        let mut tokens: Vec<(f64, usize)> = chances
            .iter()
            .enumerate()
            .flat_map(|(draft, all)| all.iter().map(move |p| (*p, draft)))
            .collect();
        // Stable: of equal ones the earlier first.
        tokens.sort_by(|a, b| b.0.total_cmp(&a.0));
        let n_measured = self.shape.iter().rposition(Option::is_some).map_or(1, |index| index + 1);
        let most = (2 * n_measured).max(n_rows + FIRST_TRY).min(MOST_ROWS);
        tokens.truncate(most.saturating_sub(n_rows));
        let plain = n_rows as f64 / self.relative(n_rows.min(MOST_ROWS));
        let (mut expected, mut best, mut n_best) = (n_rows as f64, LEAST_GAIN * plain, 0);
        for (index, (chance, _)) in tokens.iter().enumerate() {
            expected += chance;
            let rate = expected / self.relative(n_rows + index + 1);
            if rate > best {
                (best, n_best) = (rate, index + 1);
            }
        }
        if n_best > 0 {
            (self.n_refused, self.patience) = (0, PATIENCE);
        } else if tokens.first().is_some_and(|(chance, _)| *chance >= WORTH_A_TRIAL) {
            self.n_refused += 1;
            if self.n_refused >= self.patience {
                (self.n_refused, self.patience) = (0, (2 * self.patience).min(MOST_PATIENCE));
                n_best = TRIED.min(tokens.len());
            }
        }
        tokens[..n_best].iter().for_each(|(_, draft)| shares[*draft] += 1);
        shares
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine whose products take four rows at once.
    fn seconds(rows: usize) -> f64 {
        1e-3 * (14.0 + 6.0 * rows.div_ceil(4) as f64 + 0.5 * rows as f64)
    }

    fn measured(most: usize) -> PassCosts {
        let mut costs = PassCosts::default();
        for round in 0..2000 {
            let rows = if round % 3 == 0 { 1 + round / 3 % most } else { 1 };
            costs.observe(rows, seconds(rows));
        }
        costs
    }

    #[test]
    fn passes_are_known_in_proportion_to_those_of_one_row() {
        let costs = measured(16);
        for rows in 1..=16 {
            let (found, wanted) = (costs.relative(rows), seconds(rows) / seconds(1));
            assert!((found / wanted - 1.0).abs() < 0.02, "{rows} rows: {found}, not {wanted}");
        }
        assert!(costs.relative(40) > costs.relative(16), "what was not measured goes on as before");
    }

    #[test]
    fn a_longer_text_makes_all_passes_slower_and_changes_no_proportion() {
        let mut costs = measured(8);
        let before = costs.relative(4);
        for _ in 0..20 {
            costs.observe(1, 5.0 * seconds(1));
        }
        assert!((costs.level.unwrap() / (5.0 * seconds(1)) - 1.0).abs() < 0.05);
        assert_eq!(costs.relative(4), before);
    }

    #[test]
    fn the_choice_is_the_best_of_all() {
        let mut random = 7u64;
        let mut next = || {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (random >> 33) as f64 / (1u64 << 31) as f64
        };
        let mut n_drafted = 0;
        for _ in 0..500 {
            let mut costs = measured(16);
            let mut chances: Vec<Vec<f64>> = Vec::new();
            for _ in 0..1 + (next() * 3.0) as usize {
                let (n, rate) = ((next() * 5.0) as usize, next());
                chances.push((1..=n).map(|n| rate.powi(n as i32)).collect());
            }
            let n_rows = chances.len();
            let rate = |costs: &PassCosts, shares: &[usize]| {
                let right: f64 =
                    chances.iter().zip(shares).map(|(all, n)| all[..*n].iter().sum::<f64>()).sum();
                (n_rows as f64 + right) / costs.relative(n_rows + shares.iter().sum::<usize>())
            };
            let mut all: Vec<Vec<usize>> = vec![Vec::new()];
            for draft in &chances {
                all = all
                    .into_iter()
                    .flat_map(|shares| (0..=draft.len()).map(move |n| [&shares[..], &[n]].concat()))
                    .collect();
            }
            let best = all.iter().map(|shares| rate(&costs, shares)).fold(0.0, f64::max);
            let none = rate(&costs, &vec![0; n_rows]);
            let found = costs.choose(n_rows, &chances);
            let wanted = if best > LEAST_GAIN * none { best } else { none };
            assert!((rate(&costs, &found) / wanted - 1.0).abs() < 1e-9, "{chances:?}: {found:?}");
            n_drafted += usize::from(found.iter().any(|n| *n > 0));
        }
        assert!((100..450).contains(&n_drafted), "{n_drafted} of 500 times something is drafted");
    }

    #[test]
    fn what_seems_not_to_pay_is_tried_more_and_more_rarely() {
        let mut costs = PassCosts::default();
        costs.observe(1, 0.01);
        (0..100).for_each(|_| costs.observe(4, 1.0));
        let drafted: Vec<usize> =
            (0..5000).filter(|_| costs.choose(1, &[vec![0.5, 0.4, 0.3]])[0] > 0).collect();
        assert_eq!(drafted, [63, 191, 447, 959, 1983, 4031]);
        let hopeless = (0..5000).filter(|_| costs.choose(1, &[vec![0.3, 0.1]])[0] > 0).count();
        assert_eq!(hopeless, 0);
    }

    #[test]
    fn many_texts_at_once_leave_no_room_for_drafts() {
        let mut costs = measured(16);
        let sure = vec![vec![0.9; 15]; MOST_ROWS];
        assert!(costs.choose(MOST_ROWS, &sure).iter().all(|n| *n == 0));
        assert!(costs.choose(70, &vec![vec![0.9; 15]; 70]).iter().all(|n| *n == 0));
        let shares = costs.choose(60, &sure[..60]);
        assert!(shares.iter().sum::<usize>() <= MOST_ROWS - 60);
    }
}
