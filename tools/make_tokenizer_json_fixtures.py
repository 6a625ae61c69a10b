"""Small Hugging Face tokenizers, with the ids and texts that the `tokenizers` package gives.

usage: make_tokenizer_json_fixtures.py TEXT_FILE OUT_DIR
  needs: tokenizers, transformers
TEXT_FILE is any English prose to train on. For every tokenizer OUT_DIR/<name>/ gets tokenizer.json, tokenizer_config.json and
expected.json: strings (from ../tokens/strings.json beside OUT_DIR, and some more), their ids with special tokens parsed ("special"),
read as text ("plain"), parsed and with those around a text ("whole"), and the texts that "special" decodes to.
"""
import json, pathlib, sys
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPECIAL = ["<|begin|>", "<|im_start|>", "<|im_end|>"]

def byte_level(lines):
    t = Tokenizer(models.BPE(ignore_merges=True))
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=500, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    t.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("<word>", single_word=True, lstrip=True)])
    t.post_processor = processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[("<|begin|>", 0)])
    return t, {"bos_token": "<|begin|>", "eos_token": {"content": "<|im_end|>", "special": True}, "chat_template": "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}"}

def sentencepiece_like(lines, metaspace):
    base = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    base.pre_tokenizer = pre_tokenizers.Metaspace()
    base.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=250, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False))
    model = json.loads(base.to_str())["model"]
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + [t for t in model["vocab"] if t not in ("<unk>", "<s>", "</s>")]
    t = Tokenizer(models.BPE({s: i for i, s in enumerate(tokens)}, [tuple(m) for m in model["merges"]], unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if metaspace:
        t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    t.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in ("<unk>", "<s>", "</s>")])
    t.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return t, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True}

def ids(t, texts, plain=False, add_special_tokens=False):
    t.encode_special_tokens = plain
    return [t.encode(s, add_special_tokens=add_special_tokens).ids for s in texts]

prose = pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")
lines = [" ".join(paragraph.split()) for paragraph in prose.split("\n\n")][:1500]
out = pathlib.Path(sys.argv[2])
strings = json.loads((out.parent / "tokens" / "strings.json").read_text())
texts = [s for s in strings if len(s) <= 60][::3] + ["", "<s>a</s>", "a<s> b", "<|begin|>x", "a <word> b", "a<word>", "<tool>x<tool>", "x <tool> y", "cafe\u0301"]
for name, (t, config) in {"byte-level": byte_level(lines), "sentencepiece": sentencepiece_like(lines, False), "metaspace": sentencepiece_like(lines, True)}.items():
    folder = out / name; folder.mkdir(parents=True, exist_ok=True)
    special = ids(t, texts)
    expected = {"made_with": {"tokenizers": tokenizers.__version__}, "strings": texts, "special": special, "plain": ids(t, texts, plain=True),
                "whole": ids(t, texts, add_special_tokens=True), "decoded": [t.decode(i, skip_special_tokens=False) for i in special],
                "decoded_without_special": [t.decode(i, skip_special_tokens=True) for i in special]}
    t.encode_special_tokens = False
    t.save(str(folder / "tokenizer.json"), pretty=False)
    json.dump(config, open(folder / "tokenizer_config.json", "w"), indent=1)
    json.dump(expected, open(folder / "expected.json", "w"), separators=(",", ":"))
    print(name, t.get_vocab_size(), "tokens", len(texts), "strings")
