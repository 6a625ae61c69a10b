//! In which pieces a prompt is read.
//!
//! A token that is computed alone may be rounded in another way than one of several of its page. So that a prompt has the
//! same bits however it is cut, no piece takes one token of a page that has more, and none leaves one.

use crate::cache::PAGE_TOKENS;

/// Cuts inside a page are at multiples of so many tokens where that is possible.
const STEP: usize = 16;

/// Tokens of the next piece of a prompt of `n_prompt` tokens, of which `n_read` have been read: at most `max`, or where
/// that would part a token from its page, one or two more. A piece that reaches the end of a page, but not that of the
/// prompt, ends with a page. `least` tokens of a page at least are together, if it has so many.
pub(super) fn piece(n_read: usize, n_prompt: usize, max: usize, least: usize) -> usize {
    let rest = n_prompt - n_read;
    if max == 0 || rest <= max {
        return rest.min(max);
    }
    let end = n_read + max;
    let last_page = end / PAGE_TOKENS * PAGE_TOKENS;
    if last_page > n_read {
        return last_page - n_read;
    }
    let page_end = (n_read / PAGE_TOKENS * PAGE_TOKENS + PAGE_TOKENS).min(n_prompt);
    let is_right = |cut: &usize| *cut - n_read >= least && page_end - *cut >= least;
    let mut steps = (n_read + 1..=end).rev().filter(|cut| cut.is_multiple_of(STEP));
    let cut = steps.find(is_right).or_else(|| (n_read + 1..=end).rev().find(is_right));
    let cut = cut.or_else(|| (end + 1..page_end).find(is_right)).unwrap_or(page_end);
    cut - n_read
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pieces of a prompt of which `n_read` tokens are there already.
    fn pieces(mut n_read: usize, n_prompt: usize, max: usize, least: usize) -> Vec<(usize, usize)> {
        let mut pieces = Vec::new();
        while n_read < n_prompt {
            let n = piece(n_read, n_prompt, max, least);
            assert!(n > 0, "{n_read} of {n_prompt}, {max} at most");
            pieces.push((n_read, n));
            n_read += n;
        }
        assert_eq!(n_read, n_prompt);
        pieces
    }

    #[test]
    fn no_token_is_alone_unless_its_page_has_no_other() {
        for max in (1..40).chain([100, 127, 128, 129, 130, 255, 256, 512]) {
            for n_prompt in 1..300 {
                // Whoever goes on inside a page leaves two of its tokens at least.
                for from in [0, 5, 100, 126, 128, 130, 254] {
                    let page_end = (from / PAGE_TOKENS * PAGE_TOKENS + PAGE_TOKENS).min(n_prompt);
                    if from >= n_prompt || from % PAGE_TOKENS > 0 && page_end - from < 2 {
                        continue;
                    }
                    for (start, n) in pieces(from, n_prompt, max, 2) {
                        assert!(n <= max.max(1) + 2 && (n <= max + 1 || max == 1), "{n} of at most {max}");
                        for page in start / PAGE_TOKENS..(start + n).div_ceil(PAGE_TOKENS) {
                            let (first, end) = (page * PAGE_TOKENS, (page + 1) * PAGE_TOKENS);
                            let here = (start + n).min(end) - start.max(first);
                            let all = end.min(n_prompt) - first;
                            assert!(here >= 2 || all == 1, "{start}+{n} of {n_prompt}, {max} at most");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn pieces_end_with_pages_or_at_steps() {
        assert_eq!(pieces(0, 300, 128, 2), [(0, 128), (128, 128), (256, 44)]);
        assert_eq!(pieces(0, 300, 300, 2), [(0, 300)]);
        assert_eq!(pieces(0, 300, 299, 2), [(0, 256), (256, 44)]);
        assert_eq!(pieces(0, 140, 50, 2), [(0, 48), (48, 48), (96, 44)]);
        assert_eq!(pieces(0, 17, 16, 2), [(0, 15), (15, 2)], "one token would be left");
        assert_eq!(pieces(0, 33, 32, 2), [(0, 16), (16, 17)]);
        assert_eq!(pieces(0, 3, 2, 2), [(0, 3)], "one more than asked for");
    }

    #[test]
    fn where_all_tokens_are_alike_no_piece_is_larger_than_asked_for() {
        for max in 1..140 {
            for n_prompt in 1..300 {
                assert!(pieces(0, n_prompt, max, 1).iter().all(|(_, n)| *n <= max));
            }
        }
        assert_eq!(pieces(0, 3, 1, 1), [(0, 1), (1, 1), (2, 1)]);
    }
}
