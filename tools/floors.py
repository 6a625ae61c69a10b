"""The rule of floors: everything stands on something below it, and nothing looks up.

1. Crates: a crate depends on those above it in the members of Cargo.toml. Development dependencies keep to it too, except
   on the crate for tests.
2. Modules: in the crates of `ORDERED`, `lib.rs` lists modules in the order of their dependencies; a module uses only those
   that are listed before it. A name that `lib.rs` re-exports counts as the module that it comes from, and what `lib.rs`
   defines itself stands above every module.
3. Folders: folders side by side use each other in one direction, directly or by way of files between them.

Tests may look anywhere.
"""
import pathlib
import tomllib

from rust_modules import Module, Reference, read_crate, resolve

# Crates whose root lists its modules in the order of their dependencies.
ORDERED = ("crates/formats", "crates/kernels", "crates/engine")
# Crates whose folders form a circle as yet.
IN_CIRCLES = ("crates/kernels",)
# A crate that tests of any crate may use.
TEST_CRATE = "crates/testkit"

Path = tuple[str, ...]


def line_of(text: str, name: str) -> int:
    """The line of Cargo.toml that speaks of a dependency."""
    numbered = enumerate(text.splitlines(), 1)
    return next((number for number, line in numbered if line.split(".")[0].split("=")[0].strip() == name), 1)


def breaches_of_crates(root: pathlib.Path) -> list[str]:
    """Dependencies on a crate that the members list later."""
    members = tomllib.loads((root / "Cargo.toml").read_text())["workspace"]["members"]
    manifests = {member: (root / member / "Cargo.toml").read_text() for member in members}
    parsed = {member: tomllib.loads(text) for member, text in manifests.items()}
    place = {parsed[member]["package"]["name"]: number for number, member in enumerate(members)}
    found = []
    for number, member in enumerate(members):
        manifest = parsed[member]
        for part in (manifest, *manifest.get("target", {}).values()):
            for kind in ("dependencies", "build-dependencies", "dev-dependencies"):
                for name, wanted in part.get(kind, {}).items():
                    name = wanted.get("package", name) if isinstance(wanted, dict) else name
                    later = place.get(name, -1) >= number
                    if later and not (kind == "dev-dependencies" and members[place[name]] == TEST_CRATE):
                        line = line_of(manifests[member], name)
                        found.append(f"{member}/Cargo.toml:{line}: depends on {name}, which Cargo.toml lists after it")
    return found


def breaches_of_modules(crate: Module) -> list[str]:
    """Uses of a module that the root lists later."""
    place = {name: number for number, name in enumerate(crate.children)}
    found: dict[str, str] = {}
    for name, floor in crate.children.items():
        for module in floor.all():
            for reference in module.references:
                origin = resolve(crate, module, reference.names)
                if origin is None:
                    continue
                target = origin[0].path[:1]
                if not target:
                    why = f"{name} uses what {crate.file} defines, above every module"
                elif place[target[0]] > place[name]:
                    why = f"{name} uses {target[0]}, which {crate.file} lists after it"
                else:
                    continue
                found.setdefault(f"{reference.file}:{reference.line}: {why}", "::".join(reference.names))
    return [f"{why}: {written}" for why, written in found.items()]


def uses_between_siblings(crate: Module) -> dict[Path, dict[Path, Reference]]:
    """Which module uses which beside it, in one folder or in folders below, with the first line that does."""
    uses: dict[Path, dict[Path, Reference]] = {}
    for module in crate.all():
        for reference in module.references:
            origin = resolve(crate, module, reference.names)
            if origin is None:
                continue
            here, there = module.path, origin[0].path
            shared = next((n for n, (a, b) in enumerate(zip(here, there)) if a != b), min(len(here), len(there)))
            if shared < len(here) and shared < len(there):
                uses.setdefault(here[: shared + 1], {}).setdefault(there[: shared + 1], reference)
    return uses


def way(uses: dict[Path, dict[Path, Reference]], begin: Path, end: Path) -> list[Path] | None:
    """The shortest chain of uses from one module to another."""
    before: dict[Path, Path] = {}
    reached = [begin]
    for module in reached:
        for used in uses.get(module, {}):
            if used not in before:
                before[used] = module
                reached.append(used)
    if end not in before:
        return None
    chain = [end]
    while len(chain) == 1 or chain[-1] != begin:
        chain.append(before[chain[-1]])
    return chain[::-1]


def breaches_of_folders(crate: Module) -> list[str]:
    """Folders side by side that use each other in a circle."""
    uses = uses_between_siblings(crate)
    folders = sorted(module.path for module in crate.all() if module.path and module.is_folder())
    found = []
    for n, one in enumerate(folders):
        for other in folders[n + 1 :]:
            there, back = way(uses, one, other), way(uses, other, one)
            if one[:-1] == other[:-1] and there and back:
                chain = there + back[1:]
                steps = [uses[a][b] for a, b in zip(chain, chain[1:])]
                names = " → ".join("::".join(path) for path in chain)
                lines = ", ".join(f"{step.file}:{step.line}" for step in steps)
                found.append(f"{steps[0].file}:{steps[0].line}: folders in a circle: {names} ({lines})")
    return found


def breaches(root: pathlib.Path, ordered: tuple[str, ...] = ORDERED) -> list[str]:
    """What breaks the rule of floors, each as `path:line: why`."""
    found = breaches_of_crates(root)
    for member in tomllib.loads((root / "Cargo.toml").read_text())["workspace"]["members"]:
        crate = read_crate(root / member, root)
        if member in ordered:
            found += breaches_of_modules(crate)
        if member not in IN_CIRCLES:
            found += breaches_of_folders(crate)
    return found
