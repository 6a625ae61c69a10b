"""A second implementation of the model, the position maps and the calibrated KV codes, in PyTorch.

It shares no code with the program, computes in float32, and knows pages only because the maps and codes are defined by
them. On a GPU it reads long texts hundreds of times faster than two CPU cores. Llama models in GGUF.
"""
import math
import re

import gguf
import numpy as np
import torch

PAGE = 128
FRAME = 64
KEEP_NEAR = 1  # pages before a query's own that it sees as they are
# The steps of uniform quantizers of 0 to 6 bits on a unit Gaussian, and their errors (J. Max, 1960).
STEPS = [0.0, 1.5958, 0.9957, 0.5860, 0.3352, 0.1881, 0.1041]
ERRORS = [1.0, 0.3634, 0.1188, 0.03744, 0.01154, 0.003495, 0.001041]

torch.set_grad_enabled(False)
torch.backends.cuda.matmul.allow_tf32 = True
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Model:
    """Weights of a GGUF file, as float32."""

    def __init__(self, path: str):
        reader = gguf.GGUFReader(path)
        value = lambda key: reader.fields[key].contents()
        if value("general.architecture") != "llama":
            raise SystemExit(f"{path}: the twin reads llama models, not {value('general.architecture')}")
        self.n_layers = value("llama.block_count")
        self.n_heads = value("llama.attention.head_count")
        self.n_kv = value("llama.attention.head_count_kv")
        self.width = value("llama.embedding_length")
        self.dim = self.width // self.n_heads
        self.n_trained = value("llama.context_length")
        self.base = value("llama.rope.freq_base")
        self.eps = value("llama.attention.layer_norm_rms_epsilon")
        self.tokens = value("tokenizer.ggml.tokens")
        self.merges = value("tokenizer.ggml.merges")
        weights = {}
        for tensor in reader.tensors:
            array = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
            weights[tensor.name] = torch.from_numpy(array).to(DEVICE)
        self.embedding = weights["token_embd.weight"]
        self.output = weights.get("output.weight", self.embedding)
        self.output_norm = weights["output_norm.weight"]
        self.layers = [self.layer(weights, f"blk.{index}.") for index in range(self.n_layers)]

    def layer(self, weights: dict, prefix: str) -> dict:
        get = lambda name: weights[f"{prefix}{name}.weight"]
        # GGUF has the channels of a rotated pair side by side; here they are half a head apart.
        apart = lambda w: w.reshape(-1, self.dim // 2, 2, self.width).transpose(1, 2).reshape(-1, self.width)
        return {
            "qkv": torch.cat([apart(get("attn_q")), apart(get("attn_k")), get("attn_v")]).t().contiguous(),
            "o": get("attn_output").t().contiguous(),
            "gate_up": torch.cat([get("ffn_gate"), get("ffn_up")]).t().contiguous(),
            "down": get("ffn_down").t().contiguous(),
            "attn_norm": get("attn_norm"),
            "ffn_norm": get("ffn_norm"),
        }

    def norm(self, x, weight):
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + self.eps) * weight


class Positions:
    """A map, spelled as for `--positions`, with all its numbers: crates/engine/src/positions/map.rs has the formulae."""

    def __init__(self, text: str, model: Model):
        self.kind, _, rest = text.partition(":")
        given = dict(part.split("=") for part in rest.split(",") if part)
        self.n_trained, dim, base = model.n_trained, model.dim, model.base
        number = lambda key, default=None: int(given.get(key, default))
        frequencies = base ** -(np.arange(0, dim, 2) / dim)
        self.magnitude = 1.0
        if self.kind == "adaptive":
            self.window, self.reach = number("window"), number("reach")
            self.growth, self.exact = number("growth", 0), number("exact", model.n_trained)
            self.logn = given.get("logn", "on") == "on"
            # Of all scores, whatever the length: to try out, not in the program.
            self.sharpness = float(given.get("sharpness", 1))
        elif self.kind == "self-extend":
            self.group, self.window = number("group"), number("window")
        elif self.kind == "dca":
            self.chunk = number("chunk")
        elif self.kind == "ntk":
            frequencies = (base * float(given["factor"]) ** (dim / (dim - 2))) ** -(np.arange(0, dim, 2) / dim)
        elif self.kind == "yarn":
            factor = float(given["factor"])
            pair = lambda turns: dim * math.log(self.n_trained / (turns * 2 * math.pi)) / (2 * math.log(base))
            low, high = max(math.floor(pair(32)), 0), min(math.ceil(pair(1)), dim - 1)
            ramp = np.clip((np.arange(dim // 2) - low) / max(high - low, 0.001), 0, 1)
            frequencies = frequencies / factor * ramp + frequencies * (1 - ramp)
            self.magnitude = 0.1 * math.log(factor) + 1
        elif self.kind != "linear":
            raise SystemExit(f"positions `{text}`: there are linear, adaptive, self-extend, dca, yarn, ntk")
        self.frequencies = torch.tensor(frequencies, dtype=torch.float64, device=DEVICE)

    def turn(self, x, positions):
        """Rows `[..., n, dim]` turned for `[n]` positions."""
        angles = positions.to(torch.float64)[:, None] * self.frequencies
        cos, sin = angles.cos().float(), angles.sin().float()
        a, b = x.chunk(2, -1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    def scale(self, positions):
        """What queries at `[n]` positions are multiplied by, beside 1/√dim."""
        scale = torch.full_like(positions, self.magnitude, dtype=torch.float64)
        if self.kind == "adaptive":
            scale *= self.sharpness
            if self.logn:
                longer = (positions + 1).double().log() / math.log(self.exact)
                scale *= torch.where(positions >= self.exact, longer, 1.0)
        return scale.float()

    def frame_starts(self, n_keys: int, page: int):
        """Where queries of a page see the first position of each frame of `n_keys` keys."""
        first, start = torch.arange(0, n_keys, FRAME, device=DEVICE), page * PAGE
        if self.kind != "adaptive" or start + PAGE <= self.exact or start <= self.window:
            return first
        doublings = max(start // self.exact, 1).bit_length() - 1
        begun = self.exact << doublings
        grown = self.reach + self.growth * doublings + self.growth * max(start - begun, 0) // begun
        known = min(grown, self.exact) - PAGE - self.window
        far, farthest = start - first - self.window, start - self.window
        return torch.where(far > 0, start - self.window - (2 * far * known + farthest) // (2 * farthest), first)


def whole_bits(weights, average: float):
    """Bits of each channel: quads of falling weight get them by falling gain."""
    order = np.argsort(-weights, kind="stable")
    quads = weights[order].reshape(-1, 4).sum(1)
    bits = np.zeros(len(quads), int)
    for _ in range(round(average * len(quads))):
        gains = [w * (ERRORS[b] - ERRORS[b + 1]) if b < 6 else -math.inf for w, b in zip(quads, bits)]
        bits[int(np.argmax(gains))] += 1
    out = np.zeros(len(weights), int)
    out[order] = np.repeat(-np.sort(-bits), 4)
    return out


def rounded_gain(gain):
    """Four bits of exponent, four of mantissa."""
    gain = gain.clamp(2.0**-8, 248.0)
    exponent = gain.log2().floor().exp2()
    return exponent * (1 + ((gain / exponent - 1) * 16).round() / 16)


def per_channel(rows):
    return torch.tensor(np.array(rows), dtype=torch.float32, device=DEVICE)[None, :, None, :]


class KeyCode:
    """Keys of one layer `[batch, n_kv, n, dim]`, in their frames, as their codes have them: crates/kernels/src/kv."""

    def __init__(self, heads: list[dict], average_bits: float):
        variance = [np.maximum(head["key_variance"], 1e-9 * max(head["key_variance"])) for head in heads]
        weight = [v * np.array(head["query_square"]) for v, head in zip(variance, heads)]
        bits = [whole_bits(w, average_bits) for w in weight]
        self.mean = per_channel([head["key_mean"] for head in heads])
        self.deviation = per_channel(np.sqrt(variance))
        self.step = per_channel([[STEPS[b] for b in row] for row in bits])
        self.top = per_channel([[2**b - 1 for b in row] for row in bits])
        self.stored = self.top > 0
        self.weight = per_channel(weight) * self.stored

    def levels(self, z):
        code = (z / self.step.clamp(min=1e-9) + self.top / 2 + 0.5).floor().clamp(min=0)
        return (torch.minimum(code, self.top) - self.top / 2) * self.step

    def __call__(self, keys):
        z = (keys - self.mean) / self.deviation * self.stored
        gain = ((z * z).sum(-1, keepdim=True) / self.stored.sum(-1, keepdim=True)).sqrt().clamp(min=1 / 256)
        for _ in range(2):
            level = self.levels(z / gain)
            product = (self.weight * level * z).sum(-1, keepdim=True)
            square = (self.weight * level * level).sum(-1, keepdim=True)
            gain = torch.where(square > 0, product / square, gain)
        gain = rounded_gain(gain)
        return self.mean + self.levels(z / gain) * gain * self.deviation


class ValueCode:
    """Values of one layer, likewise."""

    def __init__(self, heads: list[dict], bits: int):
        self.mean = per_channel([head["value_mean"] for head in heads])
        self.size = torch.tensor([head["value_size"] for head in heads], device=DEVICE)[None, :, None, None]
        self.step, self.top = STEPS[bits], 2**bits - 1
        h = np.ones((1, 1))
        while len(h) < self.mean.shape[-1]:
            h = np.block([[h, h], [h, -h]])
        self.hadamard = torch.tensor(h / math.sqrt(len(h)), dtype=torch.float32, device=DEVICE)

    def __call__(self, values):
        z = (values @ self.hadamard - self.mean) / self.size
        square = (z * z).sum(-1, keepdim=True)
        size = (square / z.shape[-1]).sqrt().clamp(min=1 / 256)
        code = (z / size / self.step + self.top / 2 + 0.5).floor().clamp(0, self.top)
        level = (code - self.top / 2) * self.step
        product = (z * level).sum(-1, keepdim=True)
        gain = torch.where(product > 0, square / product.clamp(min=1e-20), torch.zeros_like(product))
        return (self.mean + rounded_gain(gain) * level * self.size) @ self.hadamard


class Cache:
    """How keys and values are stored: `f16` (here exact), or `kXvY` by the statistics of `lossy calibrate`."""

    def __init__(self, scheme: str, calibration: dict | None):
        found = re.fullmatch(r"k([234])v([234])", scheme)
        if not found and scheme != "f16":
            raise SystemExit(f"KV scheme `{scheme}`: there are f16 and k2v2 to k4v4")
        self.is_exact = not found
        self.sinks = 8
        if found:
            key_bits, value_bits = map(int, found.groups())
            self.keys = [KeyCode(heads, key_bits + 0.25) for heads in calibration["layers"]]
            self.values = [ValueCode(heads, value_bits) for heads in calibration["layers"]]


class Reader:
    """Texts of one length, read page by page: a page sees codes of those that are more than one page before it."""

    def __init__(self, model: Model, positions: Positions, cache: Cache, tokens):
        self.model, self.positions, self.cache = model, positions, cache
        n_texts, self.n = tokens.shape
        empty = lambda: [
            torch.zeros(n_texts, model.n_kv, self.n, model.dim, device=DEVICE) for _ in range(model.n_layers)
        ]
        # Keys are turned back by the first position of their frame.
        self.keys, self.values = empty(), empty()
        self.exact = [[] for _ in range(model.n_layers)]
        for first in range(0, self.n, PAGE):
            self.read(tokens[:, first:first + PAGE], first)

    def read(self, tokens, first: int):
        model, end = self.model, first + tokens.shape[1]
        x = model.embedding[tokens]
        at = torch.arange(first, end, device=DEVICE)
        for index, layer in enumerate(model.layers):
            self.pack(index, first // PAGE)
            q, k, v = self.project(layer, x)
            k, v = k.transpose(1, 2), v.transpose(1, 2)
            k = self.positions.turn(k, at % FRAME) * self.positions.magnitude
            self.keys[index][:, :, first:end], self.values[index][:, :, first:end] = k, v
            if not self.cache.is_exact:
                self.exact[index].append((k, v))
            q = q.permute(0, 2, 3, 1, 4).flatten(2, 3)
            asking = at.repeat(model.n_heads // model.n_kv)
            scores = self.scores(index, q, asking, end)
            scores[..., first:].masked_fill_(asking[:, None] < at[None], -math.inf)
            out = scores.softmax(-1) @ self.values[index][:, :, :end]
            out = out.unflatten(2, (-1, end - first)).permute(0, 3, 1, 2, 4).flatten(2)
            x = self.finish(layer, x, out)

    def pack(self, index: int, page: int):
        """The page that the queries of `page` are the first to see as codes."""
        packed = page - 1 - KEEP_NEAR
        if self.cache.is_exact or packed < 0:
            return
        (k, v), rows = self.exact[index].pop(0), slice(packed * PAGE, (packed + 1) * PAGE)
        sinks = self.cache.sinks
        for stored, code, exact in ((self.keys, self.cache.keys, k), (self.values, self.cache.values, v)):
            stored[index][:, :, rows] = code[index](exact)
            if packed == 0:
                stored[index][:, :, :sinks] = exact[:, :, :sinks]

    def project(self, layer: dict, x):
        model = self.model
        qkv = model.norm(x, layer["attn_norm"]) @ layer["qkv"]
        q, k, v = qkv.split([model.width, model.n_kv * model.dim, model.n_kv * model.dim], -1)
        q = q.unflatten(-1, (model.n_kv, -1, model.dim))
        return q, k.unflatten(-1, (model.n_kv, -1)), v.unflatten(-1, (model.n_kv, -1))

    def finish(self, layer: dict, x, attention):
        x = x + attention @ layer["o"]
        gate, up = (self.model.norm(x, layer["ffn_norm"]) @ layer["gate_up"]).chunk(2, -1)
        return x + (torch.nn.functional.silu(gate) * up) @ layer["down"]

    def scores(self, index: int, q, asking, n_keys: int):
        """Of queries `[batch, n_kv, n, dim]` at the positions `asking` of one page, to the first `n_keys` keys."""
        p, keys = self.positions, self.keys[index][:, :, :n_keys]
        q = q * (p.scale(asking) / math.sqrt(q.shape[-1]))[:, None]
        at = torch.arange(n_keys, device=DEVICE)
        page = int(asking[0]) // PAGE
        against = lambda query_at, key_at: p.turn(q, query_at) @ p.turn(keys, key_at).transpose(-1, -2)
        starts = p.frame_starts(n_keys, page)
        near = against(asking, starts.repeat_interleave(FRAME)[:n_keys])
        if p.kind == "self-extend" and page * PAGE + PAGE > p.window:
            far = against(asking // p.group + p.window - p.window // p.group, at // p.group - at % FRAME)
            return torch.where(asking[:, None] - at < p.window, near, far)
        if p.kind == "dca":
            behind = page * PAGE // p.chunk - at // p.chunk
            inside = at % p.chunk - at % FRAME
            before = against((asking % p.chunk + p.chunk).clamp(max=p.n_trained - 1), inside)
            farther = against(torch.full_like(asking, p.n_trained - 1), inside)
            return torch.where(behind == 0, near, torch.where(behind == 1, before, farther))
        return near

    def ask(self, tokens):
        """Log-probabilities `[n_texts, n_questions, n, n_vocab]` after the tokens of questions, each after its text."""
        model, (n_texts, n_questions, n) = self.model, tokens.shape
        if self.n // PAGE != (self.n + n - 1) // PAGE:
            raise ValueError(f"questions of {n} tokens after {self.n} do not lie in one page")
        x = model.embedding[tokens]
        at = torch.arange(self.n, self.n + n, device=DEVICE)
        reps = model.n_heads // model.n_kv
        for index, layer in enumerate(model.layers):
            if self.n % PAGE == 0:
                self.pack(index, self.n // PAGE)
            q, k, v = self.project(layer, x)
            k, v = k.permute(0, 3, 1, 2, 4), v.permute(0, 3, 1, 2, 4)
            q = q.permute(0, 3, 1, 4, 2, 5).flatten(2, 4)
            text = self.scores(index, q, at.repeat(n_questions * reps), self.n).unflatten(2, (n_questions, -1))
            scale = (self.positions.scale(at) / math.sqrt(model.dim))[:, None]
            own_q = self.positions.turn(q.unflatten(2, (n_questions, reps, n)) * scale, at).flatten(3, 4)
            own = own_q @ (self.positions.turn(k, at) * self.positions.magnitude).transpose(-1, -2)
            own = own.masked_fill(at.repeat(reps)[:, None] < at[None], -math.inf)
            weights = torch.cat([text, own], -1).softmax(-1)
            out = (weights[..., :self.n].flatten(2, 3) @ self.values[index]).unflatten(2, (n_questions, -1))
            out = out + weights[..., self.n:] @ v
            out = out.unflatten(3, (reps, n)).permute(0, 2, 4, 1, 3, 5).flatten(3)
            x = self.finish(layer, x, out)
        return (model.norm(x, model.output_norm) @ model.output.t()).log_softmax(-1)
