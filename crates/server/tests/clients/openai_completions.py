"""Plain completions through the official Python SDK: every form of a prompt, echo with log-probabilities, tokenizers.

usage: openai_completions.py URL [--api-key KEY] [--only WORD] [--without WORD]
"""
import sys

import checks
from checks import Failed, Server, check, equal, expect, one_of
from openai import BadRequestError, OpenAI

PROMPT = "The sea is blue because"
OTHERS = ["Once upon a time there was a small boat that", "One, two,"]


def client_of(server: Server) -> OpenAI:
    return OpenAI(base_url=server.v1, api_key=server.key_or_dummy, max_retries=0, timeout=600)


def ask(server: Server, prompt, **fields):
    asked = dict(model=server.model, prompt=prompt, temperature=0, max_tokens=16)
    return client_of(server).completions.create(**(asked | fields))


def texts(answer) -> list[str]:
    equal("indices", [choice.index for choice in answer.choices], list(range(len(answer.choices))))
    return [choice.text for choice in answer.choices]


@check
def a_string(server: Server) -> None:
    answer = ask(server, PROMPT)
    equal("object", answer.object, "text_completion")
    expect(answer.id.startswith("cmpl-"), f"id is {answer.id!r}")
    equal("model", answer.model, server.model)
    equal("number of choices", len(answer.choices), 1)
    expect(answer.choices[0].text, "no text")
    one_of("finish_reason", answer.choices[0].finish_reason, ("stop", "length"))
    equal("logprobs", answer.choices[0].logprobs, None)
    usage = answer.usage
    equal("total_tokens", usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
    equal("prompt_tokens", usage.prompt_tokens, len(server.tokenize(PROMPT)))


@check
def strings_ids_and_lists_of_ids_are_one_thing(server: Server) -> None:
    prompts = [PROMPT, *OTHERS]
    alone = [texts(ask(server, prompt))[0] for prompt in prompts]
    equal("list of strings", texts(ask(server, prompts)), alone)
    ids = [server.tokenize(prompt) for prompt in prompts]
    equal("ids", texts(ask(server, ids[0])), alone[:1])
    equal("lists of ids", texts(ask(server, ids)), alone)
    equal("a list of one list", texts(ask(server, ids[:1])), alone[:1])


@check
def several_choices_of_several_prompts(server: Server) -> None:
    hot = dict(n=2, temperature=1, seed=11)
    answer = ask(server, [PROMPT, OTHERS[0]], **hot)
    equal("number of choices", len(texts(answer)), 4)
    equal("the first prompt's", texts(answer)[:2], texts(ask(server, PROMPT, **hot)))


@check
def tokenizer_round_trip(server: Server) -> None:
    for text in (PROMPT, "  two  spaces\n\ttab", "naïve – 日本語 🙂", ""):
        ids = server.tokenize(text)
        expect(all(isinstance(token, int) for token in ids), f"tokens of {text!r} are {ids}")
        for key in ("content", "prompt"):
            again = server.ask("POST", "/tokenize", {key: text, "add_special_tokens": False}).json()["tokens"]
            equal(f"tokens of {text!r} as {key}", again, ids)
        back = server.ask("POST", "/detokenize", {"tokens": ids}).json()
        equal(f"text of {text!r}", (back["prompt"], back["content"]), (text, text))


@check
def tokenizer_is_described(server: Server) -> None:
    info = server.ask("GET", "/tokenizer_info").json()
    end = info["eos_token"]
    expect(isinstance(end, str) and end, f"eos_token is {end!r}")
    equal(f"tokens of {end!r}", len(server.tokenize(end)), 1)
    expect(isinstance(info.get("chat_template"), str), "no chat_template")


@check
def messages_become_the_prompt_of_the_template(server: Server) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    applied = server.ask("POST", "/apply-template", {"messages": messages}).json()["prompt"]
    expect("Hello" in applied, f"prompt is {applied!r}")
    ids = server.ask("POST", "/tokenize", {"messages": messages}).json()["tokens"]
    body = {"model": server.model, "messages": messages, "max_tokens": 1}
    usage = server.ask("POST", "/v1/chat/completions", body).json()["usage"]
    equal("tokens of the messages", len(ids), usage["prompt_tokens"])


@check
def echo_with_logprobs_is_what_lm_eval_reads(server: Server) -> None:
    ids = [server.tokenize(prompt) for prompt in (PROMPT, *OTHERS)]
    fields = dict(echo=True, logprobs=1, seed=1234, max_tokens=1)
    answer = ask(server, ids, **fields)
    for choice, prompt in zip(answer.choices, ids, strict=True):
        logprobs = choice.logprobs
        for key in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
            equal(f"length of {key}", len(getattr(logprobs, key)), len(prompt) + 1)
        equal("log-probability of the first token", logprobs.token_logprobs[0], None)
        expect(not logprobs.top_logprobs[0], f"alternatives of the first token: {logprobs.top_logprobs[0]}")
        equal("text", "".join(logprobs.tokens), choice.text)
        for at in range(1, len(prompt) + 1):
            own, top = logprobs.token_logprobs[at], logprobs.top_logprobs[at]
            expect(own <= 0, f"log-probability {own}")
            expect(logprobs.tokens[at] in top, f"{logprobs.tokens[at]!r} is not among {top}")
            equal(f"the same number twice, token {at}", top[logprobs.tokens[at]], own)
            expect(1 <= len(top) <= 2, f"with logprobs=1 there are {len(top)} alternatives")
            expect(max(top.values()) >= own, f"{top} has none as likely as {own}")
        for at, offset in enumerate(logprobs.text_offset):
            equal(f"text at offset {offset}", choice.text[offset:].startswith(logprobs.tokens[at]), True)
    for index, prompt in enumerate(ids):
        alone = ask(server, prompt, **fields).choices[0]
        equal(f"prompt {index} alone", alone.logprobs, answer.choices[index].logprobs)
        equal(f"text of prompt {index} alone", alone.text, answer.choices[index].text)
    by_text = ask(server, [PROMPT, *OTHERS], **fields)
    equal("as strings", [c.logprobs for c in by_text.choices], [c.logprobs for c in answer.choices])


@check
def echo_repeats_the_prompt(server: Server) -> None:
    plain, echoed = ask(server, PROMPT), ask(server, PROMPT, echo=True)
    equal("text", echoed.choices[0].text, PROMPT + plain.choices[0].text)
    only = ask(server, PROMPT, echo=True, max_tokens=0)
    equal("text with max_tokens=0", only.choices[0].text, PROMPT)
    equal("completion_tokens with max_tokens=0", only.usage.completion_tokens, 0)
    scored = ask(server, PROMPT, echo=True, max_tokens=0, logprobs=2).choices[0].logprobs
    equal("length with max_tokens=0", len(scored.token_logprobs), len(server.tokenize(PROMPT)))


@check
def echo_from_the_cache_is_the_same(server: Server) -> None:
    prompt = " ".join(f"{n} sheep and {n * 7} goats." for n in range(90))
    fields = dict(echo=True, logprobs=3, max_tokens=4)
    cold = ask(server, prompt, **fields).choices[0]
    ask(server, prompt)
    warm = ask(server, prompt, **fields).choices[0]
    equal("log-probabilities", warm.logprobs, cold.logprobs)
    equal("text", warm.text, cold.text)


@check
def logprobs_of_what_is_generated(server: Server) -> None:
    choice = ask(server, PROMPT, logprobs=5).choices[0]
    logprobs = choice.logprobs
    equal("text", "".join(logprobs.tokens), choice.text)
    for own, top in zip(logprobs.token_logprobs, logprobs.top_logprobs, strict=True):
        equal("greedy", own, max(top.values()))
        expect(5 <= len(top) <= 6, f"{len(top)} alternatives")


@check
def stream_says_what_the_answer_says(server: Server) -> None:
    for fields in (dict(), dict(echo=True), dict(logprobs=2), dict(echo=True, logprobs=1)):
        whole = ask(server, PROMPT, **fields)
        chunks = list(ask(server, PROMPT, stream=True, stream_options={"include_usage": True}, **fields))
        told = [choice for chunk in chunks for choice in chunk.choices]
        equal(f"text with {fields}", "".join(choice.text for choice in told), whole.choices[0].text)
        equal(f"finish_reason with {fields}", told[-1].finish_reason, whole.choices[0].finish_reason)
        equal(f"usage with {fields}", chunks[-1].usage.completion_tokens, whole.usage.completion_tokens)
        if "logprobs" in fields:
            numbers = [n for choice in told if choice.logprobs for n in choice.logprobs.token_logprobs]
            equal(f"log-probabilities with {fields}", numbers, whole.choices[0].logprobs.token_logprobs)


@check
def streams_of_several_prompts_are_told_apart(server: Server) -> None:
    prompts = [PROMPT, *OTHERS]
    told = [""] * len(prompts)
    for chunk in ask(server, prompts, stream=True):
        for choice in chunk.choices:
            told[choice.index] += choice.text
    equal("texts", told, texts(ask(server, prompts)))


@check
def stop_and_seed(server: Server) -> None:
    whole = texts(ask(server, PROMPT))[0]
    stop = whole.split()[2]
    equal("text", texts(ask(server, PROMPT, stop=stop))[0], whole[: whole.index(stop)])
    hot = dict(temperature=1.3, seed=21)
    equal("same seed", texts(ask(server, PROMPT, **hot)), texts(ask(server, PROMPT, **hot)))


@check
def what_cannot_be_is_refused_by_name(server: Server) -> None:
    cases = [
        ("suffix", PROMPT, dict(suffix=" and that is why.")),
        ("prompt", [2_000_000_000], dict()),
        ("prompt", [-1], dict()),
        ("prompt", [], dict()),
        ("prompt", [[]], dict()),
        ("prompt", 7, dict()),
        ("prompt", [PROMPT, 7], dict()),
        ("prompt", [[1], "x"], dict()),
        ("prompt", {"a": 1}, dict()),
        ("logprobs", PROMPT, dict(logprobs=-1)),
        ("logprobs", PROMPT, dict(logprobs="x")),
        ("echo", PROMPT, dict(echo="x")),
        ("max_tokens", PROMPT, dict(max_tokens=-2)),
    ]
    wrong = []
    for param, prompt, fields in cases:
        try:
            ask(server, prompt, **fields)
        except BadRequestError as error:
            if not (error.param or "").startswith(param):
                wrong.append(f"prompt={prompt!r} {fields}: param is {error.param!r}")
        else:
            wrong.append(f"prompt={prompt!r} {fields}: accepted")
    if wrong:
        raise Failed("; ".join(wrong))


if __name__ == "__main__":
    sys.exit(checks.main(checks.parser("Plain completions through the official Python SDK.")))
