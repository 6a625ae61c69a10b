"""Tools through the official Python SDK. Needs a model whose template knows tools.

usage: openai_tools.py URL [--api-key KEY] [--only WORD] [--without WORD]

What is checked is the form of the calls, never whether the model chose well.
"""
import json
import sys

import checks
import jsonschema
from checks import Failed, Server, check, equal, expect, one_of
from openai import BadRequestError, OpenAI

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
ADD = {
    "type": "function",
    "function": {
        "name": "add_numbers",
        "description": "The sum of two integers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    },
}
SCHEMAS = {tool["function"]["name"]: tool["function"]["parameters"] for tool in (WEATHER, ADD)}
QUESTION = [{"role": "user", "content": "What is the weather in Paris and in Rome, in celsius? Look up both."}]


def client_of(server: Server) -> OpenAI:
    return OpenAI(base_url=server.v1, api_key=server.key_or_dummy, max_retries=0, timeout=600)


def ask(server: Server, **fields):
    asked = dict(model=server.model, messages=QUESTION, tools=[WEATHER, ADD], temperature=0, max_tokens=192)
    return client_of(server).chat.completions.create(**(asked | fields))


def check_calls(calls) -> None:
    """Every call has an id of its own, a tool that was offered, and arguments that its schema allows."""
    expect(len({call.id for call in calls}) == len(calls) and all(call.id for call in calls), f"ids of {calls}")
    for call in calls:
        equal("type", call.type, "function")
        one_of("name", call.function.name, tuple(SCHEMAS))
        try:
            jsonschema.validate(json.loads(call.function.arguments), SCHEMAS[call.function.name])
        except (ValueError, jsonschema.ValidationError) as error:
            raise Failed(f"arguments {call.function.arguments!r} of {call.function.name}: {error}") from None


def assembled(chunks) -> tuple[str, list[tuple[str, str]], str | None]:
    """Content, calls as (name, arguments), and finish_reason of a stream; checks how the calls arrive."""
    content, calls, reason, ids = "", [], None, []
    for chunk in chunks:
        for choice in chunk.choices:
            content += choice.delta.content or ""
            reason = choice.finish_reason or reason
            for part in choice.delta.tool_calls or []:
                if part.index == len(calls):
                    expect(part.id and part.function.name, f"a call begins without id or name: {part}")
                    calls.append([part.function.name, ""])
                    ids.append(part.id)
                expect(part.index == len(calls) - 1, f"call {part.index} goes on after {len(calls)} have begun")
                expect(part.id in (None, ids[-1]), f"the id changes from {ids[-1]} to {part.id}")
                calls[-1][1] += part.function.arguments or ""
    return content, [(name, arguments) for name, arguments in calls], reason


@check
def required_always_calls(server: Server) -> None:
    for temperature, seed in ((0, 1), (1, 1), (1, 2), (2, 3)):
        choice = ask(server, tool_choice="required", temperature=temperature, seed=seed).choices[0]
        one_of("finish_reason", choice.finish_reason, ("tool_calls", "length"))
        if choice.finish_reason == "tool_calls":
            expect(choice.message.tool_calls, f"no call: {choice.message}")
            check_calls(choice.message.tool_calls)


@check
def required_at_temperature_0_is_a_whole_call(server: Server) -> None:
    choice = ask(server, tool_choice="required", parallel_tool_calls=False).choices[0]
    equal("finish_reason", choice.finish_reason, "tool_calls")
    equal("number of calls", len(choice.message.tool_calls), 1)
    check_calls(choice.message.tool_calls)


@check
def a_named_tool_is_the_one_called(server: Server) -> None:
    for name in SCHEMAS:
        choice = ask(server, tool_choice={"type": "function", "function": {"name": name}}).choices[0]
        equal("names", {call.function.name for call in choice.message.tool_calls}, {name})
        one_of("finish_reason", choice.finish_reason, ("tool_calls", "stop"))
        check_calls(choice.message.tool_calls)


@check
def none_never_calls(server: Server) -> None:
    choice = ask(server, tool_choice="none").choices[0]
    expect(not choice.message.tool_calls, f"calls: {choice.message.tool_calls}")
    expect(choice.message.content, "no content")


@check
def auto_answers_or_calls(server: Server) -> None:
    for choice in (ask(server).choices[0], ask(server, tool_choice="auto").choices[0]):
        if choice.finish_reason == "tool_calls":
            check_calls(choice.message.tool_calls)
        else:
            one_of("finish_reason", choice.finish_reason, ("stop", "length"))
            expect(choice.message.content, "neither content nor calls")


@check
def several_calls_in_one_answer(server: Server) -> None:
    choice = ask(server, tool_choice="required", parallel_tool_calls=True, max_tokens=256).choices[0]
    one_of("finish_reason", choice.finish_reason, ("tool_calls", "length"))
    check_calls(choice.message.tool_calls[: None if choice.finish_reason == "tool_calls" else -1])
    print(f"   {len(choice.message.tool_calls)} calls in one answer")


@check
def stream_says_what_the_answer_says(server: Server) -> None:
    for fields in ({"tool_choice": "required"}, {"tool_choice": "auto"}, {"tool_choice": "none"}):
        choice = ask(server, **fields).choices[0]
        calls = [(call.function.name, call.function.arguments) for call in choice.message.tool_calls or []]
        streamed = assembled(ask(server, stream=True, **fields))
        equal(f"stream with {fields}", streamed, (choice.message.content or "", calls, choice.finish_reason))


@check
def strict_tools_are_accepted(server: Server) -> None:
    strict = {"type": "function", "function": dict(ADD["function"], strict=True)}
    choice = ask(server, tools=[strict], tool_choice="required", parallel_tool_calls=False).choices[0]
    check_calls(choice.message.tool_calls)


@check
def a_tool_without_parameters_is_called(server: Server) -> None:
    clock = {"type": "function", "function": {"name": "clock", "description": "What time it is."}}
    choice = ask(server, tools=[clock], tool_choice="required", parallel_tool_calls=False).choices[0]
    call = choice.message.tool_calls[0]
    equal("name", call.function.name, "clock")
    expect(isinstance(json.loads(call.function.arguments), dict), f"arguments are {call.function.arguments!r}")


@check
def results_go_back_to_the_model(server: Server) -> None:
    first = ask(server, tool_choice="required", parallel_tool_calls=False).choices[0].message
    result = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": '{"degrees": 21}'}
    called = {
        "role": "assistant",
        "content": None,
        "tool_calls": [call.model_dump(exclude_none=True) for call in first.tool_calls],
    }
    answer = ask(server, messages=[*QUESTION, called, result], tool_choice="none")
    expect(answer.choices[0].message.content, "no content after a result")
    parts = dict(result, content=[{"type": "text", "text": result["content"]}])
    again = ask(server, messages=[*QUESTION, called, parts], tool_choice="none")
    equal("with the result in parts", again.choices[0].message.content, answer.choices[0].message.content)


@check
def a_call_that_is_cut_says_so(server: Server) -> None:
    choice = ask(server, tool_choice="required", max_tokens=3).choices[0]
    equal("finish_reason", choice.finish_reason, "length")


@check
def wrong_tools_are_refused_by_name(server: Server) -> None:
    def tool(**fields) -> dict:
        return {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}} | fields}

    cases = [
        ("tool_choice", dict(tool_choice={"type": "function", "function": {"name": "nothing"}})),
        ("tool_choice", dict(tool_choice="sometimes")),
        ("tool_choice", dict(tools=None, tool_choice="required")),
        ("tools", dict(tools=[tool(parameters={"type": "no such type"})], tool_choice="required")),
        ("tools", dict(tools=[tool(name="")])),
        ("tools", dict(tools=[{"type": "function"}])),
        ("tools", dict(tools="get_weather")),
    ]
    for param, fields in cases:
        if fields.get("tools", 0) is None:
            body = dict(model=server.model, messages=QUESTION, max_tokens=8, tool_choice="required")
            answer = server.ask("POST", "/v1/chat/completions", body)
            equal(f"status with {fields}", answer.status, 400)
            expect(param in str(answer.error()["param"]), f"{fields}: param is {answer.error()['param']!r}")
            continue
        try:
            ask(server, **(dict(max_tokens=8) | fields))
        except BadRequestError as error:
            expect(param in (error.param or ""), f"{fields}: param is {error.param!r}: {error.message}")
        else:
            raise Failed(f"{fields} is accepted")


if __name__ == "__main__":
    sys.exit(checks.main(checks.parser("Tools through the official Python SDK.")))
