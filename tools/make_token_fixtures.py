"""Reference token ids of hostile strings, made by llama.cpp.

usage: make_token_fixtures.py MODELS_DIR OUT_DIR TEXT_FILE
  needs: llama-cpp-python
MODELS_DIR holds the files that tools/fetch_test_models.py fetches; TEXT_FILE is any English prose to take excerpts from.

Writes OUT_DIR/strings.json, a list of strings, and for every model OUT_DIR/<name>.json: for every string, in the same order,
its ids with special tokens read as text ("plain") and parsed ("special"). No BOS or EOS is added.
"""
import json, pathlib, random, sys
import llama_cpp

MODELS = {"smollm2": "SmolLM2-135M-Instruct.Q4_1.gguf", "qwen2.5-coder-0.5b": "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"}
random.seed(20)

WORDS = """
Hello world|Hello, world!|hello  world|  leading|trailing  | |a|A|.|I'm you're he'll we've they'd it's don't|I'M YOU'RE HE'LL WE'VE THEY'D IT'S
'S 'T 'Re 'vE 'm 'lL 'D|o'clock 'tis rock'n'roll|''s ''|x's' y't|McDonald's iPhone eBay|CamelCaseWord snake_case_word kebab-case-word|ALLCAPS aLtErNaTe
0|1|12|123|1234|12345|1234567890|3.14159|1,000,000.50|-42|+7|1e-10|0x1F|0b1010|10%|$5.00|€5|£5|1st 2nd 3rd|2024-01-31T23:59:59Z|12:30|192.168.0.1
¼ ½ ¾|x² + y³|Ⅷ ⅻ|①②③|１２３４|٠١٢٣|०१२३|𝟘𝟙𝟚|߁߂߃|a1b2c3|1a2b3c|abc123def456
!|!!|!!!|?!|...|…|--|—|***|***bold***|###|# Title|## Title|- item|* item|1. item|> quote|`code`|```rust\\nfn main() {}\\n```
(a)|[b]|{c}|<d>|"e"|'f'|`g`|a/b\\\\c|a&b|a|b|a=b|a==b|a!=b|a<=b|a->b|a=>b|a::b|a.b.c|@user|#tag|user@example.com|~/.bashrc|$HOME|%PATH%|^caret|a_b__c___d
https://example.com/path?query=1&other=%20#fragment|file:///C:/Windows/System32|s3://bucket/key
def f(x):\\n    return x + 1\\n|for (int i = 0; i < n; ++i) {\\n\\tsum += a[i];\\n}|fn main() { println!("{}", 1u64 << 63); }|SELECT * FROM t WHERE a = 'b';
{"key": [1, 2.5, null, true], "nested": {"a": "\\\\n"}}|<html><body class="x">&nbsp;</body></html>|\\\\frac{a}{b} \\\\sum_{i=0}^n x_i|git commit -m "x" && git push
\t|\t\t|\ta|a\tb|\t a| \ta|\n|\n\n|\n\n\n|\na|a\n|a\nb|a\n\nb|a\n \nb|a \n b|a\n\t\nb|\r|\r\n|\r\n\r\n|a\r\nb|a\rb|\n\r|\r\r\n\n|\v|\f|a\vb\fc
a b|a  b|a   b|a    b|a     b|a      b|a       b|a        b|a                b| a| \n| \n\n|  \n|\n |\n  |\n   a|   \n   a|a \n|a  \n  \n b|\t\n\t|   .|   1|   !|  'm|  's
café|cafe\u0301|naïve|nai\u0308ve|Å|A\u030a|ﬁ ﬂ|ß ẞ|İstanbul ıi|ſ 'ſ I'ſ|K Å|ǅ ǲ|ʰʷ|ª º|Ǆ|ᵃ
Привет, мир!|Ελληνικά|Türkçe ğüşiöç|Čeština žluťoučký kůň|Tiếng Việt có dấu|עברית שלום|العربية مرحبا|فارسی ۱۲۳|हिन्दी नमस्ते|বাংলা|தமிழ்|తెలుగు|ಕನ್ನಡ|മലയാളം|සිංහල|ไทย สวัสดี|ລາວ|བོད་ཡིག|မြန်မာ|ქართული|Հայերեն|አማርኛ|ខ្មែរ|ᏣᎳᎩ|ᐃᓄᒃᑎᑐᑦ|монгол ᠮᠣᠩᠭᠣᠯ
你好，世界！|中文没有空格的句子。|繁體中文|日本語のテキスト、カタカナ、ひらがな。|한국어 텍스트|ㅎㅏㄴ|한국|ｆｕｌｌｗｉｄｔｈ ＡＢＣ|「引用」『二重』|𠮷野家|㍿㌔|々〆〤
😀|😀😃😄|👍🏽|👩‍👩‍👧‍👦|🏳️‍🌈|🇩🇪🇫🇷|❤️|☺︎|🧑🏿‍🚀 in space|a😀b|😀 a|1️⃣|⌚⏰|🫠🫡|♥♦♣♠|→←↑↓|≤≥≠≈∞∑∏√∫|αβγ|∀x∈ℝ|ℵ₀|°C ℃ ℉
\u00a0|a\u00a0b|\u00a0a|\u2003|a\u2003b|\u3000|a\u3000b|\u3000\u3000a|\u2028|a\u2028b|\u2029|\u0085|a\u0085b|\u1680a|\u202f|\u205f\u205fa|  \u00a0 a|\u00a0 \u00a0
\u200b|a\u200bb|\u200c\u200d|\u200e\u200f|\u202ea\u202c|\ufeff|\ufeffa|a\ufeff|\u00ad|co\u00adop|\u2060|\u180e|\ufe0f|\u034f
\ufffd|\uffff|\ufdd0|\ue000|\U000f0000|\U0010ffff|\U0001f9ff\U0001fa99|\u0300|\u0300\u0301\u0302|a\u0300\u0301\u0302\u0303\u0304|Z\u0351\u036b\u0343a\u0323l\u0321g\u0316o\u0335|\u20dd|a\u20dd
\x00|a\x00b|\x01\x02\x03|\x04|a\x04b|\x06a|a\x13b\x14c|\x16|\x1b[31mred\x1b[0m|\x1c\x1d\x1e\x1f|a\x1db|\x7f|\x80\x9f|a\x7fb|\xa1\xac\xad\xae\xff
<|im_start|>|<|im_end|>|<|endoftext|>|<|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\n|<|im_start|><|im_start|>|<|im_start|| <|im_end|> |a<|im_end|>b|<|im_end|>\\n\\n|<|im_start|>  x|<|IM_START|>|<| im_start |>|<|im_<|im_end|>start|>|<|endoftext|><|im_end|>
<s>|</s>|<unk>|<pad>|[INST] x [/INST]|<<SYS>>|<|eot_id|>|<|begin_of_text|>|<bos>|<eos>|<tool_call>\\n{"name": "f"}\\n</tool_call>|<tool_call></tool_call>|<tool_call|<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>|<repo_name>x<file_sep>y|<filename>|<jupyter_code>1+1|<issue_start>|<gh_stars>100|<empty_output>|<0x0A>|<0xE2><0x96><0x81>|[PAD151665]|Ġthe|▁the|Ċ|Âł|the▁cat
"""

def strings():
    out = []
    for line in WORDS.strip("\n").split("\n"):
        # a bar inside <|…|> belongs to the token
        line = line.replace("<|", "\ue0f0").replace("|>", "\ue0f1")
        out += [s.replace("\ue0f0", "<|").replace("\ue0f1", "|>").replace("\\n", "\n").replace("\\t", "\t").replace("\\\\", "\\")
                for s in line.split("|")]
    out += [" " * n + "a" for n in range(1, 20)] + ["a" + " " * n for n in range(1, 12)] + ["\n" * n + " a" for n in range(1, 8)]
    out += ["a" * 300, "ab" * 200, " " * 300, " " * 300 + "x", "\n" * 200, "\t" * 100 + "x", "9" * 100, "!" * 150, "日" * 100, "😀" * 60,
            "-" * 80 + "\n", "=" * 81, "a " * 150, "\r\n" * 60, "." * 33 + " " * 33 + "." * 33]
    prose = pathlib.Path(sys.argv[3]).read_text(encoding="utf-8")
    for _ in range(25):
        at = random.randrange(len(prose) - 400)
        out.append(prose[at:at + random.randrange(20, 300)])
    alphabets = ["abcdefgh '", " \t\n\r\u00a0\u3000ab", "0123456789.,- ", "!?.,;:'\"()[]{}<>|/\\_-+*=&^%$#@~` \n",
                 "aA1 é日😀\u0301\u200b\n", "".join(map(chr, range(0x20, 0x250))), "\x00\x01\x7f\x80a \n"]
    for alphabet in alphabets:
        out += ["".join(random.choice(alphabet) for _ in range(random.randrange(3, 60))) for _ in range(12)]
    blocks = [(0x20, 0x7f), (0xa0, 0x24f), (0x370, 0x52f), (0x590, 0x6ff), (0x900, 0xdff), (0x1e00, 0x2bff), (0x3000, 0x9fff), (0xac00, 0xd7a3),
              (0xf900, 0xffef), (0x10000, 0x103ff), (0x1d400, 0x1d7ff), (0x1f300, 0x1f64f)]
    for _ in range(40):
        out.append("".join(chr(random.randint(*random.choice(blocks))) for _ in range(random.randrange(3, 40))))
    seen = set()
    return [s for s in out if s and not (s in seen or seen.add(s))]

out = pathlib.Path(sys.argv[2]); out.mkdir(parents=True, exist_ok=True)
texts = strings()
json.dump(texts, open(out / "strings.json", "w"), ensure_ascii=True, indent=0)
for name, file in MODELS.items():
    model = llama_cpp.Llama(str(pathlib.Path(sys.argv[1]) / file), vocab_only=True, verbose=False)
    ids = {kind: [model.tokenize(s.encode(), add_bos=False, special=kind == "special") for s in texts] for kind in ("plain", "special")}
    ids["made_with"] = {"llama-cpp-python": llama_cpp.__version__, "gguf": file}
    json.dump(ids, open(out / f"{name}.json", "w"), separators=(",", ":"))
    print(name, len(texts), "strings", sum(map(len, ids["plain"])), "ids")
