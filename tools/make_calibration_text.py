#!/usr/bin/env python3
"""Puts together the text that `lossy imatrix` and error feedback read when none is given: crates/compress/text.

usage: python3 tools/make_calibration_text.py      (writes prose.txt, code.txt, conversations.json; a snapshot on purpose)

Prose is this project's documentation and code its sources, both as they are today; what shares eight words in a row with
the text that losses are measured on is left out. Conversations are made here, from a seed: questions and answers, calls of
tools, lists, tables and JSON.
"""
import json
import pathlib
import random
import re

ROOT = pathlib.Path(__file__).resolve().parents[1]
OUT = ROOT / "crates" / "compress" / "text"
MEASURED = [ROOT / "crates" / "eval" / "text" / name for name in ("prose.txt", "code.txt", "dialogue.txt")]
PROSE = ["docs/server.md", "docs/kv-cache.md", "docs/self-extend.md", "docs/loss.md", "ARCHITECTURE.md", "SECURITY.md"]
CODE = [
    "crates/server/src/work/plan.rs", "crates/output/src/constraint.rs", "bench/serve/figures.py",
    "crates/server/src/http/guard.rs", "crates/engine/src/prefix_cache/tree.rs", "bench/serve/http1.py",
    "crates/server/tests/clients/openai_node.mjs", "crates/compress/src/feedback.rs",
]
PROSE_CHARS, CODE_CHARS = 22_000, 26_000
N_WORDS = 8

CITIES = ["Lisbon", "Oslo", "Nairobi", "Kyoto", "Quito", "Tallinn", "Perth", "Montreal"]
PEOPLE = ["Mara", "Jonas", "Amina", "Luis", "Wen", "Ingrid", "Tomasz", "Priya"]
THINGS = ["a steel kettle", "two garden chairs", "a desk lamp", "a pair of boots", "an atlas", "a bicycle pump"]
QUESTIONS = [
    ("Why does bread rise?", "Yeast eats the sugar in the dough and gives off carbon dioxide. The gas stays in the dough, "
     "because gluten makes it elastic, and so the loaf grows. In the oven the gas expands once more before the crust sets."),
    ("What is the difference between a list and a tuple in Python?", "A list can be changed after it was made, a tuple "
     "cannot. So a tuple can be a key of a dictionary:\n\n```python\npoint = (3, 4)\nseen = {point: 'start'}\n```\n\nUse a "
     "list for things of one kind whose number varies, and a tuple for a fixed record."),
    ("Explain compound interest to a child.", "Imagine you have ten coins in a box, and every year the box gives you one "
     "coin for each ten that are in it. After a year you have eleven. Next year you get a little more than one, since "
     "there are more coins in the box. The box pays you for the coins that it gave you before."),
    ("Summarize: The council met on Tuesday. It agreed to repair the bridge, and to close it for six weeks from May.",
     "The council decided on Tuesday to repair the bridge, which will be closed for six weeks from May."),
    ("Translate into German: The train leaves at nine from platform four.", "Der Zug fährt um neun Uhr von Gleis vier ab."),
    ("List three causes of the French Revolution.", "1. The state was close to bankruptcy after costly wars.\n2. Harvests "
     "failed, and bread became dear.\n3. The third estate paid most taxes and had little say."),
    ("My knee hurts when I climb stairs. What could it be?", "Pain at the front of the knee on stairs often comes from the "
     "joint behind the kneecap, or from a tendon that is strained. Rest it for some days, and avoid deep squats. If it is "
     "swollen, locks, or does not get better within two weeks, see a doctor."),
    ("Write a haiku about rain.", "Grey roof, soft drumming —\nthe gutter learns a new song,\nthe cat sleeps through it."),
    ("What does HTTP status 409 mean?", "409 Conflict: the request could not be carried out because it contradicts the "
     "present state of the resource, for example when somebody else has changed it in the meantime. The client can load "
     "it again, resolve the difference, and try once more."),
    ("Is 221 a prime number?", "No. 221 = 13 · 17."),
    ("Give me a regular expression for dates like 2024-05-31.", "`^\\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\\d|3[01])$` accepts "
     "that form. It does not know how many days a month has, so check the result with a library for dates."),
    ("How do I undo my last commit but keep the changes?", "Run `git reset --soft HEAD~1`. The commit is gone, and its "
     "changes are still staged. With `--mixed` they stay in the files, but are not staged."),
]


def runs(text: str) -> set[tuple[str, ...]]:
    """All runs of eight words, as the test of the crate finds them."""
    words = [word for word in re.split(r"[^\w]|_", text) if word]
    return {tuple(words[at:at + N_WORDS]) for at in range(len(words) - N_WORDS + 1)}


def paragraphs(paths: list[str], separator: str, n_chars: int, measured: set) -> str:
    """Pieces of files in turn, without what is measured, until there are enough characters."""
    kept: list[str] = []
    size = 0
    for path in paths:
        share = 0
        for piece in (ROOT / path).read_text().split(separator):
            if runs(piece) & measured or share > n_chars // len(paths) + 2000:
                continue
            kept.append(piece)
            share += len(piece)
            size += len(piece)
        if size > n_chars:
            break
    text = separator.join(kept)
    shared = runs(text) & measured
    assert not shared, shared
    return text


def tools(rng: random.Random) -> list[dict]:
    def tool(name: str, what: str, required: list[str], **properties: dict) -> dict:
        schema = {"type": "object", "properties": properties, "required": required}
        return {"type": "function", "function": {"name": name, "description": what, "parameters": schema}}

    text, number = {"type": "string"}, {"type": "number"}
    all_tools = [
        tool("forecast", "Sky and temperature of a town", ["city"], city=text, unit={"type": "string", "enum": ["C", "F"]}),
        tool("place_order", "Orders an article", ["article", "quantity"], article=text, quantity={"type": "integer"}),
        tool("read_file", "The text of a file", ["path"], path=text, first_line=number, last_line=number),
        tool("search_documents", "Finds passages", ["query"], query=text, limit=number),
        tool("convert_currency", "Converts an amount", ["amount", "from", "to"], amount=number, **{"from": text, "to": text}),
    ]
    return rng.sample(all_tools, 3)


def call(name: str, arguments: dict) -> str:
    return "<tool_call>\n" + json.dumps({"name": name, "arguments": arguments}) + "\n</tool_call>"


def tool_conversation(rng: random.Random) -> list[dict]:
    """A question that takes a call or two, with what the tools answer."""
    city, person, thing = rng.choice(CITIES), rng.choice(PEOPLE), rng.choice(THINGS)
    n, amount = rng.randint(2, 40), round(rng.uniform(5, 900), 2)
    kinds = {
        "forecast": (f"Does {person} need an umbrella in {city}?", {"city": city, "unit": "C"},
                        {"city": city, "sky": rng.choice(["rain", "clear", "snow"]), "temperature": rng.randint(-9, 34)},
                        f"In {city} look at the sky first: I have the forecast above, and {person} can decide by it."),
        "place_order": (f"Order {thing} for {person}, please.", {"article": thing, "quantity": 1},
                        {"order": f"A-{rng.randint(1000, 9999)}", "status": "accepted", "price": amount},
                        f"Done: {thing} is on its way to {person}. It costs {amount} euros."),
        "read_file": (f"What is in lines 1 to {n} of src/main.rs?",
                      {"path": "src/main.rs", "first_line": 1, "last_line": n},
                      {"text": "fn main() {\n    let total: u32 = (1..=10).sum();\n    println!(\"{total}\");\n}\n"},
                      "The program adds the numbers from one to ten and prints the sum, 55."),
        "search_documents": (f"Which of my letters mention {city}?", {"query": city, "limit": 5},
                             {"results": [{"title": f"To {person}", "score": 0.81}, {"title": "Notes", "score": 0.37}]},
                             f"Two of them: the letter to {person}, and your notes."),
        "convert_currency": (f"How much are {amount} dollars in yen?", {"amount": amount, "from": "USD", "to": "JPY"},
                             {"amount": round(amount * 151.2, 1), "currency": "JPY"},
                             f"{amount} dollars are about {round(amount * 151.2)} yen."),
    }
    offered = tools(rng)
    name = rng.choice([tool["function"]["name"] for tool in offered])
    asked, arguments, found, told = kinds[name]
    lines = "\n".join(json.dumps(tool) for tool in offered)
    return [
        {"role": "system", "content": "You may call functions to help the user. They are:\n<tools>\n" + lines +
         "\n</tools>\nFor a call write a JSON object with name and arguments within <tool_call></tool_call>."},
        {"role": "user", "content": asked},
        {"role": "assistant", "content": call(name, arguments)},
        {"role": "user", "content": "<tool_response>\n" + json.dumps(found) + "\n</tool_response>"},
        {"role": "assistant", "content": told},
    ]


def json_conversation(rng: random.Random) -> list[dict]:
    rows = [{"name": rng.choice(PEOPLE), "city": rng.choice(CITIES), "age": rng.randint(19, 80)} for _ in range(3)]
    told = "; ".join(f"{row['name']}, {row['age']}, lives in {row['city']}" for row in rows)
    table = "| name | city | age |\n| --- | --- | ---: |\n" + "\n".join(
        f"| {row['name']} | {row['city']} | {row['age']} |" for row in rows)
    return [
        {"role": "user", "content": f"Make JSON of this: {told}."},
        {"role": "assistant", "content": json.dumps(rows, indent=2)},
        {"role": "user", "content": "Now a table in Markdown."},
        {"role": "assistant", "content": table},
    ]


def conversations() -> list[list[dict]]:
    rng = random.Random(20)
    made = []
    for index, (question, answer) in enumerate(QUESTIONS):
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        if index % 2:
            turns.insert(0, {"role": "system", "content": "You are a helpful assistant. Answer briefly."})
        made += [turns, tool_conversation(rng)]
        if index % 3 == 0:
            made.append(json_conversation(rng))
    return made


def main() -> None:
    measured = set().union(*(runs(path.read_text()) for path in MEASURED))
    (OUT / "prose.txt").write_text(paragraphs(PROSE, "\n\n", PROSE_CHARS, measured))
    (OUT / "code.txt").write_text(paragraphs(CODE, "\n\n", CODE_CHARS, measured))
    made = conversations()
    assert not runs(json.dumps(made)) & measured
    (OUT / "conversations.json").write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
