#!/usr/bin/env python3
"""Renders chat templates with Jinja2, set up as transformers does, and with lossy, and reports where the prompts differ.

usage: compare_templates.py FOLDER [--show N] [--program PATH]
  needs: jinja2; cargo, which builds crates/tokenizer/examples/render.rs
  FOLDER: templates, each a file whose name ends in .jinja

Every template renders conversations of one and several turns, with a system message, with tools and their answers, and with
thinking. Both sides follow lossy's rules for messages: a template that loses a message as text gets lists of parts, and a
message that is lost all the same is an error. Of two errors the words do not have to agree.
"""
import argparse
import datetime
import json
import pathlib
import subprocess
import sys

import jinja2
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

ROOT = pathlib.Path(__file__).resolve().parent.parent
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


class Generation(Extension):
    """`{% generation %}`, which marks the assistant's words and prints them."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_print"), [], [], body).set_lineno(line)

    @jinja2.pass_eval_context
    def _print(self, context, caller):
        return caller()


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    extensions = [Generation, jinja2.ext.loopcontrols]
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda format: datetime.datetime.now().strftime(format)
    return env


TOOL = {"type": "function", "function": {"name": "get_weather", "description": "Weather of a \"city\" <now> & later", "parameters": {
    "type": "object", "properties": {
        "city": {"type": "string", "description": "Name of the city", "enum": ["Köln", "Oslo"]},
        "days": {"type": "integer", "default": 3}, "exact": {"type": ["boolean", "null"]},
        "where": {"type": "object", "properties": {"lat": {"type": "number"}, "tags": {"type": "array", "items": {"type": "string"}}}}},
    "required": ["city"]}, "return": {"type": "string"}}}
CALL = {"id": "call00001", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Bergen", "days": 2, "exact": True, "x": 1e-7, "y": None, "z": [1.0, 1e16]}}}
USER, SYSTEM = {"role": "user", "content": "  alpha 'one' <b>  "}, {"role": "system", "content": "bravo\nbe brief "}
ANSWER = {"role": "assistant", "content": " charlie\n"}
MORE = {"role": "user", "content": "delta \"ünïcode\" 😀"}
THOUGHT = {"role": "assistant", "content": "echo", "reasoning_content": "foxtrot\nthinking", "thinking": "foxtrot\nthinking"}
IN_TEXT = {"role": "assistant", "content": "<think>\nfoxtrot\n</think>\n\necho"}
CALLS = {"role": "assistant", "content": None, "tool_calls": [CALL]}
TALKS_AND_CALLS = {"role": "assistant", "content": "golf", "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": "{\"hotel\": 21.5}", "tool_call_id": "call00001", "name": "get_weather"}
CONVERSATIONS = {
    "one": ([USER], [], {}),
    "system": ([SYSTEM, USER], [], {}),
    "turns": ([USER, ANSWER, MORE], [], {}),
    "system, turns": ([SYSTEM, USER, ANSWER, MORE, ANSWER], [], {}),
    "thinking": ([USER, THOUGHT, MORE], [], {"enable_thinking": True, "thinking": True}),
    "not thinking": ([USER, THOUGHT, MORE], [], {"enable_thinking": False, "thinking": False}),
    "thinking in the text": ([SYSTEM, USER, IN_TEXT, MORE], [], {}),
    "tools": ([USER], [TOOL, TOOL], {}),
    "tools, call": ([SYSTEM, USER, CALLS, RESULT], [TOOL], {}),
    "tools, turns": ([USER, TALKS_AND_CALLS, RESULT, ANSWER, MORE], [TOOL], {"enable_thinking": True}),
    "two calls": ([SYSTEM, USER, {**CALLS, "tool_calls": [CALL, {**CALL, "id": "call00002"}]}, RESULT, {**RESULT, "tool_call_id": "call00002"}], [TOOL], {}),
}


def words(message):
    """What must be in the prompt if the message is not lost; case and white space may differ."""
    content = message.get("content") or ""
    found = [content.split()[0]] if content.strip() and "</think>" not in content else []
    return found + (["Bergen"] if message.get("tool_calls") else [])


def is_lost(message, prompt):
    needles = [word.strip("{\":").lower() for word in words(message)]
    return bool(needles) and not any(needle in prompt.lower() for needle in needles)


def with_jinja(template, messages, tools, extra, add):
    """(kind, text) of a prompt, an error, or a lost message."""
    def render(messages):
        return template.render(messages=messages, tools=tools or None, documents=None, add_generation_prompt=add, **SPECIAL, **extra)

    def parts(message):
        content = message.get("content")
        return {**message, "content": [{"type": "text", "text": content}]} if isinstance(content, str) else message

    first = None
    for shaped in (messages, [parts(m) for m in messages]):
        try:
            prompt = render(shaped)
        except Exception as error:
            first = first or ("error", str(error))
            continue
        lost = [i + 1 for i, message in enumerate(messages) if is_lost(message, prompt)]
        if not lost:
            return "prompt", prompt
        first = first or ("lost", f"message {lost[0]} ")
    return first


def agrees(theirs, ours):
    kind, text = theirs
    if kind == "prompt":
        return ours.get("prompt") == text
    if kind == "lost":
        return ours.get("error", "").startswith(text)
    is_endless = "recursion" in text
    return "error" in ours and ("the limit" in ours["error"]) == is_endless


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--show", type=int, default=5, help="differences to show")
    parser.add_argument("--program", help="the example, if it is built already")
    args = parser.parse_args()
    build = ["cargo", "run", "--release", "--quiet", "-p", "lossy-tokenizer", "--example", "render"]
    lossy = subprocess.Popen([args.program] if args.program else build, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    env, files = environment(), sorted(args.folder.glob("*.jinja"))
    n_cases, n_prompts, wrong = 0, 0, {}
    for file in files:
        source = file.read_bytes().decode()
        try:
            template = env.from_string(source)
        except jinja2.TemplateError as error:
            print(f"{file.name}: Jinja2 cannot parse it: {error}")
            template = None
        for name, (messages, tools, extra) in CONVERSATIONS.items():
            for add in (False, True):
                theirs = with_jinja(template, messages, tools, extra, add) if template else ("error", "")
                request = {"template": source, "special_tokens": SPECIAL, "messages": messages, "tools": tools, "extra": extra, "add_generation_prompt": add}
                print(json.dumps(request), file=lossy.stdin, flush=True)
                ours = json.loads(lossy.stdout.readline())
                n_cases, n_prompts = n_cases + 1, n_prompts + (theirs[0] == "prompt")
                if not agrees(theirs, ours):
                    wrong.setdefault(file.name, []).append((name, add, theirs, ours))
    lossy.stdin.close()
    for name, differences in list(wrong.items())[:args.show]:
        conversation, add, theirs, ours = differences[0]
        print(f"\n{name}: {len(differences)} differ; {conversation}, add_generation_prompt={add}\n  theirs {theirs!r}\n  ours   {ours!r}")
    print(f"\n{len(files)} templates, {len(files) - len(wrong)} agree; {n_cases} conversations, {n_prompts} of them with a prompt")
    if wrong:
        print("differ: " + ", ".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
