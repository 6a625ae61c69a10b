//! What every scheme must do, whatever its bytes mean. A new scheme's tests call [`check`] once.

use std::sync::Arc;

use lossy_kernels::kv::Part;
use lossy_kernels::{ActivationKind, Compute, Isa};

use crate::positions::{Positions, Rope, RopeConfig, RopeScaling};

use super::{
    Budget, CacheError, CacheLayout, KvGeometry, KvPool, KvSequence, PAGE_TOKENS, Rows, Span, append_layer,
    attend_layer,
};

mod copies;
mod packed;
mod reference;
mod saved;

/// How far a layer's attention may be from exact attention.
#[derive(Clone, Copy)]
pub(super) enum Loss {
    /// That of f32 arithmetic; `stored` is what the scheme keeps of a value.
    Exact { stored: fn(f32) -> f64 },
    /// Codes. Errors are root mean squares over those of exact outputs.
    Packed {
        /// of attention over codes to exact attention
        loss: f64,
        /// of the kernel that reads codes to the one that reads what they stand for
        rounding: f64,
    },
}

const N_LAYERS: usize = 2;

pub(super) const GEOMETRY: KvGeometry =
    KvGeometry { n_layers: N_LAYERS, n_kv_heads: 2, heads_per_kv: 2, head_dim: 32 };

/// Runs the whole suite over `scheme`.
pub(super) fn check(scheme: impl Fn(&KvGeometry) -> CacheLayout, loss: Loss) {
    check_layers(scheme, [loss; N_LAYERS]);
}

/// Runs what depends on a head's channels, for heads of `head_dim` of them, on the best instruction set, and on the simplest
/// for one size: other tests hold both to each other.
pub(super) fn check_heads(head_dim: usize, scheme: impl Fn(&KvGeometry) -> CacheLayout, loss: Loss) {
    let geometry = KvGeometry { head_dim, ..GEOMETRY };
    let all = [Isa::best(), Isa::Scalar];
    for &isa in if head_dim == 80 { &all[..] } else { &all[..1] } {
        let suite = Suite::new(geometry, &scheme, [loss; N_LAYERS], isa);
        suite.attention_is_that_of_the_stored_values();
        suite.any_split_has_the_same_bits();
        suite.a_value_that_cannot_be_stored_is_named();
        suite.a_cut_inside_a_packed_page_leaves_what_its_codes_stand_for();
        suite.a_saved_sequence_is_the_same_when_it_is_restored();
    }
}

/// The same for a scheme whose layers differ: all are exact, or all are packed.
pub(super) fn check_layers(scheme: impl Fn(&KvGeometry) -> CacheLayout, loss: [Loss; N_LAYERS]) {
    for isa in lossy_testkit::instruction_sets(Isa::available(), Isa::name) {
        let suite = Suite::new(GEOMETRY, &scheme, loss, isa);
        suite.attention_is_that_of_the_stored_values();
        suite.a_batch_of_unequal_lengths_has_the_same_bits();
        suite.a_cut_inside_a_packed_page_leaves_what_its_codes_stand_for();
    }
    // No instruction set has a part in which pages there are, and the kernels' tests hold them to each other.
    let suite = Suite::new(GEOMETRY, &scheme, loss, Isa::best());
    suite.any_split_has_the_same_bits();
    suite.what_follows_a_truncation_is_as_if_the_rest_had_never_been();
    suite.forks_share_pages_and_do_not_disturb_each_other();
    suite.a_truncated_fork_leaves_the_shared_page_alone();
    suite.a_pass_that_stops_halfway_leaves_no_trace();
    suite.a_value_that_cannot_be_stored_is_named();
    suite.the_budget_holds_and_pages_come_back();
    suite.old_pages_are_given_back();
    suite.a_saved_sequence_is_the_same_when_it_is_restored();
    suite.a_prompt_that_is_kept_exact_is_seen_so_until_it_is_packed();
    suite.copies_take_what_a_text_of_their_length_takes();
    suite.attention_to_copies_is_that_to_what_they_are_copies_of();
    suite.copies_that_do_not_fit_change_nothing();
}

/// A token: everything about it follows from this number and its position.
type Token = u64;

/// A sequence with the tokens that it should hold.
struct Held {
    cache: KvSequence,
    tokens: Vec<Token>,
}

impl Held {
    fn new(pool: &Arc<KvPool>) -> Held {
        Held { cache: pool.sequence(), tokens: Vec::new() }
    }

    fn fork(&self) -> Held {
        Held { cache: self.cache.fork(), tokens: self.tokens.clone() }
    }

    fn truncate(&mut self, len: usize) {
        self.cache.truncate(len);
        self.tokens.truncate(len);
    }
}

/// Normally distributed numbers from a token, its position, a layer and a purpose.
fn numbers(token: Token, position: usize, layer: usize, purpose: u64, n: usize) -> impl Iterator<Item = f32> {
    let mut state = token.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ (position as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9)
        ^ (layer as u64 + 1).wrapping_mul(0x94d0_49bb_1331_11eb)
        ^ purpose.wrapping_mul(0xd6e8_feb8_6659_fd93);
    let mut uniform = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..n).map(move |_| (0..6).map(|_| uniform()).sum::<f32>() * 1.4 - 4.2)
}

const QUERY: u64 = 1;
const KEY: u64 = 2;
const VALUE: u64 = 3;

struct Suite<'a> {
    scheme: &'a dyn Fn(&KvGeometry) -> CacheLayout,
    geometry: KvGeometry,
    loss: [Loss; N_LAYERS],
    one: Compute,
    three: Compute,
}

impl<'a> Suite<'a> {
    fn new(
        geometry: KvGeometry,
        scheme: &'a dyn Fn(&KvGeometry) -> CacheLayout,
        loss: [Loss; N_LAYERS],
        isa: Isa,
    ) -> Suite<'a> {
        let (one, three) = (Compute::with_isa(1, isa), Compute::with_isa(3, isa));
        Suite { scheme, geometry, loss, one, three }
    }
}

impl Suite<'_> {
    fn query_width(&self) -> usize {
        self.geometry.heads().n_heads() * self.geometry.head_dim
    }

    fn kv_width(&self) -> usize {
        self.geometry.n_kv_heads * self.geometry.head_dim
    }

    /// `[q | k | v]` of the batch's new tokens in one layer.
    fn fused(&self, held: &[&mut Held], new: &[&[Token]], layer: usize) -> Vec<f32> {
        let mut rows = Vec::new();
        for (held, new) in held.iter().zip(new) {
            for (position, token) in (held.tokens.len()..).zip(*new) {
                rows.extend(numbers(*token, position, layer, QUERY, self.query_width()));
                rows.extend(numbers(*token, position, layer, KEY, self.kv_width()));
                rows.extend(numbers(*token, position, layer, VALUE, self.kv_width()));
            }
        }
        rows
    }

    fn is_packed(&self) -> bool {
        matches!(self.loss[0], Loss::Packed { .. })
    }

    /// How far each layer may be from exact attention, if they are packed.
    fn packed_losses(&self) -> Option<[f64; N_LAYERS]> {
        let mut losses = [0.0; N_LAYERS];
        for (to, of_layer) in losses.iter_mut().zip(self.loss) {
            let Loss::Packed { loss, .. } = of_layer else { return None };
            *to = loss;
        }
        Some(losses)
    }

    /// The same bits; or, where codes may be read by two kernels, the same but for rounding.
    #[track_caller]
    fn assert_same(&self, got: &[Vec<f32>], wanted: &[Vec<f32>], what: &str) {
        if !self.is_packed() {
            return assert_same(got, wanted, what);
        }
        for (layer, ((got, wanted), loss)) in got.iter().zip(wanted).zip(self.loss).enumerate() {
            assert_eq!(got.len(), wanted.len(), "{what}, layer {layer}");
            let Loss::Packed { rounding, .. } = loss else { panic!("layer {layer} is packed") };
            let error = relative_error(got, wanted);
            assert!(error <= rounding, "{what}, layer {layer}: {error}");
        }
    }

    fn pool(&self, budget: Option<usize>) -> Arc<KvPool> {
        let rope =
            Rope::new(&RopeConfig { base: 10_000.0, scaling: RopeScaling::None }, self.geometry.head_dim);
        let positions = Arc::new(Positions::linear(rope, 110 * PAGE_TOKENS));
        KvPool::with_layout(self.geometry, (self.scheme)(&self.geometry), positions, Budget::new(budget))
    }

    /// One forward pass: appends `new[i]` to `held[i]`; returns attention's output `[n_layers][n_rows][query_width]`.
    fn pass(
        &self,
        cx: &Compute,
        held: &mut [&mut Held],
        new: &[&[Token]],
    ) -> Result<Vec<Vec<f32>>, CacheError> {
        for (held, new) in held.iter_mut().zip(new) {
            held.cache.reserve(new.len())?;
        }
        let stride = self.query_width() + 2 * self.kv_width();
        let mut outputs = Vec::new();
        for layer in 0..self.geometry.n_layers {
            let fused = self.fused(held, new, layer);
            let rows = |offset| Rows::new(&fused, stride, offset);
            let mut n_rows = 0;
            let mut spans: Vec<Span<'_>> = held
                .iter_mut()
                .zip(new)
                .map(|(held, new)| {
                    n_rows += new.len();
                    Span { cache: &mut held.cache, rows: n_rows - new.len()..n_rows, one_by_one: false }
                })
                .collect();
            append_layer(
                cx,
                layer,
                &mut spans,
                rows(self.query_width()),
                rows(self.query_width() + self.kv_width()),
            )?;
            let mut out = vec![f32::NAN; n_rows * self.query_width()];
            attend_layer(cx, layer, &spans, ActivationKind::Q8, &[rows(0)], &mut out);
            outputs.push(out);
        }
        for (held, new) in held.iter_mut().zip(new) {
            held.cache.advance(new.len());
            held.tokens.extend_from_slice(new);
        }
        Ok(outputs)
    }

    /// Appends in passes of the given lengths; returns the output of all passes, layer by layer.
    fn extend(&self, cx: &Compute, held: &mut Held, new: &[Token], splits: &[usize]) -> Vec<Vec<f32>> {
        let mut outputs = vec![Vec::new(); self.geometry.n_layers];
        let mut left = new;
        for n in splits.iter().copied().chain([usize::MAX]) {
            let (now, later) = left.split_at(n.min(left.len()));
            left = later;
            let pass = self.pass(cx, &mut [held], &[now]).unwrap();
            outputs.iter_mut().zip(pass).for_each(|(all, pass)| all.extend(pass));
        }
        outputs
    }

    fn attention_is_that_of_the_stored_values(&self) {
        let p = PAGE_TOKENS;
        let tokens: Vec<Token> = (0..4 * p as u64 + 9).collect();
        let outputs = self.extend(&self.one, &mut Held::new(&self.pool(None)), &tokens, &[]);
        for (layer, output) in outputs.iter().enumerate() {
            let (mut error, mut size) = (0.0, 0.0);
            for position in [0, 1, 7, 8, p - 1, p, p + 8, 2 * p, 3 * p + 5, 4 * p, 4 * p + 8] {
                let got = &output[position * self.query_width()..][..self.query_width()];
                let stored = match self.loss[layer] {
                    Loss::Exact { stored } => stored,
                    Loss::Packed { .. } => f64::from,
                };
                for (got, wanted) in got.iter().zip(self.exact_attention(&tokens, position, layer, stored)) {
                    error += (f64::from(*got) - wanted).powi(2);
                    size += wanted.powi(2);
                }
            }
            let error = (error / size).sqrt();
            match self.loss[layer] {
                Loss::Exact { .. } => assert!(error < 1e-5, "layer {layer}: {error}"),
                // A scheme that loses nothing is not the scheme.
                Loss::Packed { loss, .. } => {
                    assert!(error < loss && error > loss / 30.0, "layer {layer}: {error} of {loss}")
                }
            }
        }
    }

    fn any_split_has_the_same_bits(&self) {
        let p = PAGE_TOKENS;
        let tokens: Vec<Token> = (100..100 + 2 * p as u64 + 3).collect();
        let one_by_one = vec![1; tokens.len()];
        let wanted = self.extend(&self.one, &mut Held::new(&self.pool(None)), &tokens, &one_by_one);
        let splits: &[&[usize]] = &[&[], &[1], &[p - 1], &[p], &[p + 1], &[0, 5, 3, p, 1, 1], &[2 * p, 1, 1]];
        for cx in [&self.one, &self.three] {
            for split in splits {
                let got = self.extend(cx, &mut Held::new(&self.pool(None)), &tokens, split);
                self.assert_same(&got, &wanted, &format!("passes of {split:?}"));
            }
        }
    }

    fn a_batch_of_unequal_lengths_has_the_same_bits(&self) {
        let pool = self.pool(None);
        let p = PAGE_TOKENS as u64;
        // past and new tokens: empty, one, page edges
        let lengths = [
            (0, 1),
            (p - 1, 1),
            (p, 1),
            (0, p + 1),
            (3, 0),
            (p + 1, 20),
            (0, 0),
            (2 * p - 1, 2),
            (3 * p - 1, 1),
            (3 * p, 1),
            (3 * p + 1, 3),
        ];
        let mut held = Vec::new();
        let mut new = Vec::new();
        let mut wanted = vec![Vec::new(); self.geometry.n_layers];
        for (index, (n_past, n_new)) in lengths.into_iter().enumerate() {
            let first = 1000 * index as u64;
            let past: Vec<Token> = (first..first + n_past).collect();
            let now: Vec<Token> = (first + n_past..first + n_past + n_new).collect();
            let mut alone = Held::new(&pool);
            self.extend(&self.one, &mut alone, &past, &[]);
            held.push(alone.fork());
            let outputs = self.extend(&self.one, &mut alone, &now, &[]);
            wanted.iter_mut().zip(outputs).for_each(|(all, outputs)| all.extend(outputs));
            new.push(now);
        }
        for cx in [&self.one, &self.three] {
            let mut held: Vec<Held> = held.iter().map(Held::fork).collect();
            let mut held: Vec<&mut Held> = held.iter_mut().collect();
            let new: Vec<&[Token]> = new.iter().map(Vec::as_slice).collect();
            let got = self.pass(cx, &mut held, &new).unwrap();
            self.assert_same(&got, &wanted, "a batch");
        }
    }

    fn what_follows_a_truncation_is_as_if_the_rest_had_never_been(&self) {
        let p = PAGE_TOKENS;
        for len in [0, 1, 7, p - 1, p, p + 1] {
            let pool = self.pool(None);
            let mut held = Held::new(&pool);
            let tokens: Vec<Token> = (0..p as u64 + 40).collect();
            self.extend(&self.one, &mut held, &tokens, &[]);
            let recent = pool.packed().map_or(usize::MAX, |packed| packed.window.recent_pages());
            if len / p < (tokens.len() / p).saturating_sub(recent) {
                // Not exact any more: see the test of cuts inside packed pages.
                continue;
            }
            held.truncate(len);
            assert_eq!(held.cache.len(), len);
            if !self.is_packed() {
                assert_eq!(held.cache.bytes(), len.div_ceil(p) * pool.bytes_per_page());
            }
            let after: Vec<Token> = (5000..5000 + p as u64).collect();
            let got = self.extend(&self.one, &mut held, &after, &[3]);

            let mut fresh = Held::new(&pool);
            self.extend(&self.one, &mut fresh, &tokens[..len], &[]);
            let wanted = self.extend(&self.one, &mut fresh, &after, &[3]);
            self.assert_same(&got, &wanted, &format!("after truncation to {len}"));
        }
    }

    fn forks_share_pages_and_do_not_disturb_each_other(&self) {
        let p = PAGE_TOKENS;
        for len in [0, 1, p - 1, p, p + 1] {
            let pool = self.pool(None);
            let page = pool.bytes_per_page();
            let tokens: Vec<Token> = (0..len as u64).collect();
            let mut first = Held::new(&pool);
            self.extend(&self.one, &mut first, &tokens, &[]);
            let mut second = first.fork();
            assert_eq!(pool.bytes_in_use(), first.cache.bytes(), "a fork costs nothing");
            let mut got = [Vec::new(), Vec::new()];
            for step in 0..12u64 {
                for (fork, got) in [&mut first, &mut second].into_iter().zip(&mut got) {
                    let token = 100 * (step + 1) + got.len() as u64;
                    got.push((token, self.extend(&self.one, fork, &[token], &[])));
                }
            }
            // Only what differs is there twice.
            let n_pages = (len + 12).div_ceil(p);
            if !self.is_packed() {
                assert_eq!(pool.bytes_in_use(), (2 * n_pages - len / p) * page);
            }
            for got in got {
                let mut alone = Held::new(&pool);
                self.extend(&self.one, &mut alone, &tokens, &[]);
                for (token, got) in got {
                    let wanted = self.extend(&self.one, &mut alone, &[token], &[]);
                    self.assert_same(&got, &wanted, &format!("a fork of {len} tokens"));
                }
            }
            drop((first, second));
            assert_eq!(pool.bytes_in_use(), 0);
        }
    }

    fn a_truncated_fork_leaves_the_shared_page_alone(&self) {
        let pool = self.pool(None);
        let tokens: Vec<Token> = (0..50).collect();
        let mut first = Held::new(&pool);
        self.extend(&self.one, &mut first, &tokens, &[]);
        let mut second = first.fork();
        second.truncate(21);
        let got_second = self.extend(&self.one, &mut second, &[900, 901, 902], &[1]);
        let got_first = self.extend(&self.one, &mut first, &[700], &[]);

        let mut alone = Held::new(&pool);
        self.extend(&self.one, &mut alone, &tokens, &[]);
        self.assert_same(
            &got_first,
            &self.extend(&self.one, &mut alone, &[700], &[]),
            "the fork that went on",
        );
        let mut alone = Held::new(&pool);
        self.extend(&self.one, &mut alone, &tokens[..21], &[]);
        let wanted = self.extend(&self.one, &mut alone, &[900, 901, 902], &[1]);
        self.assert_same(&got_second, &wanted, "the fork that went back");
    }

    fn a_pass_that_stops_halfway_leaves_no_trace(&self) {
        let pool = self.pool(None);
        let tokens: Vec<Token> = (0..PAGE_TOKENS as u64 - 2).collect();
        let mut held = Held::new(&pool);
        self.extend(&self.one, &mut held, &tokens, &[]);
        let stopped: Vec<Token> = (300..310).collect();
        held.cache.reserve(stopped.len()).unwrap();
        let fused = self.fused(&[&mut held], &[&stopped], 0);
        let rows = |offset| Rows::new(&fused, self.query_width() + 2 * self.kv_width(), offset);
        let mut spans = [Span { cache: &mut held.cache, rows: 0..stopped.len(), one_by_one: false }];
        append_layer(
            &self.one,
            0,
            &mut spans,
            rows(self.query_width()),
            rows(self.query_width() + self.kv_width()),
        )
        .unwrap();
        assert_eq!(held.cache.len(), tokens.len());
        let got = self.extend(&self.one, &mut held, &[400, 401, 402, 403], &[1]);

        let mut fresh = Held::new(&pool);
        self.extend(&self.one, &mut fresh, &tokens, &[]);
        self.assert_same(
            &got,
            &self.extend(&self.one, &mut fresh, &[400, 401, 402, 403], &[1]),
            "after a stop",
        );
        held.truncate(usize::MAX);
        assert_eq!(held.cache.len(), tokens.len() + 4);
    }

    fn a_value_that_cannot_be_stored_is_named(&self) {
        for (cx, n_new) in [(&self.one, 3), (&self.three, 40)] {
            for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for (wanted_part, offset) in
                    [(Part::Key, self.query_width()), (Part::Value, self.query_width() + self.kv_width())]
                {
                    let pool = self.pool(None);
                    let mut held = Held::new(&pool);
                    let tokens: Vec<Token> = (0..PAGE_TOKENS as u64 - 1).collect();
                    self.extend(&self.one, &mut held, &tokens, &[]);
                    let new: Vec<Token> = (0..n_new).collect();
                    held.cache.reserve(new.len()).unwrap();
                    let mut fused = self.fused(&[&mut held], &[&new], 1);
                    let stride = self.query_width() + 2 * self.kv_width();
                    // the third new token, KV head 1
                    fused[2 * stride + offset + self.geometry.head_dim + 5] = wrong;
                    let rows = |offset| Rows::new(&fused, stride, offset);
                    let mut spans = [Span { cache: &mut held.cache, rows: 0..new.len(), one_by_one: false }];
                    let (keys, values) =
                        (rows(self.query_width()), rows(self.query_width() + self.kv_width()));
                    let error = append_layer(cx, 1, &mut spans, keys, values).unwrap_err();
                    let CacheError::Unstorable { layer, kv_head, position, part, value, .. } = error else {
                        panic!("{error}");
                    };
                    assert_eq!((layer, kv_head, position), (1, 1, PAGE_TOKENS + 1));
                    assert_eq!(part, wanted_part);
                    assert!(value == wrong || value.is_nan() && wrong.is_nan());

                    let got = self.extend(&self.one, &mut held, &[1, 2], &[]);
                    let mut fresh = Held::new(&pool);
                    self.extend(&self.one, &mut fresh, &tokens, &[]);
                    self.assert_same(
                        &got,
                        &self.extend(&self.one, &mut fresh, &[1, 2], &[]),
                        "after a refusal",
                    );
                }
            }
        }
    }

    fn the_budget_holds_and_pages_come_back(&self) {
        if self.is_packed() {
            return self.the_budget_of_packed_pages_holds();
        }
        let page = self.pool(None).bytes_per_page();
        let pool = self.pool(Some(3 * page + page / 2));
        let mut first = Held::new(&pool);
        let tokens: Vec<Token> = (0..PAGE_TOKENS as u64 + 1).collect();
        self.extend(&self.one, &mut first, &tokens, &[]);
        let mut second = first.fork();
        self.extend(&self.one, &mut second, &[5], &[]);
        assert_eq!(pool.bytes_in_use(), 3 * page);
        let error = second.cache.reserve(2 * PAGE_TOKENS).unwrap_err();
        let CacheError::Budget { needed, used, budget } = error else { panic!("{error}") };
        assert_eq!((needed, used, budget), (2 * page, 3 * page, 3 * page + page / 2));
        assert_eq!(pool.bytes_in_use(), 3 * page, "a refused reservation keeps nothing");
        self.extend(&self.one, &mut second, &[6], &[]);
        drop(first);
        assert_eq!(pool.bytes_in_use(), 2 * page);
        second.cache.reserve(PAGE_TOKENS).unwrap();
        second.truncate(PAGE_TOKENS);
        assert_eq!(pool.bytes_in_use(), page);
        pool.trim();
        drop(second);
        assert_eq!(pool.bytes_in_use(), 0);
    }
}

/// Numbers of one layer: root mean square of the difference over that of the second.
fn relative_error(got: &[f32], wanted: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let error: f64 = got.iter().zip(wanted).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    let size: f64 = wanted.iter().map(|b| square(f64::from(*b))).sum();
    if wanted.is_empty() { 0.0 } else { (error / size).sqrt() }
}

#[track_caller]
fn assert_same(got: &[Vec<f32>], wanted: &[Vec<f32>], what: &str) {
    for (layer, (got, wanted)) in got.iter().zip(wanted).enumerate() {
        assert_eq!(got.len(), wanted.len(), "{what}, layer {layer}");
        let differs = got.iter().zip(wanted).position(|(a, b)| a.to_bits() != b.to_bits());
        let differs = differs.map(|i| (i, got[i], wanted[i]));
        assert_eq!(differs, None, "{what}, layer {layer}: (index, got, wanted)");
    }
}
