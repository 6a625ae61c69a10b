//! `self-extend[:group=G,window=N]`: far tokens share positions, `g` each.
//!
//! ```text
//! m − n                      if m − n < w
//! ⌊m/g⌋ − ⌊n/g⌋ + w − w/g    otherwise        g = group, w = window
//! ```
//! Self-Extend is arXiv 2401.01325, with `g` a divisor of `w`, so that both of the published formulae agree. Tokens of a
//! group share a position, which no turn of a query can do: decode turns every far key, and is slow. It is the reference
//! that others know.

use std::cmp::Ordering;
use std::sync::Arc;

use lossy_kernels::attention::Meeting;
use lossy_kernels::page::PAGE_TOKENS;

use super::error::PositionError;
use super::family::{
    Choice, Family, OTHER_MAP, Resolved, check_trained, check_whole, least_common_multiple, of_choice,
};
use super::map::{MAX_STRETCH, PositionMap};
use super::rope::Trained;
use crate::parameters::{ParameterError, Spelling};

/// `self-extend`.
pub(super) const FAMILY: Family = Family {
    name: "self-extend",
    parse: |parameters| {
        let choice =
            SelfExtendChoice { group: parameters.number("group")?, window: parameters.number("window")? };
        choice.check()?;
        Ok(Arc::new(choice))
    },
};

/// Far tokens that share positions; see the module.
#[derive(Clone, Copy, Debug)]
pub struct SelfExtend {
    /// tokens that share a position
    pub position_group: usize,
    /// neighbours that keep their distances, tokens: a multiple of 128 and of `position_group`
    pub window: usize,
}

impl SelfExtend {
    fn longest(&self, n_trained: usize) -> usize {
        (n_trained - self.window) * self.position_group + self.window
    }
}

impl PositionMap for SelfExtend {
    fn distance(&self, m: usize, n: usize) -> usize {
        let SelfExtend { position_group, window } = *self;
        if m - n < window {
            m - n
        } else {
            m / position_group - n / position_group + window - window / position_group
        }
    }

    fn windows(&self) -> Vec<usize> {
        vec![self.window]
    }

    fn n_rotations(&self) -> usize {
        2
    }

    fn query_position(&self, rotation: usize, position: usize) -> usize {
        match rotation {
            0 => position,
            _ => position / self.position_group + self.window - self.window / self.position_group,
        }
    }

    fn meeting(&self, page: usize, asking: usize) -> Meeting {
        match (page + self.window / PAGE_TOKENS).cmp(&asking) {
            Ordering::Less => Meeting::Whole(1),
            Ordering::Equal => Meeting::Split { far: 1, near: 0 },
            Ordering::Greater => Meeting::Whole(0),
        }
    }

    fn token_position(&self, position: usize) -> Option<usize> {
        Some(position / self.position_group)
    }
}

/// What is given of a [`SelfExtend`].
#[derive(Clone, Copy, Debug)]
struct SelfExtendChoice {
    group: Option<usize>,
    window: Option<usize>,
}

impl SelfExtendChoice {
    fn check(&self) -> Result<(), ParameterError> {
        if let Some(group) = self.group.filter(|group| !(2..=MAX_STRETCH).contains(group)) {
            let expected = format!("2 to {MAX_STRETCH} tokens that share a position");
            return Err(ParameterError::value("group", group, expected));
        }
        check_whole("window", self.window, self.group.unwrap_or(1))
    }
}

impl Choice for SelfExtendChoice {
    fn spelled(&self) -> String {
        Spelling::new(FAMILY.name).with("group", self.group).with("window", self.window).end()
    }

    fn resolve(&self, trained: Trained<'_>, n_ctx: usize) -> Result<Resolved, PositionError> {
        let (position_group, window) = group_and_window(self.group, self.window, trained.n_ctx, n_ctx);
        check_trained(self, trained, window.saturating_add(PAGE_TOKENS))?;
        let choice = SelfExtendChoice { group: Some(position_group), window: Some(window) };
        choice.check().map_err(of_choice(&choice))?;
        let map = SelfExtend { position_group, window };
        Ok(Resolved {
            choice: Arc::new(choice),
            map: Arc::new(map),
            rope: trained.rope.clone(),
            longest: map.longest(trained.n_ctx),
            fix: OTHER_MAP,
        })
    }
}

/// The smallest group that reaches `n_ctx`, and for it the largest window up to a quarter of the trained context; at least
/// an eighth, since fewer neighbours cost more than a larger group.
fn group_and_window(
    group: Option<usize>,
    window: Option<usize>,
    n_trained: usize,
    n_ctx: usize,
) -> (usize, usize) {
    let reaches =
        |group: usize, window: usize| window < n_trained && (n_trained - window) * group + window >= n_ctx;
    let groups = group.map_or(2..=MAX_STRETCH, |group| group..=group);
    for group in groups {
        let step = least_common_multiple(PAGE_TOKENS, group);
        let windows: Vec<usize> = match window {
            Some(window) if window.is_multiple_of(step) => vec![window],
            Some(_) => Vec::new(),
            None => (1..=n_trained / 4 / step).rev().map(|n| n * step).collect(),
        };
        let fits = |window: &&usize| reaches(group, **window) && 8 * **window >= n_trained;
        if let Some(window) = windows.iter().find(|w| fits(w) || (window.is_some() && reaches(group, **w))) {
            return (group, *window);
        }
    }
    let group = group.unwrap_or(MAX_STRETCH);
    let step = least_common_multiple(PAGE_TOKENS, group);
    (group, window.unwrap_or((n_trained / 8).div_ceil(step).max(1) * step))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A window that is no multiple of a page: the formula only.
    #[test]
    fn self_extend_is_as_published() {
        let map = SelfExtend { position_group: 2, window: 4 };
        let row: Vec<usize> = (0..10).map(|n| map.distance(9, n)).collect();
        assert_eq!(row, [6, 6, 5, 5, 4, 4, 3, 2, 1, 0]);
        assert_eq!(map.longest(7), 10);
    }

    #[test]
    fn the_smallest_group_with_a_generous_window_is_chosen() {
        assert_eq!(group_and_window(None, None, 8192, 16_384), (3, 1920));
        assert_eq!(group_and_window(None, None, 8192, 32_768), (5, 1920));
        assert_eq!(group_and_window(None, None, 8192, 65_536), (10, 1280));
        assert_eq!(group_and_window(Some(8), None, 8192, 32_768), (8, 2048));
        assert_eq!(group_and_window(None, Some(1024), 8192, 16_384), (4, 1024));
        for (n_ctx, most) in [(16_384, 3), (32_768, 5), (65_536, 10)] {
            let (group, window) = group_and_window(None, None, 8192, n_ctx);
            assert!(group <= most && (8192 - window) * group + window >= n_ctx);
        }
    }
}
