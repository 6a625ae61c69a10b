"""Modules of a Rust crate and the paths by which they use each other, read from the source without a compiler.

Code that only tests see is left out: items under `#[cfg(test)]`, and files that are included by such an item. Macros are
not expanded; a path inside of one counts as written.
"""
import dataclasses
import pathlib
import re

# A comment, a literal, or a lifetime (which would else look like the begin of a character).
SKIPPED = re.compile(
    r"""//[^\n]*|(?P<comment>/\*)|b?r(?P<hashes>#*)".*?"(?P=hashes)|b?"(?:\\.|[^"\\])*"|b?'(?:\\[^\n]+?|[^\\'\n])'|'\w+""",
    re.DOTALL,
)
COMMENT_MARK = re.compile(r"/\*|\*/")
CFG = re.compile(r"#(?P<inner>!?)\[\s*cfg\s*\(")
ITEM = re.compile(r"(?:pub\b|fn|mod|use|struct|enum|union|impl|const|static|trait|type|unsafe|extern|macro_rules|async|let)\b")
ENDS_WITH_SEMICOLON = re.compile(r"(?:pub\b\s*(?:\([^)]*\))?\s*)?(?:use|const(?!\s+(?:unsafe\s+)?fn)|static|type|let)\b")
MODULE = re.compile(r"\bmod\s+(\w+)\s*([;{])")
USE = re.compile(r"\buse\s+([^;]+);")
DEFINED = re.compile(r"\b(?:fn|struct|enum|union|trait|type|const|static|macro_rules!)\s+(?:mut\s+)?(\w+)")
INLINE_PATH = re.compile(r"(?<![\w:])\$?(crate|self|super)((?:\s*::\s*\w+)+)")
VISIBILITY = re.compile(r"\bpub\s*\(\s*in\s[^)]*\)")
CLOSING = {"{": "}", "(": ")", "[": "]"}


@dataclasses.dataclass
class Reference:
    """A path as a module writes it; `names` may begin with `crate`, `self` or `super`, and end with `*`."""

    names: list[str]
    file: str
    line: int


@dataclasses.dataclass
class Module:
    """One module; the root's path is empty."""

    path: tuple[str, ...]
    file: str
    children: dict[str, "Module"] = dataclasses.field(default_factory=dict)
    # what each imported name stands for, and paths of which everything is imported
    imports: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    globs: list[list[str]] = dataclasses.field(default_factory=list)
    defined: set[str] = dataclasses.field(default_factory=set)
    references: list[Reference] = dataclasses.field(default_factory=list)

    def all(self):
        """This module and those in it, as listed."""
        yield self
        for child in self.children.values():
            yield from child.all()

    def is_folder(self) -> bool:
        """Whether it has modules in files of their own."""
        return any(child.file != self.file for child in self.children.values())


def blanked(text: str, begin: int, end: int) -> str:
    """`text` with spaces from `begin` to `end`; lines stay where they are."""
    return text[:begin] + re.sub(r"[^\n]", " ", text[begin:end]) + text[end:]


def without_comments(text: str) -> str:
    """Spaces for comments, literals and lifetimes."""
    position = 0
    while match := SKIPPED.search(text, position):
        end = match.end()
        if match["comment"]:
            depth = 1
            while depth and (mark := COMMENT_MARK.search(text, end)):
                depth += 1 if mark[0] == "/*" else -1
                end = mark.end()
        text = blanked(text, match.start(), end)
        position = end
    return text


def closing(text: str, opening: int) -> int:
    """Where the bracket at `opening` closes."""
    depth = 0
    for position in range(opening, len(text)):
        if text[position] in "{([":
            depth += 1
        elif text[position] in "})]":
            depth -= 1
            if depth == 0:
                return position
    return len(text) - 1


def needs_test(predicate: str) -> bool:
    """Whether a `cfg` predicate holds in tests only."""
    predicate = predicate.strip()
    parts = re.fullmatch(r"(all|any|not)\s*\((.*)\)", predicate, re.DOTALL)
    if not parts or parts[1] == "not":
        return predicate == "test"
    inner, depth, pieces = parts[2], 0, [""]
    for letter in inner:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += letter
    answers = [needs_test(piece) for piece in pieces if piece.strip()]
    return any(answers) if parts[1] == "all" else bool(answers) and all(answers)


def end_of_item(code: str, begin: int) -> int:
    """Where the item, field or statement that begins at `begin` ends; its attributes belong to it."""
    position = begin
    while attribute := re.compile(r"\s*#\s*\[").match(code, position):
        position = closing(code, attribute.end() - 1) + 1
    position += len(code[position:]) - len(code[position:].lstrip())
    item = ITEM.match(code, position)
    until_semicolon = ENDS_WITH_SEMICOLON.match(code, position)
    while position < len(code):
        letter = code[position]
        if letter == ";" or (letter == "," and not item):
            return position + 1
        if letter in "})]":
            return position
        if letter in CLOSING:
            position = closing(code, position)
            if letter == "{" and item and not until_semicolon:
                return position + 1
        position += 1
    return len(code)


def test_spans(code: str) -> list[tuple[int, int]]:
    """Where what only tests see begins and ends, of code without comments."""
    position, spans = 0, []
    while match := CFG.search(code, position):
        opening = match.end() - 1
        position = closing(code, opening) + 1
        if not needs_test(code[opening + 1 : position - 1]):
            continue
        if match["inner"]:
            return [(0, len(code))]
        position = end_of_item(code, code.index("]", position) + 1)
        spans.append((match.start(), position))
    return spans


def without_tests(code: str) -> str:
    """Spaces for what only tests see, of code without comments."""
    for begin, end in test_spans(code):
        code = blanked(code, begin, end)
    return code


def n_lines_without_tests(text: str) -> int:
    """Lines of a file, comments included, less those of items that only tests see."""
    code = without_comments(text)
    return len(text.splitlines()) - sum(1 + code.count("\n", begin, end) for begin, end in test_spans(code))


def leaves(tree: str, before: list[str]) -> list[tuple[list[str], str]]:
    """The paths of a use tree, each with the name that it gets."""
    tree = tree.strip()
    if tree.startswith("{"):
        inner, depth, parts = tree[1:-1], 0, [""]
        for letter in inner:
            depth += {"{": 1, "}": -1}.get(letter, 0)
            if letter == "," and depth == 0:
                parts.append("")
            else:
                parts[-1] += letter
        return [leaf for part in parts if part.strip() for leaf in leaves(part, before)]
    head, separator, rest = tree.partition("::")
    if separator:
        return leaves(rest, before + [head.strip()])
    name, _, alias = (part.strip() for part in re.sub(r"\s+as\s+", " as ", tree).partition(" as "))
    names = before if name == "self" and before else before + [name]
    return [(names, alias or names[-1])]


def own_text(code: str) -> tuple[str, list[tuple[str, int, str]]]:
    """Code of a module without that of modules written inside of it; those as (name, begin, code), others with no code."""
    inside, position = [], 0
    while match := MODULE.search(code, position):
        position = match.end()
        if match[2] == "{":
            end = closing(code, match.end() - 1)
            inside.append((match[1], match.end(), code[match.end() : end]))
            code = blanked(code, match.end(), end)
            position = end
        else:
            inside.append((match[1], match.end(), ""))
    return code, inside


def fill(module: Module, code: str, first_line: int, folder: pathlib.Path, root: pathlib.Path) -> None:
    """Reads code of `module` into it; modules in files of their own lie in `folder`."""
    code, inside = own_text(code)

    def reference(names: list[str], position: int) -> Reference:
        return Reference(names, module.file, first_line + code.count("\n", 0, position))

    for match in USE.finditer(code):
        if match[1].lstrip().startswith("::"):
            continue
        for names, name in leaves(match[1], []):
            at = re.compile(rf"\b{re.escape(names[-1])}\b").search(code, match.start(1)) if names[-1] != "*" else None
            module.references.append(reference(names, at.start() if at else match.start(1)))
            if names[-1] == "*":
                module.globs.append(names[:-1])
            else:
                module.imports[name] = names
    code = VISIBILITY.sub(lambda match: " " * len(match[0]), USE.sub(lambda match: blanked(match[0], 0, len(match[0])), code))
    for match in INLINE_PATH.finditer(code):
        names = [match[1], *re.findall(r"\w+", match[2])]
        module.references.append(reference(names, match.start()))
    module.defined |= set(DEFINED.findall(code))
    for name, begin, text in inside:
        path = module.path + (name,)
        if text:
            module.children[name] = child = Module(path, module.file)
            fill(child, text, first_line + code.count("\n", 0, begin), folder / name, root)
            continue
        files = [folder / f"{name}.rs", folder / name / "mod.rs"]
        file = next((file for file in files if file.is_file()), None)
        if file:
            module.children[name] = read(path, file, folder / name, root)


def read(path: tuple[str, ...], file: pathlib.Path, folder: pathlib.Path, root: pathlib.Path) -> Module:
    """The module `path` that `file` holds, and all below."""
    module = Module(path, file.relative_to(root).as_posix())
    fill(module, without_tests(without_comments(file.read_text())), 1, folder, root)
    return module


def read_crate(crate: pathlib.Path, root: pathlib.Path) -> Module:
    """The root module of a crate: of its library, or else of its program."""
    library, program = crate / "src" / "lib.rs", crate / "src" / "main.rs"
    file = library if library.is_file() else program
    return read((), file, file.parent, root)


def resolve(crate: Module, module: Module, names: list[str], seen: frozenset = frozenset()) -> tuple[Module, bool] | None:
    """The module of this crate where a path ends, or where what it names is defined, and whether that is certain.

    Re-exports and imports are followed to their origin. `None`: a path into another crate.
    """
    if (module.path, tuple(names)) in seen:
        return None
    seen |= {(module.path, tuple(names))}
    at, rest = module, list(names)
    if rest[0] == "crate":
        at, rest = crate, rest[1:]
    else:
        climbed = rest[0] in ("self", "super")
        while rest and rest[0] in ("self", "super"):
            at = parent(crate, at) if rest[0] == "super" else at
            rest = rest[1:]
        if rest and not climbed and not known(crate, at, rest[0]):
            return None
    while rest and rest[0] != "*":
        name = rest[0]
        if name in at.children:
            at, rest = at.children[name], rest[1:]
        elif own_import(at, name):
            return resolve(crate, at, at.imports[name] + rest[1:], seen)
        elif name in at.defined:
            return at, True
        else:
            found = (resolve(crate, at, glob + rest, seen) for glob in at.globs)
            return next((origin for origin in found if origin and origin[1]), (at, False))
    return at, True


def parent(crate: Module, module: Module) -> Module:
    """The module around `module`."""
    at = crate
    for name in module.path[:-1]:
        at = at.children[name]
    return at


def known(crate: Module, module: Module, name: str) -> bool:
    """Whether a bare `name` is something of this crate in `module`, and not another crate."""
    return name in module.children or own_import(module, name) or name in module.defined


def own_import(module: Module, name: str) -> bool:
    """Whether `name` is imported; `use anyhow::anyhow` does not say what the first `anyhow` is."""
    return name in module.imports and module.imports[name][0] != name
