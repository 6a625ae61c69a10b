"""python3 -m unittest discover bench/peers"""
import pathlib
import sys
import tempfile
import unittest

import engines
from workload import Workload

# Stands for a peer: answers twice, then dies with a message.
SCRIPT = """
import sys, json
print(json.dumps({"ready": {"version": "1", "settings": ["a"]}}), flush=True)
for number, line in enumerate(sys.stdin):
    request = json.loads(line)
    if request["setting"] == "bad":
        print(json.dumps({"error": "no such setting"}), flush=True)
    elif number < 2:
        print(json.dumps({"seconds": 0.5}), flush=True)
    else:
        sys.exit("out of memory")
"""


# Stands for `lossy`: its speed says whether it was asked for what the test below asks for.
PROGRAM = """#!{python}
import sys, json
text = " ".join(sys.argv[1:])
asked = text == "bench -m m.gguf -t 2 -r 1 -o jsonl --depth-fill copies -p 0 -n 16 -d 4096 --kv k2v2"
print("lossy 1" if text == "--version" else json.dumps({{"avg_ts": float(asked), "cpu_isa": "avx2"}}))
"""


class Programs(unittest.TestCase):
    def test_each_measurement_is_a_bench_with_the_scheme_and_the_way_to_fill_the_cache(self):
        with tempfile.TemporaryDirectory() as folder:
            program = pathlib.Path(folder) / "lossy"
            program.write_text(PROGRAM.format(python=sys.executable))
            program.chmod(0o755)
            lossy = engines.Lossy(program, pathlib.Path("m.gguf"), 2, ["f16", "k2v2"], "copies")
            self.assertEqual((lossy.version, lossy.settings), ("lossy 1", ["f16", "k2v2"]))
            self.assertEqual(lossy.measure(Workload(0, 16, 4096), "k2v2", 1), 1.0)
            self.assertEqual(lossy.machine(), {"cpu_isa": "avx2"})


class Workers(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        script = pathlib.Path(self.folder.name) / "worker.py"
        script.write_text(SCRIPT)
        self.worker = engines.Worker("peer", sys.executable, str(script), pathlib.Path("m.gguf"), 2, [])

    def tearDown(self):
        self.worker.close()
        self.folder.cleanup()

    def test_seconds_become_tokens_per_second(self):
        self.assertEqual(self.worker.measure(Workload(512, 0, 0), "a", 1), 1024.0)
        self.assertEqual(self.worker.measure(Workload(0, 128, 8192), "a", 1), 256.0)

    def test_an_error_is_passed_on_and_the_worker_goes_on(self):
        with self.assertRaisesRegex(engines.EngineError, "no such setting"):
            self.worker.measure(Workload(512, 0, 0), "bad", 1)
        self.assertEqual(self.worker.measure(Workload(512, 0, 0), "a", 1), 1024.0)

    def test_a_worker_that_dies_says_why_each_time_it_is_asked(self):
        for _ in range(2):
            self.worker.measure(Workload(512, 0, 0), "a", 1)
        for _ in range(2):
            with self.assertRaisesRegex(engines.EngineError, "exit code 1: out of memory"):
                self.worker.measure(Workload(512, 0, 0), "a", 1)


if __name__ == "__main__":
    unittest.main()
