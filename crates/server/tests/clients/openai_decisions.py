"""Decisions through the official Python SDK: probabilities, the same alone and together, refusals.

usage: openai_decisions.py URL [--api-key KEY] [--only WORD] [--without WORD]
"""
import math
import sys

import checks
from checks import Failed, Server, check, equal, expect
from openai import BadRequestError, OpenAI
from openai.types import Decision

TEXT = "The ferry leaves Dover at nine in the morning and reaches Calais before eleven. " * 12
PREDICATE = {"type": "predicate", "name": "ferry", "instructions": "It is about a ferry."}
CHOICE = {
    "type": "choice",
    "instructions": "Where does it leave?",
    "choices": [{"value": "Calais"}, {"value": "Dover", "description": "in England"}, {"value": True}],
}
SCORE = {"type": "score", "name": None, "instructions": "How long is it?", "levels": [{"label": "short"}, {"label": "long"}]}
ALL = [PREDICATE, CHOICE, SCORE]


def client_of(server: Server) -> OpenAI:
    return OpenAI(base_url=server.v1, api_key=server.key_or_dummy, max_retries=0, timeout=600)


def decide(server: Server, questions, text=TEXT, **fields) -> Decision:
    made = client_of(server).decisions.create(model=server.model, input=text, questions=questions, **fields)
    Decision.model_validate(made.to_dict())
    return made


def told(answers) -> list[dict]:
    return [answer.to_dict() for answer in answers]


def likely(server: Server, question: str) -> dict[str, float]:
    """The probabilities of the first token of a chat's answer, by its text."""
    body = dict(
        model=server.model, temperature=0, max_tokens=1, logprobs=True, top_logprobs=100, reasoning_effort="none",
        messages=[{"role": "user", "content": TEXT}, {"role": "user", "content": question}],
    )
    answer = server.ask("POST", "/v1/chat/completions", body).json()
    first = answer["choices"][0]["logprobs"]["content"][0]
    return {token["token"]: math.exp(token["logprob"]) for token in first["top_logprobs"]}


def close(what: str, found: float, wanted: float) -> None:
    expect(abs(found - wanted) < 1e-5, f"{what}: {found} instead of {wanted}")


@check
def answers_are_the_probabilities_that_a_chat_has(server: Server) -> None:
    predicate, choice, score = decide(server, ALL).answers
    tokens = likely(server, "Is this true of the above? It is about a ferry.\nAnswer with Yes or No.")
    mass = tokens.get("Yes", 0) + tokens.get("No", 0)
    close("predicate", predicate.probability, tokens.get("Yes", 0) / mass)
    close("its mass", predicate.allowed_mass, mass)
    equal("its name", predicate.name, "ferry")
    question = "About the above: Where does it leave?\nA. Calais\nB. Dover: in England\nC. true\nAnswer with the letter only."
    tokens = likely(server, question)
    shares = [tokens.get(letter, 0) for letter in "ABC"]
    for found, share in zip(choice.probabilities, shares, strict=True):
        close(f"choice {found.value}", found.probability, share / sum(shares))
    equal("values", [found.value for found in choice.probabilities], ["Calais", "Dover", True])
    equal("choice", choice.choice, max(choice.probabilities, key=lambda found: found.probability).value)
    tokens = likely(server, "Rate the above: How long is it?\n0. short\n1. long\nAnswer with the number only.")
    shares = [tokens.get(digit, 0) for digit in "01"]
    close("score", score.score, shares[1] / sum(shares))
    equal("levels", [(found.value, found.label) for found in score.probabilities], [(0, "short"), (1, "long")])
    for answer in (choice, score):
        close("sum", sum(found.probability for found in answer.probabilities), 1)


@check
def questions_together_have_the_bits_of_questions_alone(server: Server) -> None:
    questions = [
        question | {"name": f"{i}", "instructions": f"{question['instructions']} ({i})"} for i in range(7) for question in ALL
    ]
    together = told(decide(server, questions).answers)
    equal("names", [answer["name"] for answer in together], [question["name"] for question in questions])
    for question, answer in zip(questions, together, strict=True):
        equal(f"alone: {question['instructions']}", told(decide(server, [question]).answers), [answer])
    equal("the other way round", told(decide(server, questions[::-1]).answers), together[::-1])


@check
def the_input_is_read_once(server: Server) -> None:
    text = TEXT + "It rained."
    usage = decide(server, [PREDICATE] * 20, text).usage
    n_input = len(server.tokenize(text))
    expect(usage.input_tokens < n_input + 20 * 80, f"usage is {usage} for an input of {n_input} tokens")
    equal("output_tokens", usage.output_tokens, 0)
    again = decide(server, [SCORE], text).usage
    expect(again.input_tokens_details.cached_tokens >= n_input - 2 * 128, f"usage of the second request is {again}")


@check
def many_choices_have_labels(server: Server) -> None:
    choices = [{"value": f"value {n}"} for n in range(255)]
    answer = decide(server, [CHOICE | {"choices": choices}]).answers[0]
    equal("number of probabilities", len(answer.probabilities), 255)


@check
def an_input_may_be_items(server: Server) -> None:
    items = [{"role": "user", "content": [{"type": "input_text", "text": TEXT}]}]
    equal("as items", told(decide(server, ALL, items).answers), told(decide(server, ALL).answers))


@check
def what_is_wrong_is_refused_by_name(server: Server) -> None:
    for param, questions, fields in [
        ("questions", [], {}),
        ("questions", [PREDICATE] * 401, {}),
        ("questions[1].type", [PREDICATE, {"type": "guess", "instructions": "x"}], {}),
        ("questions[0].choices", [CHOICE | {"choices": [{"value": "a"}]}], {}),
        ("questions[0].weight", [PREDICATE | {"weight": 3}], {}),
        ("temperature", [PREDICATE], {"extra_body": {"temperature": 0}}),
        ("kv", [PREDICATE], {"extra_body": {"kv": "nothing"}}),
    ]:
        try:
            decide(server, questions, **fields)
        except BadRequestError as error:
            expect(param in f"{error.param} {error.message}", f"{fields}: param is {error.param!r}: {error.message}")
        else:
            raise Failed(f"{param} is accepted")


if __name__ == "__main__":
    sys.exit(checks.main(checks.parser("Decisions through the official Python SDK.")))
