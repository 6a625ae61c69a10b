use super::*;
use crate::{ActivationKind, Isa};
use lossy_quant::{DType, dequantize};

const KINDS: [ActivationKind; 2] = [ActivationKind::F32, ActivationKind::Q8];

/// Numbers that look random, the same in every run.
struct Lcg(u64);

impl Lcg {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }

    /// In −1..1.
    fn float(&mut self) -> f32 {
        self.next() as f32 / (1u64 << 30) as f32 - 1.0
    }
}

/// Where a block has f16 values; all other bytes may be anything.
fn f16_fields(dtype: DType) -> &'static [usize] {
    match dtype {
        DType::Q4_1 | DType::Q5_1 | DType::Q4K | DType::Q5K => &[0, 2],
        DType::Q2K => &[80, 82],
        DType::Q3K => &[108],
        DType::Q6K => &[208],
        _ => &[0],
    }
}

/// A file's matrix with codes `fill` (anything if `None`) and reasonable scales.
fn weights(dtype: DType, n_rows: usize, n_cols: usize, fill: Option<u8>, seed: u64) -> Vec<u8> {
    let mut random = Lcg(seed);
    let mut bytes = Vec::new();
    for _ in 0..n_rows * n_cols / dtype.block_len() {
        let start = bytes.len();
        match dtype {
            DType::F32 => bytes.extend(random.float().to_le_bytes()),
            DType::BF16 => bytes.extend(half::bf16::from_f32(random.float()).to_le_bytes()),
            DType::F16 => bytes.extend(half::f16::from_f32(random.float()).to_le_bytes()),
            _ => {
                bytes.extend((0..dtype.block_bytes()).map(|_| fill.unwrap_or(random.next() as u8)));
                for field in f16_fields(dtype) {
                    let value = half::f16::from_f32(random.float() * 0.05).to_le_bytes();
                    bytes[start + field..start + field + 2].copy_from_slice(&value);
                }
            }
        }
    }
    bytes
}

fn activations(cx: &Compute, kind: ActivationKind, n_tokens: usize, n_cols: usize) -> Activations {
    let mut random = Lcg(n_cols as u64);
    let rows: Vec<f32> = (0..n_tokens * n_cols).map(|_| random.float().powi(3) * 4.0).collect();
    let mut x = Activations::new(kind);
    x.set(cx, &rows, n_cols);
    x
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

fn product(cx: &Compute, matrix: &Matrix, x: &Activations) -> Vec<f32> {
    let mut out = vec![f32::NAN; x.n_tokens() * matrix.n_rows()];
    matmul(cx, &[matrix], x, &mut out);
    out
}

/// What the kernels multiply with: the rows, or what their int8 codes stand for.
fn operand_values(x: &Activations, exact: bool) -> Vec<f64> {
    let operand = x.operand(0..x.n_tokens());
    if exact || x.kind() == ActivationKind::F32 {
        return operand.rows.iter().map(|x| f64::from(*x)).collect();
    }
    let mut values = Vec::new();
    for token in 0..x.n_tokens() {
        for col in 0..x.n_cols() {
            let block = token * operand.n_blocks() + col / tile::COLS;
            let block = &operand.blocks[block];
            values.push(f64::from(block.scale) * f64::from(block.codes[col % tile::COLS]));
        }
    }
    values
}

/// Compares with a product in f64; a sum of n terms in f32 is off by at most n/2 ulps of the sum of magnitudes.
fn assert_is_product(got: &[f32], dtype: DType, bytes: &[u8], x: &Activations, what: &str) {
    let n_cols = x.n_cols();
    let mut values = vec![0.0; bytes.len() / dtype.block_bytes() * dtype.block_len()];
    dequantize(dtype, bytes, &mut values).unwrap();
    let operand = operand_values(x, dtype.block_len() == 1);
    let n_rows = values.len() / n_cols;
    for (token, x) in operand.chunks(n_cols).enumerate() {
        for (row, w) in values.chunks(n_cols).enumerate() {
            let terms = || w.iter().zip(x).map(|(w, x)| f64::from(*w) * x);
            let (sum, magnitude) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
            let got = f64::from(got[token * n_rows + row]);
            // Minima cancel against codes, so the terms of a quantized sum are up to some ten times larger.
            let bound = magnitude * 1e-7 * (n_cols as f64 + 40.0) + 1e-30;
            assert!(
                (got - sum).abs() <= bound,
                "{what}: token {token}, row {row}: {got} is not {sum} (±{bound})"
            );
        }
    }
}

fn each_format(mut check: impl FnMut(DType)) {
    let mut n = 0;
    formats::all().for_each(|dtype| {
        n += 1;
        check(dtype);
    });
    assert_eq!(n, 15);
}

#[test]
fn every_format_and_isa_gives_the_product_at_odd_sizes() {
    each_format(|dtype| {
        for isa in Isa::tested() {
            let cx = Compute::with_isa(1, isa);
            for (n_rows, n_blocks) in [(1, 1), (7, 3), (8, 2), (9, 4), (17, 1), (33, 2)] {
                let n_cols = dtype.block_len() * n_blocks;
                let bytes = weights(dtype, n_rows, n_cols, None, 3);
                let matrix = Matrix::pack(&cx, dtype, n_rows, n_cols, &bytes).unwrap();
                for kind in KINDS {
                    for n_tokens in 1..=9 {
                        let x = activations(&cx, kind, n_tokens, n_cols);
                        let what = format!("{dtype:?} {isa} {kind:?} {n_rows} x {n_cols}, {n_tokens} tokens");
                        assert_is_product(&product(&cx, &matrix, &x), dtype, &bytes, &x, &what);
                    }
                }
            }
        }
    });
}

#[test]
fn every_isa_has_the_bits_of_the_scalar_form() {
    each_format(|dtype| {
        let n_cols = if dtype.block_len() == 1 { 83 } else { dtype.block_len() * 5 };
        let n_rows = 27;
        let bytes = weights(dtype, n_rows, n_cols, None, 5);
        for kind in KINDS {
            for n_tokens in (1..=9).chain([21, 50]) {
                let mut wanted = None;
                for isa in Isa::tested() {
                    let cx = Compute::with_isa(1, isa);
                    let matrix = Matrix::pack(&cx, dtype, n_rows, n_cols, &bytes).unwrap();
                    let x = activations(&cx, kind, n_tokens, n_cols);
                    let got = bits(&product(&cx, &matrix, &x));
                    let wanted = wanted.get_or_insert(got.clone());
                    assert!(got == *wanted, "{dtype:?} {kind:?} {isa}, {n_tokens} tokens");
                }
            }
        }
    });
}

/// Each kernel takes some numbers of tokens, in tiles of some; strips are computed in groups, pairs and alone.
#[test]
fn every_number_of_tokens_and_strips_has_the_bits_of_the_scalar_form() {
    const MOST_TOKENS: usize = 40;
    const MOST_STRIPS: usize = 9;
    each_format(|dtype| {
        let n_cols = if dtype.block_len() == 1 { 40 } else { dtype.block_len() * 2 };
        let n_rows = MOST_STRIPS * ROWS - 3;
        let bytes = weights(dtype, n_rows, n_cols, None, 37);
        let scalar = Compute::with_isa(1, Isa::Scalar);
        let pack = |cx: &Compute, n_rows: usize| {
            Matrix::pack(cx, dtype, n_rows, n_cols, &bytes[..n_rows * bytes.len() / (MOST_STRIPS * ROWS - 3)])
                .unwrap()
        };
        for kind in KINDS {
            let all = activations(&scalar, kind, MOST_TOKENS, n_cols);
            let wanted = bits(&product(&scalar, &pack(&scalar, n_rows), &all));
            let rows = all.operand(0..MOST_TOKENS).rows;
            for isa in Isa::tested().into_iter().filter(|isa| *isa != Isa::Scalar) {
                let cx = Compute::with_isa(1, isa);
                for n_strips in 1..=MOST_STRIPS {
                    let n = n_rows.min(n_strips * ROWS);
                    let matrix = pack(&cx, n);
                    for n_tokens in 1..=MOST_TOKENS {
                        let mut x = Activations::new(kind);
                        x.set(&cx, &rows[..n_tokens * n_cols], n_cols);
                        let got = bits(&product(&cx, &matrix, &x));
                        for (got, wanted) in got.chunks(n).zip(wanted.chunks(n_rows)) {
                            assert!(
                                got == &wanted[..n],
                                "{dtype:?} {kind:?} {isa}, {n_strips} strips, {n_tokens} tokens"
                            );
                        }
                    }
                }
            }
        }
    });
}

#[test]
fn integers_do_not_overflow_at_the_extremes() {
    each_format(|dtype| {
        if dtype.block_len() == 1 {
            return;
        }
        let n_cols = 512;
        for fill in [0x00, 0xFF, 0x7F, 0x80, 0x0F, 0xF0] {
            let bytes = weights(dtype, 8, n_cols, Some(fill), 7);
            for x_value in [1.0, -1.0] {
                for n_tokens in [1, 4, 6, 17, 33] {
                    let rows = vec![x_value; n_tokens * n_cols];
                    for isa in Isa::tested() {
                        let cx = Compute::with_isa(1, isa);
                        let matrix = Matrix::pack(&cx, dtype, 8, n_cols, &bytes).unwrap();
                        let mut x = Activations::new(ActivationKind::Q8);
                        x.set(&cx, &rows, n_cols);
                        let operand = x.operand(0..n_tokens);
                        assert!(
                            operand
                                .blocks
                                .iter()
                                .all(|block| block.codes == [127 * x_value as i8; tile::COLS])
                        );
                        let what =
                            format!("{dtype:?} {isa}, bytes {fill:#x}, x {x_value}, {n_tokens} tokens");
                        assert_is_product(&product(&cx, &matrix, &x), dtype, &bytes, &x, &what);
                    }
                }
            }
        }
    });
}

#[test]
fn a_token_has_the_same_bits_in_any_batch_and_with_any_number_of_threads() {
    each_format(|dtype| {
        let (n_rows, n_cols) = (77, if dtype.block_len() == 1 { 70 } else { 512 });
        let bytes = weights(dtype, n_rows, n_cols, None, 11);
        for kind in KINDS {
            for isa in Isa::tested() {
                // The scalar form computes each token by itself; one crossing of its chunk is enough.
                let n_tokens = if isa == Isa::Scalar { 9 } else { TOKENS + 7 };
                let one = Compute::with_isa(1, isa);
                let matrix = Matrix::pack(&one, dtype, n_rows, n_cols, &bytes).unwrap();
                let all = activations(&one, kind, n_tokens, n_cols);
                let wanted = product(&one, &matrix, &all);
                let three = Compute::with_isa(3, isa);
                assert!(bits(&product(&three, &matrix, &all)) == bits(&wanted), "{dtype:?} {kind:?} {isa}");
                let rows = all.operand(0..n_tokens).rows;
                let mut start = 0;
                for n in [1, 2, 3, 4, 5, 1, 6, 7, 8, 13].into_iter().cycle() {
                    if start + n > n_tokens.min(60) {
                        break;
                    }
                    let mut x = Activations::new(kind);
                    x.set(&one, &rows[start * n_cols..(start + n) * n_cols], n_cols);
                    let got = product(&one, &matrix, &x);
                    let part = &wanted[start * n_rows..(start + n) * n_rows];
                    assert!(bits(&got) == bits(part), "{dtype:?} {kind:?} {isa}: {n} tokens from {start}");
                    start += n;
                }
            }
        }
    });
}

#[test]
fn several_matrices_lie_side_by_side() {
    let cx = Compute::with_isa(2, Isa::best());
    let n_cols = 256;
    let pack = |dtype, n_rows| {
        Matrix::pack(&cx, dtype, n_rows, n_cols, &weights(dtype, n_rows, n_cols, None, 13)).unwrap()
    };
    let matrices = [pack(DType::Q5_0, 40), pack(DType::F16, 3), pack(DType::Q6K, 17), pack(DType::F32, 0)];
    for n_tokens in [1, 6] {
        let x = activations(&cx, ActivationKind::Q8, n_tokens, n_cols);
        let mut out = vec![f32::NAN; n_tokens * 60];
        matmul(&cx, &matrices.each_ref(), &x, &mut out);
        let mut before = 0;
        for matrix in &matrices {
            let alone = product(&cx, matrix, &x);
            for token in 0..n_tokens {
                let part = &out[token * 60 + before..][..matrix.n_rows()];
                assert_eq!(bits(part), bits(&alone[token * matrix.n_rows()..][..matrix.n_rows()]));
            }
            before += matrix.n_rows();
        }
    }
}

#[test]
fn add_and_swiglu_are_what_their_formulas_say() {
    for isa in Isa::tested() {
        let cx = Compute::with_isa(2, isa);
        let (n_rows, n_cols) = (150, 256);
        let pack = |dtype, seed| {
            Matrix::pack(&cx, dtype, n_rows, n_cols, &weights(dtype, n_rows, n_cols, None, seed)).unwrap()
        };
        let (gate, up) = (pack(DType::Q4_1, 17), pack(DType::Q8_0, 19));
        for n_tokens in [1, 4, 5, 13] {
            let x = activations(&cx, ActivationKind::Q8, n_tokens, n_cols);
            let (gates, ups) = (product(&cx, &gate, &x), product(&cx, &up, &x));
            let mut out = vec![0.5; n_tokens * n_rows];
            matmul_add(&cx, &gate, &x, &mut out);
            assert!(out.iter().zip(&gates).all(|(out, gate)| *out == 0.5 + gate));
            matmul_swiglu(&cx, &gate, &up, &x, &mut out);
            for ((out, gate), up) in out.iter().zip(&gates).zip(&ups) {
                assert_eq!(*out, crate::math::silu(*gate) * up);
            }
        }
    }
}

/// Hashes of each format's products, made with commit 9657497: they change only together with the order of operations that
/// `quantized` and `float` specify.
const GOLDEN: [(DType, u64); 15] = [
    (DType::F32, 0xDD85_2D70_E39A_6EC1),
    (DType::F16, 0x2533_A88B_7A40_1CB5),
    (DType::Q4_0, 0x11A9_CAB6_E7CC_14C3),
    (DType::Q4_1, 0xB70B_4EF7_2554_A467),
    (DType::Q5_0, 0xEE8A_53BE_B9A1_F54B),
    (DType::Q5_1, 0x406F_FE02_3464_A3AC),
    (DType::Q8_0, 0x17AF_23D6_7E7F_834C),
    (DType::Q2K, 0xE935_EA67_5D40_64B0),
    (DType::Q3K, 0x3617_2262_9362_EB8A),
    (DType::Q4K, 0xF02D_7A18_D194_6C0C),
    (DType::Q5K, 0x00E0_5C1D_3117_C178),
    (DType::Q6K, 0x3833_FACF_739D_F2E8),
    (DType::IQ4NL, 0xDB82_B160_5DAF_78A1),
    (DType::IQ4XS, 0xD817_4AC2_3A03_20A7),
    (DType::BF16, 0x55E3_03F8_7E0C_44C5),
];

#[test]
fn every_format_and_isa_gives_the_bits_that_it_always_gave() {
    let mut golden = GOLDEN.into_iter();
    each_format(|dtype| {
        let wanted = golden.next();
        let (n_rows, n_cols) = (43, 768);
        let bytes = weights(dtype, n_rows, n_cols, None, 31);
        for isa in Isa::tested() {
            let cx = Compute::with_isa(1, isa);
            let matrix = Matrix::pack(&cx, dtype, n_rows, n_cols, &bytes).unwrap();
            // FNV-1a over the bits of all products.
            let mut hash = 0xCBF2_9CE4_8422_2325_u64;
            for kind in KINDS {
                for n_tokens in [1, 2, 3, 4, 5, 14] {
                    let values = product(&cx, &matrix, &activations(&cx, kind, n_tokens, n_cols));
                    for byte in values.iter().flat_map(|x| x.to_le_bytes()) {
                        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
                    }
                }
            }
            assert_eq!(Some((dtype, hash)), wanted, "{dtype:?} {isa}: {hash:#018X}");
        }
    });
}

#[test]
fn rows_come_back_as_the_file_has_them() {
    let cx = Compute::with_isa(1, Isa::best());
    each_format(|dtype| {
        let (n_rows, n_cols) = (11, dtype.block_len() * 3);
        let bytes = weights(dtype, n_rows, n_cols, None, 23);
        let matrix = Matrix::pack(&cx, dtype, n_rows, n_cols, &bytes).unwrap();
        let mut wanted = vec![0.0; n_rows * n_cols];
        dequantize(dtype, &bytes, &mut wanted).unwrap();
        for (row, wanted) in wanted.chunks(n_cols).enumerate() {
            let mut got = vec![0.0; n_cols];
            matrix.row(row, &mut got);
            assert!(got.iter().zip(wanted).all(|(a, b)| a == b), "{dtype:?} row {row}");
        }
    });
}

#[test]
fn packed_weights_are_at_most_four_percent_larger_than_the_file() {
    let cx = Compute::with_isa(1, Isa::best());
    each_format(|dtype| {
        let bytes = weights(dtype, 64, 512, None, 29);
        let matrix = Matrix::pack(&cx, dtype, 64, 512, &bytes).unwrap();
        let growth = matrix.bytes() as f64 / bytes.len() as f64;
        assert!((0.999..1.04).contains(&growth), "{dtype:?}: {growth}");
    });
}

#[test]
fn shapes_that_do_not_fit_are_errors_with_their_numbers() {
    let cx = Compute::with_isa(1, Isa::best());
    let pack = |dtype, n_rows, n_cols, n: usize| {
        Matrix::pack(&cx, dtype, n_rows, n_cols, &vec![0; n]).map(|_| ()).unwrap_err().to_string()
    };
    assert_eq!(pack(DType::I32, 1, 1, 4), "matrices of type I32 cannot be computed");
    assert_eq!(pack(DType::Q4_0, 1, 33, 18), "rows of 33 columns are not whole blocks of 32 (Q4_0)");
    assert_eq!(pack(DType::Q4K, 1, 128, 72), "rows of 128 columns are not whole blocks of 256 (Q4_K)");
    assert_eq!(pack(DType::F32, 2, 3, 23), "2 x 3 values of type F32 take 24 bytes, not 23");
    pack(DType::F32, usize::MAX, usize::MAX, 24);
    pack(DType::F32, 0, 0, 0);
}

#[test]
fn tasks_have_every_strip_once_and_end_small() {
    let mut cuts = Vec::new();
    for shares in [1, 2, 4, 32] {
        for n_strips in [0, 1, 2, 3, 24, 72, 6144] {
            cut(n_strips, shares, &mut cuts);
            assert!(cuts[0] == 0 && cuts.last() == Some(&n_strips), "{cuts:?}");
            let lens: Vec<usize> = cuts.windows(2).map(|pair| pair[1] - pair[0]).collect();
            assert!(lens.iter().all(|len| *len > 0) && lens.is_sorted_by(|a, b| a >= b), "{cuts:?}");
            assert!(lens.last().is_none_or(|last| shares == 1 || *last <= 2), "{cuts:?}");
            assert!(cuts.iter().rev().skip(1).all(|at| at.is_multiple_of(2)), "{cuts:?}");
        }
    }
}
