"""Validate answers; usage: validate.py FILE

FILE is a list of {"draft", "schema", "answers": [text, …]}. Prints JSON: "wrong" is a list of [case, answer, why] for
every answer that is no JSON or that its schema does not allow, and "unjudged" has the cases whose patterns Python does
not know. Numbers are decimals, as a schema means them, and classes such
as \\w are those of ECMA-262.
"""
import decimal
import json
import re
import sys

import jsonschema
from jsonschema import Draft7Validator, Draft202012Validator, ValidationError

decimal.getcontext().prec = 3000


def multiple_of(validator, step, instance, schema):
    if validator.is_type(instance, "number") and decimal.Decimal(instance) % decimal.Decimal(step) != 0:
        yield ValidationError(f"{instance} is no multiple of {step}")


def pattern(validator, regex, instance, schema):
    if validator.is_type(instance, "string") and not re.search(regex, instance, re.ASCII):
        yield ValidationError(f"{instance!r} does not match {regex!r}")


def validator_of(base):
    extended = jsonschema.validators.extend(base, {"multipleOf": multiple_of, "pattern": pattern})
    return lambda schema: extended(schema, format_checker=base.FORMAT_CHECKER)


VALIDATORS = {"draft7": validator_of(Draft7Validator), "draft2020-12": validator_of(Draft202012Validator)}


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        cases = json.load(file, parse_float=decimal.Decimal)
    wrong, unjudged = [], []
    for number, case in enumerate(cases):
        validator = VALIDATORS[case["draft"]](case["schema"])
        for answer in case["answers"]:
            try:
                validator.validate(json.loads(answer, parse_float=decimal.Decimal))
            except re.error:
                unjudged.append(number)
            except Exception as error:  # also what the validator cannot compute
                wrong.append([number, answer, f"{type(error).__name__}: {str(error).splitlines()[0]}"])
    print(json.dumps({"wrong": wrong, "unjudged": unjudged}))


if __name__ == "__main__":
    main()
