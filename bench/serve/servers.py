"""Servers that a measurement starts and stops: `lossy serve` and llama.cpp's `llama-server`, each on a free port."""
import argparse
import http.client
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tools"))
from fetch_test_models import path_of as model_path  # noqa: E402
# Both say it in these words.
READY = re.compile(r"listening on http://([0-9.]+):(\d+)")
# Longer than a server may take to finish what runs when it is told to end.
STOP_S = 40


class ServerError(Exception):
    """Why a server did not start or stop, in one line."""


class Server:
    """A process that serves a model, from when it is ready until `stop`. What it says goes into a file."""

    def __init__(self, name: str, command: list[str], timeout_s: float = 600):
        self.name, self.command = name, command
        # Appending, because reading moves the position that the process shares.
        self.log = tempfile.TemporaryFile("a+", errors="replace")
        start_s = time.monotonic()
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT
        )
        try:
            self.address = self._wait_until_ready(start_s + timeout_s)
        except BaseException:
            self.process.kill()
            self.process.wait()
            self.log.close()
            raise
        self.ready_after_s = time.monotonic() - start_s

    def _wait_until_ready(self, end_s: float) -> tuple[str, int]:
        address = None
        while time.monotonic() < end_s:
            if self.process.poll() is not None:
                raise ServerError(f"{self.name} ended with exit code {self.process.returncode}: {self.said()[-300:]}")
            if address is None and (match := READY.search(self.said())):
                address = match[1], int(match[2])
            if address and self._healthy(address):
                return address
            time.sleep(0.02)
        raise ServerError(f"{self.name} is not ready in time: {self.said()[-300:]}")

    @staticmethod
    def _healthy(address: tuple[str, int]) -> bool:
        """llama-server listens before its model is loaded."""
        connection = http.client.HTTPConnection(*address, timeout=10)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def said(self) -> str:
        """All that the process has written so far, on one line."""
        self.log.seek(0)
        return " ".join(self.log.read().split())

    @property
    def url(self) -> str:
        return f"http://{self.address[0]}:{self.address[1]}"

    def resident_bytes(self) -> int:
        """Its memory in use."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024

    def stop(self) -> None:
        """Ask it to end, as an operator would; a server that does not is killed, and that is an error."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise ServerError(f"{self.name} did not end within {STOP_S} s of SIGTERM") from None
        finally:
            self.log.close()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def lossy(program: pathlib.Path, model: pathlib.Path, n_ctx: int, n_threads: int, *options: str) -> Server:
    if not program.exists():
        raise ServerError(f"{program} is not there; build it with cargo build --release")
    command = [str(program), "serve", str(model), "--host", "127.0.0.1", "--port", "0", "-c", str(n_ctx)]
    return Server("lossy", [*command, "-t", str(n_threads), *options])


def llama(program: pathlib.Path, model: pathlib.Path, n_ctx: int, n_slots: int, n_threads: int, *options: str) -> Server:
    """`n_ctx` tokens for each of the slots; llama-server wants their sum."""
    command = [str(program), "-m", str(model), "--host", "127.0.0.1", "--port", "0", "-c", str(n_ctx * n_slots)]
    command += ["-np", str(n_slots), "-t", str(n_threads), "-tb", str(n_threads), "--offline", *options]
    return Server("llama-server", command)


def version_of(program: pathlib.Path) -> str:
    done = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip().splitlines()[0] if done.stdout or done.stderr else "?"


def about_machine() -> dict:
    """The processor's name, for the record."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {"cpu": names[0] if names else "unknown", "cores": len(names), "python": sys.version.split()[0]}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of a measurement that starts `lossy serve` by itself."""
    parser.add_argument("--model", default="smollm2", help="smollm2, qwen, or a GGUF file")
    parser.add_argument("--lossy", type=pathlib.Path, default=ROOT / "target" / "release" / "lossy", help="the program")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--kv", default="f16", help="KV scheme")
    parser.add_argument("--ctx", type=int, help="tokens of a context [default: what the measurement needs]")
    parser.add_argument("-o", "--output", type=pathlib.Path, metavar="FILE", help="all figures as JSON")
    parser.add_argument("options", nargs="*", metavar="OPTION", help="after --: more options of lossy serve")


def lossy_of(args: argparse.Namespace, n_ctx: int, *options: str) -> Server:
    """The server that the arguments describe."""
    chosen = ("--kv", args.kv, *options, *args.options)
    return lossy(args.lossy, model_path(args.model), n_ctx, args.threads, *chosen)
