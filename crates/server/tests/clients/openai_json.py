"""Answers under a schema or a grammar, through the official Python SDK: what comes always parses.

usage: openai_json.py URL [--api-key KEY] [--only WORD] [--without WORD]
"""
import json
import sys
from typing import Literal

import checks
import jsonschema
from checks import Failed, Server, check, equal, expect, one_of
from openai import BadRequestError, OpenAI
from pydantic import BaseModel

QUESTION = [{"role": "user", "content": "Describe a cat as JSON."}]
CAT = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 30},
        "colour": {"enum": ["black", "white", "grey"]},
        "likes": {"type": "array", "items": {"type": "string", "maxLength": 12}, "minItems": 1, "maxItems": 3},
    },
    "required": ["name", "age", "colour", "likes"],
    "additionalProperties": False,
}


class Cat(BaseModel):
    name: str
    age: int
    colour: Literal["black", "white", "grey"]


def client_of(server: Server) -> OpenAI:
    return OpenAI(base_url=server.v1, api_key=server.key_or_dummy, max_retries=0, timeout=600)


def ask(server: Server, **fields):
    asked = dict(model=server.model, messages=QUESTION, temperature=0, max_tokens=160)
    return client_of(server).chat.completions.create(**(asked | fields))


def schema_format(schema, **fields) -> dict:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema} | fields}


def check_choice(choice, schema: dict) -> None:
    """An answer parses and validates, unless the limit cut it."""
    one_of("finish_reason", choice.finish_reason, ("stop", "length"))
    if choice.finish_reason == "stop":
        try:
            jsonschema.validate(json.loads(choice.message.content), schema)
        except (ValueError, jsonschema.ValidationError) as error:
            raise Failed(f"{choice.message.content!r} does not keep the schema: {error}") from None


@check
def json_object_parses(server: Server) -> None:
    for fields in (dict(), dict(temperature=1.5, seed=4)):
        check_choice(ask(server, response_format={"type": "json_object"}, **fields).choices[0], {"type": "object"})


@check
def text_is_the_default(server: Server) -> None:
    plain = ask(server, max_tokens=16).choices[0].message.content
    equal("text", ask(server, max_tokens=16, response_format={"type": "text"}).choices[0].message.content, plain)


@check
def a_schema_is_kept(server: Server) -> None:
    finished = 0
    for fields in (dict(), dict(temperature=1, seed=1), dict(temperature=1, seed=2), dict(temperature=2, seed=3)):
        for strict in (True, False):
            choice = ask(server, response_format=schema_format(CAT, strict=strict), **fields).choices[0]
            check_choice(choice, CAT)
            finished += choice.finish_reason == "stop"
    expect(finished >= 4, f"only {finished} of 8 answers under a small schema ended before 160 tokens")


@check
def stream_says_what_the_answer_says(server: Server) -> None:
    form = schema_format(CAT, strict=True)
    choice = ask(server, response_format=form).choices[0]
    chunks = [chunk.choices[0] for chunk in ask(server, response_format=form, stream=True) if chunk.choices]
    equal("text", "".join(chunk.delta.content or "" for chunk in chunks), choice.message.content)
    equal("finish_reason", chunks[-1].finish_reason, choice.finish_reason)


@check
def an_answer_that_is_cut_says_so(server: Server) -> None:
    choice = ask(server, response_format=schema_format(CAT, strict=True), max_tokens=3).choices[0]
    equal("finish_reason", choice.finish_reason, "length")


@check
def the_helper_of_the_sdk_gets_its_type(server: Server) -> None:
    asked = dict(model=server.model, messages=QUESTION, temperature=0, max_tokens=160)
    answer = client_of(server).chat.completions.parse(response_format=Cat, **asked)
    expect(isinstance(answer.choices[0].message.parsed, Cat), f"parsed is {answer.choices[0].message.parsed!r}")


@check
def several_choices_keep_the_schema(server: Server) -> None:
    answer = ask(server, response_format=schema_format(CAT, strict=True), n=3, temperature=1, seed=1)
    equal("number of choices", len(answer.choices), 3)
    for choice in answer.choices:
        check_choice(choice, CAT)


@check
def schemas_of_other_forms_are_kept(server: Server) -> None:
    schemas = [
        {"enum": ["yes", "no"]},
        {"const": {"a": [1, None, "x"]}},
        {"type": "boolean"},
        {"type": "array", "items": {"$ref": "#/$defs/pair"}, "minItems": 2, "maxItems": 2, "$defs": {"pair": {
            "type": "array", "prefixItems": [{"type": "integer", "minimum": 0, "maximum": 9}, {"type": "boolean"}],
            "items": False, "minItems": 2}}},
        {"anyOf": [{"type": "integer", "minimum": 10, "maximum": 20}, {"type": "null"}]},
        {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{2}$"},
    ]
    for schema in schemas:
        choice = ask(server, response_format=schema_format(schema)).choices[0]
        equal(f"finish_reason of {choice.message.content!r} under {schema}", choice.finish_reason, "stop")
        check_choice(choice, schema)


@check
def what_is_not_enforced_is_refused_by_name(server: Server) -> None:
    cases = [
        ("uniqueItems", {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}),
        ("contains", {"type": "array", "contains": {"type": "integer"}}),
        ("propertyNames", {"type": "object", "propertyNames": {"pattern": "^a"}}),
    ]
    for word, schema in cases:
        try:
            choice = ask(server, response_format=schema_format(schema, strict=True)).choices[0]
        except BadRequestError as error:
            expect(word in error.message, f"{schema}: the message does not name {word}: {error.message}")
            expect("response_format" in (error.param or ""), f"{schema}: param is {error.param!r}")
        else:
            raise Failed(f"{schema} is accepted, and gives {choice.message.content!r}")


@check
def wrong_formats_are_refused(server: Server) -> None:
    cases = [
        {"type": "yaml"},
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": 7}},
        schema_format({"type": "cat"}),
        schema_format({"$ref": "#/$defs/missing"}),
        schema_format({"$ref": "http://127.0.0.1:1/schema.json"}),
        schema_format({"type": "string", "pattern": "(unclosed"}),
    ]
    for form in cases:
        try:
            ask(server, response_format=form, max_tokens=8)
        except BadRequestError as error:
            expect("response_format" in (error.param or ""), f"{form}: param is {error.param!r}: {error.message}")
        else:
            raise Failed(f"{form} is accepted")


if __name__ == "__main__":
    sys.exit(checks.main(checks.parser("Answers under a schema, through the official Python SDK.")))
