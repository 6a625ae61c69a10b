"""What langchain-openai does with the server: invoke, stream, batch, structured output, tools, plain completions.

usage: langchain_client.py URL [--api-key KEY] [--tools] [--only WORD] [--without WORD]
"""
import asyncio
import sys

import checks
from checks import Failed, Server, check, equal, expect
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI
from pydantic import BaseModel, Field

QUESTION = "Write one sentence about the sea."


def chat(server: Server, **fields) -> ChatOpenAI:
    asked = dict(base_url=server.v1, api_key=server.key_or_dummy, model=server.model, temperature=0, max_tokens=24)
    return ChatOpenAI(**(dict(asked, max_retries=0, timeout=600, stream_usage=True) | fields))


class Cat(BaseModel):
    """A cat."""

    name: str = Field(max_length=12)
    age: int = Field(ge=0, le=30)


@tool
def add_numbers(a: int, b: int) -> int:
    """The sum of two integers."""
    return a + b


@check
def invoke(server: Server) -> None:
    answer = chat(server).invoke([SystemMessage("Be brief."), HumanMessage(QUESTION)])
    expect(isinstance(answer, AIMessage) and answer.content, f"answer is {answer!r}")
    usage = answer.usage_metadata
    equal("total_tokens", usage["total_tokens"], usage["input_tokens"] + usage["output_tokens"])
    expect("cache_read" in usage["input_token_details"], f"usage is {usage}")
    equal("model", answer.response_metadata["model_name"], server.model)


@check
def stream(server: Server) -> None:
    whole = chat(server).invoke(QUESTION)
    chunks = list(chat(server).stream(QUESTION))
    expect(len(chunks) > 3, f"a stream of {len(chunks)} chunks")
    equal("text", "".join(chunk.content for chunk in chunks), whole.content)
    usages = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    equal("output_tokens", sum(u["output_tokens"] for u in usages), whole.usage_metadata["output_tokens"])


@check
def batch(server: Server) -> None:
    questions = [f"Name {n} animals." for n in (2, 3, 4)]
    alone = [chat(server).invoke(question).content for question in questions]
    equal("batch", [answer.content for answer in chat(server).batch(questions)], alone)

    async def together() -> list[str]:
        model = chat(server)
        return [answer.content for answer in await asyncio.gather(*(model.ainvoke(q) for q in questions))]

    equal("ainvoke", asyncio.run(together()), alone)


@check
def logprobs(server: Server) -> None:
    answer = chat(server, logprobs=True, top_logprobs=2).invoke(QUESTION)
    content = answer.response_metadata["logprobs"]["content"]
    equal("text", b"".join(bytes(token["bytes"]) for token in content).decode(), answer.content)


@check
def structured_output_by_schema(server: Server) -> None:
    model = chat(server, max_tokens=128).with_structured_output(Cat, method="json_schema")
    expect(isinstance(model.invoke("Describe a cat as JSON."), Cat), "no Cat")


@check
def plain_completion(server: Server) -> None:
    asked = dict(base_url=server.v1, api_key=server.key_or_dummy, model=server.model, temperature=0, max_tokens=8)
    model = OpenAI(**asked, max_retries=0)
    whole = model.invoke("One, two,")
    expect(whole, "no text")
    equal("stream", "".join(model.stream("One, two,")), whole)
    texts = [generations[0].text for generations in model.generate(["One, two,", "Red, green,"]).generations]
    equal("the first of two", texts[0], whole)


@check
def tools(server: Server) -> None:
    question = HumanMessage("What is 17 plus 25? Use the tool.")
    model = chat(server, max_tokens=128)
    called = model.bind_tools([add_numbers], tool_choice="required", parallel_tool_calls=False).invoke([question])
    equal("number of calls", len(called.tool_calls), 1)
    equal("invalid calls", called.invalid_tool_calls, [])
    call = called.tool_calls[0]
    equal("name", call["name"], "add_numbers")
    result = add_numbers.invoke(call["args"])
    after = model.bind_tools([add_numbers], tool_choice="none")
    answer = after.invoke([question, called, ToolMessage(str(result), tool_call_id=call["id"])])
    expect(answer.content, "no content after a result")
    streamed = None
    for chunk in model.bind_tools([add_numbers], tool_choice="required", parallel_tool_calls=False).stream([question]):
        streamed = chunk if streamed is None else streamed + chunk
    equal("arguments in a stream", streamed.tool_calls[0]["args"], call["args"])


@check
def structured_output_by_tools(server: Server) -> None:
    model = chat(server, max_tokens=128).with_structured_output(Cat, method="function_calling")
    try:
        cat = model.invoke("Describe a cat.")
    except ValueError as error:
        raise Failed(f"the arguments do not parse: {error}") from None
    expect(isinstance(cat, Cat), f"no Cat, but {cat!r}")


if __name__ == "__main__":
    sys.exit(checks.main(checks.parser_with_tools("What langchain-openai does with the server.")))
