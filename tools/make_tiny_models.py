"""Tiny random models of every family with the logits that transformers computes for them, for the engine's tests.

usage: make_tiny_models.py OUT_DIR        (writes OUT_DIR/NAME/{config.json, model*.safetensors, model.gguf, reference.json})
  needs: torch, transformers, safetensors, gguf

The weights are rounded to the stored type before the reference runs in float32 on them, so that an engine with exact
activations must give the same logits to float rounding. `reference.json` holds the token ids, the logits of every
position, and the versions. The GGUF files are written here as llama.cpp's converter lays them out: rows of Q and K of
`llama` interleaved, Llama 3.1's frequencies as the tensor `rope_freqs.weight`.
"""
import json, math, pathlib, sys
import gguf, numpy as np, torch, transformers
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

SHAPE = dict(vocab_size=80, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.3, rms_norm_eps=1e-5)
N_TOKENS = 48

def rope(kind, theta=10000.0, **parameters):
    return {"rope_theta": theta, "rope_type": kind, **parameters}

LLAMA3 = dict(factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)
YARN = dict(factor=4.0, original_max_position_embeddings=16)
# transformers takes the short divisors up to the original context, which the reference's text fills.
LONGROPE = dict(short_factor=[1.0, 1.25, 1.5, 4.0], long_factor=[1.0, 2.0, 4.0, 8.0], original_max_position_embeddings=N_TOKENS)
MODELS = {
    "llama": (LlamaConfig, dict(tie_word_embeddings=True), rope("default"), torch.float32),
    "llama3": (LlamaConfig, dict(tie_word_embeddings=False), rope("llama3", 500.0, **LLAMA3), torch.float16),
    "llama-linear": (LlamaConfig, dict(tie_word_embeddings=False), rope("linear", factor=4.0), torch.bfloat16),
    "llama-dynamic": (LlamaConfig, dict(tie_word_embeddings=False), rope("dynamic", factor=4.0), torch.float32),
    "llama-longrope": (LlamaConfig, dict(tie_word_embeddings=False), rope("longrope", **LONGROPE), torch.float32),
    "llama-biased": (LlamaConfig, dict(tie_word_embeddings=False, attention_bias=True, mlp_bias=True), rope("default"), torch.float32),
    "mistral": (MistralConfig, dict(tie_word_embeddings=False, sliding_window=None, head_dim=8), rope("default", 1e6), torch.bfloat16),
    "qwen2": (Qwen2Config, dict(tie_word_embeddings=True), rope("default", 1e6), torch.bfloat16),
    "qwen2-yarn": (Qwen2Config, dict(tie_word_embeddings=True), rope("yarn", 100.0, **YARN), torch.float16),
    "qwen3": (Qwen3Config, dict(tie_word_embeddings=False, head_dim=16), rope("default", 1e6), torch.float16),
}

GGUF_NAMES = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
              "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
              "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
GLOBAL = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}

def gguf_name(name):
    stem, kind = name.rsplit(".", 1)
    if stem in GLOBAL:
        return f"{GLOBAL[stem]}.{kind}"
    layer, part = stem.removeprefix("model.layers.").split(".", 1)
    return f"blk.{layer}.{GGUF_NAMES[part]}.{kind}"

def interleave(rows, n_heads):
    return rows.reshape(n_heads, 2, rows.shape[0] // n_heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)

def llama3_factors(config, parameters):
    head_dim = config.hidden_size // config.num_attention_heads
    frequencies = 1 / parameters["rope_theta"] ** (np.arange(0, head_dim, 2) / head_dim)
    turns = parameters["original_max_position_embeddings"] * frequencies / (2 * math.pi)
    low, high, factor = parameters["low_freq_factor"], parameters["high_freq_factor"], parameters["factor"]
    kept = np.clip((turns - low) / (high - low), 0, 1)
    return (1 / (kept + (1 - kept) / factor)).astype(np.float32)

def longrope_attention(config, parameters):
    factor = config.max_position_embeddings / parameters["original_max_position_embeddings"]
    return math.sqrt(1 + math.log(factor) / math.log(parameters["original_max_position_embeddings"]))

def write_gguf(path, config, parameters, weights, dtype):
    arch = {"mistral": "llama"}.get(config.model_type, config.model_type)
    w = gguf.GGUFWriter(path, arch)
    w.add_name(path.parent.name)
    w.add_block_count(config.num_hidden_layers); w.add_context_length(config.max_position_embeddings)
    w.add_embedding_length(config.hidden_size); w.add_feed_forward_length(config.intermediate_size)
    w.add_head_count(config.num_attention_heads); w.add_head_count_kv(config.num_key_value_heads)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    w.add_key_length(head_dim); w.add_value_length(head_dim); w.add_rope_dimension_count(head_dim)
    w.add_layer_norm_rms_eps(config.rms_norm_eps); w.add_rope_freq_base(parameters["rope_theta"])
    kind = parameters["rope_type"]
    if kind in ("linear", "yarn"):
        w.add_rope_scaling_type(gguf.RopeScalingType(kind)); w.add_rope_scaling_factor(parameters["factor"])
    if kind == "yarn":
        w.add_rope_scaling_orig_ctx_len(parameters["original_max_position_embeddings"])
    if kind == "llama3":
        w.add_tensor("rope_freqs.weight", llama3_factors(config, parameters))
    if kind == "longrope":
        w.add_rope_scaling_type(gguf.RopeScalingType(kind)); w.add_rope_scaling_attn_factors(longrope_attention(config, parameters))
        w.add_rope_scaling_orig_ctx_len(parameters["original_max_position_embeddings"])
        for length in ("short", "long"):
            w.add_tensor(f"rope_factors_{length}.weight", np.array(parameters[f"{length}_factor"], np.float32))
    for name, tensor in weights.items():
        rows = tensor.float().numpy()
        if arch == "llama" and "q_proj" in name: rows = interleave(rows, config.num_attention_heads)
        if arch == "llama" and "k_proj" in name: rows = interleave(rows, config.num_key_value_heads)
        if rows.ndim == 1 or dtype == torch.float32: w.add_tensor(gguf_name(name), rows)
        elif dtype == torch.float16: w.add_tensor(gguf_name(name), rows.astype(np.float16))
        else:
            raw = gguf.quants.quantize(rows, gguf.GGMLQuantizationType.BF16)
            w.add_tensor(gguf_name(name), raw, raw_dtype=gguf.GGMLQuantizationType.BF16)
    w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()

out = pathlib.Path(sys.argv[1])
for name, (Config, extra, parameters, dtype) in MODELS.items():
    torch.manual_seed(len(name))
    keys = {k: v for k, v in parameters.items()}
    config = Config(**SHAPE, **extra, rope_parameters=keys, attn_implementation="eager", bos_token_id=None, eos_token_id=None, pad_token_id=None)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter.ndim == 1: parameter.copy_(1 + 0.3 * torch.randn_like(parameter) if "norm" in parameter_name else 0.5 * torch.randn_like(parameter))
            parameter.copy_(parameter.to(dtype).float())
        ids = torch.randint(0, config.vocab_size, (N_TOKENS,))
        logits = model(ids[None]).logits[0]
    directory = out / name; directory.mkdir(parents=True, exist_ok=True)
    model.to(dtype).save_pretrained(directory, max_shard_size="20KB" if name == "qwen2" else "5GB")
    (directory / "generation_config.json").unlink(missing_ok=True)
    weights = {k: v for k, v in model.state_dict().items() if not (config.tie_word_embeddings and k == "lm_head.weight")}
    write_gguf(directory / "model.gguf", config, parameters, weights, dtype)
    json.dump({"ids": ids.tolist(), "logits": [[float(f"{x:.8g}") for x in row] for row in logits.tolist()],
               "made_with": {"torch": torch.__version__, "transformers": transformers.__version__}}, open(directory / "reference.json", "w"))
    print(name, sorted(p.name for p in directory.iterdir()), sum(p.stat().st_size for p in directory.iterdir()), logits.std().item(), flush=True)
