"""Small SentencePiece vocabularies, with the ids that sentencepiece and llama.cpp give to hostile strings.

usage: make_sentencepiece_fixtures.py TEXT_FILE OUT_FILE
  needs: sentencepiece, gguf, llama-cpp-python
TEXT_FILE is any English prose to train on. The strings are those of testdata/tokens/strings.json beside OUT_FILE.

OUT_FILE holds one object per vocabulary: its keys as GGUF has them, and the ids of every string, with special tokens read as text
("plain") and, where llama.cpp was asked, parsed ("special"). "by" says who gave the ids: "both" means that sentencepiece and llama.cpp
agree on every string, which this script checks. sentencepiece alone is asked about a vocabulary without bytes, which llama.cpp cannot
use, and llama.cpp alone about own symbols, which it reads before the text around them. No BOS or EOS is added.
"""
import itertools, json, pathlib, sys, tempfile
import gguf, llama_cpp, sentencepiece

VOCABS = {
    "bytes, space before": dict(vocab_size=760, byte_fallback=True),
    "bytes, no space before, own symbols": dict(vocab_size=760, byte_fallback=True, add_dummy_prefix=False,
                                                user_defined_symbols=["<tool>", "<sep>", "  "], control_symbols=["<|im_start|>"]),
    "no bytes": dict(vocab_size=300, byte_fallback=False),
    "tokens across words": dict(vocab_size=700, byte_fallback=True, split_by_whitespace=False),
}
EXTRA = ["<tool>", "a<tool>b", " <tool> x", "<tool><sep>", "<s>a</s>", "<unk>", "a  b", "a   b", "of the of the", "and the", "▁a", "a▁b", "▁▁"]

def train(lines, options):
    with tempfile.TemporaryDirectory() as folder:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_prefix=f"{folder}/m", model_type="bpe", normalization_rule_name="identity",
            remove_extra_whitespaces=False, minloglevel=2, max_sentence_length=100000, **options)
        return sentencepiece.SentencePieceProcessor(model_file=f"{folder}/m.model")

def kind(model, i):
    return 2 if model.is_unknown(i) else 6 if model.is_byte(i) else 5 if model.is_unused(i) else 3 if model.is_control(i) else 1

def llama_ids(keys, texts):
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/vocab.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_block_count(1); writer.add_context_length(64); writer.add_embedding_length(32); writer.add_head_count(1)
        writer.add_feed_forward_length(32); writer.add_layer_norm_rms_eps(1e-5)
        writer.add_tokenizer_model("llama"); writer.add_token_list(keys["tokens"]); writer.add_token_scores(keys["scores"])
        writer.add_token_types(keys["token_types"]); writer.add_add_space_prefix(keys["add_space_prefix"])
        writer.add_bos_token_id(1); writer.add_eos_token_id(2); writer.add_unk_token_id(0)
        writer.write_header_to_file(); writer.write_kv_data_to_file(); writer.write_tensors_to_file(); writer.close()
        model = llama_cpp.Llama(path, vocab_only=True, verbose=False)
        return {kind: [model.tokenize(s.encode(), add_bos=False, special=kind == "special") for s in texts] for kind in ("plain", "special")}

prose = pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")
lines = [" ".join(paragraph.split()) for paragraph in prose.split("\n\n")][:1500]
out_file = pathlib.Path(sys.argv[2])
MAX_CHARACTERS = 100
texts = [s for s in json.loads((out_file.parent / "strings.json").read_text()) if len(s) <= MAX_CHARACTERS] + EXTRA
out = {"made_with": {"sentencepiece": sentencepiece.__version__, "llama-cpp-python": llama_cpp.__version__}, "max_characters": MAX_CHARACTERS, "more_strings": EXTRA, "vocabs": []}
for name, options in VOCABS.items():
    model = train(lines, options)
    tokens = [model.id_to_piece(i) for i in range(model.vocab_size())]
    user = options.get("user_defined_symbols", [])
    types = [4 if token.replace("▁", " ") in user else kind(model, i) for i, token in enumerate(tokens)]
    # GGUF has the text of a user-defined token as it is in a text
    tokens = [token.replace("▁", " ") if type == 4 else token for token, type in zip(tokens, types)]
    keys = dict(tokens=tokens, scores=[model.get_score(i) for i in range(model.vocab_size())], token_types=types,
                add_space_prefix=options.get("add_dummy_prefix", True))
    vocab = dict(name=name, by="sentencepiece", keys=keys, plain=[model.encode(text) for text in texts])
    if options["byte_fallback"]:
        theirs = llama_ids(keys, texts)
        same = sum(a == b for a, b in zip(vocab["plain"], theirs["plain"]))
        print(name, len(tokens), "tokens; llama.cpp and sentencepiece agree on", same, "of", len(texts))
        assert user or same == len(texts)
        vocab |= dict(by="llama.cpp", **theirs) if user else dict(by="both")
    out["vocabs"].append(vocab)
json.dump(out, open(out_file, "w"), ensure_ascii=True, separators=(",", ":"))
