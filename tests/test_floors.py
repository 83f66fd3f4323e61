"""The floors of the package: imports go down only, and neighbours do not know each other."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Every room and its floor. What is in no room has no floor, and may not be in the package.
FLOORS = {
    "cli": 7,  # the launcher of a checkout
    "streamlab.cli": 7,
    "analysis": 7,
    "streamlab.stream": 6,
    "streamlab.report": 6,
    "streamlab.planning": 5,
    "streamlab.serving": 5,
    "streamlab.registry": 4,
    "streamlab.base": 3,
    "streamlab.tasks": 3,
    "streamlab.methods": 3,
    "streamlab.diff": 2,
    "streamlab.arrivals": 2,
    "streamlab.config": 1,
    "streamlab.sources": 1,
    "streamlab.fingerprint": 1,
    "streamlab.canonical": 0,
    "streamlab.errors": 0,
}
LAUNCHES = {"cli", "streamlab.cli"}  # one room at two places
TOP = "streamlab"  # re-exports the public names; of it, the rooms may know the version alone
KEPT_IN = {
    "click": "streamlab.cli",
    "rich": "streamlab.cli",
    "matplotlib": "streamlab.report",
    "jinja2": "streamlab.report",
    "markupsafe": "streamlab.report",
    "sqlalchemy": "streamlab.registry",
    "alembic": "streamlab.registry",
    "datasets": "streamlab.tasks",
}


def modules() -> dict[str, Path]:
    """Return every module of the project that has a floor to keep, by its dotted name."""
    paths = [*ROOT.glob("streamlab/**/*.py"), *ROOT.glob("analysis/**/*.py"), ROOT / "cli.py"]
    found = {}
    for path in sorted(paths):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def find_room(name: str) -> str | None:
    """Return the room that a module is in."""
    parts = name.split(".")
    prefixes = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next((prefix for prefix in prefixes if prefix in FLOORS), None)


def imports(source: str, known: Collection[str]) -> Iterator[str]:
    """Yield the modules that a source imports anywhere in it, and `streamlab.NAME` for names."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"write out the relative import of `{node.module}`"
            for name in (f"{node.module}.{alias.name}" for alias in node.names):
                yield name if name in known or node.module == TOP else str(node.module)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == TOP:
            yield f"{TOP}.{node.attr}"


def imports_by_name(source: str, known: Collection[str]) -> Iterator[str]:
    """Yield the known modules that a source names in a string, as `module` or `module:name`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value.partition(":")[0]
            if name in known and "." in name:
                yield name


def problems(name: str, imported: str) -> Iterator[str]:
    """Yield what is wrong with module `name` importing `imported`."""
    here = find_room(name)
    if here is None and name != TOP:
        yield f"`{name}` has no floor"
        return
    library = imported.partition(".")[0]
    if library in KEPT_IN and here != KEPT_IN[library]:
        yield f"`{name}` imports {library}, which is kept in {KEPT_IN[library]}"
    if library not in {TOP, "analysis", "cli"} or name == TOP:
        return
    if imported in {TOP, f"{TOP}.__version__"}:
        return
    there = find_room(imported)
    if there is None:
        yield f"`{name}` imports `{imported}`, which has no floor"
    elif not one_room(str(here), there) and FLOORS[there] >= FLOORS[str(here)]:
        yield f"`{name}` on floor {FLOORS[str(here)]} imports `{imported}` on {FLOORS[there]}"


def one_room(here: str, there: str) -> bool:
    return here == there or {here, there} <= LAUNCHES


def test_every_module_has_a_floor() -> None:
    assert [name for name in modules() if find_room(name) is None] == [TOP]


def test_imports_go_down_only_and_libraries_stay_in_their_rooms() -> None:
    known = modules()
    found = [
        problem
        for name, path in known.items()
        for find in (imports, imports_by_name)
        for imported in sorted(set(find(path.read_text(encoding="utf-8"), known)))
        for problem in problems(name, imported)
    ]

    assert found == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    known = modules()
    del known[TOP]
    graph = {
        name: set(imports(path.read_text(encoding="utf-8"), known)) & set(known)
        for name, path in known.items()
    }

    order = list(TopologicalSorter(graph).static_order())  # raises CycleError

    assert set(order) == set(known)


@pytest.mark.parametrize(
    ("name", "imported", "problem"),
    [
        ("streamlab.new", "json", "`streamlab.new` has no floor"),
        (
            "streamlab.stream.engine",
            "streamlab.new",
            "`streamlab.stream.engine` imports `streamlab.new`, which has no floor",
        ),
        (
            "streamlab.diff.codec",
            "streamlab.registry.store",
            "`streamlab.diff.codec` on floor 2 imports `streamlab.registry.store` on 4",
        ),
        (
            "streamlab.report.pages",
            "streamlab.stream.engine",
            "`streamlab.report.pages` on floor 6 imports `streamlab.stream.engine` on 6",
        ),
        (
            "streamlab.tasks.load",
            "streamlab.base",
            "`streamlab.tasks.load` on floor 3 imports `streamlab.base` on 3",
        ),
        (
            "streamlab.methods.loop",
            "streamlab.run",
            "`streamlab.methods.loop` imports `streamlab.run`, which has no floor",
        ),
        (
            "streamlab.report.table",
            "rich.table",
            "`streamlab.report.table` imports rich, which is kept in streamlab.cli",
        ),
        (
            "analysis.study",
            "matplotlib.pyplot",
            "`analysis.study` imports matplotlib, which is kept in streamlab.report",
        ),
    ],
)
def test_what_breaks_the_floors_is_named(name: str, imported: str, problem: str) -> None:
    assert list(problems(name, imported)) == [problem]


@pytest.mark.parametrize(
    ("name", "imported"),
    [
        ("streamlab.stream.engine", "streamlab.stream.serve"),
        ("streamlab.stream.engine", "streamlab.registry.store"),
        ("streamlab.registry.events", "streamlab.__version__"),
        ("streamlab.methods.loop", "torch"),
        ("streamlab.cli.run", "click"),
        ("cli", "streamlab.cli"),
    ],
)
def test_what_keeps_the_floors_is_let_through(name: str, imported: str) -> None:
    assert list(problems(name, imported)) == []


def test_imports_are_found_wherever_they_stand() -> None:
    source = (
        "from typing import TYPE_CHECKING\n"
        "import streamlab\n"
        "if TYPE_CHECKING:\n"
        "    from streamlab.base import Base\n"
        "def lazily() -> None:\n"
        "    from streamlab import run, __version__\n"
        "    import streamlab.diff.codec as codec\n"
        "    from streamlab.tasks.generated import lexicon\n"
        "PLACE = 'streamlab.cli.run:run'\n"
        "streamlab.other()\n"
    )

    known = {"streamlab.cli.run", "streamlab.diff.codec", "streamlab.tasks.generated.lexicon"}

    assert set(imports(source, known)) == {
        "typing",
        "streamlab",
        "streamlab.base",
        "streamlab.run",
        "streamlab.__version__",
        "streamlab.diff.codec",
        "streamlab.tasks.generated.lexicon",
        "streamlab.other",
    }
    assert set(imports_by_name(source, known)) == {"streamlab.cli.run"}
