//! Which type each tensor gets within a budget: a pure function of what every candidate takes and loses.
//!
//! Losses of tensors add up, so this is a knapsack. The candidates of a tensor that pay are those on the lower convex hull of its
//! bytes and losses; a step from one to the next buys nats with bytes:
//!
//! ```text
//! loss │ a                    a → c → d are steps, each cheaper by the byte than the next; b is above the line
//!      │   b
//!      │      c
//!      │           d
//!      └──────────────► bytes
//! ```
//!
//! All tensors begin with their fewest bytes, and the steps of all are taken in the order of nats for a byte. Where a step ends at the
//! budget, nothing within it loses less. Else what is lost beyond the optimum is at most the gain of one step: the one that did
//! not fit. What is left of a budget is then spent on single changes, on the hull or not.

#[cfg(test)]
mod tests;

use lossy_quant::DType;

/// A type that a tensor may get.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// the type
    pub dtype: DType,
    /// what the tensor takes in it
    pub bytes: u64,
    /// what it loses in it, nats a token
    pub loss: f64,
}

/// A tensor whose type is open.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// its name
    pub name: String,
    /// at least one
    pub candidates: Vec<Candidate>,
}

/// What all tensors together may take or lose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// at most these bytes: loses as little as it can
    Bytes(u64),
    /// at most these nats: takes as little as it can
    Loss(f64),
}

/// A choice for every tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// in the order of the items
    pub picks: Vec<Candidate>,
}

/// A limit that nothing keeps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OutOfReach {
    /// the smallest types take more
    Bytes {
        /// what they take
        least: u64,
    },
    /// the largest types lose more
    Loss {
        /// what they lose, nats
        least: f64,
    },
}

impl Assignment {
    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        self.picks.iter().map(|pick| pick.bytes).sum()
    }

    /// Nats of all tensors.
    pub fn loss(&self) -> f64 {
        self.picks.iter().map(|pick| pick.loss).sum()
    }
}

/// Chooses a type for every tensor.
///
/// # Errors
/// The limit is out of reach.
///
/// # Panics
/// An item has no candidates.
pub fn assign(items: &[Item], limit: Limit) -> Result<Assignment, OutOfReach> {
    let mut found = Assignment { picks: items.iter().map(smallest).collect() };
    match limit {
        Limit::Bytes(most) => {
            if found.bytes() > most {
                return Err(OutOfReach::Bytes { least: found.bytes() });
            }
            let mut is_closed = vec![false; items.len()];
            for step in steps(items) {
                let bytes = found.bytes() - found.picks[step.item].bytes + step.to.bytes;
                if bytes > most {
                    is_closed[step.item] = true;
                } else if !is_closed[step.item] {
                    found.picks[step.item] = step.to;
                }
            }
            spend(items, &mut found, most);
        }
        Limit::Loss(most) => {
            let mut steps = steps(items).into_iter();
            while found.loss() > most {
                let Some(step) = steps.next() else { return Err(OutOfReach::Loss { least: found.loss() }) };
                found.picks[step.item] = step.to;
            }
            save(items, &mut found, most);
        }
    }
    Ok(found)
}

/// The whole way from the smallest types to the largest that pay: bytes and nats after every step.
pub fn frontier(items: &[Item]) -> Vec<(u64, f64)> {
    let mut found = Assignment { picks: items.iter().map(smallest).collect() };
    let mut points = vec![(found.bytes(), found.loss())];
    for step in steps(items) {
        found.picks[step.item] = step.to;
        points.push((found.bytes(), found.loss()));
    }
    points
}

/// Of the fewest bytes; of several that of the least loss.
fn smallest(item: &Item) -> Candidate {
    let by = |a: &&Candidate, b: &&Candidate| a.bytes.cmp(&b.bytes).then(a.loss.total_cmp(&b.loss));
    *item.candidates.iter().min_by(by).expect("every item has candidates")
}

/// From one candidate of an item's hull to the next.
struct Step {
    item: usize,
    to: Candidate,
    /// nats that a byte buys
    worth: f64,
}

/// Of all items, by falling worth; those of an item are in order.
fn steps(items: &[Item]) -> Vec<Step> {
    let mut steps = Vec::new();
    for (item, of) in items.iter().enumerate() {
        for pair in paying(&of.candidates).windows(2) {
            steps.push(Step { item, to: pair[1], worth: worth(&pair[0], &pair[1]) });
        }
    }
    // Stable: equal ones stay in the order of items.
    steps.sort_by(|a, b| b.worth.total_cmp(&a.worth));
    steps
}

fn worth(from: &Candidate, to: &Candidate) -> f64 {
    (from.loss - to.loss) / (to.bytes - from.bytes) as f64
}

/// The candidates on the lower convex hull, by rising bytes and falling loss: all others cost more than two of these between which
/// they lie.
pub fn paying(candidates: &[Candidate]) -> Vec<Candidate> {
    let mut sorted = candidates.to_vec();
    sorted.sort_by(|a, b| a.bytes.cmp(&b.bytes).then(a.loss.total_cmp(&b.loss)));
    let mut hull: Vec<Candidate> = Vec::new();
    for next in sorted {
        if hull.last().is_some_and(|last| next.bytes == last.bytes || next.loss >= last.loss) {
            continue;
        }
        while let [.., before, last] = &hull[..]
            && worth(before, last) <= worth(last, &next)
        {
            hull.pop();
        }
        hull.push(next);
    }
    hull
}

/// Spends what is left on single changes, the greatest gain first.
fn spend(items: &[Item], found: &mut Assignment, most: u64) {
    loop {
        let room = most - found.bytes();
        let gains = changes(items, found)
            .filter(|(_, from, to)| to.bytes <= from.bytes + room && to.loss < from.loss);
        let best = gains.max_by(|(_, a, b), (_, c, d)| (a.loss - b.loss).total_cmp(&(c.loss - d.loss)));
        let Some((item, _, to)) = best else { return };
        found.picks[item] = to;
    }
}

/// Gives bytes back that the limit does not need, the most first.
fn save(items: &[Item], found: &mut Assignment, most: f64) {
    loop {
        let total = found.loss();
        let savings = changes(items, found)
            .filter(|(_, from, to)| to.bytes < from.bytes && total - from.loss + to.loss <= most);
        let Some((item, _, to)) = savings.max_by_key(|(_, from, to)| from.bytes - to.bytes) else { return };
        found.picks[item] = to;
    }
}

/// Every other candidate of every item, beside its pick.
fn changes<'a>(
    items: &'a [Item],
    found: &Assignment,
) -> impl Iterator<Item = (usize, Candidate, Candidate)> + use<'a> {
    let picks = found.picks.clone();
    items.iter().enumerate().flat_map(move |(index, item)| {
        let from = picks[index];
        item.candidates.iter().map(move |&to| (index, from, to))
    })
}
