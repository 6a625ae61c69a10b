"""Ids that Hugging Face's `tokenizers` gives to hostile strings, with pipelines as models' own tokenizer.json have them.

usage: make_published_token_fixtures.py SMOLLM2.gguf QWEN2.gguf OUT_FILE
  needs: gguf, tokenizers
The strings are those of strings.json beside OUT_FILE, and decomposed characters. OUT_FILE holds, for every name of a
pre-tokenizer, one number per string: FNV-1a (32 bits) of its ids as little-endian 32-bit numbers. `composed` has the ids
of Qwen2 for strings that its normalizer changes. Pre-tokenizers run with the vocabulary of SmolLM2, Qwen2 with its own.
"""
import json, pathlib, struct, sys, unicodedata
import gguf, tokenizers
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

def split(pattern): return pre_tokenizers.Split(Regex(pattern), "isolated")

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
QWEN2 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LATIN_AND_OTHERS = ("\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u1f7dᾀ-ᾴᾶ-ᾼ"
    "\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ"
    "𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+")
CJK = "[一-龥ࠀ-一가-\ud7ff]+"
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"
PUBLISHED = {
    "deepseek-llm": [split("[\r\n]"), split(LATIN_AND_OTHERS), split("\\s?[!-/:-~！-／：-～‘-‟\u3000-。]+"), split(r"\s+$"), split(CJK), pre_tokenizers.Digits(True)],
    "deepseek-coder": [split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split(CJK), pre_tokenizers.Digits(True)],
    "seed-coder": [split(CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}" + "\r\n" + r"]+|\s*[" + "\r\n" + r"]+|\s+(?!\S)|\s+")],
    "superbpe": [split(r"\p{N}+"), split(r"(?=(\d{3})+(?!\d))")],
    "poro-chat": [split(BLOOM)],
    "viking": [split(BLOOM), pre_tokenizers.Digits(True)],
}

def fnv1a(ids):
    h = 0x811C9DC5
    for byte in struct.pack(f"<{len(ids)}I", *ids):
        h = (h ^ byte) * 0x01000193 & 0xFFFFFFFF
    return h

def bpe(path):
    """Vocabulary and merges of a GGUF file."""
    reader = gguf.GGUFReader(path)
    field = lambda key: reader.fields["tokenizer.ggml." + key].contents()
    vocab = {token: id for id, token in enumerate(field("tokens"))}
    return models.BPE(vocab=vocab, merges=[tuple(merge.split(" ")) for merge in field("merges")])

def pipeline(model, splits, normalizer=None):
    tokenizer = Tokenizer(model)
    if normalizer: tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splits + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return tokenizer

out_file = pathlib.Path(sys.argv[3])
texts = json.loads((out_file.parent / "strings.json").read_text())
decomposed = ["cafe\u0301", "Tie\u0302\u0301ng Vie\u0323\u0302t", "\u1112\u1161\u11ab\u1100\u1173\u11af", "\u212b \u2126 \u212a", "A\u030a", "e\u0301\u0323", "e\u0323\u0301",
    "\u0344", "\u0958", "\u2adc", "\ufb1d", "\U0001d15e", "q\u0307\u0323", "\u0041\u0300\u0301 \u0300 x", "\u1100\u1161", "\uac00\u11a8", "\u0b47\u0b57\u0b3e", "\u304b\u3099 \u30cf\u309a",
    "\U00011099\U000110ba", "\U00011935\U00011930", "\U00016121\U00016121", "\U00016d68\U00016d67", "a\u1ac1\u0323", "a\u0323\u1ac1", "\u2000\u2001\u200b", "\ufa0e \uf900 \U0002f800",
    "</s>", "<|im_start|>e\u0301<|im_end|>", "e\u200d\u0301", "\u0301", "\n\u0301", " \u0301e\u0301", "1\u0301 2\u20e3", "'\u0301s it's e\u0301's"]
special = {"<|im_start|>", "<|im_end|>"}
changed = [text for text in texts + decomposed if unicodedata.normalize("NFC", text) != text or text in decomposed]
out = {"made_with": {"tokenizers": tokenizers.__version__, "vocabularies": [pathlib.Path(path).name for path in sys.argv[1:3]]}, "fnv1a": {}}
smollm2 = bpe(sys.argv[1])
for name, splits in PUBLISHED.items():
    tokenizer = pipeline(smollm2, splits)
    out["fnv1a"][name] = [fnv1a(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts]
qwen2 = pipeline(bpe(sys.argv[2]), [split(QWEN2)], normalizers.NFC())
qwen2.add_special_tokens([tokenizers.AddedToken(text, normalized=False, special=True) for text in sorted(special)])
out["composed"] = [[text, qwen2.encode(text, add_special_tokens=False).ids] for text in changed]
json.dump(out, open(out_file, "w"), ensure_ascii=True, separators=(",", ":"))
print({name: len(hashes) for name, hashes in out["fnv1a"].items()}, len(out["composed"]))
