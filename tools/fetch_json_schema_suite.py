#!/usr/bin/env python3
"""Fetch the official JSON Schema test suite, and a validator to check answers with.

usage: python3 tools/fetch_json_schema_suite.py

The suite is a part of the source package of the Python library jsonschema, so a machine that has a package index and
nothing else can get it. The library itself, installed in a virtual environment beside the suite, is the validator.
Needs Python 3.9 or later with pip and venv.

The files go to $XDG_CACHE_HOME/lossy/json-schema-suite (~/.cache/lossy/json-schema-suite): `draft7` and `draft2020-12`
as the suite has them, and `venv`. The folder gets its name only when everything in it is there, so an interrupted run
leaves nothing that looks finished. Exit code 0: the suite is in place; 1: it is not.
"""
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile

VERSION = "4.26.0"
SHA256 = "0c26707e2efad8aa1bfc5b7ce170f3fccc2e4918ff85989ba9ffa9facb2be326"
DRAFTS = ("draft7", "draft2020-12")
# pip asks a source package for its metadata, which takes these
BUILD_TOOLS = ("hatchling", "hatch-vcs", "hatch-fancy-pypi-readme")
MAX_BYTES = 20_000_000


class FetchError(Exception):
    """Why the suite could not be put in place, in one line."""


def target_dir() -> pathlib.Path:
    """Where the tests look for the suite."""
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(cache) / "lossy" / "json-schema-suite"


def run(*command: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        lines = [line for line in done.stdout.splitlines() if line.strip()] or ["it said nothing"]
        raise FetchError(f"`{' '.join(command)}` failed: {lines[-1]}")


def download(python: str, into: pathlib.Path) -> pathlib.Path:
    """The source package, checked by its hash."""
    options = ["--no-deps", "--no-binary=:all:", "--no-build-isolation", "--quiet", "--disable-pip-version-check"]
    run(python, "-m", "pip", "download", *options, "--dest", str(into), f"jsonschema=={VERSION}")
    package = into / f"jsonschema-{VERSION}.tar.gz"
    found = hashlib.sha256(package.read_bytes()).hexdigest()
    if found != SHA256:
        raise FetchError(f"{package.name} has SHA-256 {found}, expected {SHA256}")
    return package


def extract(package: pathlib.Path, into: pathlib.Path) -> int:
    """Write the tests of the two drafts; returns the number of files."""
    n_files = n_bytes = 0
    with tarfile.open(package) as archive:
        for member in archive:
            parts = pathlib.PurePosixPath(member.name).parts
            wanted = parts[1:3] == ("json", "tests") and len(parts) > 4 and parts[3] in DRAFTS
            if not (wanted and member.isfile() and member.name.endswith(".json")) or ".." in parts:
                continue
            n_files, n_bytes = n_files + 1, n_bytes + member.size
            if n_bytes > MAX_BYTES:
                raise FetchError(f"{package.name}: the tests have more than {MAX_BYTES} bytes")
            source = archive.extractfile(member)
            path = into.joinpath(*parts[3:])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.read() if source else b"")
    if n_files == 0:
        raise FetchError(f"{package.name}: has no tests of {' and '.join(DRAFTS)}")
    return n_files


def fetch(target: pathlib.Path) -> None:
    """Build everything beside the target, and only then give it its name. A virtual environment knows its own path, so
    it is made last, in place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent) as folder:
        work = pathlib.Path(folder)
        builder, suite = work / "builder", work / "suite"
        pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run(sys.executable, "-m", "venv", str(builder))
        python = str(builder / "bin" / "python")
        run(python, *pip, *BUILD_TOOLS)
        n_files = extract(download(python, work), suite)
        print(f"{n_files} files of tests", flush=True)
        if target.exists():
            shutil.rmtree(target)
        venv = work / "venv"
        run(sys.executable, "-m", "venv", str(venv))
        # installed by path and run as `python`, so that moving it does no harm
        run(str(venv / "bin" / "python"), *pip, f"jsonschema=={VERSION}")
        shutil.move(str(venv), str(suite / "venv"))
        os.replace(suite, target)


def main() -> int:
    target = target_dir()
    try:
        if not (target / "venv" / "bin" / "python").exists():
            fetch(target)
        print(f"{target}: in place", flush=True)
    except (FetchError, OSError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
