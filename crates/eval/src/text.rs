//! Texts, cut into windows.
//!
//! ```text
//! text     [ window 0: n_ctx tokens ][ window 1 ]...[ rest: not used ]
//! window   [ skip: predictions that do not count ][ predictions that count: each of the token that follows ]
//! ```
//!
//! Every window starts from an empty cache, as llama-perplexity does it; the last token of a window predicts nothing.
//! With `skip = n_ctx / 2` the predictions that count are llama-perplexity's.

use lossy_engine::Hex;
use lossy_tokenizer::{EncodeOptions, Tokenizer};
use sha2::{Digest, Sha256};

use crate::{BUNDLED, EvalError};

/// A text as tokens.
#[derive(Clone, Debug)]
pub struct Text {
    /// where it comes from
    pub name: String,
    /// its tokens, none added
    pub tokens: Vec<u32>,
    /// what the model puts at the beginning of a text: it replaces the first token of each window
    pub bos: Option<u32>,
}

impl Text {
    /// A text, tokenized.
    ///
    /// # Errors
    /// It cannot be tokenized.
    pub fn new(name: &str, text: &str, tokenizer: &Tokenizer) -> Result<Text, EvalError> {
        let tokens = tokenizer.encode(text, EncodeOptions { add_special: false, parse_special: false })?;
        let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
        Ok(Text { name: name.to_string(), tokens, bos })
    }

    /// The bundled prose, code and dialogue.
    ///
    /// # Errors
    /// They cannot be tokenized.
    pub fn bundled(tokenizer: &Tokenizer) -> Result<Vec<Text>, EvalError> {
        BUNDLED
            .iter()
            .map(|part| Text::new(&format!("bundled {}", part.name), part.text, tokenizer))
            .collect()
    }
}

/// The texts that have a window of `n_ctx` tokens; if none has, the longest.
pub fn long_enough(texts: &[Text], n_ctx: usize) -> Vec<Text> {
    let longest = texts.iter().map(|text| text.tokens.len()).max().unwrap_or(0);
    texts.iter().filter(|text| text.tokens.len() >= n_ctx.min(longest)).cloned().collect()
}

/// How texts are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowOptions {
    /// tokens of a window
    pub n_ctx: usize,
    /// predictions at the beginning of a window that do not count
    pub skip: usize,
    /// most predictions that count, in all windows together: the last of each window; `None`: all
    pub max_scored: Option<usize>,
}

impl WindowOptions {
    /// The first 256 predictions of a window do not count, or half of a short window's: the first tokens of every cache
    /// are exact, and would make a setting look better than it is where it is used.
    pub fn new(n_ctx: usize) -> WindowOptions {
        WindowOptions { n_ctx, skip: 256.min(n_ctx / 2), max_scored: None }
    }
}

/// The tokens of one window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// `[n_ctx]`
    pub tokens: Vec<u32>,
    /// the predictions after the tokens `first_scored..n_ctx − 1` count
    pub first_scored: usize,
}

impl Window {
    /// Predictions that count.
    pub fn n_scored(&self) -> usize {
        self.tokens.len() - 1 - self.first_scored
    }

    /// Its first `n_tokens`, if predictions that count are among them.
    pub fn prefix(&self, n_tokens: usize) -> Option<Window> {
        let tokens = self.tokens.get(..n_tokens)?.to_vec();
        (self.first_scored + 1 < n_tokens).then_some(Window { tokens, first_scored: self.first_scored })
    }
}

/// What is read: windows of one length, and the texts that they are of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    /// names of the texts, in the order of their first windows
    pub texts: Vec<String>,
    /// the windows
    pub list: Vec<Window>,
}

impl Windows {
    /// Cuts texts into windows, one of each text in turn. Where `max_scored` wants fewer predictions than the windows have,
    /// each window gives its last ones, so that it is always deep contexts that count.
    ///
    /// # Errors
    /// A text is shorter than a window, or `skip` leaves nothing to predict.
    pub fn cut(texts: &[Text], options: &WindowOptions) -> Result<Windows, EvalError> {
        let list = windows(texts, options)?;
        let texts = texts.iter().take(list.len()).map(|text| text.name.clone()).collect();
        Ok(Windows { texts, list })
    }

    /// Tokens of a window.
    pub fn n_ctx(&self) -> usize {
        self.list.first().map_or(0, |window| window.tokens.len())
    }

    /// Predictions that count, in all of them.
    pub fn n_scored(&self) -> usize {
        self.list.iter().map(Window::n_scored).sum()
    }

    /// SHA-256 of the windows, in hexadecimal digits: of their lengths, of which predictions count, and of their tokens.
    pub fn hash(&self) -> String {
        let mut hash = Sha256::new();
        for window in &self.list {
            hash.update((window.tokens.len() as u64).to_le_bytes());
            hash.update((window.first_scored as u64).to_le_bytes());
            window.tokens.iter().for_each(|token| hash.update(token.to_le_bytes()));
        }
        Hex(&hash.finalize()).to_string()
    }
}

fn windows(texts: &[Text], options: &WindowOptions) -> Result<Vec<Window>, EvalError> {
    let WindowOptions { n_ctx, skip, max_scored } = *options;
    if n_ctx < skip.saturating_add(2) {
        return Err(EvalError::NothingScored { n_ctx, skip });
    }
    for text in texts {
        if text.tokens.len() < n_ctx {
            return Err(EvalError::TextTooShort {
                name: text.name.clone(),
                n_tokens: text.tokens.len(),
                n_ctx,
            });
        }
    }
    let n_in_longest = texts.iter().map(|text| text.tokens.len() / n_ctx).max().unwrap_or(0);
    let cuts = (0..n_in_longest).flat_map(|index| {
        texts.iter().filter_map(move |text| text.tokens.chunks_exact(n_ctx).nth(index).map(|cut| (text, cut)))
    });
    let cuts: Vec<(&Text, &[u32])> = cuts.collect();
    let n_each = n_ctx - 1 - skip;
    let max_scored = max_scored.unwrap_or(usize::MAX).max(1);
    let n_windows = cuts.len().min(max_scored.div_ceil(n_each));
    let n_each = n_each.min(max_scored.div_ceil(n_windows.max(1)));
    let window = |(text, cut): &(&Text, &[u32])| {
        let mut tokens = cut.to_vec();
        if let Some(bos) = text.bos {
            tokens[0] = bos;
        }
        Window { tokens, first_scored: n_ctx - 1 - n_each }
    };
    Ok(cuts[..n_windows].iter().map(window).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(n_tokens: u32) -> Text {
        Text { name: "count".to_string(), tokens: (0..n_tokens).collect(), bos: None }
    }

    fn scored(windows: &[Window]) -> Vec<(u32, usize)> {
        windows.iter().map(|window| (window.tokens[0], window.first_scored)).collect()
    }

    #[test]
    fn windows_follow_one_another_and_the_rest_is_not_used() {
        let options = WindowOptions { n_ctx: 10, skip: 3, max_scored: None };
        let windows = windows(&[text(35)], &options).unwrap();
        assert_eq!(scored(&windows), [(0, 3), (10, 3), (20, 3)]);
        assert_eq!(windows[0].n_scored(), 6);
    }

    #[test]
    fn fewer_predictions_are_the_deepest() {
        let with = |max_scored| {
            let options = WindowOptions { n_ctx: 10, skip: 3, max_scored: Some(max_scored) };
            scored(&windows(&[text(35)], &options).unwrap())
        };
        assert_eq!(with(2), [(0, 7)]);
        assert_eq!(with(6), [(0, 3)]);
        assert_eq!(with(8), [(0, 5), (10, 5)]);
        assert_eq!(with(100), [(0, 3), (10, 3), (20, 3)]);
    }

    #[test]
    fn texts_without_a_whole_window_are_left_out_unless_all_are() {
        let lengths = |n_ctx| {
            long_enough(&[text(9), text(20)], n_ctx).iter().map(|t| t.tokens.len()).collect::<Vec<_>>()
        };
        assert_eq!((lengths(9), lengths(10), lengths(30)), (vec![9, 20], vec![20], vec![20]));
    }

    #[test]
    fn texts_take_turns() {
        let options = WindowOptions { n_ctx: 10, skip: 0, max_scored: None };
        let mut second = text(20);
        second.tokens.iter_mut().for_each(|token| *token += 100);
        let windows = windows(&[text(30), second], &options).unwrap();
        assert_eq!(scored(&windows), [(0, 0), (100, 0), (10, 0), (110, 0), (20, 0)]);
    }

    #[test]
    fn a_prefix_has_the_first_of_the_predictions_that_count() {
        let window = Window { tokens: (0..10).collect(), first_scored: 4 };
        assert_eq!(window.prefix(7).unwrap().n_scored(), 2);
        assert_eq!(window.prefix(10).unwrap(), window);
        assert!(window.prefix(5).is_none() && window.prefix(11).is_none());
    }

    #[test]
    fn a_hash_tells_windows_apart() {
        let window = |first: u32, first_scored| Window { tokens: vec![first, 7, 8], first_scored };
        let hash = |window: Window| Windows { texts: Vec::new(), list: vec![window] }.hash();
        assert_eq!(hash(window(1, 0)), hash(window(1, 0)));
        assert_ne!(hash(window(1, 0)), hash(window(2, 0)));
        assert_ne!(hash(window(1, 0)), hash(window(1, 1)));
        assert_eq!(hash(window(1, 0)).len(), 64);
    }

    #[test]
    fn the_first_token_gives_way_to_the_models() {
        let options = WindowOptions { n_ctx: 4, skip: 0, max_scored: None };
        let windows = windows(&[Text { bos: Some(99), ..text(8) }], &options).unwrap();
        assert_eq!(windows[1].tokens, [99, 5, 6, 7]);
    }

    #[test]
    fn too_little_text_and_too_small_windows_are_errors_with_the_numbers() {
        let error = |n_ctx, skip| {
            windows(&[text(9)], &WindowOptions { n_ctx, skip, max_scored: None }).unwrap_err().to_string()
        };
        assert!(error(10, 0).contains("9 tokens, but a window has 10"), "{}", error(10, 0));
        assert!(error(4, 3).contains("at least 3 + 2"), "{}", error(4, 3));
        assert!(error(4, usize::MAX).contains("predicts nothing"));
    }
}
