"""The texts of `lossy measure --task passkey` and `multi-passkey`, word for word, as token ids."""
from typing import NamedTuple

MASK = (1 << 64) - 1
INTRODUCTION = (
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. "
    "I will quiz you about the important information there."
)
GARBAGE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
MIN_KEY, MAX_KEY = 10_000, 50_000
NAMES = [
    "door code of the old mill by the river",
    "bank balance of the captain of the red ship",
    "phone number of the bakery on the corner",
    "flight number of the evening flight to Madrid",
    "house number of the blue villa at the lake",
    "ticket price of the concert in the cathedral",
    "population of the village in the mountains",
    "license plate of the black car of the doctor",
    "length of the road to the northern lighthouse",
    "serial number of the printer in the basement office",
    "birth year of the grandfather of the gardener",
    "weight of the elephant in the city zoo",
    "temperature of the furnace of the glass factory",
    "room key of the hotel room with the balcony",
    "invoice total of the garden party of the mayor",
    "ticket number of the winner of the summer lottery",
]


class Random:
    """SplitMix64, as crates/eval/src/random.rs."""

    def __init__(self, seed: int, stream: int):
        self.state = (seed ^ (stream * 0xD1B54A32D192ED03 & MASK)) & MASK
        self.next()

    def next(self) -> int:
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    def below(self, n: int) -> int:
        return (self.next() * n) >> 64


class Sample(NamedTuple):
    """A question: the answer follows the prompt."""

    prompt: str
    answer: str


def garbage(n_chars: int) -> str:
    return ((GARBAGE + " ") * (n_chars // len(GARBAGE) + 1))[:n_chars]


def multi_passkey(n_chars: int, seed: int) -> list[Sample]:
    """Sixteen questions about one text."""
    random = Random(seed, len(NAMES))
    keys = [MIN_KEY + random.below(MAX_KEY - MIN_KEY) for _ in NAMES]
    cuts = [0] + [(2 * index + 1) * n_chars // (2 * len(NAMES)) for index in range(len(NAMES))] + [n_chars]
    parts = [INTRODUCTION]
    for name, key, start, end in zip(NAMES, keys, cuts, cuts[1:]):
        told = f"The {name} is {key}. Remember it. The {name} is {key}. Do not forget: the {name} is {key}."
        parts += [garbage(end - start), told]
    parts.append(garbage(cuts[-1] - cuts[-2]))
    text = "\n".join(parts)
    return [Sample(f"{text}\nWhat is the {name}? The {name} is", f" {key}") for name, key in zip(NAMES, keys)]


def passkey(n_chars: int, depth: float, seed: int) -> list[Sample]:
    """One question about one text. The garbage is cut where a sentence ends, so that all depths have the same length in
    tokens, and the number has five digits: in both it differs from the program's."""
    key = MIN_KEY + Random(seed, 0).below(MAX_KEY - MIN_KEY)
    n_all = n_chars // (len(GARBAGE) + 1)
    n_before = int(depth * n_all)
    needle = f"The pass key is {key}. Remember it. {key} is the pass key."
    before, after = (GARBAGE + " ") * n_before, (GARBAGE + " ") * (n_all - n_before)
    question = "What is the pass key? The pass key is"
    return [Sample("\n".join([INTRODUCTION, before, needle, after, question]), f" {key}")]


class Questions(NamedTuple):
    """Texts of one length, each with the same number of questions."""

    # [n_texts][n_tokens]
    texts: list[list[int]]
    # [n_texts][n_questions][n_tokens]: what follows the text, the answer included; padded
    asked: list[list[list[int]]]
    # [n_texts][n_questions][n_digits]
    answers: list[list[list[int]]]
    # [n_texts][n_questions]: where in `asked` the answer begins
    starts: list[list[int]]


def questions(encode, is_blank, texts: list[list[Sample]]) -> Questions | None:
    """Token ids of samples; `None` if the texts differ in length. `is_blank(id)` says whether a token is only blanks."""
    made = Questions([], [], [], [])
    for samples in texts:
        prompts = [encode(sample.prompt) for sample in samples]
        n_text = n_common(prompts) if len(prompts) > 1 else len(prompts[0]) - 12
        made.texts.append(prompts[0][:n_text])
        asked, answers, starts = [], [], []
        for prompt, sample in zip(prompts, samples):
            whole = encode(sample.prompt + sample.answer)
            answer = whole[len(prompt):]
            while is_blank(answer[0]):
                answer = answer[1:]
            asked.append(whole[n_text:])
            answers.append(answer)
            starts.append(len(whole) - n_text - len(answer))
        made.asked.append(asked)
        made.answers.append(answers)
        made.starts.append(starts)
    if len({len(text) for text in made.texts}) > 1:
        return None
    # One more: what the model says after the answer decides whether the number ends there.
    longest = 1 + max(len(tokens) for asked in made.asked for tokens in asked)
    for asked in made.asked:
        asked[:] = [tokens + [0] * (longest - len(tokens)) for tokens in asked]
    return made


def n_common(rows: list[list[int]]) -> int:
    n = min(map(len, rows)) - 1
    return next((at for at in range(n) if any(row[at] != rows[0][at] for row in rows)), n)


def fitting(encode, is_blank, make, n_tokens: int, n_texts: int, page: int) -> Questions:
    """`make(n_chars, text)` as long as `n_tokens` allow, with all questions in one page."""
    n_chars = 4 * n_tokens
    while n_chars > 0:
        first = questions(encode, is_blank, [make(n_chars, 0)])
        n_text, n_asked = len(first.texts[0]), len(first.asked[0][0])
        over = n_text + n_asked + 8 - n_tokens
        if over > 0:
            n_chars -= max(100, over)
        elif n_text % page + n_asked > page:
            n_chars -= 100
        else:
            found = questions(encode, is_blank, [make(n_chars, text) for text in range(n_texts)])
            if found is not None:
                return found
            n_chars -= 100
    raise SystemExit(f"no text of {n_tokens} tokens: take more")
