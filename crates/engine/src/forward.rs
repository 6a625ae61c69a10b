//! The forward pass: tokens of several sequences in, logits out.
//!
//! For a batch of `n_tokens` rows, with every buffer row-major and one row per token:
//!
//! ```text
//! x    [n_tokens, n_embd]                     embedding rows
//! for each layer:
//!   qkv  [n_tokens, (n_heads + 2 n_kv) · D]   = Wqkv · rmsnorm(x) + bias, q and k rotated
//!   attn [n_tokens, n_heads · D]              = attention of q over the cache, which now has k and v
//!   x   += Wo · attn + bias
//!   h    [n_tokens, n_ff]                     = f(Wgate · rmsnorm(x) + bias) · (Wup · rmsnorm(x) + bias)
//!   x   += Wdown · h + bias
//! logits [n_wanted, n_vocab]                  = Woutput · rmsnorm(wanted rows of x)
//! ```
//!
//! Most models have no biases, and SiLU for `f`: then gate, up and `f` are one kernel.
//!
//! In the last layer only the wanted rows go on after attention. No step mixes rows but attention, which reads the
//! row's own sequence only, so a token's logits do not depend on what else is in the batch.
//!
//! What a pass gives are numbers. If they are not, it is computed once more to find the step where that began.

use std::ops::Range;

use lossy_kernels::{
    ActivationKind, Activations, Compute, GateFunction, HeadRows, add_bias, gate, matmul, matmul_add,
    matmul_swiglu, rms_norm_heads, rope,
};

use crate::RequestError;
use crate::buffer::{keep_rows, resize, scale_rows};
use crate::cache::{CacheError, KvSequence, Rows, Span, append_layer, attend_layer};
use crate::finite::{Place, all_finite};
use crate::hooks::Hooks;
use crate::logits::Logits;
use crate::model::{Layer, Model};

/// One sequence's share of a batch.
pub(crate) struct ForwardItem<'a> {
    pub(crate) cache: &'a mut KvSequence,
    pub(crate) tokens: &'a [u32],
    pub(crate) logits: Logits,
}

/// The buffers of a forward pass, kept from one to the next.
pub(crate) struct Forward {
    operand: Activations,
    x: Vec<f32>,
    qkv: Vec<f32>,
    attn: Vec<f32>,
    /// `[n_tokens, 2 n_ff]`, where gate and up are not computed at once
    gate_up: Vec<f32>,
    h: Vec<f32>,
    /// of each rotation of the queries, the first of which the keys share
    rotations: Vec<Rotation>,
    /// `[n_tokens]`: how many times as long queries are
    query_scales: Vec<f32>,
    /// logits that nobody needs any more: pages of memory that are new take longer to write
    old_logits: Vec<f32>,
}

/// More logits than that are not kept: most passes want few rows of them.
const MOST_OLD_LOGITS: usize = 4 << 20;

/// Cosines and sines `[n_tokens, head_dim / 2]` of a batch's positions.
#[derive(Default)]
struct Rotation {
    cos: Vec<f32>,
    sin: Vec<f32>,
    /// queries `[n_tokens, n_heads * head_dim]`; the first rotation's stay in `qkv`
    queries: Vec<f32>,
}

impl Forward {
    /// For a model whose products read activations as float32, of whatever kind they are, if `reads_floats`.
    pub(crate) fn new(activations: ActivationKind, reads_floats: bool) -> Forward {
        let operand = Activations::new(activations);
        Forward::of_operand(if reads_floats { operand } else { operand.without_rows() })
    }

    fn of_operand(operand: Activations) -> Forward {
        Forward {
            operand,
            x: Vec::new(),
            qkv: Vec::new(),
            attn: Vec::new(),
            gate_up: Vec::new(),
            h: Vec::new(),
            rotations: Vec::new(),
            query_scales: Vec::new(),
            old_logits: Vec::new(),
        }
    }

    /// Another with the same setting, and empty buffers.
    pub(crate) fn fresh(&self) -> Forward {
        Forward::of_operand(self.operand.empty())
    }

    /// Bytes of the buffers: the largest batch so far decides.
    pub(crate) fn bytes(&self) -> usize {
        let of_rotation = |rotation: &Rotation| {
            [&rotation.cos, &rotation.sin, &rotation.queries].map(Vec::capacity).iter().sum::<usize>()
        };
        let rows =
            [&self.x, &self.qkv, &self.attn, &self.gate_up, &self.h, &self.query_scales, &self.old_logits];
        let values = rows.map(Vec::capacity).iter().sum::<usize>()
            + self.rotations.iter().map(of_rotation).sum::<usize>();
        self.operand.bytes() + 4 * values
    }

    /// Takes back what [`run`](Forward::run) has returned, to write the next logits there.
    pub(crate) fn take_back(&mut self, logits: Vec<f32>) {
        if (self.old_logits.capacity()..=MOST_OLD_LOGITS).contains(&logits.capacity()) {
            self.old_logits = logits;
        }
    }

    /// Runs the batch; returns the wanted logits `[n_wanted, n_vocab]`. On an error no sequence has changed.
    pub(crate) fn run(
        &mut self,
        cx: &Compute,
        model: &Model,
        items: &mut [ForwardItem<'_>],
        hooks: Hooks<'_, '_>,
    ) -> Result<Vec<f32>, RequestError> {
        if items.iter().all(|item| item.tokens.is_empty()) {
            return Ok(Vec::new());
        }
        let logits = self.reserve_and_pass(cx, model, items, hooks);
        for item in items.iter_mut() {
            match logits {
                Ok(_) => item.cache.advance(item.tokens.len()),
                // Gives back what was reserved.
                Err(_) => {
                    item.cache.truncate(item.cache.len());
                }
            }
        }
        logits
    }

    fn reserve_and_pass(
        &mut self,
        cx: &Compute,
        model: &Model,
        items: &mut [ForwardItem<'_>],
        hooks: Hooks<'_, '_>,
    ) -> Result<Vec<f32>, RequestError> {
        for item in items.iter_mut() {
            item.cache.reserve(item.tokens.len())?;
        }
        match self.pass(cx, model, items, hooks, Watch::AtTheEnd) {
            // What is in the cache beyond its length is written again. A value that the cache refused came from somewhere.
            Err(RequestError::NotFinite { .. } | RequestError::Cache(CacheError::Unstorable { .. })) => {
                self.pass(cx, model, items, Hooks::default(), Watch::Everywhere)
            }
            logits => logits,
        }
    }

    /// Computes the batch; the caches have the new keys and values then, but their old lengths.
    fn pass(
        &mut self,
        cx: &Compute,
        model: &Model,
        items: &mut [ForwardItem<'_>],
        mut hooks: Hooks<'_, '_>,
        watch: Watch,
    ) -> Result<Vec<f32>, RequestError> {
        let tokens: Vec<u32> = items.iter().flat_map(|item| item.tokens).copied().collect();
        let wanted = wanted_rows(items);
        let everywhere = watch == Watch::Everywhere;
        self.start(model, &tokens, items)?;
        self.see(everywhere, &self.x, Place::Embedding)?;
        let mut spans = spans(items);
        for (index, layer) in model.layers.iter().enumerate() {
            self.project_qkv(cx, model, layer);
            self.see(everywhere, &self.qkv, Place::Projections { layer: index })?;
            if let Some(observe) = &mut hooks.observe {
                let (queries, keys, values) = self.qkv_rows(model);
                observe(index, [queries, keys, values]);
            }
            self.attend(cx, model, index, &mut spans)?;
            self.see(everywhere, &self.attn, Place::Attention { layer: index })?;
            let is_last = index + 1 == model.layers.len();
            if is_last {
                // All rows, since those that go no further are seen by the tokens to come.
                self.see(true, &self.x, Place::Mlp { layer: index.saturating_sub(1) })?;
                keep_rows(&mut self.x, model.info.n_embd, &wanted);
                keep_rows(&mut self.attn, model.info.n_heads * model.info.head_dim, &wanted);
            }
            if !(is_last && wanted.is_empty()) {
                self.add_attention(cx, model, layer);
                self.see(everywhere, &self.x, Place::AttentionOutput { layer: index })?;
                self.add_mlp(cx, model, layer);
                self.see(everywhere || is_last, &self.x, Place::Mlp { layer: index })?;
            }
            if let Some(between) = hooks.between.as_mut().filter(|_| !is_last) {
                between();
            }
        }
        let logits = self.logits(cx, model, wanted.len());
        self.see(true, &logits, Place::Logits)?;
        Ok(logits)
    }

    /// Whether what was computed at `place` are numbers; looks only if it is `due`.
    fn see(&self, due: bool, values: &[f32], place: Place) -> Result<(), RequestError> {
        if !due || all_finite(values) {
            return Ok(());
        }
        Err(RequestError::NotFinite { place, activations: self.operand.kind() })
    }

    /// Embedding rows and rotation tables.
    fn start(
        &mut self,
        model: &Model,
        tokens: &[u32],
        items: &[ForwardItem<'_>],
    ) -> Result<(), RequestError> {
        resize(&mut self.x, tokens.len() * model.info.n_embd);
        model.embedding.rows(tokens, &mut self.x)?;
        let n_rotations = items.iter().map(|item| item.cache.n_rotations(item.tokens.len())).max();
        self.rotations.resize_with(n_rotations.unwrap_or(1), Rotation::default);
        for (index, Rotation { cos, sin, .. }) in self.rotations.iter_mut().enumerate() {
            cos.clear();
            sin.clear();
            for item in items {
                let (first, positions) = (item.cache.len(), item.cache.positions());
                for position in first..first + item.tokens.len() {
                    positions.rope().push(positions.map().query_position(index, position), cos, sin);
                }
            }
        }
        let scales = items.iter().flat_map(|item| {
            let (first, map) = (item.cache.len(), item.cache.positions().map());
            (first..first + item.tokens.len()).map(move |position| map.query_scale(position))
        });
        self.query_scales.clear();
        self.query_scales.extend(scales);
        Ok(())
    }

    fn project_qkv(&mut self, cx: &Compute, model: &Model, layer: &Layer) {
        let info = &model.info;
        let n_tokens = self.x.len() / info.n_embd;
        let n_q = info.n_heads * info.head_dim;
        let row_len = n_q + 2 * info.n_kv_heads * info.head_dim;
        resize(&mut self.qkv, n_tokens * row_len);
        self.operand.set_rms_norm(cx, &self.x, &layer.attn_norm, info.rms_eps);
        let [q, k, v] = &layer.qkv;
        matmul(cx, &[q, k, v], &self.operand, &mut self.qkv);

        if let Some(bias) = &layer.qkv_bias {
            add_bias(&mut self.qkv, bias);
        }
        let heads = |offset: usize, n_heads: usize| HeadRows {
            stride: row_len,
            offset,
            n_heads,
            head_dim: info.head_dim,
        };
        if let Some(norm) = &layer.qk_norm {
            rms_norm_heads(cx, &mut self.qkv, heads(0, info.n_heads), &norm.q, info.rms_eps);
            rms_norm_heads(cx, &mut self.qkv, heads(n_q, info.n_kv_heads), &norm.k, info.rms_eps);
        }
        let Some((own, others)) = self.rotations.split_first_mut() else { return };
        for Rotation { cos, sin, queries } in others {
            queries.clear();
            self.qkv.chunks_exact(row_len).for_each(|row| queries.extend_from_slice(&row[..n_q]));
            let heads = HeadRows { stride: n_q, offset: 0, n_heads: info.n_heads, head_dim: info.head_dim };
            rope(cx, queries, heads, cos, sin);
            scale_rows(queries, n_q, n_q, &self.query_scales);
        }
        rope(cx, &mut self.qkv, heads(0, info.n_heads + info.n_kv_heads), &own.cos, &own.sin);
        scale_rows(&mut self.qkv, row_len, n_q, &self.query_scales);
    }

    fn attend(
        &mut self,
        cx: &Compute,
        model: &Model,
        layer: usize,
        spans: &mut [Span<'_>],
    ) -> Result<(), RequestError> {
        let (n_q, n_rows) = (model.info.n_heads * model.info.head_dim, self.x.len() / model.info.n_embd);
        let (_, k, v) = self.qkv_rows(model);
        append_layer(cx, layer, spans, k, v)?;
        resize(&mut self.attn, n_rows * n_q);
        let mut attn = std::mem::take(&mut self.attn);
        let others = self.rotations.iter().skip(1).map(|rotation| Rows::new(&rotation.queries, n_q, 0));
        let queries: Vec<Rows<'_>> = std::iter::once(self.qkv_rows(model).0).chain(others).collect();
        attend_layer(cx, layer, spans, self.operand.kind(), &queries, &mut attn);
        self.attn = attn;
        Ok(())
    }

    /// The parts of the fused projection.
    fn qkv_rows(&self, model: &Model) -> (Rows<'_>, Rows<'_>, Rows<'_>) {
        let info = &model.info;
        let (n_q, n_kv) = (info.n_heads * info.head_dim, info.n_kv_heads * info.head_dim);
        let rows = |offset: usize| Rows::new(&self.qkv, n_q + 2 * n_kv, offset);
        (rows(0), rows(n_q), rows(n_q + n_kv))
    }

    /// `x += Wo · attn + bias`
    fn add_attention(&mut self, cx: &Compute, model: &Model, layer: &Layer) {
        let info = &model.info;
        self.operand.set(cx, &self.attn, info.n_heads * info.head_dim);
        matmul_add(cx, &layer.attn_output, &self.operand, &mut self.x);
        if let Some(bias) = &layer.attn_output_bias {
            add_bias(&mut self.x, bias);
        }
    }

    /// `x += Wdown · h + bias`
    fn add_mlp(&mut self, cx: &Compute, model: &Model, layer: &Layer) {
        let info = &model.info;
        let n_tokens = self.x.len() / info.n_embd;
        self.operand.set_rms_norm(cx, &self.x, &layer.ffn_norm, info.rms_eps);
        resize(&mut self.h, n_tokens * info.n_ff);
        match (&layer.ffn_bias, info.gate) {
            (None, GateFunction::Silu) => {
                matmul_swiglu(cx, &layer.ffn_gate, &layer.ffn_up, &self.operand, &mut self.h);
            }
            (bias, function) => {
                resize(&mut self.gate_up, n_tokens * 2 * info.n_ff);
                matmul(cx, &[&layer.ffn_gate, &layer.ffn_up], &self.operand, &mut self.gate_up);
                if let Some(bias) = bias {
                    add_bias(&mut self.gate_up, &bias.gate_up);
                }
                gate(cx, function, &self.gate_up, info.n_ff, &mut self.h);
            }
        }
        self.operand.set(cx, &self.h, info.n_ff);
        matmul_add(cx, &layer.ffn_down, &self.operand, &mut self.x);
        if let Some(bias) = &layer.ffn_bias {
            add_bias(&mut self.x, &bias.down);
        }
    }

    fn logits(&mut self, cx: &Compute, model: &Model, n_wanted: usize) -> Vec<f32> {
        if n_wanted == 0 {
            return Vec::new();
        }
        let mut logits = std::mem::take(&mut self.old_logits);
        resize(&mut logits, n_wanted * model.info.n_vocab);
        self.operand.set_rms_norm(cx, &self.x, &model.output_norm, model.info.rms_eps);
        matmul(cx, &[&model.output], &self.operand, &mut logits);
        logits
    }
}

/// Where a pass looks whether it still computes numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    /// at what enters the last layer and what leaves it: next to nothing
    AtTheEnd,
    /// after every step, to find the first that gives none
    Everywhere,
}

fn spans<'a>(items: &'a mut [ForwardItem<'_>]) -> Vec<Span<'a>> {
    let mut first = 0;
    let mut spans = Vec::with_capacity(items.len());
    for item in items.iter_mut() {
        let rows = first..first + item.tokens.len();
        first = rows.end;
        spans.push(Span { cache: &mut *item.cache, rows, one_by_one: item.logits == Logits::OneByOne });
    }
    spans
}

/// The batch rows after which logits are wanted.
fn wanted_rows(items: &[ForwardItem<'_>]) -> Vec<usize> {
    let mut first = 0;
    let mut wanted = Vec::new();
    for item in items {
        let rows: Range<usize> = first..first + item.tokens.len();
        first = rows.end;
        match item.logits {
            Logits::None => {}
            Logits::Last => wanted.extend(rows.last()),
            Logits::All | Logits::OneByOne => wanted.extend(rows),
        }
    }
    wanted
}
