"""A virtual environment for each peer, made on first use outside the repository.

llama.cpp is built from the source package with the flags of the machine it runs on (some minutes); OpenVINO comes as a
binary package. Both are pinned, so that figures name what they were measured against.
"""
import os
import pathlib
import shutil
import subprocess
import sys
from typing import NamedTuple


class Environment(NamedTuple):
    """What one peer needs; `build` names the package that is compiled here instead of downloaded."""

    name: str
    requirement: str
    build: str | None


LLAMA = Environment("llama", "llama-cpp-python==0.3.36", "llama-cpp-python")
OPENVINO = Environment("openvino", "openvino-genai==2026.4.1.0", None)


def cache_dir() -> pathlib.Path:
    """Where environments and filled caches are kept: $XDG_CACHE_HOME/lossy/peers, ~/.cache/lossy/peers."""
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(cache) / "lossy" / "peers"


def python_of(environment: Environment) -> str:
    """The environment's interpreter; makes the environment if it is not complete."""
    folder = cache_dir() / environment.name
    python = folder / "bin" / "python"
    done = folder / "installed"
    if not done.exists() or done.read_text() != environment.requirement:
        print(f"making {folder} with {environment.requirement}", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "numpy"]
        settings = dict(os.environ)
        if environment.build:
            command += ["--no-binary", environment.build]
            settings["CMAKE_ARGS"] = "-DGGML_NATIVE=ON"
        subprocess.run([*command, environment.requirement], check=True, env=settings)
        done.write_text(environment.requirement)
    return str(python)
