"""The engines that take part: each measures one workload in one of its settings and answers in tokens per second."""
import json
import pathlib
import subprocess
import sys
import tempfile

from workload import Workload

WORKERS = pathlib.Path(__file__).resolve().parent / "workers"


class EngineError(Exception):
    """Why an engine could not run a workload, in one line."""


class Lossy:
    """This project's program: one `lossy bench` for each measurement. Its settings are KV schemes."""

    name = "lossy"

    def __init__(self, program: pathlib.Path, model: pathlib.Path, n_threads: int, settings: list[str], depth_fill: str):
        self.command = [str(program), "bench", "-m", str(model), "-t", str(n_threads), "-r", "1", "-o", "jsonl"]
        self.command += ["--depth-fill", depth_fill]
        version = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True)
        self.version = version.stdout.strip()
        self.settings = settings
        self.last_row: dict = {}

    def measure(self, workload: Workload, setting: str, seed: int) -> float:
        sizes = ["-p", str(workload.n_prompt), "-n", str(workload.n_gen), "-d", str(workload.n_depth)]
        done = subprocess.run([*self.command, *sizes, "--kv", setting], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise EngineError(" ".join(done.stderr.split()) or f"exit code {done.returncode}")
        rows = [json.loads(line) for line in done.stdout.splitlines() if line.strip()]
        if len(rows) != 1:
            raise EngineError(f"`lossy bench` printed {len(rows)} rows instead of 1")
        self.last_row = rows[0]
        return float(rows[0]["avg_ts"])

    def machine(self) -> dict:
        """What `lossy bench` measured of the machine and the kernels it chose, as of the last measurement."""
        keys = ("cpu_isa", "read_bytes_per_s", "matrix_ops_per_s", "float_ops_per_s")
        return {key: self.last_row[key] for key in keys if self.last_row.get(key) is not None}

    def close(self) -> None:
        pass


class Worker:
    """A peer in a process of its own that stays between measurements (workers/protocol.py). Idle, it computes nothing."""

    def __init__(self, name: str, python: str, script: str, model: pathlib.Path, n_threads: int, options: list[str]):
        self.name = name
        command = [python, str(WORKERS / script), str(model), "--threads", str(n_threads), *options]
        # A peer's own messages would hide the table; they are shown only if it dies without an answer.
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        about = self.answer()["ready"]
        self.version, self.settings = about["version"], about["settings"]

    def answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.log.seek(0)
            last = self.log.read().strip().rsplit("\n", 1)[-1]
            raise EngineError(f"the process ended with exit code {code}: {last or 'it said nothing'}")
        answer = json.loads(line)
        if "error" in answer:
            raise EngineError(answer["error"])
        return answer

    def measure(self, workload: Workload, setting: str, seed: int) -> float:
        request = dict(workload._asdict(), setting=setting, seed=seed)
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, and answer() says how
        return workload.n_measured / self.answer()["seconds"]

    def close(self) -> None:
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass  # it has ended already
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            print(f"{self.name}: still running after its input ended; killed", file=sys.stderr)
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.log.close()
