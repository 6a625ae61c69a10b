"""Refusals, as the official Python SDK raises them: the right class, the field by its name, both numbers.

usage: openai_errors.py URL [--api-key KEY] [--only WORD] [--without WORD]
"""
import re
import sys

import checks
import openai
from checks import Failed, Server, check, equal, expect
from openai import OpenAI

QUESTION = [{"role": "user", "content": "Hello"}]


def client_of(server: Server, key: str | None = None) -> OpenAI:
    return OpenAI(base_url=server.v1, api_key=key or server.key_or_dummy, max_retries=0, timeout=600)


def refusal(of, kind: type[openai.APIStatusError], what: str) -> openai.APIStatusError:
    """The error that a call raises, which must be of this kind and have a message."""
    try:
        answer = of()
    except kind as error:
        expect(error.message, f"{what}: no message")
        expect(error.type, f"{what}: no type")
        return error
    raise Failed(f"{what}: accepted, and answered {str(answer)[:200]}")


def chat(server: Server, **fields):
    asked = dict(model=server.model, messages=QUESTION, max_tokens=4)
    return client_of(server).chat.completions.create(**(asked | fields))


@check
def a_wrong_value_is_refused_by_the_name_of_its_field(server: Server) -> None:
    cases = {
        "temperature": ("hot", -1, [1], True),
        "top_p": (-0.1, 1.5, "x"),
        # -1 is what programs for llama-server send: no limit.
        "max_tokens": (-2, 1.5, "ten"),
        "max_completion_tokens": (-2, 1.5, "ten"),
        "n": (0, -1, 1_000_000, "two"),
        "stop": (7, [7], {"a": 1}),
        "seed": ("x", 1.5),
        "stream": ("yes", 1),
        "stream_options": ("x", {"include_usage": "x"}),
        "logprobs": (3, "x"),
        "top_logprobs": (-1, 1_000_000, "x"),
        "logit_bias": ([1], {"cat": 1}, {"0": "x"}, {"999999999": 1}),
        "frequency_penalty": ("x",),
        "presence_penalty": ("x",),
        "response_format": ("json", 7),
        "tools": (7,),
        "top_k": ("x", 1.5),
        "min_p": ("x", -1, 2),
        "chat_template_kwargs": ("x", [1]),
        "model": (7,),
    }
    wrong = []
    for field, values in cases.items():
        for value in values:
            limit = {} if field == "max_completion_tokens" else {"max_tokens": 4}
            body = dict(model=server.model, messages=QUESTION) | limit | {field: value}
            answer = server.ask("POST", "/v1/chat/completions", body)
            if answer.status != 400:
                wrong.append(f"{field}={value!r}: {answer.status}")
            elif not str(answer.error()["param"]).startswith(field):
                wrong.append(f"{field}={value!r}: param {answer.error()['param']!r}")
    expect(not wrong, f"{len(wrong)} of {sum(map(len, cases.values()))}: " + "; ".join(wrong))


@check
def the_sdk_sees_the_field(server: Server) -> None:
    error = refusal(lambda: chat(server, temperature="hot"), openai.BadRequestError, "temperature='hot'")
    equal("param", error.param, "temperature")
    equal("type", error.type, "invalid_request_error")
    expect("temperature" in error.message, f"message: {error.message}")


@check
def wrong_messages_are_refused(server: Server) -> None:
    cases = [
        None, [], "Hello", 7, [7], [None], [{}], [{"role": "user"}], [{"content": "x"}],
        [{"role": "wizard", "content": "x"}], [{"role": 7, "content": "x"}], [{"role": "user", "content": 7}],
        [{"role": "user", "content": [7]}], [{"role": "user", "content": [{"type": "text"}]}],
        [{"role": "user", "content": [{"type": "song", "text": "la"}]}],
        [{"role": "tool", "content": "x", "tool_call_id": 7}],
        [{"role": "assistant", "tool_calls": "x", "content": None}],
    ]
    wrong = []
    for messages in cases:
        answer = server.ask("POST", "/v1/chat/completions", dict(model=server.model, messages=messages, max_tokens=4))
        if answer.status != 400:
            wrong.append(f"{messages}: {answer.status}")
        elif not str(answer.error()["param"]).startswith("messages"):
            wrong.append(f"{messages}: param {answer.error()['param']!r}")
    expect(not wrong, "; ".join(wrong))


@check
def missing_messages_are_refused(server: Server) -> None:
    answer = server.ask("POST", "/v1/chat/completions", {"model": server.model})
    equal("status", answer.status, 400)
    equal("param", answer.error()["param"], "messages")


@check
def a_prompt_that_is_too_long_is_refused_with_both_numbers(server: Server) -> None:
    n_ctx = server.n_ctx()
    words = "one two three four five six seven eight nine ten " * (n_ctx // 5)
    for what, call in (
        ("chat", lambda: chat(server, messages=[{"role": "user", "content": words}])),
        ("completion", lambda: client_of(server).completions.create(model=server.model, prompt=words, max_tokens=4)),
        ("stream", lambda: list(chat(server, messages=[{"role": "user", "content": words}], stream=True))),
    ):
        error = refusal(call, openai.BadRequestError, f"{what} of more than {n_ctx} tokens")
        numbers = [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", error.message)]
        expect(n_ctx in numbers, f"{what}: the message does not name {n_ctx}: {error.message}")
        expect(max(numbers, default=0) > n_ctx, f"{what}: the message does not say how long it is: {error.message}")
        equal(f"{what}: code", error.code, "context_length_exceeded")


@check
def images_and_sounds_are_refused_by_name(server: Server) -> None:
    parts = {
        "image_url": {"image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
        "input_audio": {"input_audio": {"data": "UklGRg==", "format": "wav"}},
        "file": {"file": {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}},
    }
    for kind, fields in parts.items():
        content = [{"type": "text", "text": "What is this?"}, {"type": kind} | fields]
        error = refusal(
            lambda: chat(server, messages=[{"role": "user", "content": content}]), openai.BadRequestError, kind
        )
        expect(kind in error.message, f"the message does not name {kind}: {error.message}")
        expect((error.param or "").startswith("messages"), f"{kind}: param is {error.param!r}")


@check
def another_model_is_not_found(server: Server) -> None:
    error = refusal(lambda: chat(server, model="no-such-model"), openai.NotFoundError, "chat")
    expect("no-such-model" in error.message, f"message: {error.message}")
    equal("code", error.code, "model_not_found")
    refusal(lambda: client_of(server).models.retrieve("no-such-model"), openai.NotFoundError, "models.retrieve")
    complete = client_of(server).completions.create
    refusal(lambda: complete(model="no-such-model", prompt="x", max_tokens=1), openai.NotFoundError, "completion")


@check
def what_the_server_is_not_for_says_what_is_needed(server: Server) -> None:
    embed = client_of(server).embeddings.create
    error = refusal(lambda: embed(model=server.model, input="x"), openai.APIStatusError, "embeddings")
    equal("status of embeddings", error.status_code, 501)
    expect("embedding" in error.message, f"message: {error.message}")
    answer = server.ask("POST", "/v1/rerank", {"model": server.model, "query": "x", "documents": ["y"]})
    equal("status of rerank", answer.status, 501)
    answer.error()


@check
def unknown_places_and_methods_answer_in_the_same_form(server: Server) -> None:
    for method, path, status in (("GET", "/v1/no-such", 404), ("GET", "/no-such", 404), ("PUT", "/v1/models", 405),
                                 ("GET", "/v1/chat/completions", 405)):
        answer = server.ask(method, path)
        equal(f"status of {method} {path}", answer.status, status)
        answer.error()


@check
def a_body_that_is_no_json_is_refused(server: Server) -> None:
    for body in (b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"model": NaN}', b"{}{}"):
        answer = server.ask("POST", "/v1/chat/completions", body)
        equal(f"status of {body!r}", answer.status, 400)
        answer.error()
    kind = {"Content-Type": "text/plain"}
    answer = server.ask("POST", "/v1/chat/completions", {"model": server.model, "messages": QUESTION}, kind)
    expect(answer.status in (200, 400, 415), f"status of text/plain: {answer.status}")


@check
def keys_are_asked_for_if_there_are_any(server: Server) -> None:
    if server.api_key is None:
        equal("status with a key that nobody asked for", checks.ask(server.root, "x", "GET", "/v1/models").status, 200)
        return
    for key in ("wrong", server.api_key + "x", server.api_key[:-1]):
        asked = dict(model=server.model, messages=QUESTION, max_tokens=1)
        create = client_of(server, key).chat.completions.create
        error = refusal(lambda: create(**asked), openai.AuthenticationError, f"key {key!r}")
        expect(server.api_key not in error.message, "the message gives the key away")
    for path in ("/v1/models", "/props", "/slots", "/tokenizer_info"):
        answer = checks.ask(server.root, None, "GET", path)
        equal(f"status of {path} without a key", answer.status, 401)
        answer.error()
    equal("status of /health without a key", checks.ask(server.root, None, "GET", "/health").status, 200)


if __name__ == "__main__":
    sys.exit(checks.main(checks.parser("Refusals, as the official Python SDK raises them.")))
