"""Messages through Anthropic's official Python SDK: blocks, events, tools, counts, refusals.

usage: anthropic_messages.py URL [--api-key KEY] [--only WORD] [--without WORD] [--tools]
"""
import json
import sys

import anthropic
import checks
import jsonschema
from anthropic import Anthropic, BadRequestError
from anthropic.types import Message, RawMessageStreamEvent
from checks import Failed, Server, check, equal, expect, one_of
from pydantic import TypeAdapter

QUESTION = [{"role": "user", "content": "Write two sentences about the sea."}]
WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
EVENT = TypeAdapter(RawMessageStreamEvent)


def client_of(server: Server) -> Anthropic:
    return Anthropic(base_url=server.root, api_key=server.key_or_dummy, max_retries=0, timeout=600)


def ask(server: Server, **fields):
    """The SDK has no parameter for the temperature, but the interface has a field."""
    asked = dict(model=server.model, messages=QUESTION, max_tokens=32) | fields
    asked["extra_body"] = {"temperature": 0} | fields.get("extra_body", {})
    return client_of(server).messages.create(**asked)


def helper(server: Server, **fields):
    """The SDK's helper for streams."""
    asked = dict(model=server.model, messages=QUESTION, max_tokens=32, extra_body={"temperature": 0})
    return client_of(server).messages.stream(**(asked | fields))


def text(message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def chat(server: Server, messages: list[dict], **fields) -> str:
    """What the same conversation is answered over OpenAI's interface."""
    body = dict(model=server.model, messages=messages, temperature=0, max_tokens=32) | fields
    return server.ask("POST", "/v1/chat/completions", body).json()["choices"][0]["message"]["content"]


def events_of(server: Server, **fields) -> list:
    """The events of a stream, each checked against the SDK's own types and the order that they must have."""
    events = list(ask(server, stream=True, **fields))
    for event in events:
        EVENT.validate_python(event.to_dict())
    kinds = [event.type for event in events]
    equal("the first event", kinds[0], "message_start")
    equal("the last two events", kinds[-2:], ["message_delta", "message_stop"])
    open_block, n_blocks = None, 0
    for event in events:
        if event.type == "content_block_start":
            equal("block that is open", open_block, None)
            equal("index of a new block", event.index, n_blocks)
            open_block, n_blocks = event.index, n_blocks + 1
        elif event.type in ("content_block_delta", "content_block_stop"):
            equal(f"index of {event.type}", event.index, open_block)
            open_block = None if event.type == "content_block_stop" else open_block
    equal("block that is open at the end", open_block, None)
    return events


@check
def message_has_the_documented_shape(server: Server) -> None:
    message = ask(server)
    Message.model_validate(message.to_dict())
    expect(message.id.startswith("msg_"), f"id is {message.id!r}")
    equal("type and role", (message.type, message.role), ("message", "assistant"))
    equal("model", message.model, server.model)
    equal("types of blocks", [block.type for block in message.content], ["text"])
    one_of("stop_reason", message.stop_reason, ("end_turn", "max_tokens"))
    expect(0 < message.usage.output_tokens <= 32, f"usage is {message.usage}")


@check
def text_is_that_of_a_chat(server: Server) -> None:
    equal("text", text(ask(server)), chat(server, QUESTION))
    system = [{"role": "system", "content": "Be brief.\nBe kind."}]
    wanted = chat(server, system + QUESTION)
    equal("with a system text", text(ask(server, system="Be brief.\nBe kind.")), wanted)
    blocks = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "Be kind."}]
    equal("with system blocks", text(ask(server, system=blocks)), wanted)
    billed = [{"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1; cch=7af31;"}, *blocks]
    equal("with a billing header", text(ask(server, system=billed)), wanted)


@check
def stream_says_what_the_message_says(server: Server) -> None:
    whole = ask(server)
    events = events_of(server)
    deltas = [event.delta.text for event in events if event.type == "content_block_delta"]
    equal("text", "".join(deltas), text(whole))
    equal("stop_reason", events[-2].delta.stop_reason, whole.stop_reason)
    equal("output_tokens", events[-2].usage.output_tokens, whole.usage.output_tokens)
    with helper(server) as stream:
        equal("text of the helper", "".join(stream.text_stream), text(whole))
        equal("its last message", text(stream.get_final_message()), text(whole))


@check
def a_limit_is_told(server: Server) -> None:
    message = ask(server, max_tokens=4)
    equal("stop_reason", message.stop_reason, "max_tokens")
    equal("output_tokens", message.usage.output_tokens, 4)
    equal("beyond the context", ask(server, max_tokens=1_000_000, stop_sequences=[" "]).stop_reason, "stop_sequence")


@check
def a_stop_sequence_is_named(server: Server) -> None:
    words = text(ask(server)).split()
    stop = f"{words[3]} {words[4]}"
    message = ask(server, stop_sequences=["\u2603\u2603", stop])
    equal("stop_reason and stop_sequence", (message.stop_reason, message.stop_sequence), ("stop_sequence", stop))
    expect(stop not in text(message), f"the text has its stop: {text(message)!r}")
    ends = [event.delta for event in events_of(server, stop_sequences=["\u2603\u2603", stop]) if event.type == "message_delta"]
    equal("streamed", [(end.stop_reason, end.stop_sequence) for end in ends], [("stop_sequence", stop)])


@check
def tokens_are_counted(server: Server) -> None:
    counted = client_of(server).messages.count_tokens(model=server.model, messages=QUESTION, system="Be brief.")
    usage = ask(server, system="Be brief.").usage
    total = usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens
    equal("input_tokens", counted.input_tokens, total)


@check
def a_conversation_goes_on_from_the_cache_whatever_its_billing_header(server: Server) -> None:
    words = " ".join(f"Rule {i}: be brief in case {i}." for i in range(120))

    def system(number: int) -> list[dict]:
        header = f"x-anthropic-billing-header: cc_version=2.1.{number}; cch={number:05x};"
        return [{"type": "text", "text": header}, {"type": "text", "text": words, "cache_control": {"type": "ephemeral"}}]

    first = ask(server, system=system(1), diagnostics={"previous_message_id": None})
    said = [*QUESTION, {"role": "assistant", "content": text(first)}, {"role": "user", "content": "And the sky?"}]
    second = ask(server, system=system(2), messages=said, diagnostics={"previous_message_id": first.id})
    usage = second.usage
    total = usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens
    # A page has 128 tokens, and the last pages may be read again.
    expect(usage.cache_read_input_tokens >= total - 3 * 128, f"usage is {usage}")
    equal("diagnostics", second.diagnostics.cache_miss_reason, None)
    third = ask(server, system=words[::-1], messages=said, diagnostics={"previous_message_id": second.id})
    expect(third.diagnostics.cache_miss_reason.type in ("system_changed", "previous_message_not_found"), f"{third.diagnostics}")


@check
def what_is_not_done_is_refused_in_anthropics_shape(server: Server) -> None:
    image = [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}}]}]
    for word, fields in [
        ("messages[0].content[0]", {"messages": image}),
        ("max_tokens", {"max_tokens": 0}),
        ("the assistant's", {"messages": [*QUESTION, {"role": "assistant", "content": "{"}]}),
        ("container", {"extra_body": {"container": "x"}}),
        ("thinking.type", {"thinking": {"type": "sometimes"}}),
        ("temperature", {"extra_body": {"temperature": -1}}),
        ("tool_choice", {"tool_choice": {"type": "any"}}),
    ]:
        try:
            ask(server, **fields)
        except BadRequestError as error:
            equal(f"type with {fields}", error.body["error"]["type"], "invalid_request_error")
            expect(word in error.body["error"]["message"], f"{fields}: {error.message}")
        else:
            raise Failed(f"{fields} is accepted")
    try:
        ask(server, model="no-such-model")
    except anthropic.NotFoundError as error:
        equal("type", error.body["error"]["type"], "not_found_error")
    else:
        raise Failed("a model that is not served is accepted")
    answer = server.ask("POST", "/v1/messages", {"messages": QUESTION})
    equal("status without max_tokens", answer.status, 400)
    equal("type of its body", answer.json()["type"], "error")
    equal("status of GET", server.ask("GET", "/v1/messages").status, 405)


@check
def a_schema_is_kept(server: Server) -> None:
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"], "additionalProperties": False}
    message = ask(server, output_config={"format": {"type": "json_schema", "schema": schema}}, max_tokens=100)
    equal("stop_reason", message.stop_reason, "end_turn")
    jsonschema.validate(json.loads(text(message)), schema)


@check
def tools_are_called_and_their_results_are_read(server: Server) -> None:
    question = [{"role": "user", "content": "What is the weather in Paris?"}]
    choice = {"type": "any", "disable_parallel_tool_use": True}
    asked = dict(messages=question, tools=[WEATHER, {"type": "web_search_20250305", "name": "web_search"}], tool_choice=choice)
    message = ask(server, max_tokens=128, **asked)
    equal("stop_reason", message.stop_reason, "tool_use")
    call = message.content[-1]
    equal("type and name", (call.type, call.name), ("tool_use", "get_weather"))
    expect(call.id.startswith("toolu_"), f"id is {call.id!r}")
    jsonschema.validate(call.input, WEATHER["input_schema"])
    events = events_of(server, max_tokens=128, **asked)
    parts = [event.delta.partial_json for event in events if event.type == "content_block_delta" and event.delta.type == "input_json_delta"]
    equal("streamed input", json.loads("".join(parts)), call.input)
    with helper(server, max_tokens=128, **asked) as stream:
        equal("input of the helper", stream.get_final_message().content[-1].input, call.input)
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": '{"degrees": 21}'}]}
    said = [*question, {"role": "assistant", "content": [block.to_dict() for block in message.content]}, {"role": "user", "content": [result]}]
    expect(text(ask(server, messages=said, tools=[WEATHER], tool_choice={"type": "none"})), "no text after a result")
    named = ask(server, max_tokens=128, messages=question, tools=[WEATHER], tool_choice={"type": "tool", "name": "get_weather"})
    equal("named tool", {block.name for block in named.content if block.type == "tool_use"}, {"get_weather"})


if __name__ == "__main__":
    sys.exit(checks.main(checks.parser_with_tools("Messages through Anthropic's official Python SDK.")))
