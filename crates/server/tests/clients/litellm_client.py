"""What litellm does with the server: completion, stream, text completion, tools, and its classes of errors.

usage: litellm_client.py URL [--api-key KEY] [--tools] [--only WORD] [--without WORD]
"""
import asyncio
import json
import os
import sys

# Before the import: litellm otherwise fetches a list of prices.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import checks
import litellm
from checks import Failed, Server, check, equal, expect, one_of

litellm.telemetry = False
litellm.suppress_debug_info = True

QUESTION = [{"role": "user", "content": "Write one sentence about the sea."}]
ADD = {
    "type": "function",
    "function": {
        "name": "add_numbers",
        "description": "The sum of two integers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}


def fields_of(server: Server, **fields) -> dict:
    asked = dict(model=f"openai/{server.model}", api_base=server.v1, api_key=server.key_or_dummy, num_retries=0)
    return dict(asked, temperature=0, max_tokens=24, timeout=600) | fields


def ask(server: Server, **fields):
    return litellm.completion(**fields_of(server, **(dict(messages=QUESTION) | fields)))


@check
def completion(server: Server) -> None:
    answer = ask(server)
    expect(answer.choices[0].message.content, "no content")
    one_of("finish_reason", answer.choices[0].finish_reason, ("stop", "length"))
    equal("total_tokens", answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)


@check
def stream(server: Server) -> None:
    whole = ask(server).choices[0].message.content
    chunks = list(ask(server, stream=True, stream_options={"include_usage": True}))
    equal("text", "".join(c.choices[0].delta.content or "" for c in chunks if c.choices), whole)
    usages = [chunk.usage for chunk in chunks if getattr(chunk, "usage", None)]
    expect(usages and usages[-1].completion_tokens > 0, "no usage in the stream")


@check
def several_at_once(server: Server) -> None:
    prompts = [f"Name {n} animals." for n in (2, 3, 4)]
    asked = [fields_of(server, messages=[{"role": "user", "content": prompt}]) for prompt in prompts]
    alone = [litellm.completion(**fields).choices[0].message.content for fields in asked]

    async def together() -> list[str]:
        answers = await asyncio.gather(*(litellm.acompletion(**fields) for fields in asked))
        return [answer.choices[0].message.content for answer in answers]

    equal("texts", asyncio.run(together()), alone)


@check
def text_completion(server: Server) -> None:
    asked = fields_of(server, prompt="One, two,", max_tokens=8, model=f"text-completion-openai/{server.model}")
    answer = litellm.text_completion(**asked)
    expect(answer.choices[0].text, "no text")
    parts = [chunk.choices[0].text or "" for chunk in litellm.text_completion(**asked, stream=True) if chunk.choices]
    equal("stream", "".join(parts), answer.choices[0].text)


@check
def schema(server: Server) -> None:
    form = {"type": "object", "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 30}},
            "required": ["age"], "additionalProperties": False}
    wanted = {"type": "json_schema", "json_schema": {"name": "cat", "schema": form, "strict": True}}
    answer = ask(server, response_format=wanted, max_tokens=64)
    equal("fields", list(json.loads(answer.choices[0].message.content)), ["age"])


@check
def errors_have_their_classes(server: Server) -> None:
    long = [{"role": "user", "content": "one two three four five " * server.n_ctx()}]
    cases = [
        (litellm.BadRequestError, dict(top_p=7)),
        (litellm.ContextWindowExceededError, dict(messages=long)),
        (litellm.NotFoundError, dict(model="openai/no-such-model")),
    ]
    if server.api_key:
        cases.append((litellm.AuthenticationError, dict(api_key="wrong")))
    for kind, fields in cases:
        try:
            ask(server, **fields)
        except kind:
            continue
        except Exception as error:
            raise Failed(f"{kind.__name__} expected, but {type(error).__name__} came: {str(error)[:300]}") from None
        raise Failed(f"{kind.__name__} expected, but the request was accepted")


@check
def tools(server: Server) -> None:
    question = [{"role": "user", "content": "What is 17 plus 25? Use the tool."}]
    asked = dict(messages=question, tools=[ADD], tool_choice="required", max_tokens=128)
    message = ask(server, **asked).choices[0].message
    for call in message.tool_calls:
        equal("name", call.function.name, "add_numbers")
        equal("arguments", sorted(json.loads(call.function.arguments)), ["a", "b"])
    chunks = list(ask(server, **asked, stream=True))
    whole = litellm.stream_chunk_builder(chunks, messages=question).choices[0].message
    found = [call.function.arguments for call in whole.tool_calls]
    equal("arguments in a stream", found, [call.function.arguments for call in message.tool_calls])


if __name__ == "__main__":
    sys.exit(checks.main(checks.parser_with_tools("What litellm does with the server.")))
