#!/usr/bin/env python3
"""Put in place everything that the tests need and the repository does not have.

usage: python3 tools/fetch_for_tests.py

Runs what fetches the models, the clients of other people, and the official suite of JSON Schema, side by side. Each of them is
quick where all is in place already, and says in its own words what it needs. Exit code 0: everything is there; 1: something is not.
"""
import pathlib
import subprocess
import sys

SCRIPTS = ("fetch_test_models.py", "fetch_test_clients.py", "fetch_json_schema_suite.py")


def main() -> int:
    """Runs all of them, so that one call says all that is missing."""
    here = pathlib.Path(__file__).parent
    running = [subprocess.Popen([sys.executable, str(here / script)]) for script in SCRIPTS]
    return 1 if any([one.wait() for one in running]) else 0


if __name__ == "__main__":
    sys.exit(main())
