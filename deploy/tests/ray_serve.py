#!/usr/bin/env python3
"""The Ray Serve application with two replicas: chats find their documents, and no request is lost when a replica dies.

usage: ray_serve.py --lossy PROGRAM --model FILE

Needs `ray[serve]` in this Python: `python3 tools/fetch_test_clients.py ray` makes one. A small Ray of its own is started, which
listens on the loopback only. Exit code 0: all holds; 1: something does not, and it is said what.
"""
import argparse
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


def wait_for_servers(program: str, model: str, n: int, gone: int, within_s: float = 120) -> float:
    """Until there are `n` servers, none of which is the one that is gone; the seconds that took."""
    start = time.monotonic()
    while time.monotonic() - start < within_s:
        pids = [pid for pid, _ in servers(program, model)]
        if len(pids) == n and gone not in pids:
            return time.monotonic() - start
        time.sleep(0.2)
    raise AssertionError(f"after {within_s:.0f} s there are {servers(program, model)}, and not {n} servers")


def main() -> int:
    parser = argparse.ArgumentParser(description="Two replicas of Ray Serve.")
    parser.add_argument("--lossy", required=True, metavar="PROGRAM")
    parser.add_argument("--model", required=True, metavar="FILE")
    args = parser.parse_args()
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(HERE.parent / "ray")}

    import application
    import ray
    from ray import serve

    program, model = str(pathlib.Path(args.lossy).resolve()), str(pathlib.Path(args.model).resolve())
    start = time.monotonic()
    small = {"num_cpus": 4, "object_store_memory": 100 << 20, "include_dashboard": False}
    ray.init(**small, _node_ip_address="127.0.0.1", log_to_driver=False, configure_logging=False)
    try:
        port = fleet.free_port()
        serve.start(http_options={"host": "127.0.0.1", "port": port, "request_timeout_s": 120})
        settings = application.Settings(program=program, model=model, options="-c 4096", min_replicas=2, max_replicas=2)
        serve.run(application.build(settings), route_prefix="/")
        url = f"http://127.0.0.1:{port}"
        behind = fleet.Fleet(url, fleet.models(url)[0])
        print(f"two replicas after {time.monotonic() - start:.1f} s", flush=True)
        print("ok second questions are cached:", fleet.second_questions_are_cached(behind), flush=True)
        for what, which in (("a server", 0), ("a replica", 1)):
            victim = servers(program, model)[0]
            told = fleet.nothing_is_lost(behind, lambda: os.kill(victim[which], signal.SIGKILL))
            print(f"ok nothing is lost when {what} dies:", told, flush=True)
            print(f"ok there are two again after {wait_for_servers(program, model, 2, victim[0]):.1f} s", flush=True)
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
