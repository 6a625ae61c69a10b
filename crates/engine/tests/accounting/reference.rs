//! The Llama block in float64, written from its description and not from the engine, and strict: it computes what it
//! understands whole, and nothing else.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::f64::consts::{FRAC_2_SQRT_PI, PI};

/// A matrix or vector, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// Tensors by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// What a configuration says, whatever its format.
#[derive(Clone, Debug)]
pub struct Spec {
    pub n_layers: usize,
    pub n_embd: usize,
    pub n_heads: usize,
    pub n_kv_heads: usize,
    pub head_dim: usize,
    pub n_ff: usize,
    pub eps: f64,
    /// radians per position, `[head_dim / 2]`
    pub frequencies: Vec<f64>,
    /// factor on rotated vectors
    pub magnitude: f64,
    pub function: fn(f64) -> f64,
    /// rotary pairs are (2i, 2i + 1), not (i, i + head_dim / 2)
    pub is_interleaved: bool,
    pub has_qk_norm: bool,
    /// must be there
    pub needs_qkv_bias: bool,
    /// may be there, and must be all or none
    pub may_have: Biases,
    /// tokens that a token sees, itself included
    pub window: Option<usize>,
    /// the output matrix is the embedding; `None`: if there is no other
    pub is_tied: Option<bool>,
}

/// Which biases a configuration lets a model have.
#[derive(Clone, Copy, Debug)]
pub struct Biases {
    pub qkv: bool,
    pub output: bool,
    pub mlp: bool,
}

/// Names of tensors in a format: outside the layers, and inside.
pub struct Names {
    pub embedding: &'static str,
    pub output_norm: &'static str,
    pub output: &'static str,
    /// what stands before and after the number of a layer
    pub layer: (&'static str, &'static str),
    /// norm; q, k, v; their norms; output; norm; gate, up, down
    pub parts: [&'static str; 11],
}

pub const HF: Names = Names {
    embedding: "model.embed_tokens",
    output_norm: "model.norm",
    output: "lm_head",
    layer: ("model.layers.", "."),
    parts: [
        "input_layernorm",
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.q_norm",
        "self_attn.k_norm",
        "self_attn.o_proj",
        "post_attention_layernorm",
        "mlp.gate_proj",
        "mlp.up_proj",
        "mlp.down_proj",
    ],
};

pub const GGUF: Names = Names {
    embedding: "token_embd",
    output_norm: "output_norm",
    output: "output",
    layer: ("blk.", "."),
    parts: [
        "attn_norm",
        "attn_q",
        "attn_k",
        "attn_v",
        "attn_q_norm",
        "attn_k_norm",
        "attn_output",
        "ffn_norm",
        "ffn_gate",
        "ffn_up",
        "ffn_down",
    ],
};

/// Tensors that are looked up, and remembered.
struct Used<'a> {
    tensors: &'a Tensors,
    names: RefCell<BTreeSet<String>>,
}

impl Used<'_> {
    /// A tensor of this shape, all of whose values are numbers.
    fn get(&self, name: &str, shape: &[usize]) -> Option<Vec<f64>> {
        let tensor = self.tensors.get(name).filter(|tensor| tensor.shape == shape)?;
        self.names.borrow_mut().insert(name.to_owned());
        tensor.values.iter().map(|value| value.is_finite().then_some(f64::from(*value))).collect()
    }

    fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }
}

/// Logits after every token, `[n_tokens, n_vocab]`; `None` if the tensors are not exactly those of `spec`.
pub fn logits(spec: &Spec, names: &Names, tensors: &Tensors, ids: &[u32]) -> Option<Vec<Vec<f64>>> {
    let used = Used { tensors, names: RefCell::default() };
    let n_vocab = tensors.get(&format!("{}.weight", names.embedding))?.shape[0];
    let (n_embd, head_dim) = (spec.n_embd, spec.head_dim);
    let (n_q, n_kv) = (spec.n_heads * head_dim, spec.n_kv_heads * head_dim);
    let embedding = used.get(&format!("{}.weight", names.embedding), &[n_vocab, n_embd])?;
    let row = |id: &u32| embedding[*id as usize * n_embd..][..n_embd].to_vec();
    let mut x: Vec<Vec<f64>> = ids.iter().map(row).collect();
    for layer in 0..spec.n_layers {
        let name = |part: usize, kind: &str| {
            format!("{}{layer}{}{}.{kind}", names.layer.0, names.layer.1, names.parts[part])
        };
        let bias = |part: usize, len: usize, may: bool, must: bool| match used.has(&name(part, "bias")) {
            false if must => None,
            false => Some(vec![0.0; len]),
            true if may || must => used.get(&name(part, "bias"), &[len]),
            true => None,
        };
        let group = |parts: &[usize]| parts.iter().any(|&part| used.has(&name(part, "bias")));
        let qkv_bias = spec.needs_qkv_bias || group(&[1, 2, 3]);
        let mlp_bias = group(&[8, 9, 10]);
        let norm = |part: usize| used.get(&name(part, "weight"), &[n_embd]);
        let project = |part: usize, input: &[Vec<f64>], rows: usize, cols: usize, may: bool, must: bool| {
            let weight = used.get(&name(part, "weight"), &[rows, cols])?;
            let bias = bias(part, rows, may, must)?;
            let one = |x: &Vec<f64>| -> Vec<f64> {
                (0..rows).map(|r| dot(&weight[r * cols..][..cols], x) + bias[r]).collect()
            };
            Some(input.iter().map(one).collect::<Vec<_>>())
        };
        let normed = rms_norm(&x, &norm(0)?, spec.eps);
        let may = spec.may_have;
        let mut q = project(1, &normed, n_q, n_embd, may.qkv, qkv_bias)?;
        let mut k = project(2, &normed, n_kv, n_embd, may.qkv, qkv_bias)?;
        let v = project(3, &normed, n_kv, n_embd, may.qkv, qkv_bias)?;
        if qkv_bias && !(may.qkv || spec.needs_qkv_bias) {
            return None;
        }
        if spec.has_qk_norm {
            let weights =
                [used.get(&name(4, "weight"), &[head_dim])?, used.get(&name(5, "weight"), &[head_dim])?];
            for (rows, weight) in [&mut q, &mut k].into_iter().zip(&weights) {
                for row in rows.iter_mut() {
                    let heads: Vec<Vec<f64>> = row.chunks(head_dim).map(<[f64]>::to_vec).collect();
                    *row = rms_norm(&heads, weight, spec.eps).concat();
                }
            }
        }
        for rows in [&mut q, &mut k] {
            for (position, row) in rows.iter_mut().enumerate() {
                row.chunks_mut(head_dim).for_each(|head| rotate(head, position as f64, spec));
            }
        }
        let attended: Vec<Vec<f64>> = (0..x.len()).map(|token| attend(token, &q, &k, &v, spec)).collect();
        add(&mut x, &project(6, &attended, n_embd, n_q, may.output, false)?);
        let normed = rms_norm(&x, &norm(7)?, spec.eps);
        let gate = project(8, &normed, spec.n_ff, n_embd, may.mlp, mlp_bias)?;
        let up = project(9, &normed, spec.n_ff, n_embd, may.mlp, mlp_bias)?;
        let hidden = |(gate, up): (&Vec<f64>, &Vec<f64>)| -> Vec<f64> {
            gate.iter().zip(up).map(|(gate, up)| (spec.function)(*gate) * up).collect()
        };
        let hidden: Vec<Vec<f64>> = gate.iter().zip(&up).map(hidden).collect();
        add(&mut x, &project(10, &hidden, n_embd, spec.n_ff, may.mlp, mlp_bias)?);
    }
    let output = format!("{}.weight", names.output);
    let own = used.has(&output).then(|| used.get(&output, &[n_vocab, n_embd]));
    let matrix = match (spec.is_tied, own) {
        (None, None) | (Some(true), None) => embedding,
        (None | Some(false), Some(own)) => own?,
        (Some(true), Some(own)) if own.as_ref() == Some(&embedding) => embedding,
        _ => return None,
    };
    let x = rms_norm(&x, &used.get(&format!("{}.weight", names.output_norm), &[n_embd])?, spec.eps);
    let is_harmless =
        |name: &String| name.ends_with("rotary_emb.inv_freq") || name.ends_with("attn_rot_embd.weight");
    if tensors.keys().any(|name| !used.names.borrow().contains(name) && !is_harmless(name)) {
        return None;
    }
    Some(x.iter().map(|x| matrix.chunks(n_embd).map(|row| dot(row, x)).collect()).collect())
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(x: &mut [Vec<f64>], y: &[Vec<f64>]) {
    x.iter_mut().zip(y).for_each(|(x, y)| x.iter_mut().zip(y).for_each(|(x, y)| *x += y));
}

fn rms_norm(rows: &[Vec<f64>], weight: &[f64], eps: f64) -> Vec<Vec<f64>> {
    let one = |row: &Vec<f64>| -> Vec<f64> {
        let factor = 1.0 / (dot(row, row) / row.len() as f64 + eps).sqrt();
        row.iter().zip(weight).map(|(x, w)| x * factor * w).collect()
    };
    rows.iter().map(one).collect()
}

fn rotate(head: &mut [f64], position: f64, spec: &Spec) {
    let half = head.len() / 2;
    for pair in 0..half {
        let (a, b) = if spec.is_interleaved { (2 * pair, 2 * pair + 1) } else { (pair, pair + half) };
        let (sin, cos) = (position * spec.frequencies[pair]).sin_cos();
        let (x, y) = (head[a], head[b]);
        (head[a], head[b]) = (spec.magnitude * (x * cos - y * sin), spec.magnitude * (y * cos + x * sin));
    }
}

fn attend(token: usize, q: &[Vec<f64>], k: &[Vec<f64>], v: &[Vec<f64>], spec: &Spec) -> Vec<f64> {
    let d = spec.head_dim;
    let first = spec.window.map_or(0, |window| (token + 1).saturating_sub(window));
    let mut out = Vec::new();
    for head in 0..spec.n_heads {
        let of_kv = head / (spec.n_heads / spec.n_kv_heads) * d;
        let query = &q[token][head * d..][..d];
        let scores: Vec<f64> =
            (first..=token).map(|t| (dot(query, &k[t][of_kv..][..d]) / (d as f64).sqrt()).exp()).collect();
        let sum: f64 = scores.iter().sum();
        out.extend((0..d).map(|channel| {
            (first..=token).map(|t| scores[t - first] / sum * v[t][of_kv + channel]).sum::<f64>()
        }));
    }
    out
}

/// Activation functions by the names of transformers.
pub fn function(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "silu" | "swish" => |x| x / (1.0 + (-x).exp()),
        "gelu" => |x| 0.5 * x * (1.0 + erf(x / 2f64.sqrt())),
        "gelu_pytorch_tanh" | "gelu_new" => {
            |x| 0.5 * x * (1.0 + ((2.0 / PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }
        "quick_gelu" => |x| x / (1.0 + (-1.702 * x).exp()),
        "relu" => |x| x.max(0.0),
        "relu2" => |x| x.max(0.0).powi(2),
        _ => return None,
    })
}

/// The error function by Simpson's rule.
fn erf(x: f64) -> f64 {
    const STEPS: usize = 2000;
    let h = x / STEPS as f64;
    let f = |i: usize| (-(i as f64 * h).powi(2)).exp();
    let inner: f64 = (1..STEPS).map(|i| f(i) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum();
    FRAC_2_SQRT_PI * h / 3.0 * (f(0) + inner + f(STEPS))
}
