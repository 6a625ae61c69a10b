"""Clients that fail, leave or dawdle: others are served, the work stops, and nothing is left behind.

usage: faults.py URL [--api-key KEY] [--pid PID] [--allow-mb N] [--clients N] [--only WORD] [--without WORD]
"""
import sys
import threading
import time

import aftermath
import checks
import wire
from aftermath import CHAT, chat, long_messages, well
from checks import Answer, Failed, Server, check, equal, expect


@check
def memory_at_the_start(server: Server) -> None:
    aftermath.note_memory(server)


@check
def half_a_request(server: Server) -> None:
    whole = wire.request(server, "POST", CHAT, chat(server))
    links = []
    for n_bytes in (0, 1, 10, 60, len(whole) - 40, len(whole) - 1) * 8:
        links.append(wire.connect(server))
        links[-1].sendall(whole[:n_bytes])
    equal("status while 48 requests are unfinished", server.ask("POST", CHAT, chat(server)).status, 200)
    for link in links:
        link.close()
    well(server)


@check
def a_reader_that_dawdles(server: Server) -> None:
    asked = chat(server, max_tokens=120, stream=True, logprobs=True, top_logprobs=5)
    with wire.connect(server) as link:
        link.setsockopt(wire.socket.SOL_SOCKET, wire.socket.SO_RCVBUF, 2048)
        link.sendall(wire.request(server, "POST", CHAT, asked))
        start = time.monotonic()
        for _ in range(3):
            equal("status beside a slow reader", server.ask("POST", CHAT, chat(server)).status, 200)
            time.sleep(0.5)
        expect(time.monotonic() - start < 30, "others wait for a slow reader")
        answer = wire.read_answer(link, 120)
    expect(answer and answer.body.rstrip().endswith(b"data: [DONE]"), "the slow reader's stream has no end")
    well(server)


@check
def many_clients_at_once(server: Server) -> None:
    expected = server.ask("POST", CHAT, chat(server)).json()["choices"][0]["message"]["content"]
    answers: list[Answer | Exception] = []

    def run() -> None:
        try:
            answers.append(server.ask("POST", CHAT, chat(server)))
        except Exception as error:
            answers.append(error)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(server.options.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=300)
    equal("answers", len(answers), server.options.clients)
    served = 0
    for answer in answers:
        if isinstance(answer, Exception):
            raise Failed(f"a client got no answer: {type(answer).__name__}: {answer}")
        if answer.status == 429:
            expect(int(answer.headers.get("retry-after", "0")) > 0, "a 429 without Retry-After")
            answer.error()
            continue
        equal("status", answer.status, 200)
        equal("text", answer.json()["choices"][0]["message"]["content"], expected)
        served += 1
    print(f"   {served} served, {len(answers) - served} told to come again")
    expect(served, "nobody was served")
    well(server)


def leave(server: Server, asked: dict, after_s: float | None, after_events: int) -> int:
    """Begins a stream and closes the connection after some time or some events; the events seen."""
    seen = b""
    with wire.connect(server, 120) as link:
        link.sendall(wire.request(server, "POST", CHAT, asked))
        if after_s is not None:
            time.sleep(after_s)
            return 0
        while seen.count(b"data: ") < after_events:
            more = link.recv(4096)
            if not more:
                break
            seen += more
    return seen.count(b"data: ")


@check
def a_client_that_leaves_at_any_stage(server: Server) -> None:
    long = long_messages(server, 6_000, "leaves")
    many = chat(server, max_tokens=2_000, stream=True)
    stages = {
        "before the headers of the answer": (chat(server, max_tokens=2_000), 0.0, 0),
        "while the prompt is read": (chat(server, messages=long, stream=True), 0.15, 0),
        "while the prompt is read, without a stream": (chat(server, messages=long), 0.15, 0),
        "at the first token": (many, None, 1),
        "in the middle": (many, None, 20),
        "in the middle, without a stream": (chat(server, max_tokens=2_000), 0.3, 0),
        "in the middle of several choices": (dict(many, n=3, temperature=1), None, 10),
    }
    for stage, (asked, after_s, after_events) in stages.items():
        leave(server, asked, after_s, after_events)
        took = wire.settled(server)
        expect(took < 2, f"{stage}: work went on for {took:.1f} s after the client had left")
    well(server)


@check
def clients_that_leave_the_queue(server: Server) -> None:
    links = []
    for number in range(40):
        links.append(wire.connect(server))
        asked = chat(server, max_tokens=1_000, stream=True, temperature=1, seed=number)
        links[-1].sendall(wire.request(server, "POST", CHAT, asked))
    time.sleep(0.5)
    for link in links:
        link.close()
    well(server)


@check
def a_prompt_that_was_read_in_part_goes_on_where_it_stopped(server: Server) -> None:
    asked = chat(server, messages=long_messages(server, 7_000, "retry"), max_tokens=1)
    with wire.connect(server) as link:
        link.sendall(wire.request(server, "POST", CHAT, asked))
        time.sleep(1.0)
    wire.settled(server)
    usage = server.ask("POST", CHAT, asked).json()["usage"]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    print(f"   {cached} of {usage['prompt_tokens']} tokens were kept")
    expect(cached > 0, "nothing of what was read was kept")
    well(server)


@check
def everything_is_as_at_the_start(server: Server) -> None:
    aftermath.compare_memory(server)


if __name__ == "__main__":
    parser = aftermath.parser("Clients that fail, leave or dawdle.")
    parser.add_argument("--clients", type=int, default=200, help="how many come at once")
    sys.exit(checks.main(parser))
