//! KIVI against the paper: a naive twin of its attention, and a test for each of five mistakes of public projects.
//!
//! | mistake | test |
//! | --- | --- |
//! | a group of keys is one token, exact and billed as 2 bits | `no_group_has_one_token_that_is_exact_and_billed_as_two_bits` |
//! | a prompt is quantized whole and leaves no exact recent tokens | `a_prompt_leaves_its_recent_tokens_exact` |
//! | "2 bits" are kept dequantized, and memory does not fall | `codes_are_kept_as_codes_and_memory_falls`; `tests/kv_memory.rs` |
//! | a group spans two sequences | `no_group_spans_two_sequences` |
//! | keys are quantized per token | `keys_are_quantized_by_channel_so_an_outlier_channel_disturbs_no_other` |

use half::f16;
use lossy_kernels::kv::{ExactHead, HeadF32, RotatedCode, key_index};
use lossy_kernels::{ActivationKind, Compute, Isa, KvType};
use lossy_testkit::noise;

use super::*;
use crate::cache::code::Place;
use crate::cache::code::RotatedPage;
use crate::cache::{
    Budget, CacheLayout, KvGeometry, KvPool, KvScheme, KvSequence, Rows, Span, append_layer, attend_layer,
};
use crate::positions::{Positions, Rope, RopeConfig, RopeScaling};

/// Positions as they are: codes are of keys as they come.
fn positions(n_ctx: usize) -> Positions {
    let config = RopeConfig { base: 10_000.0, scaling: RopeScaling::None };
    Positions::linear(Rope::new(&config, D), n_ctx)
}

const D: usize = 64;
const GEOMETRY: KvGeometry = KvGeometry { n_layers: 1, n_kv_heads: 1, heads_per_kv: 2, head_dim: D };
const N_QUERY: usize = 2 * D;

fn layout(scheme: &str) -> CacheLayout {
    let scheme: KvScheme = scheme.parse().unwrap_or_else(|error| panic!("{scheme}: {error}"));
    let context = Context { geometry: &GEOMETRY, calibration: None };
    scheme.layout(&context).unwrap_or_else(|error| panic!("{scheme}: {error}"))
}

fn pool(scheme: &str) -> Arc<KvPool> {
    KvPool::with_layout(GEOMETRY, layout(scheme), Arc::new(positions(1 << 14)), Budget::new(None))
}

/// A sequence: rows of queries, keys and values, as f16 holds them.
struct Text {
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Text {
    /// Values have the given size; keys have channels of several sizes, and one that is far from 0.
    fn new(seed: u64, n_tokens: usize, size: f32) -> Text {
        let mut numbers = noise(seed, n_tokens * (2 * D + N_QUERY)).into_iter();
        let mut normal = |size: f32| f16::from_f32(numbers.next().unwrap() * size).to_f32();
        let mut key = |i: usize| match i % D {
            9 => f16::from_f32(8.0 + normal(1.0)).to_f32(),
            channel => normal(0.5 + (channel % 4) as f32),
        };
        let keys = (0..n_tokens * D).map(&mut key).collect();
        Text {
            queries: (0..n_tokens * N_QUERY).map(|_| normal(0.4)).collect(),
            values: (0..n_tokens * D).map(|_| normal(size)).collect(),
            keys,
        }
    }

    fn n_tokens(&self) -> usize {
        self.keys.len() / D
    }
}

/// Appends the next `n[i]` tokens of each text to its sequence in one pass; the output of all of them.
fn pass(cx: &Compute, texts: &[&Text], caches: &mut [KvSequence], n: &[usize]) -> Vec<f32> {
    let (mut queries, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for ((text, cache), n) in texts.iter().zip(caches.iter_mut()).zip(n) {
        let tokens = cache.len()..cache.len() + n;
        cache.reserve(*n).expect("no budget");
        queries.extend_from_slice(&text.queries[tokens.start * N_QUERY..tokens.end * N_QUERY]);
        keys.extend_from_slice(&text.keys[tokens.start * D..tokens.end * D]);
        values.extend_from_slice(&text.values[tokens.start * D..tokens.end * D]);
    }
    let mut end = 0;
    let mut spans: Vec<Span<'_>> = caches
        .iter_mut()
        .zip(n)
        .map(|(cache, n)| {
            end += n;
            Span { cache, rows: end - n..end, one_by_one: false }
        })
        .collect();
    append_layer(cx, 0, &mut spans, Rows::new(&keys, D, 0), Rows::new(&values, D, 0)).expect("finite values");
    let mut out = vec![f32::NAN; end * N_QUERY];
    attend_layer(cx, 0, &spans, ActivationKind::Q8, &[Rows::new(&queries, N_QUERY, 0)], &mut out);
    drop(spans);
    caches.iter_mut().zip(n).for_each(|(cache, n)| cache.advance(*n));
    out
}

/// All tokens of a text in passes of the given lengths.
fn run(scheme: &str, text: &Text, splits: &[usize]) -> Vec<f32> {
    let mut caches = [pool(scheme).sequence()];
    let cx = Compute::with_isa(1, Isa::best());
    let mut out = Vec::new();
    for n in splits.iter().copied().chain([usize::MAX]) {
        let n = n.min(text.n_tokens() - caches[0].len());
        out.extend(pass(&cx, &[text], &mut caches, &[n]));
    }
    out
}

/// What the paper makes of the text: bits, group size, and what stays exact of it.
#[derive(Clone, Copy)]
struct Paper {
    bits: u32,
    group_size: usize,
    residual_length: usize,
}

impl Paper {
    /// Quantizes values in groups that `index(group, member)` names, and turns them back.
    fn quantized(&self, x: &[f32], index: impl Fn(usize, usize) -> usize) -> Vec<f32> {
        let mut out = x.to_vec();
        for group in 0..x.len() / self.group_size {
            let members: Vec<usize> = (0..self.group_size).map(|member| index(group, member)).collect();
            let (min, max) =
                members.iter().fold((f32::MAX, f32::MIN), |(a, b), i| (a.min(x[*i]), b.max(x[*i])));
            let top = (2u32.pow(self.bits) - 1) as f32;
            let (min, scale) = (f16::from_f32(min).to_f32(), f16::from_f32((max - min) / top).to_f32());
            // In the same float32 operations: f16 values often lie in the middle between two codes.
            for i in members {
                out[i] = min + scale * ((x[i] - min) * (1.0 / scale) + 0.5).clamp(0.0, top).floor();
            }
        }
        out
    }

    /// Attention of every token, `[n_tokens, N_QUERY]`, in float64, one token and one pair at a time.
    fn attention(&self, text: &Text) -> Vec<f64> {
        let size = self.group_size;
        // Whole groups of tokens: the last ones that are not whole stay exact anyway.
        let n_whole = text.n_tokens() / size * size;
        let mut keys = self.quantized(&text.keys[..n_whole * D], |group, member| {
            (group / D * size + member) * D + group % D
        });
        keys.extend_from_slice(&text.keys[n_whole * D..]);
        let values = self.quantized(&text.values, |group, member| group * size + member);
        let mut out = Vec::new();
        for token in 0..text.n_tokens() {
            // Keys that were quantized when the residual was full, and values that have left it.
            let (n_keys, n_values) = match self.residual_length {
                0 => (token / PAGE_TOKENS * PAGE_TOKENS, token / PAGE_TOKENS * PAGE_TOKENS),
                r => (token / r * r, (token + 1).saturating_sub(r)),
            };
            for query in text.queries[token * N_QUERY..][..N_QUERY].chunks_exact(D) {
                let score = |n: usize| -> f64 {
                    let keys = if n < n_keys { &keys } else { &text.keys };
                    let pairs = query.iter().zip(&keys[n * D..][..D]);
                    pairs.map(|(q, k)| f64::from(*q) * f64::from(*k)).sum::<f64>() / (D as f64).sqrt()
                };
                let scores: Vec<f64> = (0..=token).map(score).collect();
                let max = scores.iter().copied().fold(f64::MIN, f64::max);
                let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
                let mut o = vec![0.0; D];
                for (n, s) in scores.iter().enumerate() {
                    let values = if n < n_values { &values } else { &text.values };
                    let p = (s - max).exp() / sum;
                    o.iter_mut().zip(&values[n * D..][..D]).for_each(|(o, v)| *o += p * f64::from(*v));
                }
                out.extend(o);
            }
        }
        out
    }
}

/// Root mean square of the difference over that of what is wanted, from token `first` on.
fn error(got: &[f32], wanted: &[f64], first: usize) -> f64 {
    assert_eq!(got.len(), wanted.len());
    let pairs = got.iter().zip(wanted).skip(first * N_QUERY);
    let (error, size) = pairs.fold((0.0, 0.0), |(error, size), (got, wanted)| {
        (error + (f64::from(*got) - wanted).powi(2), size + wanted * wanted)
    });
    (error / size).sqrt()
}

/// Schemes with what they are in the paper's words.
const PUBLISHED: [(&str, Paper); 4] = [
    ("kivi2", Paper { bits: 2, group_size: 32, residual_length: 128 }),
    ("kivi4:group_size=64", Paper { bits: 4, group_size: 64, residual_length: 128 }),
    ("kivi2:residual_length=256", Paper { bits: 2, group_size: 32, residual_length: 256 }),
    ("kivi2:residual_length=0", Paper { bits: 2, group_size: 32, residual_length: 0 }),
];

#[test]
fn attention_is_that_of_the_paper_whatever_the_passes() {
    let text = Text::new(1, 5 * PAGE_TOKENS + 37, 1.0);
    for (scheme, paper) in PUBLISHED {
        let wanted = paper.attention(&text);
        // Passes read pages as float32: what is left is float32's rounding.
        for splits in [&[][..], &[300, 41, 130]] {
            let error = error(&run(scheme, &text, splits), &wanted, 0);
            assert!(error < 1e-5, "{scheme} in passes of {splits:?}: {error}");
        }
        // One token at a time reads codes with integers: the bound of `tests.rs` beside.
        let one_by_one = vec![1; text.n_tokens()];
        let error = error(&run(scheme, &text, &one_by_one), &wanted, 0);
        assert!(error < 0.05, "{scheme}, one by one: {error}");
    }
}

#[test]
fn what_stays_exact_can_be_told_apart() {
    let text = Text::new(2, 4 * PAGE_TOKENS, 1.0);
    let got = run("kivi2", &text, &[]);
    let (_, kivi2) = PUBLISHED[0];
    for residual_length in [0, 256] {
        let error = error(&got, &Paper { residual_length, ..kivi2 }.attention(&text), 0);
        assert!(error > 0.03, "as with a residual of {residual_length}: {error}");
    }
    let by_pages = run("kivi2:residual=128", &text, &[]);
    let error = error(&by_pages, &kivi2.attention(&text), 0);
    assert!(error > 0.03, "by pages: {error}");
}

#[test]
fn a_prompt_leaves_its_recent_tokens_exact() {
    for (scheme, paper) in PUBLISHED.into_iter().filter(|(_, paper)| paper.residual_length > 0) {
        for n_prompt in [1, 127, 128, 129, 300, 450] {
            let text = Text::new(3, n_prompt + 1, 1.0);
            let mut caches = [pool(scheme).sequence()];
            let cx = Compute::with_isa(1, Isa::best());
            pass(&cx, &[&text], &mut caches, &[n_prompt]);
            assert!(caches[0].n_exact_tokens() >= n_prompt.min(paper.residual_length), "{scheme}");
            let got = pass(&cx, &[&text], &mut caches, &[1]);
            let wanted = paper.attention(&text).split_off(n_prompt * N_QUERY);
            let quantized =
                Paper { residual_length: 0, ..paper }.attention(&text).split_off(n_prompt * N_QUERY);
            let (error, other) = (error(&got, &wanted, 0), error(&got, &quantized, 0));
            assert!(error < 0.05, "{scheme} after {n_prompt} tokens: {error}");
            assert!(n_prompt <= 128 || other > 2.0 * error, "{scheme} after {n_prompt} tokens: {other}");
        }
    }
}

#[test]
fn codes_are_kept_as_codes_and_memory_falls() {
    let text = Text::new(4, 64 * PAGE_TOKENS, 1.0);
    for (scheme, bits) in [("kivi2", 3.0), ("kivi4", 5.0), ("kivi2:group_size=64", 2.5)] {
        let pool = pool(scheme);
        let mut caches = [pool.sequence()];
        let cx = Compute::with_isa(1, Isa::best());
        for _ in 0..16 {
            pass(&cx, &[&text], &mut caches, &[4 * PAGE_TOKENS]);
        }
        let codes = 64 * PAGE_TOKENS * GEOMETRY.values_per_token() * (bits * 2.0) as usize / 16;
        let most = codes + 2 * pool.exact_bytes_per_page();
        assert!((codes..=most).contains(&caches[0].bytes()), "{scheme}: {} of {most}", caches[0].bytes());
        assert_eq!(pool.bytes_in_use(), caches[0].bytes(), "{scheme}");
    }
}

#[test]
fn no_group_spans_two_sequences() {
    // Neighbours in one pass, one of them a thousand times as large: a group with both would lose the small one.
    let (small, large) = (Text::new(5, 400, 1.0), Text::new(6, 400, 1000.0));
    let cx = Compute::with_isa(1, Isa::best());
    let pool = pool("kivi2");
    let mut together = [pool.sequence(), pool.sequence()];
    let mut alone = [pool.sequence()];
    for (n_small, n_large) in [(90, 17), (100, 250), (1, 1), (200, 100)] {
        let got = pass(&cx, &[&small, &large], &mut together, &[n_small, n_large]);
        let wanted = pass(&cx, &[&small], &mut alone, &[n_small]);
        assert!(got[..n_small * N_QUERY] == wanted, "after {} tokens", alone[0].len());
    }
}

fn page(bits: u8, group_size: usize) -> RotatedPage<GroupedCode> {
    RotatedPage(GroupedCode::new(64, bits, group_size))
}

/// Keys with an outlier channel, values with an outlier token.
fn round_trip(page: &RotatedPage<GroupedCode>) -> (Vec<f32>, Vec<f32>) {
    let n = PAGE_TOKENS * page.0.head_dim();
    let mut exact: Vec<f32> = (0..2 * n).map(|i| ((i * 37 % 101) as f32 / 50.0 - 1.0).sin()).collect();
    for token in 0..PAGE_TOKENS {
        exact[key_index(page.0.head_dim(), token, 7)] *= 100.0;
    }
    exact[n + 5 * page.0.head_dim()..n + 6 * page.0.head_dim()].iter_mut().for_each(|v| *v *= 100.0);
    let head = ExactHead::new(KvType::F32, page.0.head_dim(), bytemuck::cast_slice(&exact));
    let mut packed = vec![0xFF; page.bytes_per_head()];
    let positions = positions(PAGE_TOKENS);
    let place = Place::itself(&positions, 0, 0);
    page.pack(Isa::best(), place, head, &mut packed);
    let mut out = HeadF32::default();
    page.unpack(Isa::best(), place, &packed, &mut out);
    let (keys, values) = out.keys_and_values();
    (exact, [keys, values].concat())
}

#[test]
fn every_value_is_within_half_a_step_of_its_group() {
    for (bits, group_size) in [(2, 32), (2, 64), (4, 32), (4, 64)] {
        let page = page(bits, group_size);
        let (exact, got) = round_trip(&page);
        let n = PAGE_TOKENS * page.0.head_dim();
        let check = |indices: Vec<usize>| {
            let group = indices.iter().map(|i| exact[*i]);
            let (min, max) = group.fold((f32::MAX, f32::MIN), |(a, b), x| (a.min(x), b.max(x)));
            let step = (max - min) / ((1 << bits) - 1) as f32;
            for i in indices {
                let error = (exact[i] - got[i]).abs();
                // Scale and minimum are rounded to f16: 2^-11 of what they reach.
                assert!(error <= step / 2.0 + 2e-3 * max.abs().max(min.abs()), "{error} of {step}");
            }
        };
        for channel in 0..page.0.head_dim() {
            for first in (0..PAGE_TOKENS).step_by(group_size) {
                check(
                    (first..first + group_size).map(|t| key_index(page.0.head_dim(), t, channel)).collect(),
                );
            }
        }
        for first in (n..2 * n).step_by(group_size) {
            check((first..first + group_size).collect());
        }
    }
}

#[test]
fn no_group_has_one_token_that_is_exact_and_billed_as_two_bits() {
    for (bits, group_size, billed) in [(2, 32, 3.0), (2, 64, 2.5), (4, 32, 5.0)] {
        let page = page(bits, group_size);
        assert_eq!(page.bits_per_value(64), billed);
        let (exact, got) = round_trip(&page);
        // No group of one token, which would be exact.
        let n_equal = exact.iter().zip(&got).filter(|(a, b)| a == b).count();
        assert!(n_equal < exact.len() / 8, "{n_equal} values of {} are exact", exact.len());
    }
}

#[test]
fn keys_are_quantized_by_channel_so_an_outlier_channel_disturbs_no_other() {
    let page = page(2, 32);
    let (exact, got) = round_trip(&page);
    for token in 0..PAGE_TOKENS {
        for channel in (0..page.0.head_dim()).filter(|channel| *channel != 7) {
            let i = key_index(page.0.head_dim(), token, channel);
            assert!((exact[i] - got[i]).abs() < 0.4, "token {token}, channel {channel}");
        }
    }
}

#[test]
fn values_are_quantized_by_token_so_an_outlier_token_disturbs_no_other() {
    let page = page(2, 32);
    let (exact, got) = round_trip(&page);
    let n = PAGE_TOKENS * page.0.head_dim();
    for i in (n..2 * n).filter(|i| (i - n) / page.0.head_dim() != 5) {
        assert!((exact[i] - got[i]).abs() < 0.4);
    }
}
