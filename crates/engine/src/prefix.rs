//! What a prompt finds in the cache.

/// How many tokens of `cached` a `prompt` can go on from: those that both begin with, but for the prompt's last one, which
/// is always read, since the logits after it are wanted.
pub fn reusable(cached: &[u32], prompt: &[u32]) -> usize {
    common(cached, prompt).min(prompt.len().saturating_sub(1))
}

/// How many tokens both begin with.
pub fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_token_of_a_prompt_is_read_anew() {
        assert_eq!(reusable(&[1, 2, 3], &[1, 2, 3]), 2);
        assert_eq!(reusable(&[1, 2, 3], &[1, 2, 3, 4]), 3);
        assert_eq!(reusable(&[1, 2, 3], &[1, 9, 3]), 1);
        assert_eq!(reusable(&[], &[1]), 0);
        assert_eq!(reusable(&[1], &[]), 0);
        assert_eq!(common(&[1, 2], &[1, 2, 3]), 2);
    }
}
