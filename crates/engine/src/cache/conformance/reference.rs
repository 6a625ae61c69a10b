//! Attention by its formula, in float64.

use super::{KEY, QUERY, Suite, Token, VALUE, numbers};

impl Suite<'_> {
    /// Attention of the token at `position` in f64 over what is stored.
    pub(super) fn exact_attention(
        &self,
        tokens: &[Token],
        position: usize,
        layer: usize,
        stored: fn(f32) -> f64,
    ) -> Vec<f64> {
        let seen: Vec<(Token, usize)> = tokens[..=position].iter().copied().zip(0..).collect();
        self.exact_attention_to(&seen, layer, stored)
    }

    /// The same for the last of some tokens, which are what they are at the given positions.
    pub(super) fn exact_attention_to(
        &self,
        seen: &[(Token, usize)],
        layer: usize,
        stored: fn(f32) -> f64,
    ) -> Vec<f64> {
        let d = self.geometry.head_dim;
        let of = |t: usize, purpose, width| numbers(seen[t].0, seen[t].1, layer, purpose, width);
        let kv = |t: usize, purpose| -> Vec<f64> { of(t, purpose, self.kv_width()).map(stored).collect() };
        let position = seen.len() - 1;
        let queries: Vec<f32> = of(position, QUERY, self.query_width()).collect();
        let mut out = Vec::new();
        for (head, query) in queries.chunks(d).enumerate() {
            let first = head / self.geometry.heads_per_kv * d;
            let scores: Vec<f64> = (0..=position)
                .map(|t| {
                    let key = kv(t, KEY);
                    query.iter().zip(&key[first..]).map(|(q, k)| f64::from(*q) * k).sum::<f64>()
                        / (d as f64).sqrt()
                })
                .collect();
            let max = scores.iter().copied().fold(f64::MIN, f64::max);
            let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
            let mut o = vec![0.0; d];
            for (t, s) in scores.iter().enumerate() {
                let value = kv(t, VALUE);
                o.iter_mut().zip(&value[first..]).for_each(|(o, v)| *o += (s - max).exp() / sum * v);
            }
            out.extend(o);
        }
        out
    }
}
