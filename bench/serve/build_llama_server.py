#!/usr/bin/env python3
"""Build llama.cpp's `llama-server` from the sources that bench/peers measures, for the machine it runs on.

usage: python3 bench/serve/build_llama_server.py [--jobs N] [--configure-only]        prints where the program is

The source package of llama-cpp-python holds llama.cpp whole, its server included; bench/peers/environments.py pins the
version. It is built with the same flag (GGML_NATIVE), without the page for browsers, without TLS. Needs a C++ compiler;
CMake and Ninja come from the package index. On two cores this takes some fifteen minutes, once.
"""
import argparse
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

PEERS = pathlib.Path(__file__).resolve().parents[1] / "peers"
TOOLS = ("cmake==4.4.5", "ninja==1.13.2")
FLAGS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DGGML_NATIVE=ON",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_OPENSSL=OFF",
)


def peers_environments():
    """The module that pins llama.cpp and knows the cache directory."""
    spec = importlib.util.spec_from_file_location("environments", PEERS / "environments.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def folder() -> pathlib.Path:
    peers = peers_environments()
    version = peers.LLAMA.requirement.rpartition("==")[2]
    return peers.cache_dir() / f"llama-server-{version}"


def program() -> pathlib.Path:
    """Where the program is once it is built."""
    return folder() / "build" / "bin" / "llama-server"


def run(command: list[str], **options) -> None:
    print("$ " + " ".join(command), file=sys.stderr, flush=True)
    subprocess.run(command, check=True, **options)


def fetch_sources(work: pathlib.Path, requirement: str) -> pathlib.Path:
    """llama.cpp out of the source package. pip asks the package for its name before it keeps it, for which it needs
    nothing that is compiled.
    """
    sources = work / "llama.cpp"
    if sources.exists():
        return sources
    download = work / "download"
    shutil.rmtree(download, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary=llama-cpp-python", "--no-cache-dir", "--quiet"]
    run([*command, "--disable-pip-version-check", "--dest", str(download), requirement])
    packages = list(download.glob("*.tar.gz"))
    if len(packages) != 1:
        raise SystemExit(f"error: `pip download {requirement}` left {len(packages)} source packages instead of 1")
    with tarfile.open(packages[0]) as package:
        package.extractall(download, filter="data")
    found = next(download.glob("*/vendor/llama.cpp"))
    if not (found / "tools" / "server" / "CMakeLists.txt").exists():
        raise SystemExit(f"error: {requirement} has llama.cpp without tools/server")
    found.rename(sources)
    shutil.rmtree(download)
    return sources


def tools(work: pathlib.Path) -> pathlib.Path:
    """A folder with `cmake` and `ninja`."""
    environment = work / "tools"
    if not (environment / "bin" / "ninja").exists():
        run([sys.executable, "-m", "venv", str(environment)])
        command = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run([*command, *TOOLS])
    return environment / "bin"


def build(n_jobs: int, configure_only: bool) -> None:
    work = folder()
    work.mkdir(parents=True, exist_ok=True)
    sources = fetch_sources(work, peers_environments().LLAMA.requirement)
    bin_dir = tools(work)
    target = work / "build"
    ninja = f"-DCMAKE_MAKE_PROGRAM={bin_dir / 'ninja'}"
    run([str(bin_dir / "cmake"), "-S", str(sources), "-B", str(target), "-G", "Ninja", ninja, *FLAGS])
    if not configure_only:
        command = [str(bin_dir / "cmake"), "--build", str(target), "--target", "llama-server", "--parallel", str(n_jobs)]
        run(command)


def main() -> int:
    parser = argparse.ArgumentParser(description="Build llama-server from the sources that bench/peers measures.")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="compilers at once")
    parser.add_argument("--configure-only", action="store_true", help="fetch and configure, and compile nothing")
    args = parser.parse_args()
    if not program().exists():
        try:
            build(args.jobs, args.configure_only)
        except subprocess.CalledProcessError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    print(program())
    return 0


if __name__ == "__main__":
    sys.exit(main())
