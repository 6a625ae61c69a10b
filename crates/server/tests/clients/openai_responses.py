"""Responses through the official Python SDK: items, events, tools, forms, refusals.

usage: openai_responses.py URL [--api-key KEY] [--only WORD] [--without WORD] [--tools]
"""
import json
import sys

import checks
import jsonschema
from checks import Failed, Server, check, equal, expect, one_of
from openai import BadRequestError, OpenAI
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

QUESTION = "Write two sentences about the sea."
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
SHELL = {"type": "custom", "name": "shell", "description": "Runs a command of a shell."}
EVENT = TypeAdapter(ResponseStreamEvent)


def client_of(server: Server) -> OpenAI:
    return OpenAI(base_url=server.v1, api_key=server.key_or_dummy, max_retries=0, timeout=600)


def ask(server: Server, **fields):
    asked = dict(model=server.model, input=QUESTION, temperature=0, max_output_tokens=32)
    return client_of(server).responses.create(**(asked | fields))


def chat(server: Server, messages: list[dict], **fields):
    asked = dict(model=server.model, messages=messages, temperature=0, max_tokens=32)
    return client_of(server).chat.completions.create(**(asked | fields))


def events_of(server: Server, **fields) -> list:
    """The events of a stream, each checked against the SDK's own types and the order that they must have."""
    events = list(ask(server, stream=True, **fields))
    for event in events:
        EVENT.validate_python(event.to_dict())
    equal("sequence numbers", [event.sequence_number for event in events], list(range(len(events))))
    kinds = [event.type for event in events]
    equal("the first two events", kinds[:2], ["response.created", "response.in_progress"])
    one_of("the last event", kinds[-1], ("response.completed", "response.incomplete"))
    ends = [kind for kind in kinds if kind in ("response.completed", "response.incomplete", "response.failed")]
    equal("number of ends", len(ends), 1)
    opened: dict[int, list[str]] = {}
    for event in events:
        index = getattr(event, "output_index", None)
        if index is None:
            continue
        if event.type == "response.output_item.added":
            equal("index of a new item", index, len(opened))
            equal("items that are open", [i for i, seen in opened.items() if "response.output_item.done" not in seen], [])
            opened[index] = []
        expect(index in opened, f"{event.type} of item {index}, which has not begun")
        expect("response.output_item.done" not in opened[index], f"{event.type} after the end of item {index}")
        opened[index].append(event.type)
    for index, seen in opened.items():
        equal(f"last event of item {index}", seen[-1], "response.output_item.done")
    return events


def without_names(response) -> dict:
    """What two responses to the same question have in common."""
    told = response.to_dict()
    for key in ("id", "created_at", "completed_at", "timings"):
        told.pop(key, None)
    for item in told["output"]:
        item.pop("id", None)
        item.pop("call_id", None)
    told["usage"].pop("input_tokens_details", None)
    return told


@check
def response_has_the_documented_shape(server: Server) -> None:
    response = ask(server)
    Response.model_validate(response.to_dict())
    equal("object", response.object, "response")
    expect(response.id.startswith("resp_"), f"id is {response.id!r}")
    equal("model", response.model, server.model)
    one_of("status", response.status, ("completed", "incomplete"))
    equal("types of output", [item.type for item in response.output], ["message"])
    expect(response.output_text, "no text")
    usage = response.usage
    equal("total_tokens", usage.total_tokens, usage.input_tokens + usage.output_tokens)
    expect(0 < usage.output_tokens <= 32, f"usage is {usage}")


@check
def text_is_that_of_a_chat(server: Server) -> None:
    equal("text", ask(server).output_text, chat(server, [{"role": "user", "content": QUESTION}]).choices[0].message.content)
    with_system = chat(server, [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}])
    equal("with instructions", ask(server, instructions="Be brief.").output_text, with_system.choices[0].message.content)
    items = [
        {"role": "developer", "content": [{"type": "input_text", "text": "Be brief."}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": QUESTION}]},
    ]
    equal("with items", ask(server, input=items).output_text, with_system.choices[0].message.content)


@check
def a_limit_makes_it_incomplete(server: Server) -> None:
    response = ask(server, max_output_tokens=4)
    equal("status", response.status, "incomplete")
    equal("reason", response.incomplete_details.reason, "max_output_tokens")
    equal("status of the message", response.output[-1].status, "incomplete")
    equal("output_tokens", response.usage.output_tokens, 4)
    equal("last event", events_of(server, max_output_tokens=4)[-1].type, "response.incomplete")


@check
def stream_says_what_the_response_says(server: Server) -> None:
    whole = ask(server)
    events = events_of(server)
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    equal("text of the deltas", "".join(deltas), whole.output_text)
    done = next(event for event in events if event.type == "response.output_text.done")
    equal("text that is done", done.text, whole.output_text)
    equal("the last event's response", without_names(events[-1].response), without_names(whole))


@check
def stream_helper_of_the_sdk_ends_with_the_response(server: Server) -> None:
    # The helper takes a response that its limit has cut for an error. A number ends by itself.
    number = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 99}}, "required": ["n"]}
    text = {"format": {"type": "json_schema", "name": "number", "schema": number | {"additionalProperties": False}}}
    asked = dict(model=server.model, input=QUESTION, temperature=0, max_output_tokens=100, text=text)
    with client_of(server).responses.stream(**asked) as stream:
        for _ in stream:
            pass
        whole = ask(server, max_output_tokens=100, text=text)
        equal("text", stream.get_final_response().output_text, whole.output_text)


@check
def a_conversation_goes_on_from_its_items(server: Server) -> None:
    first = ask(server)
    said = [{"role": "user", "content": QUESTION}, *(item.to_dict() for item in first.output)]
    said.append({"role": "user", "content": "And one about the sky."})
    second = ask(server, input=said)
    messages = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": first.output_text},
        {"role": "user", "content": "And one about the sky."},
    ]
    equal("text", second.output_text, chat(server, messages).choices[0].message.content)
    expect(second.usage.input_tokens_details.cached_tokens > 0, "nothing was cached")


@check
def logprobs_are_those_of_a_chat(server: Server) -> None:
    response = ask(server, top_logprobs=3, include=["message.output_text.logprobs"], max_output_tokens=8)
    found = response.output[0].content[0].logprobs
    asked = chat(server, [{"role": "user", "content": QUESTION}], logprobs=True, top_logprobs=3, max_tokens=8)
    wanted = asked.choices[0].logprobs.content
    equal("tokens", [token.token for token in found], [token.token for token in wanted])
    equal("log-probabilities", [token.logprob for token in found], [token.logprob for token in wanted])
    equal("number of others", {len(token.top_logprobs) for token in found}, {3})
    events = events_of(server, top_logprobs=3, include=["message.output_text.logprobs"], max_output_tokens=8)
    streamed = [token.logprob for event in events if event.type == "response.output_text.delta" for token in event.logprobs]
    equal("streamed", streamed, [token.logprob for token in wanted])


@check
def a_schema_is_kept(server: Server) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "minimum": 0}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    text = {"format": {"type": "json_schema", "name": "person", "schema": schema, "strict": True}}
    for seed in range(3):
        response = ask(server, text=text, temperature=1.5, max_output_tokens=200, extra_body={"seed": seed})
        if response.status == "completed":
            jsonschema.validate(json.loads(response.output_text), schema)
    equal("status", ask(server, text=text, max_output_tokens=200).status, "completed")


@check
def input_tokens_are_those_of_the_prompt(server: Server) -> None:
    counted = client_of(server).responses.input_tokens.count(model=server.model, input=QUESTION, instructions="Be brief.")
    equal("object", counted.object, "response.input_tokens")
    equal("input_tokens", counted.input_tokens, ask(server, instructions="Be brief.").usage.input_tokens)


@check
def what_is_not_done_is_refused_by_name(server: Server) -> None:
    image = [{"role": "user", "content": [{"type": "input_image", "image_url": "data:,x", "detail": "auto"}]}]
    for param, fields in [
        ("previous_response_id", {"previous_response_id": "resp_1"}),
        ("background", {"background": True}),
        ("conversation", {"conversation": "conv_1"}),
        ("truncation", {"truncation": "auto"}),
        ("input[0].content[0]", {"input": image}),
        ("input[0].type", {"input": [{"type": "item_reference", "id": "x"}]}),
        ("input", {"input": []}),
        ("max_output_tokens", {"max_output_tokens": 0}),
        ("text.format", {"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "none such"}}}}),
        ("tool_choice", {"tool_choice": "required"}),
        ("temperature", {"temperature": -1}),
    ]:
        try:
            ask(server, **fields)
        except BadRequestError as error:
            expect(param in (error.param or ""), f"{fields}: param is {error.param!r}: {error.message}")
        else:
            raise Failed(f"{fields} is accepted")


@check
def tools_are_called_and_their_results_are_read(server: Server) -> None:
    asked = dict(tools=[WEATHER, {"type": "web_search"}], tool_choice="required", parallel_tool_calls=False, max_output_tokens=128)
    question = [{"role": "user", "content": "What is the weather in Paris?"}]
    response = ask(server, input=question, **asked)
    call = response.output[-1]
    equal("type", call.type, "function_call")
    equal("name", call.name, "get_weather")
    jsonschema.validate(json.loads(call.arguments), WEATHER["parameters"])
    events = events_of(server, input=question, **asked)
    deltas = "".join(event.delta for event in events if event.type == "response.function_call_arguments.delta")
    equal("streamed arguments", deltas, call.arguments)
    equal("the last event's response", without_names(events[-1].response), without_names(response))
    result = {"type": "function_call_output", "call_id": call.call_id, "output": '{"degrees": 21}'}
    said = [*question, *(item.to_dict() for item in response.output), result]
    answer = ask(server, input=said, tools=[WEATHER], tool_choice="none")
    expect(answer.output_text, "no text after a result")


@check
def custom_tools_get_text(server: Server) -> None:
    asked = dict(tools=[SHELL], tool_choice={"type": "custom", "name": "shell"}, max_output_tokens=128)
    response = ask(server, input="List the files.", **asked)
    call = response.output[-1]
    equal("type", call.type, "custom_tool_call")
    equal("name", call.name, "shell")
    expect(not call.input.startswith("{"), f"the input is JSON: {call.input!r}")
    events = events_of(server, input="List the files.", **asked)
    done = [event.input for event in events if event.type == "response.custom_tool_call_input.done"]
    equal("streamed input", done, [call.input])
    said = [
        {"role": "user", "content": "List the files."},
        call.to_dict(),
        {"type": "custom_tool_call_output", "call_id": call.call_id, "output": "a.txt"},
    ]
    expect(ask(server, input=said, tools=[SHELL], tool_choice="none").output_text, "no text after a result")


@check
def only_allowed_tools_are_called(server: Server) -> None:
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "custom", "name": "shell"}]}
    response = ask(server, tools=[WEATHER, SHELL], tool_choice=allowed, max_output_tokens=128)
    names = {item.name for item in response.output if item.type.endswith("_call")}
    equal("tools that were called", names, {"shell"})


if __name__ == "__main__":
    sys.exit(checks.main(checks.parser_with_tools("Responses through the official Python SDK.")))
