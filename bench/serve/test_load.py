"""python3 -m unittest discover bench/serve"""
import asyncio
import contextlib
import io
import json
import pathlib
import sys
import tempfile
import unittest

import budget
import interleave
import load
import peers
import reload
import servers
import workload as work
from fake_server import FakeServer
from http1 import BadResponse
from workload import Workload

CLOSED = Workload(
    n_requests=6, n_clients=3, rate=None, n_prompt=20, n_generate=5, n_documents=0, n_document=0, seed=1
)


def measured(workload: Workload, texts: list[str] | None = None, n_warm_up: int = 0, **of_server):
    """The figures of a load on a server of the test's own, and that server."""

    async def run():
        async with FakeServer(**of_server) as server:
            told, _ = await load.measure(await load.Target.find(server.url), workload, texts, n_warm_up)
            return told, server

    return asyncio.run(run())


class Loads(unittest.TestCase):
    def test_a_closed_loop_keeps_its_clients_busy_and_no_more(self):
        told, server = measured(CLOSED)
        self.assertEqual((told["n_requests"], told["n_errors"], server.most_running), (6, 0, 3))
        self.assertEqual((told["n_generated_tokens"], told["n_pieces"], told["n_prompt_tokens"]), (30, 30, 120))
        self.assertEqual(told["n_cached_tokens"], 18)

    def test_an_open_loop_asks_at_its_rate_whatever_runs(self):
        told, server = measured(CLOSED._replace(rate=1000.0), first_pause_s=0.5)
        self.assertEqual((told["n_errors"], server.most_running), (0, 6))
        times = work.arrivals(CLOSED._replace(rate=50.0, n_requests=2000))
        self.assertAlmostEqual(times[-1], 2000 / 50, delta=4)
        self.assertEqual(times, sorted(times))

    def test_prompts_have_their_lengths_and_are_the_same_for_the_same_seed(self):
        _, first = measured(CLOSED)
        _, again = measured(CLOSED)
        _, other = measured(CLOSED._replace(seed=2))
        self.assertEqual({len(asked["prompt"]) for asked in first.asked}, {20})
        self.assertEqual([a["prompt"] for a in first.asked], [a["prompt"] for a in again.asked])
        self.assertNotEqual(list(first.words), list(other.words))
        self.assertTrue(all(asked["ignore_eos"] and asked["stream"] for asked in first.asked))

    def test_documents_are_read_before_and_every_client_asks_about_one(self):
        _, server = measured(CLOSED._replace(n_documents=2, n_document=50, n_prompt=7), n_warm_up=1)
        documents = [asked["prompt"] for asked in server.asked[:2]]
        self.assertEqual([(len(d), asked["max_tokens"]) for d, asked in zip(documents, server.asked)], [(50, 1)] * 2)
        counted = [asked["prompt"] for asked in server.asked[3:]]
        self.assertEqual({len(prompt) for prompt in counted}, {57})
        self.assertEqual([counted.count(p) for p in counted], [1] * 6)
        self.assertEqual(sorted(documents.index(prompt[:50]) for prompt in counted), [0, 0, 0, 1, 1, 1])

    def test_prompts_are_cut_from_files_in_turn(self):
        _, server = measured(CLOSED._replace(n_clients=1, n_requests=2, n_prompt=3), ["a b c d", "e f g"])
        names = {number: word for word, number in server.words.items()}
        asked = ["".join(names[token] for token in asked["prompt"]) for asked in server.asked]
        self.assertEqual(asked, ["abc", "def"])
        with self.assertRaisesRegex(ValueError, "the texts have 2 tokens, but the prompts need 120"):
            measured(CLOSED, ["a b"])

    def test_requests_that_fail_are_counted_and_the_others_measured(self):
        told, _ = measured(CLOSED, fail_every=3)
        self.assertEqual((told["n_errors"], told["n_generated_tokens"]), (2, 20))
        with self.assertRaisesRegex(BadResponse, "while warming up: 429"):
            measured(CLOSED, n_warm_up=1, fail_every=1)

    def test_the_program_prints_a_table_or_json_and_fails_if_a_request_fails(self):
        async def run(fail_every: int, *options: str) -> tuple[int, str]:
            async with FakeServer(fail_every=fail_every) as server:
                command = [sys.executable, load.__file__, server.url, "--clients", "2", "--generate", "3", *options]
                process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
                said, _ = await process.communicate()
                return process.returncode, said.decode()

        code, text = asyncio.run(run(0, "--prompt", "5"))
        self.assertEqual(code, 0)
        self.assertIn("| to the first token |", text)
        code, text = asyncio.run(run(5, "-o", "json"))
        self.assertEqual((code, json.loads(text)["n_errors"]), (1, 1))


class OtherMeasurements(unittest.TestCase):
    def test_pauses_beside_a_long_prompt_are_those_of_its_time(self):
        async def run():
            async with FakeServer(pause_s=0.01, first_pause_s=0.15) as server:
                return await interleave.measure(await load.Target.find(server.url), 2, 40, 0.4, 8), server

        told, server = asyncio.run(run())
        self.assertEqual([len(asked["prompt"]) for asked in server.asked], [8, 8, 40])
        self.assertGreater(told["long_first_token_s"], 0.14)
        for stream in told["streams"]:
            self.assertGreater(stream["before"]["n"], 0)
            self.assertGreater(stream["during"]["n"], 0)
        self.assertIn("A prompt of 40 tokens beside 2 streams", interleave.table(told))

    def test_a_gap_is_counted_where_it_ends(self):
        stream = interleave.figures.Stream(0.0, [1.0, 2.0, 3.0, 7.0, 8.0, 9.0], 9.0, 1, 0, 6, "x", None)
        told = interleave.of_stream(stream, 3.5, 8.5)
        self.assertEqual((told["before"]["n"], told["during"]["n"]), (2, 3))
        self.assertEqual((told["during"]["max_ms"], told["max_at_s"]), (4000, -0.5))
        open_at_the_end = interleave.of_stream(stream._replace(text_s=[1.0, 2.0]), 2.5, 30.0)
        self.assertEqual(open_at_the_end["during"]["max_ms"], 28_000)

    def test_tokens_that_arrive_together_have_no_median_to_compare_with(self):
        stream = interleave.figures.Stream(0.0, [1.0, 1.0, 1.0, 5.0, 5.0, 5.0, 5.0, 9.0], 9.0, 1, 0, 8, "x", None)
        told = interleave.of_stream(stream, 2.0, 8.0)
        self.assertEqual((told["max_over_median_before"], told["max_over_median_during"]), (float("inf"),) * 2)

    def test_a_document_is_asked_three_different_questions(self):
        async def run():
            async with FakeServer() as server:
                target = await load.Target.find(server.url)
                documents = await reload.make_documents(target, 2, 100, 1)
                return documents, await reload.ask_all(target, documents, ("first", "again"), 2), server

        documents, told, server = asyncio.run(run())
        self.assertEqual(len({tuple(ids) for ids in documents.asked.values()}), 6)
        self.assertEqual(len({tuple(ids[:100]) for ids in documents.asked.values()}), 2)
        self.assertEqual(sorted(told), [(0, "again"), (0, "first"), (1, "again"), (1, "first")])
        self.assertEqual([len(asked["prompt"]) for asked in server.asked], [32, 132] * 4)

    def test_bytes_are_read_with_their_units(self):
        found = [budget.bytes_of(text) for text in ("1000", "64MiB", "2 GB", "5k", "3kib")]
        self.assertEqual(found, [1000, 64 << 20, 2 * 10**9, 5000, 3072])
        for text in ("", "MiB", "64 miles", "1.5GB", "-1", "3i"):
            with self.assertRaises(ValueError, msg=text):
                budget.bytes_of(text)

    def test_a_metric_is_summed_over_its_labels(self):
        text = 'vllm:num_requests_running{model="a"} 2.0\nvllm:num_requests_running{model="b"} 1\nvllm:num_requests 7\n'
        self.assertEqual(budget.sample(text, "vllm:num_requests_running"), 3.0)
        self.assertEqual(budget.sample(text, "vllm:num_requests"), 7.0)

    def test_the_ratio_is_of_the_best_settings_medians(self):
        def of(engine: str, setting: str, speeds: list[float]) -> peers.Measured:
            measured = peers.Measured(engine, setting, 4)
            spread = {"p50": 1.0, "p90": 1.0, "p99": 1.0, "max": 1.0}
            figures = {"n_errors": 0, "first_token_ms": spread, "between_tokens_ms": spread, "resident_bytes": 2_000_000}
            measured.rounds = [figures | {"generated_tokens_per_s": speed} for speed in speeds]
            return measured

        results = [of("lossy", "f16", [90.0, 110.0, 100.0]), of("llama-server", "-fa on", [10.0, 11.0, 12.0]),
                   of("llama-server", "-fa off", [20.0, 30.0, 25.0])]
        self.assertIn("| 4 | 100.0 (f16) | 25.0 (-fa off) | 4.00× |", peers.table(results))
        self.assertIn("| 4 | llama-server | -fa on | 11.0 | 18 % |", peers.details(results))
        self.assertIn("| 4 | 100.0 (f16) | — | — |", peers.table(results[:1]))


# Stands for a server's program.
PROGRAM = """#!{python}
import http.server, sys, threading
class Handler(http.server.BaseHTTPRequestHandler):
    n_asked = 0
    def do_GET(self):
        Handler.n_asked += 1
        self.send_response(200 if Handler.n_asked > 2 else 503)
        self.end_headers()
    def log_message(self, *args):
        pass
if "fail" in sys.argv[1:]:
    sys.exit("no such model")
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print("x" * 100000)
print(f"listening on http://127.0.0.1:{{server.server_port}}", file=sys.stderr, flush=True)
server.serve_forever()
"""


class Servers(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.program = pathlib.Path(self.folder.name) / "lossy"
        self.program.write_text(PROGRAM.format(python=sys.executable))
        self.program.chmod(0o755)

    def tearDown(self):
        self.folder.cleanup()

    def test_a_server_is_ready_when_it_is_healthy_and_ends_when_it_is_told(self):
        with servers.lossy(self.program, pathlib.Path("m.gguf"), 512, 2, "--kv", "k2v2") as server:
            self.assertEqual(server.command[1:3], ["serve", "m.gguf"])
            self.assertEqual(server.command[-6:], ["-c", "512", "-t", "2", "--kv", "k2v2"])
            self.assertGreater(server.resident_bytes(), 1_000_000)
            self.assertIsNone(server.process.poll())
        self.assertIsNotNone(server.process.poll())

    def test_a_server_that_ends_at_once_says_why(self):
        with self.assertRaisesRegex(servers.ServerError, "ended with exit code 1: no such model"):
            servers.lossy(self.program, pathlib.Path("m.gguf"), 512, 2, "fail")
        with self.assertRaisesRegex(servers.ServerError, "is not there; build it"):
            servers.lossy(self.program.with_name("missing"), pathlib.Path("m.gguf"), 512, 2)

    def test_a_measurement_without_its_program_is_one_line(self):
        said = io.StringIO()
        sys.argv = ["reload.py", "--lossy", str(self.program.with_name("missing")), "--model", str(self.program)]
        with contextlib.redirect_stderr(said):
            self.assertEqual(reload.main(), 1)
        self.assertRegex(said.getvalue(), "^error: .*is not there; build it with cargo build --release\n$")


if __name__ == "__main__":
    unittest.main()
