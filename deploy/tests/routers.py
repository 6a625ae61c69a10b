#!/usr/bin/env python3
"""Two `lossy serve` behind a router of other people: chats find their documents, and no request is lost when a server dies.

usage: routers.py --lossy PROGRAM --model FILE (--vllm-router PROGRAM | --smg PROGRAM)

Exit code 0: both hold; 1: one does not, and it is said which. `python3 tools/fetch_test_clients.py routers` brings the routers;
Python's standard library is enough for the rest.
"""
import argparse
import contextlib
import pathlib
import sys
import tempfile

import fleet


def router_command(args: argparse.Namespace, port: int, workers: list[str]) -> list[str]:
    program, extra = (args.vllm_router, []) if args.vllm_router else (args.smg, ["launch"])
    own = ["--host", "127.0.0.1", "--port", str(port)]
    metrics = ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(fleet.free_port())]
    return [program, *extra, *own, *metrics, "--policy", "cache_aware", "--worker-urls", *workers]


def kill_the_busiest(servers: list[fleet.Server]) -> None:
    max(servers, key=fleet.Server.load).kill()


def main() -> int:
    parser = argparse.ArgumentParser(description="Two servers behind a router that knows what they have cached.")
    parser.add_argument("--lossy", required=True, metavar="PROGRAM")
    parser.add_argument("--model", required=True, metavar="FILE")
    routers = parser.add_mutually_exclusive_group(required=True)
    routers.add_argument("--vllm-router", metavar="PROGRAM")
    routers.add_argument("--smg", metavar="PROGRAM")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = [stack.enter_context(fleet.lossy(args.lossy, args.model, folder, f"server-{n}")) for n in range(2)]
        url, log = f"http://127.0.0.1:{fleet.free_port()}", folder / "router.log"
        command = router_command(args, int(url.rsplit(":", 1)[1]), [server.url for server in servers])
        started = stack.enter_context(fleet.process(command, log))
        model = fleet.wait_for(lambda: fleet.models(url), started, log)[0]
        behind = fleet.Fleet(url, model)
        try:
            print("ok second questions are cached:", fleet.second_questions_are_cached(behind), flush=True)
            print("ok nothing is lost:", fleet.nothing_is_lost(behind, lambda: kill_the_busiest(servers)), flush=True)
        except AssertionError as error:
            print(f"FAILED: {error}\n{log.read_text(errors='replace')[-3000:]}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
