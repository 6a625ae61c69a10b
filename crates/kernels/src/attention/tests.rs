//! Parity of the kernels with the specification and with each other, bit by bit, and of the specification with
//! attention in f64.

use half::f16;

use super::*;
use crate::kv::{ExactHead, ExactHeadMut, KvType, Part};
use crate::page::*;
use crate::{Compute, Isa};

/// A small generator, so that a test has the same numbers everywhere.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1u64 << 24) as f32
    }
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }
    fn normals(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.normal()).collect()
    }
}

/// One layer's cache of one sequence.
struct Cache {
    kv_type: KvType,
    head_dim: usize,
    /// `[n_kv_heads][n_pages]` pages, as f32 words for their alignment
    heads: Vec<Vec<Vec<f32>>>,
}

impl Cache {
    /// `keys` and `values` are `[n_tokens, n_kv_heads * head_dim]`.
    fn new(kv_type: KvType, shape: &HeadShape, keys: &[f32], values: &[f32]) -> Cache {
        let isa = Isa::best();
        let HeadShape { n_kv_heads, head_dim, .. } = *shape;
        let width = n_kv_heads * head_dim;
        let n_tokens = keys.len() / width;
        let head_words = kv_type.bytes_per_head(head_dim) / 4;
        let heads = (0..n_kv_heads)
            .map(|head| {
                (0..n_tokens.div_ceil(PAGE_TOKENS))
                    .map(|page| {
                        // What was never written may be anything finite.
                        let mut words = vec![f32::from_bits(0x1234_1234); head_words];
                        let rows = page * PAGE_TOKENS..((page + 1) * PAGE_TOKENS).min(n_tokens);
                        let keys = Rows::new(keys, width, head * head_dim).select(rows.clone());
                        let values = Rows::new(values, width, head * head_dim).select(rows);
                        let bytes = bytemuck::cast_slice_mut(&mut words);
                        ExactHeadMut::new(kv_type, head_dim, bytes).append(isa, 0, keys, values).unwrap();
                        words
                    })
                    .collect()
            })
            .collect();
        Cache { kv_type, head_dim, heads }
    }

    fn head(&self, kv_head: usize, page: usize) -> Option<ExactHead<'_>> {
        let words = self.heads[kv_head].get(page)?;
        Some(ExactHead::new(self.kv_type, self.head_dim, bytemuck::cast_slice(words)))
    }
}

impl PageSource for Cache {
    fn attend_token(&self, isa: Isa, asked: Asked, token: &mut TokenQueries, partial: &mut Partial<'_>) {
        let head = self.head(asked.kv_head, asked.page).unwrap();
        let next = self.head(asked.kv_head, asked.page + 1);
        head.attend_token(isa, asked.tokens, token, next, partial);
    }

    fn load_tile(&self, isa: Isa, asked: Asked, tile: &mut Tile) {
        let next = self.head(asked.kv_head, asked.page + 1);
        self.head(asked.kv_head, asked.page).unwrap().load_tile(isa, asked.tokens.end, next, tile);
    }
}

struct Case {
    shape: HeadShape,
    kv_type: KvType,
    n_tokens: usize,
    keys: Vec<f32>,
    values: Vec<f32>,
    queries: Vec<f32>,
    cache: Cache,
}

impl Case {
    fn new(kv_type: KvType, shape: HeadShape, n_tokens: usize, sharpness: f32) -> Case {
        let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ (n_tokens as u64) << 8 ^ shape.head_dim as u64);
        let width = shape.n_kv_heads * shape.head_dim;
        let keys = random.normals(n_tokens * width);
        let values = random.normals(n_tokens * width);
        let mut queries = random.normals(n_tokens * shape.n_heads() * shape.head_dim);
        queries.iter_mut().for_each(|q| *q *= sharpness);
        let cache = Cache::new(kv_type, &shape, &keys, &values);
        Case { shape, kv_type, n_tokens, keys, values, queries, cache }
    }

    fn scale(&self) -> f32 {
        1.0 / (self.shape.head_dim as f32).sqrt()
    }

    fn width(&self) -> usize {
        self.shape.n_heads() * self.shape.head_dim
    }

    /// Output of the tokens from `n_past` on, in calls of at most `chunk` tokens.
    fn run(&self, cx: &Compute, n_past: usize, chunk: usize) -> Vec<f32> {
        let mut out = vec![f32::NAN; (self.n_tokens - n_past) * self.width()];
        for start in (n_past..self.n_tokens).step_by(chunk) {
            let end = (start + chunk).min(self.n_tokens);
            let queries = Rows::new(&self.queries, self.width(), 0).select(start..end);
            let request = Request { source: &self.cache, n_past: start, rows: 0..end - start };
            let out = &mut out[(start - n_past) * self.width()..(end - n_past) * self.width()];
            attend(cx, &self.shape, self.scale(), &[queries], &[request], out);
        }
        out
    }

    /// Attention of token `token` in f64 over the stored values.
    fn reference(&self, token: usize) -> Vec<f64> {
        let HeadShape { n_kv_heads, heads_per_kv, head_dim } = self.shape;
        let stored = |x: f32| match self.kv_type {
            KvType::F16 => f16::from_f32(x).to_f64(),
            KvType::F32 => f64::from(x),
        };
        let row = |data: &'_ [f32], t: usize, head: usize| -> Vec<f64> {
            data[(t * n_kv_heads + head) * head_dim..][..head_dim].iter().map(|x| stored(*x)).collect()
        };
        let mut out = Vec::new();
        for head in 0..self.shape.n_heads() {
            let query = &self.queries[token * self.width() + head * head_dim..][..head_dim];
            let dot = |k: Vec<f64>| query.iter().zip(k).map(|(q, k)| f64::from(*q) * k).sum::<f64>();
            let kv_head = head / heads_per_kv;
            let scores: Vec<f64> =
                (0..=token).map(|t| dot(row(&self.keys, t, kv_head)) * f64::from(self.scale())).collect();
            let max = scores.iter().copied().fold(f64::MIN, f64::max);
            let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
            let mut o = vec![0.0; head_dim];
            for (t, s) in scores.iter().enumerate() {
                let p = (s - max).exp() / sum;
                for (o, v) in o.iter_mut().zip(row(&self.values, t, kv_head)) {
                    *o += p * v;
                }
            }
            out.extend(o);
        }
        out
    }
}

fn shape(n_kv_heads: usize, heads_per_kv: usize, head_dim: usize) -> HeadShape {
    HeadShape { n_kv_heads, heads_per_kv, head_dim }
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

#[track_caller]
fn assert_same(got: &[f32], wanted: &[f32], what: &str) {
    assert!(wanted.iter().all(|x| x.is_finite()), "{what}: not finite");
    let first = bits(got).iter().zip(bits(wanted)).position(|(a, b)| *a != b);
    assert_eq!(got.len(), wanted.len(), "{what}");
    assert_eq!(first, None, "{what}: {:?} instead of {:?}", first.map(|i| got[i]), first.map(|i| wanted[i]));
}

#[test]
fn the_specification_is_attention_in_f64() {
    let cx = Compute::with_isa(1, Isa::Scalar);
    for kv_type in [KvType::F16, KvType::F32] {
        for (n_tokens, sharpness) in [(1, 1.0), (2, 1.0), (127, 3.0), (128, 0.1), (129, 8.0), (300, 1.0)] {
            let case = Case::new(kv_type, shape(2, 3, 16), n_tokens, sharpness);
            let token = n_tokens - 1;
            let out = case.run(&cx, token, 1);
            for (got, wanted) in out.iter().zip(case.reference(token)) {
                let error = (f64::from(*got) - wanted).abs();
                // Scores of size 8·√16·… carry an error of 2^-24 each, which weights turn into a relative one.
                assert!(error < 4e-6 * f64::from(sharpness.max(1.0)), "{n_tokens} tokens: off by {error:e}");
            }
        }
    }
}

#[test]
fn every_isa_has_the_bits_of_the_specification_for_one_token() {
    let heads = [1, 2, 3, 4, 5, 6, 7, 8, 13].map(|heads_per_kv| (heads_per_kv, 64));
    let dims = [8, 24, 80, 96, 128, 256].map(|head_dim| (3, head_dim));
    for (heads_per_kv, head_dim) in heads.into_iter().chain(dims).chain([(7, 80), (1, 24)]) {
        for kv_type in [KvType::F16, KvType::F32] {
            let n_past = 128 + (heads_per_kv * 7 + head_dim) % 128;
            let mut case = Case::new(kv_type, shape(1, heads_per_kv, head_dim), n_past + 1, 1.5);
            for n_past in [n_past, heads_per_kv, 127, 128] {
                case.n_tokens = n_past + 1;
                let wanted = case.run(&Compute::with_isa(1, Isa::Scalar), n_past, 1);
                for isa in Isa::tested() {
                    let got = case.run(&Compute::with_isa(1, isa), n_past, 1);
                    let what = format!("{isa} {kv_type:?} {heads_per_kv} heads of {head_dim}, past {n_past}");
                    assert_same(&got, &wanted, &what);
                }
            }
        }
    }
}

#[test]
fn many_tokens_at_once_have_the_bits_of_one_token_at_a_time() {
    for isa in Isa::tested() {
        let shapes: &[(usize, usize)] = match isa {
            Isa::Scalar => &[(3, 8), (1, 24)],
            _ => &[(1, 64), (3, 64), (7, 64), (4, 80), (2, 24), (8, 128), (1, 256)],
        };
        for &(heads_per_kv, head_dim) in shapes {
            for kv_type in [KvType::F16, KvType::F32] {
                let (n_past, n_tokens) = (101, 150);
                let case = Case::new(kv_type, shape(2, heads_per_kv, head_dim), n_tokens, 2.0);
                let wanted = case.run(&Compute::with_isa(1, isa), n_past, 1);
                for n_threads in [1, 3] {
                    let cx = Compute::with_isa(n_threads, isa);
                    for chunk in [1, 2, 5, 27, 49] {
                        let got = case.run(&cx, n_past, chunk);
                        let what = format!(
                            "{isa} {kv_type:?} {heads_per_kv} heads of {head_dim}, chunks of {chunk}, {n_threads} threads"
                        );
                        assert_same(&got, &wanted, &what);
                    }
                }
            }
        }
    }
}

#[test]
fn a_prompt_from_its_first_token_has_the_same_bits_in_any_chunks() {
    for isa in Isa::tested() {
        let (n_tokens, head_dim) = if cfg!(miri) { (131, 8) } else { (270, 16) };
        let case = Case::new(KvType::F16, shape(1, 3, head_dim), n_tokens, 1.0);
        let wanted = case.run(&Compute::with_isa(1, isa), 0, 1);
        for (n_threads, chunk) in [(1, n_tokens), (2, n_tokens), (4, 130), (2, 7)] {
            let got = case.run(&Compute::with_isa(n_threads, isa), 0, chunk);
            assert_same(&got, &wanted, &format!("{isa}, {n_threads} threads, chunks of {chunk}"));
        }
    }
}

#[test]
fn a_token_has_the_same_bits_in_any_batch() {
    for isa in Isa::tested() {
        let shape = shape(2, 3, 64);
        let cases = [(1, 0), (200, 199), (130, 0), (400, 391)]
            .map(|(n_tokens, n_past)| (Case::new(KvType::F16, shape, n_tokens, 1.0), n_past));
        let width = cases[0].0.width();
        let mut queries = Vec::new();
        let mut wanted = Vec::new();
        let mut requests = Vec::new();
        for (case, n_past) in &cases {
            let start = queries.len() / width;
            queries.extend_from_slice(&case.queries[n_past * width..]);
            wanted.extend(case.run(&Compute::with_isa(1, isa), *n_past, case.n_tokens));
            requests.push(Request {
                source: &case.cache,
                n_past: *n_past,
                rows: start..queries.len() / width,
            });
        }
        requests.reverse();
        for n_threads in [1, 2, 5] {
            let mut out = vec![f32::NAN; queries.len()];
            let cx = Compute::with_isa(n_threads, isa);
            let scale = cases[0].0.scale();
            attend(&cx, &shape, scale, &[Rows::new(&queries, width, 0)], &requests, &mut out);
            assert_same(&out, &wanted, &format!("{isa}, {n_threads} threads"));
        }
    }
}

#[test]
fn a_masked_token_has_no_influence_at_all() {
    for isa in Isa::tested() {
        let cx = Compute::with_isa(1, isa);
        let case = Case::new(KvType::F16, shape(1, 3, 64), 140, 1.0);
        let wanted = case.run(&cx, 0, 140);
        let mut other = Case::new(KvType::F16, shape(1, 3, 64), 140, 1.0);
        for t in 77..140 {
            other.keys[t * 64..][..64].fill(6e4);
            other.values[t * 64..][..64].fill(-6e4);
        }
        other.cache = Cache::new(KvType::F16, &other.shape, &other.keys, &other.values);
        let got = other.run(&cx, 0, 140);
        assert_same(&got[..77 * 192], &wanted[..77 * 192], "tokens before the changed ones");
    }
}

#[test]
fn what_an_element_cannot_hold_is_an_error_that_names_it() {
    for isa in Isa::tested() {
        let good = vec![1.0f32; 3 * 16];
        for (kv_type, value) in [
            (KvType::F16, 65520.0),
            (KvType::F16, f32::NAN),
            (KvType::F16, f32::NEG_INFINITY),
            (KvType::F32, f32::INFINITY),
            (KvType::F32, -f32::NAN),
        ] {
            for part in [Part::Key, Part::Value] {
                let mut bad = good.clone();
                bad[2 * 16 + 11] = value;
                let (keys, values) = if part == Part::Key { (&bad, &good) } else { (&good, &bad) };
                let mut words = vec![0f32; kv_type.bytes_per_head(16) / 4];
                let mut head = ExactHeadMut::new(kv_type, 16, bytemuck::cast_slice_mut(&mut words));
                let error =
                    head.append(isa, 5, Rows::new(keys, 16, 0), Rows::new(values, 16, 0)).unwrap_err();
                assert_eq!((error.row, error.part), (2, part));
                assert!(error.value == value || error.value.is_nan() && value.is_nan());
            }
        }
        let mut words = vec![0f32; KvType::F16.bytes_per_head(16) / 4];
        let mut head = ExactHeadMut::new(KvType::F16, 16, bytemuck::cast_slice_mut(&mut words));
        let large = vec![65519.0f32; 16];
        assert_eq!(head.append(isa, 0, Rows::new(&large, 16, 0), Rows::new(&large, 16, 0)), Ok(()));
    }
}

#[test]
fn every_isa_stores_the_same_elements() {
    let mut random = Random(7);
    let mut rows = random.normals(20 * 24);
    rows[..8].copy_from_slice(&[65519.0, -65519.0, 1e-8, -3e-8, 6.1e-5, -0.0, 2049.0, 2051.0]);
    let rows = Rows::new(&rows, 24, 0);
    let stored = |isa| {
        let mut words = vec![0f32; KvType::F16.bytes_per_head(24) / 4];
        let mut head = ExactHeadMut::new(KvType::F16, 24, bytemuck::cast_slice_mut(&mut words));
        head.append(isa, 3, rows, rows).unwrap();
        bits(&words)
    };
    for isa in Isa::tested() {
        assert!(stored(isa) == stored(Isa::Scalar), "{isa}");
    }
}

/// A cache whose pages, but for the first, are estimated by what they weigh, and read by the definition.
struct Estimated<'a> {
    case: &'a Case,
    sparsity: f32,
}

impl Estimated<'_> {
    /// Scores (log₂) of a row with the tokens of a page.
    fn scores(&self, asked: &Asked, query: &[f32]) -> Vec<f64> {
        let HeadShape { n_kv_heads, head_dim, .. } = self.case.shape;
        let key =
            |token: usize| &self.case.keys[(token * n_kv_heads + asked.kv_head) * head_dim..][..head_dim];
        let dot = |token| key(token).iter().zip(query).map(|(k, q)| f64::from(*k) * f64::from(*q)).sum();
        (asked.page * PAGE_TOKENS..(asked.page + 1) * PAGE_TOKENS).map(dot).collect()
    }
}

impl PageSource for Estimated<'_> {
    fn attend_token(&self, isa: Isa, asked: Asked, token: &mut TokenQueries, partial: &mut Partial<'_>) {
        self.case.cache.attend_token(isa, asked, token, partial);
    }

    fn load_tile(&self, isa: Isa, asked: Asked, tile: &mut Tile) {
        assert!(!self.is_estimated(&asked) || asked.page == asked.asking_page, "page {} is read", asked.page);
        self.case.cache.load_tile(isa, asked, tile);
    }

    fn sparsity(&self) -> Option<f32> {
        Some(self.sparsity)
    }

    fn is_estimated(&self, asked: &Asked) -> bool {
        asked.page > 0
    }

    fn estimate_rows(
        &self,
        _: Isa,
        asked: Asked,
        queries: &mut QueryRows,
        shifts: &[f32],
        weights: &mut [f32],
    ) {
        let rows = queries.scaled().chunks(self.case.shape.head_dim).zip(shifts).zip(weights);
        for ((query, shift), weight) in rows {
            let scores = self.scores(&asked, query);
            *weight = scores.iter().map(|s| (s - f64::from(*shift)).exp2()).sum::<f64>() as f32;
        }
    }

    fn attend_rows(
        &self,
        _: Isa,
        asked: Asked,
        queries: &mut QueryRows,
        rows: &[u16],
        states: RowStates<'_>,
    ) -> usize {
        if !self.is_estimated(&asked) {
            return PAGE_TOKENS;
        }
        let HeadShape { n_kv_heads, head_dim, .. } = self.case.shape;
        for row in rows.iter().map(|row| usize::from(*row)) {
            let scores = self.scores(&asked, &queries.scaled()[row * head_dim..][..head_dim]);
            let (old, page) = (f64::from(states.max[row]), scores.iter().copied().fold(f64::MIN, f64::max));
            let max = old.max(page);
            let out = &mut states.out[row * head_dim..][..head_dim];
            let keep = (old - max).exp2();
            let mut sum = f64::from(states.sum[row]) * keep;
            let mut sums: Vec<f64> = out.iter().map(|o| f64::from(*o) * keep).collect();
            for (at, score) in scores.iter().enumerate() {
                let token = asked.page * PAGE_TOKENS + at;
                let weight = (score - max).exp2();
                sum += weight;
                let value = &self.case.values[(token * n_kv_heads + asked.kv_head) * head_dim..][..head_dim];
                sums.iter_mut().zip(value).for_each(|(sum, v)| *sum += weight * f64::from(*v));
            }
            (states.max[row], states.sum[row]) = (max as f32, sum as f32);
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum as f32);
        }
        0
    }
}

/// One query row in f64.
struct NaiveRow<'a> {
    case: &'a Case,
    kv_head: usize,
    /// of each token that it sees
    weights: Vec<f64>,
}

impl NaiveRow<'_> {
    fn new(case: &Case, token: usize, head: usize) -> NaiveRow<'_> {
        let HeadShape { heads_per_kv, head_dim, .. } = case.shape;
        let mut row = NaiveRow { case, kv_head: head / heads_per_kv, weights: Vec::new() };
        let query = &case.queries[token * case.width() + head * head_dim..][..head_dim];
        let dot =
            |key: &[f32]| -> f64 { key.iter().zip(query).map(|(k, q)| f64::from(*k) * f64::from(*q)).sum() };
        let scores: Vec<f64> =
            (0..=token).map(|at| dot(row.of(&case.keys, at)) * f64::from(case.scale())).collect();
        let max = scores.iter().copied().fold(f64::MIN, f64::max);
        row.weights = scores.iter().map(|score| (score - max).exp()).collect();
        row
    }

    fn of<'a>(&self, data: &'a [f32], token: usize) -> &'a [f32] {
        let HeadShape { n_kv_heads, head_dim, .. } = self.case.shape;
        &data[(token * n_kv_heads + self.kv_head) * head_dim..][..head_dim]
    }

    /// Weights of the pages between the first one and its own, and these pages, the lightest first.
    fn pages(&self) -> Vec<(f64, usize)> {
        let pages = self.weights.chunks(PAGE_TOKENS).map(|of_page| of_page.iter().sum()).enumerate();
        let mut pages: Vec<(f64, usize)> = pages.map(|(page, weight)| (weight, page)).collect();
        pages.pop();
        pages.drain(..1.min(pages.len()));
        pages.sort_by(|a, b| a.0.total_cmp(&b.0));
        pages
    }

    /// The output without some pages.
    fn without(&self, skipped: &[(f64, usize)]) -> Vec<f64> {
        let (mut sum, mut out) = (0.0, vec![0.0; self.case.shape.head_dim]);
        for (at, weight) in self.weights.iter().enumerate() {
            if skipped.iter().all(|(_, page)| *page != at / PAGE_TOKENS) {
                sum += weight;
                out.iter_mut()
                    .zip(self.of(&self.case.values, at))
                    .for_each(|(o, v)| *o += weight * f64::from(*v));
            }
        }
        out.into_iter().map(|out| out / sum).collect()
    }
}

#[test]
fn sparse_attention_skips_the_lightest_pages_and_no_more() {
    let shape = HeadShape { n_kv_heads: 2, heads_per_kv: 3, head_dim: 32 };
    let case = Case::new(KvType::F32, shape, 9 * PAGE_TOKENS + 5, 5.0);
    for (n_threads, chunk) in [(1, 2000), (3, 200), (2, 64)] {
        for sparsity in [1e-6, 0.05, 0.4] {
            let source = Estimated { case: &case, sparsity };
            let cx = Compute::with_isa(n_threads, Isa::best());
            let mut out = vec![0.0; case.n_tokens * case.width()];
            for start in (0..case.n_tokens).step_by(chunk) {
                let rows = start..case.n_tokens.min(start + chunk);
                let queries = Rows::new(&case.queries, case.width(), 0).select(rows.clone());
                let request = Request { source: &source, n_past: start, rows: 0..rows.len() };
                let out = &mut out[start * case.width()..rows.end * case.width()];
                attend(&cx, &shape, case.scale(), &[queries], &[request], out);
            }
            let mut n_skipped = 0;
            for token in (0..case.n_tokens).step_by(37) {
                for head in 0..shape.n_heads() {
                    let got = &out[token * case.width() + head * shape.head_dim..][..shape.head_dim];
                    let what = format!("token {token}, head {head}, sparsity {sparsity}");
                    let row = NaiveRow::new(&case, token, head);
                    let pages = row.pages();
                    let is_output = |skipped: &[(f64, usize)]| {
                        let pairs = got.iter().zip(row.without(skipped));
                        pairs.into_iter().all(|(a, b)| (f64::from(*a) - b).abs() < 1e-5)
                    };
                    // What is skipped are the lightest pages, with the budget.
                    let n = (0..=pages.len()).rev().find(|n| is_output(&pages[..*n]));
                    let n = n.unwrap_or_else(|| panic!("{what}: not an output without the lightest pages"));
                    let weight = |pages: &[(f64, usize)]| pages.iter().map(|(weight, _)| weight).sum::<f64>();
                    let budget = f64::from(sparsity) * row.weights.iter().sum::<f64>();
                    assert!(weight(&pages[..n]) < budget + 1e-5, "{what}: {n} pages are skipped");
                    n_skipped += n;
                    // All that is about as light as the first one that is read would be too much.
                    let Some(first) = pages.get(n) else { continue };
                    let class = pages[n..].iter().take_while(|page| page.0 < 1.19 * first.0).count();
                    assert!(
                        weight(&pages[..n + class]) > 0.84 * budget,
                        "{what}: only {n} pages are skipped"
                    );
                }
            }
            assert!(sparsity < 1e-3 || n_skipped > 100, "{n_skipped} pages are skipped at {sparsity}");
        }
    }
}
