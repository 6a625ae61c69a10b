"""Requests that mean harm, or are none: strangers' hosts, headers, bodies, JSON, schemas, grammars, words for templates.

usage: hostile.py URL [--api-key KEY] [--pid PID] [--allow-mb N] [--only WORD] [--without WORD]

Each is refused with a reason, soon, or served; none makes the server fail, or does anything to it that stays.
"""
import json
import sys
import time

import aftermath
import checks
import wire
from aftermath import CHAT, chat, well
from checks import Server, check, equal, expect, one_of


@check
def memory_at_the_start(server: Server) -> None:
    aftermath.note_memory(server)


@check
def foreign_hosts_and_origins(server: Server) -> None:
    host, port = server.address
    foreign = (
        ("Host", "evil.example"), ("Host", f"evil.example:{port}"), ("Host", f"127.0.0.1.evil.example:{port}"),
        ("Origin", "http://evil.example"), ("Origin", "null"), ("Origin", f"https://evil.example:{port}"),
        ("Origin", f"http://127.0.0.1.evil.example:{port}"),
    )
    for field, value in foreign:
        for method, path, body in (("GET", "/health", None), ("POST", CHAT, chat(server)), ("GET", "/v1/models", None)):
            answer = wire.send(server, wire.request(server, method, path, body, **{field: value}))
            wire.must_refuse(f"{method} {path} with {field}: {value}", answer, 400, 403, 421)
    nameless = wire.send(server, wire.request(server, "GET", "/v1/models", Host=None))
    wire.must_refuse("HTTP/1.1 without a Host", nameless, 400, 403, 421)
    for own in (f"127.0.0.1:{port}", f"localhost:{port}", f"LOCALHOST:{port}", f"[::1]:{port}"):
        for fields in ({"Host": own}, {"Host": own, "Origin": f"http://{own}"}):
            answer = wire.send(server, wire.request(server, "GET", "/v1/models", **fields))
            equal(f"status with {fields}", answer and answer.status, 200)
    preflight = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    answer = wire.send(server, wire.request(server, "OPTIONS", CHAT, **preflight))
    expect(answer is None or "access-control-allow-origin" not in answer.headers, "another page may read answers")
    well(server)


@check
def headers_that_are_no_headers(server: Server) -> None:
    base = wire.request(server, "POST", CHAT, chat(server))
    line, _, rest = base.partition(b"\r\n")
    cases = {
        "a header of 1 MB": (line + b"\r\nX-Long: " + b"a" * 1_000_000 + b"\r\n" + rest, (400, 413, 431)),
        "20,000 headers": (line + b"\r\n" + b"X-Many: a\r\n" * 20_000 + rest, (400, 413, 431)),
        "a line without a colon": (line + b"\r\nno colon here\r\n" + rest, (400,)),
        "a path of 1 MB": (b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", (400, 403, 404, 414, 431)),
        "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 40, (400,)),
        "a length that is no number": (base.replace(b"Content-Length: ", b"Content-Length: x"), (400,)),
        "a negative length": (base.replace(b"Content-Length: ", b"Content-Length: -"), (400,)),
        "two lengths": (line + b"\r\nContent-Length: 5\r\n" + rest, (400,)),
        "an expectation": (line + b"\r\nExpect: 100-continue\r\n" + rest, (100, 200, 417)),
        "bytes that are no UTF-8": (line + b"\r\nX-Odd: \xff\xfe\r\n" + rest, (200, 400)),
        "a NUL": (line + b"\r\nX-Odd: a\0b\r\n" + rest, (400,)),
    }
    for what, (sent, statuses) in cases.items():
        wire.must_refuse(what, wire.send(server, sent, 30), *statuses)
    well(server)


@check
def bodies_that_are_too_large(server: Server) -> None:
    start = time.monotonic()
    huge = wire.request(server, "POST", CHAT, b"{", Content_Length=str(1 << 40))
    wire.must_refuse("a body of a terabyte, announced", wire.send(server, huge, 30), 413)
    chunked = wire.request(server, "POST", CHAT, b"", Content_Length=None, Transfer_Encoding="chunked")
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    with wire.connect(server, 60) as link:
        link.sendall(chunked)
        sent = 0
        try:
            while sent < 1 << 30:
                link.sendall(chunk)
                sent += 65536
        except OSError:
            pass  # refused in the middle, as it should be
        expect(sent < 1 << 30, "a body of a gigabyte was read to its end")
        try:
            wire.must_refuse("a body without an end", wire.read_answer(link, 30), 413)
        except OSError:
            pass
    expect(time.monotonic() - start < 60, "refusing took a minute")
    whole = wire.request(server, "POST", CHAT, b"", Content_Length=None, Transfer_Encoding="chunked")
    body = wire.body_of(chat(server))
    pieces = b"".join(b"%x\r\n%s\r\n" % (len(body[i:i + 7]), body[i:i + 7]) for i in range(0, len(body), 7))
    answer = wire.send(server, whole + pieces + b"0\r\n\r\n")
    equal("status of an honest body in chunks", answer and answer.status, 200)
    answer = wire.send(server, whole + b"zz\r\nabc\r\n0\r\n\r\n", 30)
    wire.must_refuse("a chunk whose size is no number", answer, 400)
    well(server)


def refused_soon(server: Server, what: str, body: bytes, *statuses: int) -> None:
    start = time.monotonic()
    answer = wire.send(server, wire.request(server, "POST", CHAT, body), 60)
    took = time.monotonic() - start
    expect(answer is not None, f"{what}: the connection was closed without an answer")
    one_of(f"status of {what} ({answer.body[:160]!r})", answer.status, statuses)
    if answer.status != 200:
        answer.error()
    expect(took < 20, f"{what}: took {took:.1f} s")


@check
def json_that_means_harm(server: Server) -> None:
    deep = 200_000
    fields = json.dumps(chat(server))[1:-1]
    cases = {
        "deep arrays": b"[" * deep + b"]" * deep,
        "deep objects": b'{"a":' * deep + b"1" + b"}" * deep,
        "depth in an unknown field": ("{%s,\"x\":%s%s}" % (fields, "[" * deep, "]" * deep)).encode(),
        "a number of a million digits": ('{%s,"seed":%s}' % (fields, "9" * 1_000_000)).encode(),
        "1e999": ('{%s,"temperature":1e999}' % fields).encode(),
        "not a number": ('{%s,"temperature":NaN}' % fields).encode(),
        "a lone surrogate": ('{%s,"user":"\\ud800"}' % fields).encode(),
        "bytes that are no UTF-8": fields.encode().join((b"{", b',"user":"\xff\xc0"}')),
        "a NUL in a string": ('{%s,"user":"\0"}' % fields).encode(),
        "words after the end": ("{%s} more" % fields).encode(),
        "a comma too many": ("{%s,}" % fields).encode(),
        "no end": ("{%s" % fields).encode(),
        "a comment": ("{%s} // comment" % fields).encode(),
    }
    for what, body in cases.items():
        may_pass = (200,) if what in ("a lone surrogate",) else ()
        refused_soon(server, what, body, 400, 413, *may_pass)
    twice = ('{"max_tokens":1,%s}' % fields).encode()
    refused_soon(server, "a field given twice", twice, 200, 400)
    keys = ",".join(f'"k{n}":{n}' for n in range(20_000))
    refused_soon(server, "20,000 unknown fields", ("{%s,%s}" % (fields, keys)).encode(), 200, 400)
    well(server)


@check
def every_field_of_every_type(server: Server) -> None:
    """No value of any field makes the server fail, whatever it says about it."""
    fields = {
        CHAT: ("model messages temperature top_p max_tokens max_completion_tokens stop seed stream stream_options tools "
               "tool_choice parallel_tool_calls response_format logprobs top_logprobs n frequency_penalty presence_penalty "
               "logit_bias user top_k min_p repeat_penalty cache_prompt id_slot grammar json_schema n_probs "
               "timings_per_token return_progress chat_template_kwargs reasoning_effort thinking_token_budget cache_salt "
               "priority return_token_ids prompt_logprobs stop_token_ids min_tokens ignore_eos continue_final_message "
               "add_generation_prompt prompt_cache_key prompt_cache_options kv positions store metadata").split(),
        "/v1/completions": "model prompt suffix echo logprobs best_of n stop max_tokens logit_bias stream seed".split(),
        "/tokenize": "content prompt messages add_special add_special_tokens parse_special with_pieces".split(),
        "/detokenize": ["tokens"],
        "/apply-template": "messages tools add_generation_prompt chat_template_kwargs".split(),
    }
    bases = {
        CHAT: chat(server, max_tokens=2),
        "/v1/completions": {"model": server.model, "prompt": "One", "max_tokens": 2},
        "/tokenize": {"content": "One"},
        "/detokenize": {"tokens": [1]},
        "/apply-template": {"messages": [{"role": "user", "content": "One"}]},
    }
    values = [None, True, False, 0, -1, 1.5, 2**31, 2**53 + 1, 2**64, -(2**63) - 1, 1e300, -0.0,
              "", "x", "\0", "\u2603" * 99, [], [None], [[]], [""], [0], [-1], [2**64], ["a"] * 500, {}, {"a": {"b": {"c": []}}}, {"": None}, {"0": 1e300},
              {"type": "json_schema"}, {"type": "function", "function": {"name": ""}}, [{"type": "function"}]]
    wrong, n_asked = [], 0
    for path, names in fields.items():
        for name in names:
            for value in values:
                n_asked += 1
                asked = bases[path] | {name: value}
                asked |= {} if name.startswith("max_") or path not in (CHAT, "/v1/completions") else {"max_tokens": 2}
                if name.startswith("max_") and (value is None or isinstance(value, (int, float)) and value > 1000):
                    asked["stop"] = [" ", "e", "a", "\n"]
                start = time.monotonic()
                answer = server.ask("POST", path, asked)
                if answer.status >= 500 and answer.status != 501:
                    wrong.append(f"{path} {name}={json.dumps(value)[:60]}: {answer.status} {answer.body[:120]!r}")
                elif answer.status >= 400:
                    answer.error()
                if time.monotonic() - start > 20:
                    wrong.append(f"{path} {name}={json.dumps(value)[:60]}: took {time.monotonic() - start:.0f} s")
    print(f"   {n_asked} requests")
    expect(not wrong, f"{len(wrong)} of {n_asked}: " + "; ".join(wrong[:12]))
    well(server)


@check
def schemas_that_mean_harm(server: Server) -> None:
    deep: dict = {"type": "integer"}
    for _ in range(100):
        deep = {"type": "array", "items": deep, "minItems": 1}
    deeper = '{"type":"array","items":' * 5_000 + '{"type":"integer"}' + "}" * 5_000
    double = {f"d{n}": {"type": "array", "prefixItems": [{"$ref": f"#/$defs/d{n + 1}"}] * 2, "minItems": 2, "items": False}
              for n in range(40)} | {"d40": {"type": "integer"}}
    schemas = {
        "an endless circle": {"$ref": "#"},
        "a circle of alternatives": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
        "nothing allowed": {"enum": []},
        "contradiction": {"type": "integer", "minimum": 5, "maximum": 4},
        "a depth of 100": deep,
        "doubling": {"$ref": "#/$defs/d0", "$defs": double},
        "30,000 words": {"enum": [f"word {n}" for n in range(30_000)]},
        "5,000 properties": {"type": "object", "properties": {f"p{n}": {"type": "integer"} for n in range(5_000)}},
        "a pattern that explodes": {"type": "string", "pattern": "^(((a{1,99}){1,99}){1,99}){1,99}$"},
        "a pattern of many states": {"type": "string", "pattern": "^(a|b)*a(a|b){200}$"},
        "very long": {"type": "string", "minLength": 1_000_000_000},
        "very many": {"type": "array", "minItems": 1_000_000_000, "items": {"type": "null"}},
        "a huge multiple": {"type": "integer", "multipleOf": 10**300},
    }
    for what, schema in schemas.items():
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        refused_soon(server, what, wire.body_of(chat(server, response_format=form)), 200, 400, 413)
    text = json.dumps(chat(server, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": 0}}))
    refused_soon(server, "a depth of 5,000", text.replace('"schema": 0', f'"schema": {deeper}').encode(), 200, 400, 413)
    grammars = {
        "no grammar": "{{{{", "an endless circle": "root ::= root", "empty": "", "left recursion": 'root ::= root "a" | "a"',
        "a missing rule": "root ::= missing", "1 MB": 'root ::= "' + "a" * 1_000_000 + '"',
        "explosion": 'root ::= ((("a"{1,999}){1,999}){1,999}){1,999}', "circles": "root ::= a\na ::= b\nb ::= a",
    }
    for what, grammar in grammars.items():
        refused_soon(server, f"grammar: {what}", wire.body_of(chat(server, grammar=grammar)), 200, 400, 413)
    well(server)


@check
def words_that_the_template_gives_a_meaning(server: Server) -> None:
    """A user's text never becomes a control token: it is as many tokens as its letters say."""
    info = server.ask("GET", "/tokenizer_info").json()
    end = info["eos_token"]
    plain = server.ask("POST", CHAT, chat(server, messages=[{"role": "user", "content": "a b"}])).json()["usage"]
    tricky = server.ask("POST", CHAT, chat(server, messages=[{"role": "user", "content": f"a {end} b"}])).json()["usage"]
    n_more = tricky["prompt_tokens"] - plain["prompt_tokens"]
    expect(n_more > 1, f"{end!r} in a message is {n_more} token")
    for content in ("{{ 7 * 7 }}", "{% for i in range(10**9) %}x{% endfor %}", "{{ ''.__class__ }}"):
        answer = server.ask("POST", "/apply-template", {"messages": [{"role": "user", "content": content}]})
        expect(content in answer.json()["prompt"], f"the template ran what a user wrote: {answer.body[:200]!r}")
    well(server)


@check
def everything_is_as_at_the_start(server: Server) -> None:
    aftermath.compare_memory(server)


if __name__ == "__main__":
    sys.exit(checks.main(aftermath.parser("Requests that mean harm, or are none.")))
