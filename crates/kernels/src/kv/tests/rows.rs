//! Rows of a block against the heads of a token, one row at a time, in the scalar form: bit by bit.

use super::*;
use crate::page::{QueryRows, RowStates, clear, merge, record_len};

/// Softmax states of rows.
#[derive(Clone, Debug, PartialEq)]
struct States {
    max: Vec<f32>,
    sum: Vec<f32>,
    out: Vec<f32>,
}

impl States {
    fn new(n_rows: usize, head_dim: usize) -> States {
        States {
            max: vec![f32::NEG_INFINITY; n_rows],
            sum: vec![0.0; n_rows],
            out: vec![0.0; n_rows * head_dim],
        }
    }

    fn of(&mut self) -> RowStates<'_> {
        RowStates { max: &mut self.max, sum: &mut self.sum, out: &mut self.out }
    }

    fn bits(&self) -> Vec<u32> {
        self.max.iter().chain(&self.sum).chain(&self.out).map(|x| x.to_bits()).collect()
    }
}

/// A page, by its bytes, where it is seen, and how many of its tokens are left out.
#[derive(Clone, Copy)]
struct Page<'a> {
    bytes: &'a [u8],
    index: usize,
    n_sinks: usize,
}

/// What `with` does with a page as it is stored.
fn with_stored(head_dim: usize, page: Page<'_>, with: impl FnOnce(Stored<'_>)) {
    let exact = vec![0u8; 2 * 32 * head_dim * 4];
    let head = ExactHead::with_capacity(KvType::F32, head_dim, 32, &exact);
    let sinks = (page.n_sinks > 0).then_some(Sinks { head, n_tokens: page.n_sinks });
    with(Stored { bytes: page.bytes, sinks, next: Some(page.bytes) });
}

/// The states of rows after some pages, which the kernel for rows reads.
fn together(case: &Case, isa: Isa, pages: &[Page<'_>], queries: &[f32]) -> States {
    let head_dim = case.code.head_dim();
    let n_rows = queries.len() / head_dim;
    let mut rows = QueryRows::default();
    rows.set(Rows::new(queries, head_dim, 0), 1, head_dim, 1.0);
    let mut states = States::new(n_rows, head_dim);
    for page in pages {
        with_stored(head_dim, *page, |stored| {
            let all: Vec<u16> = (0..n_rows as u16).collect();
            case.code.attend_rows(isa, case.frames.page(page.index), stored, &mut rows, &all, states.of());
        });
    }
    states
}

/// The same, one row at a time by the specification of a token's heads.
fn one_by_one(case: &Case, pages: &[Page<'_>], queries: &[f32]) -> States {
    let head_dim = case.code.head_dim();
    let mut states = States::new(0, head_dim);
    for query in queries.chunks_exact(head_dim) {
        let mut state = vec![0.0; record_len(head_dim)];
        clear(&mut state, head_dim);
        let mut token = TokenQueries::default();
        token.set(Rows::new(query, head_dim, 0), 1, head_dim, 1.0);
        for page in pages {
            let mut record = vec![0.0; record_len(head_dim)];
            with_stored(head_dim, *page, |stored| {
                let mut partial = Partial::new(&mut record, head_dim);
                scalar::attend_token(
                    &case.code,
                    case.frames.page(page.index),
                    stored,
                    &mut token,
                    &mut partial,
                );
            });
            merge(Isa::Scalar, &mut state, &record, head_dim);
        }
        states.max.push(state[0]);
        states.sum.push(state[1]);
        states.out.extend_from_slice(&state[8..]);
    }
    states
}

#[track_caller]
fn assert_same(got: &States, wanted: &States, what: &str) {
    assert!(wanted.out.iter().all(|x| x.is_finite()), "{what}");
    let same = got.bits().iter().zip(wanted.bits()).position(|(a, b)| *a != b);
    assert_eq!(same, None, "{what}");
}

#[test]
fn rows_of_a_block_have_the_bits_of_the_heads_of_a_token() {
    for (head_dim, key_bits, value_bits) in SHAPES {
        let case = case(head_dim, key_bits, value_bits, Isa::best());
        let page = |index, n_sinks| Page { bytes: &case.bytes, index, n_sinks };
        let pages = [page(0, 8), page(PAGE, 0), page(1, 0)];
        for n_rows in [1, 2, 3, 4, 5, 7, 15, 16, 17, 31, 32, 35, 48] {
            for size in [0.0, 0.02, 1.0, 40.0] {
                // Rows of one call differ in size, too.
                let queries: Vec<f32> = noise(9, n_rows * head_dim)
                    .iter()
                    .enumerate()
                    .map(|(i, x)| x * size / (1 + i / head_dim % 3) as f32)
                    .collect();
                let wanted = one_by_one(&case, &pages, &queries);
                for isa in Isa::tested() {
                    let got = together(&case, isa, &pages, &queries);
                    let what =
                        format!("{isa}, {n_rows} rows of {head_dim}, k{key_bits}v{value_bits}, {size}");
                    assert_same(&got, &wanted, &what);
                }
            }
        }
    }
}

#[test]
fn rows_that_are_not_named_stay_as_they_are() {
    let case = case(64, 2.25, 2, Isa::best());
    let pages = [
        Page { bytes: &case.bytes, index: 0, n_sinks: 0 },
        Page { bytes: &case.bytes, index: 1, n_sinks: 0 },
    ];
    let queries = noise(9, 40 * 64);
    let one = together(&case, Isa::Scalar, &pages[..1], &queries);
    let both = together(&case, Isa::Scalar, &pages, &queries);
    for named in
        [vec![], vec![39], vec![0, 1, 2, 5, 20], (0..40).step_by(2).collect::<Vec<u16>>(), (0..33).collect()]
    {
        for isa in Isa::tested() {
            let mut rows = QueryRows::default();
            rows.set(Rows::new(&queries, 64, 0), 1, 64, 1.0);
            let mut states = one.clone();
            with_stored(64, pages[1], |stored| {
                case.code.attend_rows(isa, case.frames.page(1), stored, &mut rows, &named, states.of());
            });
            for row in 0..40u16 {
                let wanted = if named.contains(&row) { &both } else { &one };
                let of = |states: &States| -> Vec<u32> {
                    let row = usize::from(row);
                    let out = &states.out[64 * row..][..64];
                    [states.max[row], states.sum[row]].iter().chain(out).map(|x| x.to_bits()).collect()
                };
                assert_eq!(of(&states), of(wanted), "{isa}, row {row} of {named:?}");
            }
        }
    }
}

#[test]
fn no_sum_of_integers_overflows() {
    for (head_dim, key_bits) in [(32, 6.0), (64, 4.5), (64, 2.0), (128, 3.0), (256, 1.0), (256, 6.0)] {
        for value_bits in 2..=4 {
            // The first channels of all pairs are the important ones, and lie together.
            let half = head_dim / 2;
            let variance: Vec<f32> = (0..head_dim).map(|c| if c < half { 1.0 } else { 1e-3 }).collect();
            let statistics =
                KeyStatistics { mean: vec![0.0; head_dim], variance, query_square: vec![1.0; head_dim] };
            let keys = KeyCode::new(&statistics, key_bits);
            let step = keys.step.clone();
            let code = HeadCode::new(keys, ValueCode::new(vec![0.1; head_dim], 1.7, value_bits));
            // Every code is the largest, or zero; gains are about 1. Equal scores give every weight its largest integer.
            let bytes = |codes: u8| {
                let mut bytes = vec![codes; code.bytes()];
                layout::parts_mut(&code, &mut bytes).key_gains.fill(128);
                layout::parts_mut(&code, &mut bytes).value_gains.fill(128);
                bytes
            };
            let (highest, lowest) = (bytes(255), bytes(0));
            let case = Case { code, ..case(head_dim, 2.0, 2, Isa::Scalar) };
            let pages = [&highest, &lowest].map(|bytes| Page { bytes, index: 0, n_sinks: 0 });
            // At position 0 integers are 127 or −127 in every channel that is stored with bits.
            let rows = [[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]].map(|signs: [f32; 2]| {
                let query = |c: usize| if c < half && step[c] > 0.0 { signs[c % 2] / step[c] } else { 0.0 };
                (0..head_dim).map(query).collect::<Vec<f32>>()
            });
            let queries = rows.concat().repeat(6);
            let wanted = one_by_one(&case, &pages, &queries);
            let code = &case.code.keys;
            let frame = case.frames.page(0).frame(0);
            let mut rows = QueryRows::default();
            rows.set(Rows::new(&queries, head_dim, 0), 1, head_dim, 1.0);
            let prepared = query::PreparedQueries::of(code, &mut rows);
            let integers = query::FrameQuery::turned(code.operand(), prepared.head(0), frame).integers;
            let n_extreme = integers.iter().filter(|q| **q == 127).count();
            assert_eq!(n_extreme, step[..half].iter().filter(|step| **step > 0.0).count());
            for isa in Isa::tested() {
                let got = together(&case, isa, &pages, &queries);
                assert_same(&got, &wanted, &format!("{isa}, {head_dim} channels, k{key_bits}v{value_bits}"));
            }
        }
    }
}
