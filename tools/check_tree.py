#!/usr/bin/env python3
"""Rules of the tree that neither the compiler nor a linter checks. Prints each breach; exit code 1 if there is one.

usage: python3 tools/check_tree.py        (anywhere inside the repository; looks at tracked files)

1. No path of somebody's machine.
2. No unfinished code: to-do marks and stubs that panic.
3. `unsafe` only where it is allowed: the kernels crate and the file that maps files into memory.
4. A Rust file has at most 400 lines without its tests, and 600 with them; one of the kernels crate has at most 700.
5. No test is switched off.
6. No file of more than 5 MB: models are fetched, not committed.
7. A relative link in a Markdown file leads to a file, and its fragment to a heading.
8. The rule of floors, see floors.py: crates, modules and folders use only what lies below them.
"""
import pathlib
import re
import subprocess
import sys
import tomllib

import floors
from make_measurements import anchor
from rust_modules import n_lines_without_tests, read_crate

# Lines of a Rust file: without tests, with tests, in the kernels crate.
MAX_LINES, MAX_LINES_WITH_TESTS, MAX_LINES_OF_KERNELS = 400, 600, 700
KERNELS = "crates/kernels/src/"
# Files that are longer than that, each with what it may have until somebody splits it; a number may only fall.
LONG_FILES = {
}
MAX_BYTES = 5_000_000
UNSAFE_ALLOWED = ("crates/kernels/", "crates/formats/src/map.rs")
# These two hold the patterns themselves.
RULES_FILES = ("tools/check_tree.py", "tools/test_check_tree.py")
# Files of other people, byte for byte as they were published.
VENDORED = ("crates/server/src/page/web/vendor/",)

MACHINE_PATH = re.compile(r"(?<![\w.~$}/-])/(?:work|root|home/\w+|Users/\w+)/[\w.]")
UNFINISHED = re.compile(r"\b(?:TODO|FIXME|XXX)\b|\b(?:todo|unimplemented)!\(")
UNSAFE = re.compile(r"\bunsafe\s*(?:\{|fn\b|impl\b|extern\b|trait\b)")
SWITCHED_OFF = re.compile(r"#\[ignore\b|@unittest\.skip")
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def breaches_of_text(path: str, text: str) -> list[str]:
    """What is wrong with one text file, each as `path:line: why`."""
    found = []
    lines = text.splitlines()
    rust = path.endswith(".rs")
    for number, line in enumerate(lines, 1):
        checks = [(MACHINE_PATH, "a path of somebody's machine"), (UNFINISHED, "unfinished code")]
        if rust or path.endswith(".py"):
            checks.append((SWITCHED_OFF, "a test that is switched off"))
        if rust and not path.startswith(UNSAFE_ALLOWED):
            checks.append((UNSAFE, "unsafe outside its places"))
        found += [f"{path}:{number}: {why}: {line.strip()}" for pattern, why in checks if pattern.search(line)]
    return found


def breaches_of_length(path: str, text: str, tests_only: bool, ceiling: int | None) -> list[str]:
    """Whether a Rust file is too long; `ceiling` is what `LONG_FILES` says of it."""
    n_lines, n_own = len(text.splitlines()), n_lines_without_tests(text)
    if path.startswith(KERNELS):
        limit, kind = MAX_LINES_OF_KERNELS, "in the kernels crate"
    elif not tests_only and (n_own > MAX_LINES or ceiling):
        n_lines, limit, kind = n_own, MAX_LINES, "without tests"
    else:
        limit, kind = MAX_LINES_WITH_TESTS, "with tests"
    if ceiling and n_lines <= limit:
        return [f"{path}: has {n_lines} lines {kind}, so LONG_FILES need not excuse it any more"]
    allowed = ceiling or limit
    return [f"{path}: has {n_lines} lines {kind}, more than {allowed}"] if n_lines > allowed else []


def files_of_code(root: pathlib.Path) -> set[str]:
    """Rust files of the crates that are more than tests: those that a crate's root includes outside of tests."""
    members = tomllib.loads((root / "Cargo.toml").read_text())["workspace"]["members"]
    return {module.file for member in members for module in read_crate(root / member, root).all()}


def anchors(text: str) -> set[str]:
    """The fragments under which a Markdown file's headings are linked."""
    headings = HEADING.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return {anchor(re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)) for heading in headings}


def broken_links(path: str, text: str, root: pathlib.Path) -> list[str]:
    """Relative links of a Markdown file that lead nowhere."""
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    found = []
    for target, fragment in LINK.findall(prose):
        if "://" in target or target.startswith("mailto:"):
            continue
        file = (root / path).parent / target if target else root / path
        if not file.exists():
            found.append(f"{path}: link to {target}, which is not there")
        elif fragment and file.suffix == ".md" and fragment not in anchors(file.read_text(encoding="utf-8")):
            found.append(f"{path}: link to {target}#{fragment}, and no heading has that name")
    return found


def main() -> int:
    top = subprocess.run(["git", "rev-parse", "--show-toplevel"], capture_output=True, text=True, check=True)
    root = pathlib.Path(top.stdout.strip())
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True)
    found = floors.breaches(root)
    code = files_of_code(root)
    paths = [path for path in listed.stdout.split("\0") if path and (root / path).is_file()]
    for path in paths:
        content = (root / path).read_bytes()
        if len(content) > MAX_BYTES:
            found.append(f"{path}: has {len(content)} bytes, more than {MAX_BYTES}")
        if path in RULES_FILES or path.startswith(VENDORED) or b"\0" in content[:8192]:
            continue
        try:
            text = content.decode()
        except UnicodeDecodeError:
            continue
        found += breaches_of_text(path, text)
        if path.endswith(".rs"):
            tests_only = "/src/" in path and path not in code or "/tests/" in path
            found += breaches_of_length(path, text, tests_only, LONG_FILES.get(path))
        if path.endswith(".md"):
            found += broken_links(path, text, root)
    found += [f"{path}: LONG_FILES excuses it, but it is not there" for path in LONG_FILES if path not in paths]
    print("\n".join(found) if found else f"{len(paths)} files keep the rules")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
