//! Attention under every map against a naive twin, which knows only the map's formula: for each pair of tokens it rotates
//! the query by their distance, in float64.

use std::sync::Arc;

use lossy_kernels::attention::Meeting;
use lossy_kernels::page::{FRAME_TOKENS, PAGE_TOKENS};
use lossy_kernels::{ActivationKind, Compute, Isa, KvType};
use lossy_testkit::noise;

use super::map::PositionMap;
use super::{PositionScheme, Positions, Rope, RopeConfig, RopeScaling, Trained};
use crate::cache::{
    Budget, CacheLayout, Calibration, Context, HeadStatistics, KvGeometry, KvPool, KvScheme, KvSequence,
    Rows, Span, append_layer, attend_layer,
};

const D: usize = 32;
const N_TRAINED: usize = 512;
const N_CTX: usize = 1536;
const ROPE: RopeConfig = RopeConfig { base: 1000.0, scaling: RopeScaling::None };

/// Every map must see these distances, and attention must see them with it.
const MAPS: [&str; 11] = [
    "linear",
    "adaptive:window=128,reach=512,logn=off",
    "adaptive:window=256,reach=512",
    "adaptive:window=128,reach=384,logn=off",
    "adaptive:window=128,reach=384,growth=64",
    "adaptive:window=128,reach=384,exact=412,logn=off",
    "self-extend:group=2,window=128",
    "self-extend:group=4,window=256",
    "self-extend:group=3,window=384",
    "dca:chunk=384",
    "dca:chunk=128",
];

fn positions(map: &str) -> Arc<Positions> {
    positions_for(map, N_CTX)
}

fn positions_for(map: &str, n_ctx: usize) -> Arc<Positions> {
    let scheme: PositionScheme = map.parse().expect(map);
    Arc::new(scheme.resolve(Trained { rope: &ROPE, head_dim: D, n_ctx: N_TRAINED }, n_ctx, true).expect(map))
}

fn rope() -> Rope {
    Rope::new(&ROPE, D)
}

/// The distance as attention sees it: positions of the rotated query and of the moved key.
fn seen(map: &dyn PositionMap, m: usize, n: usize) -> usize {
    let (page, asking) = (n / PAGE_TOKENS, m / PAGE_TOKENS);
    let rotation = match map.meeting(page, asking) {
        Meeting::Whole(rotation) => rotation,
        Meeting::Split { far, .. } if n % PAGE_TOKENS <= m % PAGE_TOKENS => far,
        Meeting::Split { near, .. } => near,
    };
    let key = match map.token_position(n) {
        Some(position) if rotation > 0 => position,
        _ if page < map.n_moved_pages(asking) => map.frame_start(n / FRAME_TOKENS, asking) + n % FRAME_TOKENS,
        _ => n,
    };
    map.query_position(rotation, m) - key
}

#[test]
fn what_attention_uses_makes_the_distances_of_the_formulae() {
    for name in MAPS {
        let longest = positions(name).longest().min(5 * N_TRAINED);
        let positions = positions_for(name, longest);
        let map = positions.map();
        for m in (0..longest).step_by(7).chain([127, 128, 255, 256, 511]) {
            for n in (0..=m).step_by(3).chain([m]) {
                assert_eq!(seen(map, m, n), map.distance(m, n), "{name}: from {m} to {n}");
            }
        }
    }
}

#[test]
fn no_distance_is_beyond_what_was_trained() {
    for name in MAPS {
        let longest = positions(name).longest().min(70 * N_TRAINED);
        let positions = positions_for(name, longest);
        let map = positions.map();
        for m in [longest - 1, longest - 128, longest / 2, N_TRAINED - 1, N_TRAINED, N_TRAINED + 1] {
            let m = m.min(longest - 1);
            for n in (0..=m).step_by(13) {
                assert!(map.distance(m, n) < N_TRAINED, "{name}: from {m} to {n} is {}", map.distance(m, n));
            }
        }
    }
}

/// A sequence of tokens that are not rotated yet: rows `[n_tokens, heads * D]`.
struct Text {
    geometry: KvGeometry,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Text {
    fn new(geometry: KvGeometry, seed: u64, n_tokens: usize) -> Text {
        let kv_width = geometry.n_kv_heads * D;
        Text {
            geometry,
            queries: noise(seed, n_tokens * kv_width * geometry.heads_per_kv),
            keys: noise(seed + 1000, n_tokens * kv_width),
            values: noise(seed + 2000, n_tokens * kv_width),
        }
    }

    fn kv_width(&self) -> usize {
        self.geometry.n_kv_heads * D
    }

    fn query_width(&self) -> usize {
        self.kv_width() * self.geometry.heads_per_kv
    }

    /// Attention of the token at `position`, `[n_heads * D]`.
    fn naive(&self, map: &str, position: usize) -> Vec<f64> {
        let positions = positions(map);
        let map = positions.map();
        let angle = |pair: usize| ROPE.base.powf(-2.0 * pair as f64 / D as f64);
        let mut out = Vec::new();
        let queries = &self.queries[position * self.query_width()..][..self.query_width()];
        for (head, query) in queries.chunks_exact(D).enumerate() {
            let row = |data: &[f32], n: usize| -> Vec<f64> {
                let at = n * self.kv_width() + head / self.geometry.heads_per_kv * D;
                data[at..][..D].iter().map(|x| f64::from(*x)).collect()
            };
            let score = |n: usize| {
                let (distance, key) = (map.distance(position, n) as f64, row(&self.keys, n));
                let mut sum = 0.0;
                for pair in 0..D / 2 {
                    let (sin, cos) = (distance * angle(pair)).sin_cos();
                    let (a, b) = (f64::from(query[pair]), f64::from(query[pair + D / 2]));
                    sum += (a * cos - b * sin) * key[pair] + (b * cos + a * sin) * key[pair + D / 2];
                }
                sum * f64::from(map.query_scale(position)) / (D as f64).sqrt()
            };
            let scores: Vec<f64> = (0..=position).map(score).collect();
            let max = scores.iter().copied().fold(f64::MIN, f64::max);
            let total: f64 = scores.iter().map(|s| (s - max).exp()).sum();
            let mut o = vec![0.0; D];
            for (n, s) in scores.iter().enumerate() {
                let p = (s - max).exp() / total;
                o.iter_mut().zip(row(&self.values, n)).for_each(|(o, v)| *o += p * v);
            }
            out.extend(o);
        }
        out
    }
}

/// Rows turned for the positions `position(token)`.
pub(crate) fn rotated(
    rope: &Rope,
    rows: &[f32],
    width: usize,
    position: impl Fn(usize) -> usize,
) -> Vec<f32> {
    let n_pairs = rope.n_pairs();
    let mut out = rows.to_vec();
    for (token, row) in out.chunks_exact_mut(width).enumerate() {
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        rope.push(position(token), &mut cos, &mut sin);
        for head in row.chunks_exact_mut(2 * n_pairs) {
            for pair in 0..n_pairs {
                let (a, b) = (head[pair], head[pair + n_pairs]);
                head[pair] = a * cos[pair] - b * sin[pair];
                head[pair + n_pairs] = b * cos[pair] + a * sin[pair];
            }
        }
    }
    out
}

/// Appends tokens `len..len + n[i]` of each text to its sequence in one pass: their outputs.
fn pass(cx: &Compute, texts: &[Text], caches: &mut [KvSequence], n: &[usize]) -> Vec<Vec<f32>> {
    let (kv_width, query_width) = (texts[0].kv_width(), texts[0].query_width());
    let part =
        |rows: &[f32], width: usize, from: usize, n: usize| rows[from * width..(from + n) * width].to_vec();
    let rope = rope();
    let n_rotations = caches.iter().zip(n).map(|(cache, n)| cache.n_rotations(*n)).max().unwrap_or(1);
    let (mut keys, mut values, mut queries) = (Vec::new(), Vec::new(), vec![Vec::new(); n_rotations]);
    for ((text, cache), n) in texts.iter().zip(caches.iter_mut()).zip(n) {
        let len = cache.len();
        cache.reserve(*n).expect("no budget");
        let map = cache.positions().map();
        keys.extend(rotated(&rope, &part(&text.keys, kv_width, len, *n), kv_width, |token| len + token));
        values.extend(part(&text.values, kv_width, len, *n));
        for (index, queries) in queries.iter_mut().enumerate() {
            let rows = part(&text.queries, query_width, len, *n);
            let mut rows = rotated(&rope, &rows, query_width, |token| map.query_position(index, len + token));
            for (token, row) in rows.chunks_exact_mut(query_width).enumerate() {
                row.iter_mut().for_each(|x| *x *= map.query_scale(len + token));
            }
            queries.extend(rows);
        }
    }
    let mut start = 0;
    let mut spans: Vec<Span<'_>> = caches
        .iter_mut()
        .zip(n)
        .map(|(cache, n)| {
            start += n;
            Span { cache, rows: start - n..start, one_by_one: false }
        })
        .collect();
    append_layer(cx, 0, &mut spans, Rows::new(&keys, kv_width, 0), Rows::new(&values, kv_width, 0))
        .expect("finite values");
    let rows: Vec<Rows<'_>> = queries.iter().map(|queries| Rows::new(queries, query_width, 0)).collect();
    let mut out = vec![f32::NAN; start * query_width];
    attend_layer(cx, 0, &spans, ActivationKind::Q8, &rows, &mut out);
    drop(spans);
    let mut parts = Vec::new();
    let mut rest = out.as_slice();
    for (cache, n) in caches.iter_mut().zip(n) {
        cache.advance(*n);
        let (now, later) = rest.split_at(n * query_width);
        parts.push(now.to_vec());
        rest = later;
    }
    parts
}

fn geometry(n_kv_heads: usize, heads_per_kv: usize) -> KvGeometry {
    KvGeometry { n_layers: 1, n_kv_heads, heads_per_kv, head_dim: D }
}

fn exact_pool(geometry: KvGeometry, map: &str) -> Arc<KvPool> {
    KvPool::new(geometry, KvType::F32, positions(map), Budget::new(None))
}

/// Root mean square of the difference to the naive twin, over that of its outputs.
fn error(text: &Text, map: &str, first: usize, outputs: &[f32], positions: &[usize]) -> f64 {
    let wanted: Vec<f64> = positions.iter().flat_map(|position| text.naive(map, *position)).collect();
    error_of(text, first, outputs, positions, &wanted)
}

/// The same for outputs of the naive twin that are known already.
fn error_of(text: &Text, first: usize, outputs: &[f32], positions: &[usize], wanted: &[f64]) -> f64 {
    let (mut difference, mut size) = (0.0, 0.0);
    for (position, wanted) in positions.iter().zip(wanted.chunks_exact(text.query_width())) {
        let got = &outputs[(position - first) * text.query_width()..][..text.query_width()];
        for (got, wanted) in got.iter().zip(wanted) {
            difference += (f64::from(*got) - wanted).powi(2);
            size += wanted * wanted;
        }
    }
    (difference / size).sqrt()
}

/// Where pages, windows, chunks and the trained context end.
const EDGES: [usize; 17] =
    [0, 1, 127, 128, 129, 255, 256, 257, 383, 384, 511, 512, 513, 640, 767, 1100, 1290];

#[test]
fn every_query_sees_the_distances_of_the_map() {
    let n_tokens = 1291;
    for geometry in [geometry(1, 1), geometry(2, 3)] {
        let text = [Text::new(geometry, 1, n_tokens)];
        for map in MAPS {
            let wanted: Vec<f64> = EDGES.iter().flat_map(|position| text[0].naive(map, *position)).collect();
            let runs = [(Isa::best(), 1291), (Isa::best(), 100), (Isa::Scalar, 128)];
            for (isa, chunk) in runs {
                let cx = Compute::with_isa(2, isa);
                let mut cache = [exact_pool(geometry, map).sequence()];
                let mut outputs = Vec::new();
                while cache[0].len() < n_tokens {
                    let n = chunk.min(n_tokens - cache[0].len());
                    outputs.extend(pass(&cx, &text, &mut cache, &[n]).remove(0));
                }
                let error = error_of(&text[0], 0, &outputs, &EDGES, &wanted);
                assert!(error < 2e-6, "{map}, chunks of {chunk}: {error}");
            }
        }
    }
}

#[test]
fn decoding_sees_what_a_prompt_sees() {
    let geometry = geometry(2, 3);
    for map in MAPS {
        for first in [255, 383, 511, 639, 1151] {
            let text = [Text::new(geometry, 2, first + 3)];
            let cx = Compute::with_isa(3, Isa::best());
            let mut cache = [exact_pool(geometry, map).sequence()];
            pass(&cx, &text, &mut cache, &[first]);
            for position in first..first + 3 {
                let output = pass(&cx, &text, &mut cache, &[1]).remove(0);
                let error = error(&text[0], map, position, &output, &[position]);
                assert!(error < 2e-6, "{map}, position {position}: {error}");
            }
        }
    }
}

#[test]
fn sequences_of_a_batch_may_have_different_maps() {
    let geometry = geometry(1, 2);
    let lengths = [700, 1, 130, 0, 600, 513];
    let texts: Vec<Text> =
        (0..lengths.len()).map(|i| Text::new(geometry, 10 + i as u64, lengths[i] + 70)).collect();
    let pool = exact_pool(geometry, "linear");
    let cx = Compute::with_isa(2, Isa::best());
    let maps: Vec<&str> = (0..lengths.len()).map(|i| MAPS[(i * 3 + 1) % MAPS.len()]).collect();
    let mut caches: Vec<KvSequence> = maps.iter().map(|map| pool.sequence_at(positions(map))).collect();
    pass(&cx, &texts, &mut caches, &lengths);
    let outputs = pass(&cx, &texts, &mut caches, &[1, 70, 1, 0, 33, 2]);
    for (index, output) in outputs.iter().enumerate().filter(|(_, output)| !output.is_empty()) {
        let error = error(&texts[index], maps[index], lengths[index], output, &[lengths[index]]);
        assert!(error < 2e-6, "{} after {}: {error}", maps[index], lengths[index]);
    }
}

/// Up to the trained context a map that adapts changes no bit.
#[test]
fn what_fits_is_computed_as_without_a_map() {
    let geometry = geometry(2, 2);
    let text = [Text::new(geometry, 3, N_TRAINED)];
    let cx = Compute::with_isa(2, Isa::best());
    let adaptive = "adaptive:window=128,reach=384,growth=64";
    let mut outputs = ["linear", adaptive]
        .map(|map| pass(&cx, &text, &mut [exact_pool(geometry, map).sequence()], &[N_TRAINED]).remove(0));
    let [linear, adaptive] = &mut outputs;
    assert!(linear.iter().zip(adaptive).all(|(a, b)| a.to_bits() == b.to_bits()));
}

/// Codes lose what they lose without a map, in a prompt as in an answer, on every path that reads them.
#[test]
fn codes_lose_no_more_than_without_a_map() {
    let geometry = geometry(2, 3);
    let statistics = HeadStatistics {
        key_mean: vec![0.0; D],
        key_variance: vec![1.0; D],
        query_square: vec![1.0; D],
        value_mean: vec![0.0; D],
        value_size: 1.0,
    };
    let calibration = Calibration::new(vec![vec![statistics; 2]], 1);
    let layout = |scheme: &str| -> CacheLayout {
        let scheme: KvScheme = scheme.parse().expect("a scheme that exists");
        let context = Context { geometry: &geometry, calibration: Some(&calibration) };
        scheme.layout(&context).expect("a scheme that fits")
    };
    let n_tokens = 1200;
    let text = [Text::new(geometry, 4, n_tokens + 1)];
    let cx = Compute::with_isa(2, Isa::best());
    for scheme in ["q8", "kivi4", "k4v4", "k4v4:sinks=0,residual=512", "k2v2", "k2v2:first=1:f16"] {
        let losses = MAPS.map(|map| {
            let pool = KvPool::with_layout(geometry, layout(scheme), positions(map), Budget::new(None));
            let mut cache = [pool.sequence()];
            let prompt = pass(&cx, &text, &mut cache, &[n_tokens]).remove(0);
            let answer = pass(&cx, &text, &mut cache, &[1]).remove(0);
            let at_ends = [300, 520, 700, 1199];
            [error(&text[0], map, 0, &prompt, &at_ends), error(&text[0], map, n_tokens, &answer, &[n_tokens])]
        });
        for (map, [prompt, answer]) in MAPS.iter().zip(losses) {
            // A longer query makes longer errors of scores, and attention that is sharper averages over fewer of them.
            let longer = f64::from(positions(map).map().query_scale(n_tokens)).powi(2);
            let [plain_prompt, plain_answer] = losses[0].map(|loss| loss * longer);
            assert!(prompt < 1.3 * plain_prompt + 1e-4, "{scheme}, {map}: {prompt}, not {plain_prompt}");
            assert!(answer < 1.5 * plain_answer + 1e-4, "{scheme}, {map}: {answer}, not {plain_answer}");
        }
    }
}
