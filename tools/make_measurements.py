#!/usr/bin/env python3
"""Writes the pages of docs/measurements from the JSON files beside them. Standard library only.

usage: python3 tools/make_measurements.py            writes docs/measurements/*.md
       python3 tools/make_measurements.py --check    changes nothing; exit code 1 if a page is not what would be written

A page is one JSON file:

    {"title": …, "about": [paragraphs], "tables": [tables]}

and a table is

    {"title": …, "machine": a key of machines.json, "date": "2026-11-27",
     "commit": the program that was measured, or "recorded": the commit that recorded the figures where that is not known,
     "model": …, "command": [lines], "columns": [names], "rows": [[cells]], "notes": [paragraphs]}

`model` and `notes` may be left out. A cell is a text, a number, null (nothing was measured), or a pair of numbers: a
value and its error. `"spread": true` says that the errors of a table are in percent of the value. Numbers are printed with
the digits that the JSON has. machines.json describes the machines, and README.md lists machines and pages.
"""
import decimal
import json
import pathlib
import re
import sys

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "docs" / "measurements"
MACHINES = "machines.json"
INDEX = "README.md"

REQUIRED = {"title", "machine", "date", "command", "columns", "rows"}
OPTIONAL = {"commit", "recorded", "model", "spread", "notes"}
DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
COMMIT = re.compile(r"[0-9a-f]{7,40}")


class Wrong(Exception):
    """What is wrong with a JSON file, for the person who wrote it."""


def number(value: int | decimal.Decimal) -> str:
    """With a minus sign instead of a hyphen, and commas between thousands of whole numbers."""
    text = f"{value:,}" if isinstance(value, int) else str(value).lower()
    return text.replace("-", "−", 1) if value < 0 else text


def is_number(cell) -> bool:
    return isinstance(cell, (int, decimal.Decimal)) and not isinstance(cell, bool)


def is_pair(cell) -> bool:
    return isinstance(cell, list) and len(cell) == 2 and all(is_number(part) for part in cell)


def cell_text(cell, spread: bool) -> str:
    if cell is None:
        return ""
    if is_number(cell):
        return number(cell)
    if is_pair(cell):
        return f"{number(cell[0])} ± {number(cell[1])}" + (" %" if spread else "")
    if isinstance(cell, str):
        return cell.replace("|", "\\|")
    raise Wrong(f"a cell is {cell!r}, which is no text, number, pair of numbers or null")


def grid(columns: list[str], rows: list[list], spread: bool) -> list[str]:
    """A Markdown table; columns of numbers stand at the right."""
    for row in rows:
        if len(row) != len(columns):
            raise Wrong(f"the row {row!r} has {len(row)} cells for {len(columns)} columns")
    by_column = [[row[i] for row in rows if row[i] is not None] for i in range(len(columns))]
    right = [all(is_number(cell) or is_pair(cell) for cell in cells) for cells in by_column]
    lines = ["| " + " | ".join(columns) + " |"]
    lines.append("| " + " | ".join("---:" if at_right else "---" for at_right in right) + " |")
    lines += ["| " + " | ".join(cell_text(cell, spread) for cell in row) + " |" for row in rows]
    return [re.sub(r"  +", " ", line) for line in lines]


def anchor(heading: str) -> str:
    """The fragment under which code hosts link a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def check_table(table: dict, machines: dict) -> None:
    unknown, missing = set(table) - REQUIRED - OPTIONAL, REQUIRED - set(table)
    if unknown or missing:
        raise Wrong(f"unknown keys {sorted(unknown)}, missing keys {sorted(missing)}")
    if table["machine"] not in machines:
        raise Wrong(f"machine {table['machine']!r} is none of {sorted(machines)} in {MACHINES}")
    if not DATE.fullmatch(table["date"]):
        raise Wrong(f"date {table['date']!r} is not like 2026-11-27")
    commits = [table[key] for key in ("commit", "recorded") if key in table]
    if len(commits) != 1 or not COMMIT.fullmatch(commits[0]):
        raise Wrong(f"one of \"commit\" and \"recorded\" has to be a commit; they are {commits}")
    if not table["command"] or not table["rows"]:
        raise Wrong("a table needs a command and rows")


def section(table: dict, machines: dict) -> list[str]:
    check_table(table, machines)
    name = machines[table["machine"]]["name"]
    facts = [f"[{name}]({INDEX}#machines)", table["date"]]
    facts.append(f"lossy at {table['commit']}" if "commit" in table else f"recorded in {table['recorded']}")
    if "model" in table:
        facts.append(table["model"])
    lines = [f"## {table['title']}", "", " · ".join(facts), "", "```sh", *table["command"], "```", ""]
    lines += grid(table["columns"], table["rows"], table.get("spread", False))
    for note in table.get("notes", []):
        lines += ["", note]
    return lines


def page_text(page: dict, source: str, machines: dict) -> str:
    lines = [f"# {page['title']}", "", f"<!-- Made from {source} by tools/make_measurements.py: change that file. -->"]
    for paragraph in page["about"]:
        lines += ["", paragraph]
    seen = set()
    for table in page["tables"]:
        try:
            if table.get("title") in seen:
                raise Wrong("another table of the page has the same title")
            seen.add(table.get("title"))
            lines += ["", *section(table, machines)]
        except Wrong as wrong:
            raise Wrong(f"{source}, table {table.get('title')!r}: {wrong}") from wrong
    return "\n".join(lines) + "\n"


def index_text(about: list[str], machines: dict, pages: dict[str, dict]) -> str:
    lines = ["# Measurements", "", f"<!-- Made from {MACHINES} by tools/make_measurements.py: change that file. -->"]
    for paragraph in about:
        lines += ["", paragraph]
    lines += ["", "## Pages", ""]
    for name, page in pages.items():
        lines.append(f"- [{page['title']}]({name}.md)")
        lines += [f"  - [{table['title']}]({name}.md#{anchor(table['title'])})" for table in page["tables"]]
    lines += ["", "## Machines", ""]
    lines += grid(["name", "what it is"], [[one["name"], one["about"]] for one in machines.values()], False)
    return "\n".join(lines) + "\n"


def read(path: pathlib.Path):
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_float=decimal.Decimal)
    except json.JSONDecodeError as error:
        raise Wrong(f"{path.name}: {error}") from error


def made(folder: pathlib.Path) -> dict[str, str]:
    """File names and contents of all pages."""
    index = read(folder / MACHINES)
    machines = index["machines"]
    pages = {path.stem: read(path) for path in sorted(folder.glob("*.json")) if path.name != MACHINES}
    texts = {f"{name}.md": page_text(page, f"{name}.json", machines) for name, page in pages.items()}
    texts[INDEX] = index_text(index["about"], machines, pages)
    return texts


def differences(folder: pathlib.Path, texts: dict[str, str]) -> list[str]:
    """Pages that are not what the JSON files say, and pages without a JSON file."""
    found = []
    for name, text in texts.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            found.append(f"docs/measurements/{name} is not what tools/make_measurements.py makes of the JSON; run it")
    strangers = sorted(path.name for path in folder.glob("*.md") if path.name not in texts)
    return found + [f"docs/measurements/{name} has no JSON file" for name in strangers]


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        texts = made(FOLDER)
    except Wrong as wrong:
        print(wrong, file=sys.stderr)
        return 1
    if arguments:
        found = differences(FOLDER, texts)
        print("\n".join(found) if found else f"{len(texts)} pages of measurements are what the JSON says")
        return 1 if found else 0
    for name, text in texts.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
