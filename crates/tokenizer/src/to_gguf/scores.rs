//! SentencePiece's scores from the merges of a `tokenizer.json`.
//!
//! With scores, two neighbours are joined if both together are a token, those with the highest score first. With merges, they are joined
//! if the pair is listed, the first of the list first. Both are the same if every pair of tokens that makes a token is listed, and all
//! pairs that make one token stand together: as they do where merges were made of scores.

use std::collections::{HashMap, HashSet};

use super::{NORMAL, not_in_gguf};
use crate::TokenizerError;

/// A score for each token: those that are joined first have the highest.
///
/// # Errors
/// No scores say what the merges do.
pub(super) fn scores(
    tokens: &[&str],
    types: &[i32],
    merges: &[(String, String)],
) -> Result<Vec<f32>, TokenizerError> {
    let mut pairs = HashSet::new();
    let mut order: HashMap<String, usize> = HashMap::new();
    let mut last = String::new();
    for (left, right) in merges {
        let made = format!("{left}{right}");
        if made != last && order.contains_key(&made) {
            return Err(not_in_gguf(format!(
                "tokenizer.json: the merges that make {made:?} do not stand together, so that no score of the token says when it is \
                 made"
            )));
        }
        let next = order.len();
        order.entry(made.clone()).or_insert(next);
        pairs.insert((left.as_str(), right.as_str()));
        last = made;
    }
    let texts = || tokens.iter().zip(types).filter(|(_, kind)| **kind == NORMAL).map(|(text, _)| *text);
    let normal: HashSet<&str> = texts().collect();
    for text in texts() {
        for (at, _) in text.char_indices().skip(1) {
            let (left, right) = text.split_at(at);
            if normal.contains(left) && normal.contains(right) && !pairs.contains(&(left, right)) {
                return Err(not_in_gguf(format!(
                    "tokenizer.json: {left:?} and {right:?} make the token {text:?}, but no merge joins them, which no scores can say"
                )));
            }
        }
    }
    // What no pair makes is never looked for.
    let lowest = -(tokens.len() as f32);
    let of = |text: &&str| order.get(*text).map_or(lowest, |&at| -(at as f32));
    Ok(tokens.iter().map(of).collect())
}
