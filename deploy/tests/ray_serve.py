#!/usr/bin/env python3
"""The Ray Serve application with two replicas: chats find their documents, and no request is lost when a replica dies.

usage: ray_serve.py --lossy PROGRAM --model FILE

Needs `ray[serve]` in this Python: `python3 tools/fetch_test_clients.py ray` makes one. A small Ray of its own is started, which
listens on the loopback only. Exit code 0: all holds; 1: something does not, and it is said what.
"""
import argparse
import concurrent.futures
import os
import pathlib
import signal
import sys
import time

import fleet

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "ray"))


def servers(program: str, model: str) -> list[tuple[int, int]]:
    """Processes that serve the model, each with its parent: the replica."""
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, IndexError):
            continue
        if words[:3] == [program.encode(), b"serve", model.encode()]:
            found.append((int(folder.name), parent))
    return found


def wait_for_servers(program: str, model: str, victim: int, within_s: float = 180) -> float:
    """The seconds from a server's death until there are two again."""
    start, died = time.monotonic(), None
    while time.monotonic() - start < within_s:
        pids = [pid for pid, _ in servers(program, model)]
        if died is None and victim not in pids:
            died = time.monotonic()
        if died and len(pids) == 2:
            return time.monotonic() - died
        time.sleep(0.1)
    raise AssertionError(f"after {within_s:.0f} s there are {servers(program, model)}, and not two servers")


def memory(model: str) -> str:
    """What Ray itself takes: processes of this Python's folder and of the session, without the servers."""
    total, n = 0, 0
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
            if (b"ray" in words or words.startswith(b"ray::")) and model.encode() not in words:
                pss = next(line for line in (folder / "smaps_rollup").read_text().splitlines() if line.startswith("Pss:"))
                total, n = total + int(pss.split()[1]), n + 1
        except (OSError, StopIteration):
            continue
    return f"{total / 1e6:.1f} GB in {n} processes of Ray"


def main() -> int:
    parser = argparse.ArgumentParser(description="Two replicas of Ray Serve.")
    parser.add_argument("--lossy", required=True, metavar="PROGRAM")
    parser.add_argument("--model", required=True, metavar="FILE")
    args = parser.parse_args()
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(HERE.parent / "ray")}
    # All of Ray's own connections stay on the loopback, as on systems where it forms no clusters.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    # On a busy machine its proxy does not start within 5 s.
    os.environ["RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S"] = "60"

    import application
    import ray
    from ray import serve

    program, model = str(pathlib.Path(args.lossy).resolve()), str(pathlib.Path(args.model).resolve())
    start = time.monotonic()
    # More CPUs than there may be: replicas of a small model share them.
    small = {"num_cpus": 4, "object_store_memory": 100 << 20, "include_dashboard": False}
    ray.init(**small, log_to_driver=False, configure_logging=False)
    try:
        port = fleet.free_port()
        serve.start(http_options={"host": "127.0.0.1", "port": port, "request_timeout_s": 120})
        settings = application.Settings(program=program, model=model, options="-c 4096", min_replicas=2, max_replicas=2)
        serve.run(application.build(settings), route_prefix="/")
        url = f"http://127.0.0.1:{port}"
        behind = fleet.Fleet(url, fleet.models(url)[0])
        print(f"two replicas after {time.monotonic() - start:.1f} s, {memory(model)}", flush=True)
        print("ok second questions are cached:", fleet.second_questions_are_cached(behind), flush=True)
        pool = concurrent.futures.ThreadPoolExecutor(1)
        for what, which in (("a server", 0), ("a replica", 1)):
            victim = servers(program, model)[0]
            watch = pool.submit(wait_for_servers, program, model, victim[0])
            told = fleet.nothing_is_lost(behind, lambda: os.kill(victim[which], signal.SIGKILL))
            print(f"ok nothing is lost when {what} dies:", told, flush=True)
            print(f"ok there are two again {watch.result():.1f} s later", flush=True)
    except AssertionError as error:
        print(f"FAILED: {error}")
        return 1
    finally:
        serve.shutdown()
        ray.shutdown()
    assert not servers(program, model), "servers outlive Ray"
    return 0


if __name__ == "__main__":
    sys.exit(main())
