"""Chat completions through the official Python SDK: answers, streams, sampling, log-probabilities, the cache.

usage: openai_chat.py URL [--api-key KEY] [--only WORD] [--without WORD]
"""
import asyncio
import sys

import checks
from checks import Server, check, equal, expect, one_of
from openai import AsyncOpenAI, OpenAI

QUESTION = [{"role": "user", "content": "Write two sentences about the sea."}]


def client_of(server: Server) -> OpenAI:
    return OpenAI(base_url=server.v1, api_key=server.key_or_dummy, max_retries=0, timeout=600)


def ask(server: Server, **fields):
    """An answer to the same question, of the same 32 tokens unless `fields` say otherwise."""
    asked = dict(model=server.model, messages=QUESTION, temperature=0, max_tokens=32)
    return client_of(server).chat.completions.create(**(asked | fields))


def text(answer) -> str:
    return answer.choices[0].message.content


@check
def models(server: Server) -> None:
    client = client_of(server)
    listed = client.models.list().data
    equal("number of models", len(listed), 1)
    equal("object", listed[0].object, "model")
    expect(listed[0].owned_by, "owned_by is empty")
    equal("the model by its id", client.models.retrieve(server.model).id, server.model)
    meta = listed[0].meta
    for key in ("n_ctx_train", "n_vocab", "n_embd", "n_params", "size"):
        expect(isinstance(meta[key], int) and meta[key] > 0, f"meta.{key} is {meta[key]!r}")


@check
def answer_has_the_documented_shape(server: Server) -> None:
    answer = ask(server)
    equal("object", answer.object, "chat.completion")
    expect(answer.id.startswith("chatcmpl-"), f"id is {answer.id!r}")
    expect(answer.created > 1_700_000_000, f"created is {answer.created!r}")
    equal("model", answer.model, server.model)
    equal("number of choices", len(answer.choices), 1)
    choice = answer.choices[0]
    equal("index", choice.index, 0)
    equal("role", choice.message.role, "assistant")
    expect(choice.message.content, "content is empty")
    one_of("finish_reason", choice.finish_reason, ("stop", "length"))
    usage = answer.usage
    equal("total_tokens", usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
    expect(0 < usage.completion_tokens <= 32, f"completion_tokens is {usage.completion_tokens}")
    expect(0 <= usage.prompt_tokens_details.cached_tokens < usage.prompt_tokens, f"usage is {usage}")
    timings = answer.timings
    for key in ("cache_n", "prompt_n", "prompt_ms", "prompt_per_second"):
        expect(timings[key] >= 0, f"timings.{key} is {timings[key]!r}")
    for key in ("predicted_n", "predicted_ms", "predicted_per_second"):
        expect(timings[key] > 0, f"timings.{key} is {timings[key]!r}")
    equal("timings: cached and read tokens", timings["cache_n"] + timings["prompt_n"], usage.prompt_tokens)
    equal("timings.predicted_n", timings["predicted_n"], usage.completion_tokens)


@check
def both_names_of_the_limit_work(server: Server) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        answer = ask(server, **{"max_tokens": None, name: 5})
        equal(f"finish_reason with {name}", answer.choices[0].finish_reason, "length")
        equal(f"completion_tokens with {name}", answer.usage.completion_tokens, 5)


@check
def a_limit_beyond_the_context_is_a_ceiling(server: Server) -> None:
    answer = ask(server, max_tokens=1_000_000, stop=[" "])
    equal("finish_reason", answer.choices[0].finish_reason, "stop")


@check
def stream_says_what_the_answer_says(server: Server) -> None:
    whole = ask(server)
    chunks = list(ask(server, stream=True, stream_options={"include_usage": True}))
    equal("objects", {chunk.object for chunk in chunks}, {"chat.completion.chunk"})
    equal("number of ids", len({chunk.id for chunk in chunks}), 1)
    equal("role of the first chunk", chunks[0].choices[0].delta.role, "assistant")
    told = [chunk for chunk in chunks if chunk.choices]
    equal("text", "".join(chunk.choices[0].delta.content or "" for chunk in told), text(whole))
    reasons = [chunk.choices[0].finish_reason for chunk in told]
    equal("finish_reason of the last chunk", reasons[-1], whole.choices[0].finish_reason)
    equal("finish_reasons before it", set(reasons[:-1]) - {None}, set())
    equal("choices of the chunk with usage", chunks[-1].choices, [])
    equal("prompt_tokens", chunks[-1].usage.prompt_tokens, whole.usage.prompt_tokens)
    equal("completion_tokens", chunks[-1].usage.completion_tokens, whole.usage.completion_tokens)
    equal("usage of earlier chunks", [chunk.usage for chunk in chunks[:-1] if chunk.usage], [])


@check
def stream_without_usage_has_none(server: Server) -> None:
    chunks = list(ask(server, stream=True))
    equal("chunks with usage", [chunk.usage for chunk in chunks if chunk.usage], [])
    equal("chunks without choices", [chunk for chunk in chunks if not chunk.choices], [])


@check
def stream_helper_of_the_sdk_ends_with_the_answer(server: Server) -> None:
    # The helper takes an answer that its limit has cut for an error.
    asked = dict(model=server.model, messages=QUESTION, temperature=0, max_tokens=32, stop=[" "])
    with client_of(server).chat.completions.stream(**asked) as stream:
        for _ in stream:
            pass
        equal("text", stream.get_final_completion().choices[0].message.content, text(ask(server, stop=[" "])))


@check
def several_choices(server: Server) -> None:
    answer = ask(server, n=3, temperature=1, seed=5, max_tokens=12)
    equal("indices", [choice.index for choice in answer.choices], [0, 1, 2])
    again = ask(server, n=3, temperature=1, seed=5, max_tokens=12)
    texts = [choice.message.content for choice in answer.choices]
    equal("the same seed", [choice.message.content for choice in again.choices], texts)
    expect(len(set(texts)) > 1, f"three samples are all {texts[0]!r}")
    expect(answer.usage.completion_tokens > 12, f"usage counts one choice only: {answer.usage}")
    streamed = ["", "", ""]
    for chunk in ask(server, n=3, temperature=1, seed=5, max_tokens=12, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    equal("streamed choices", streamed, texts)


@check
def greedy_choices_are_equal(server: Server) -> None:
    answer = ask(server, n=2)
    equal("second choice", answer.choices[1].message.content, text(answer))


@check
def stop_ends_the_answer_before_the_word(server: Server) -> None:
    whole = text(ask(server))
    words = whole.split()
    expect(len(words) >= 6, f"too short to stop inside: {whole!r}")
    stop = f"{words[3]} {words[4]}"
    before = whole[: whole.index(stop)]
    for given in (stop, [stop], ["\u2603\u2603", "never said", stop, "nor this"]):
        answer = ask(server, stop=given)
        equal(f"text with stop={given!r}", text(answer), before)
        equal("finish_reason", answer.choices[0].finish_reason, "stop")
        streamed = ask(server, stop=given, stream=True)
        parts = [chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices]
        equal(f"stream with stop={given!r}", "".join(parts), before)


@check
def seed_repeats_an_answer(server: Server) -> None:
    first = text(ask(server, temperature=1.5, seed=7))
    equal("same seed", text(ask(server, temperature=1.5, seed=7)), first)
    others = {text(ask(server, temperature=1.5, seed=seed)) for seed in (8, 9, 10)}
    expect(others != {first}, "four seeds, one answer")


@check
def filters_that_leave_one_token_are_greedy(server: Server) -> None:
    greedy = text(ask(server))
    hot = dict(temperature=1.5, seed=3)
    equal("top_k 1", text(ask(server, **hot, extra_body={"top_k": 1})), greedy)
    equal("min_p 1", text(ask(server, **hot, extra_body={"min_p": 1.0})), greedy)
    equal("tiny top_p", text(ask(server, **hot, top_p=1e-6)), greedy)


@check
def penalties_change_the_answer(server: Server) -> None:
    messages = [{"role": "user", "content": "Repeat this many times: ha ha ha ha ha ha ha ha ha ha"}]
    plain = text(ask(server, messages=messages))
    for penalty in ({"frequency_penalty": 2}, {"presence_penalty": 2}, {"extra_body": {"repeat_penalty": 1.8}}):
        expect(text(ask(server, messages=messages, **penalty)) != plain, f"{penalty} changes nothing: {plain!r}")


@check
def logprobs_describe_the_answer(server: Server) -> None:
    answer = ask(server, logprobs=True, top_logprobs=4)
    tokens = answer.choices[0].logprobs.content
    equal("their bytes", b"".join(bytes(token.bytes) for token in tokens), text(answer).encode())
    for token in tokens:
        top = [other.logprob for other in token.top_logprobs]
        equal("number of alternatives", len(top), 4)
        equal("order of alternatives", top, sorted(top, reverse=True))
        equal("greedy token", (token.token, token.logprob), (token.top_logprobs[0].token, top[0]))
        expect(token.logprob <= 0, f"logprob of {token.token!r} is {token.logprob}")
    streamed = []
    for chunk in ask(server, logprobs=True, top_logprobs=4, stream=True):
        for choice in chunk.choices:
            streamed += choice.logprobs.content if choice.logprobs else []
    equal("streamed log-probabilities", streamed, tokens)
    alone = ask(server, logprobs=True).choices[0].logprobs.content
    equal("without alternatives", [(t.token, t.logprob) for t in alone], [(t.token, t.logprob) for t in tokens])
    equal("their alternatives", [t.top_logprobs for t in alone if t.top_logprobs], [])
    equal("no logprobs unless asked", ask(server).choices[0].logprobs, None)


@check
def logit_bias_moves_tokens(server: Server) -> None:
    sea = server.tokenize(" sea")
    answer = ask(server, max_tokens=4, logit_bias={str(sea[0]): 100})
    expect(text(answer).count("sea") == 4, f"with a bias of 100 on ' sea': {text(answer)!r}")
    first = ask(server, max_tokens=1, logprobs=True).choices[0].logprobs.content[0].token
    banned = {str(token): -100 for token in server.tokenize(first)}
    equal("tokens of the first piece", len(banned), 1)
    expect(text(ask(server, max_tokens=1, logit_bias=banned)) != first, f"{first!r} is said though its bias is -100")


@check
def developer_is_system(server: Server) -> None:
    rule = "Answer in capital letters only."
    answers = [ask(server, messages=[{"role": role, "content": rule}, *QUESTION]) for role in ("system", "developer")]
    equal("text", text(answers[1]), text(answers[0]))
    equal("prompt_tokens", answers[1].usage.prompt_tokens, answers[0].usage.prompt_tokens)


@check
def parts_of_text_are_a_text(server: Server) -> None:
    parts = [{"type": "text", "text": QUESTION[0]["content"]}]
    answer, plain = ask(server, messages=[{"role": "user", "content": parts}]), ask(server)
    equal("text", text(answer), text(plain))
    equal("prompt_tokens", answer.usage.prompt_tokens, plain.usage.prompt_tokens)


@check
def unknown_fields_change_nothing(server: Server) -> None:
    extra = {"no_such_field": {"a": [1, None]}, "verbosity": "low", "prompt_cache_options": {"mode": "implicit"}}
    known = dict(user="somebody", store=False, metadata={"a": "b"}, prompt_cache_key="key", safety_identifier="x")
    equal("text", text(ask(server, **known, extra_body=extra)), text(ask(server)))


@check
def settings_of_the_template_are_accepted(server: Server) -> None:
    for extra in ({"chat_template_kwargs": {"enable_thinking": False}}, {"reasoning_effort": "low"}):
        expect(text(ask(server, extra_body=extra)), f"no content with {extra}")


@check
def a_conversation_goes_on(server: Server) -> None:
    first = text(ask(server))
    messages = [*QUESTION, {"role": "assistant", "content": first}, {"role": "user", "content": "One more, please."}]
    expect(text(ask(server, messages=messages)), "no second answer")


@check
def what_was_read_is_not_read_again(server: Server) -> None:
    story = " ".join(f"Chapter {n}: the boat number {n * 17} left the harbour at dawn." for n in range(60))
    messages = [{"role": "user", "content": f"{story} What left the harbour?"}]
    first, second = ask(server, messages=messages), ask(server, messages=messages)
    prompt, cached = second.usage.prompt_tokens, second.usage.prompt_tokens_details.cached_tokens
    expect(cached >= prompt - 256, f"{cached} of {prompt} tokens came from the cache the second time")
    equal("timings.cache_n", second.timings["cache_n"], cached)
    equal("text from the cache", text(second), text(first))


@check
def many_at_once_are_the_same(server: Server) -> None:
    prompts = [f"Name {n} things that are {colour}." for n in (2, 3) for colour in ("red", "green", "blue", "white")]
    alone = [text(ask(server, messages=[{"role": "user", "content": prompt}])) for prompt in prompts]

    async def together() -> list[str]:
        async with AsyncOpenAI(base_url=server.v1, api_key=server.key_or_dummy, max_retries=0, timeout=600) as client:
            asked = [
                client.chat.completions.create(
                    model=server.model, temperature=0, max_tokens=32, messages=[{"role": "user", "content": prompt}]
                )
                for prompt in prompts
            ]
            return [text(answer) for answer in await asyncio.gather(*asked)]

    equal("texts", asyncio.run(together()), alone)


if __name__ == "__main__":
    sys.exit(checks.main(checks.parser("Chat completions through the official Python SDK.")))
