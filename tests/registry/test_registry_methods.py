"""Every public method of the registry is held by the contract, over every kind of database."""

from __future__ import annotations

import ast
from pathlib import Path

from streamlab.registry.registry import Registry

# Of one connection's life, not of what is remembered; `open` and `close` are the fixture's own.
_LIFE = {"open", "close", "url"}


def called_over_every_database() -> set[str]:
    """Return the methods called on `registry` in functions that are handed a registry."""
    called = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            # A function that opens one by itself is about one kind of database.
            if "registry" in [argument.arg for argument in function.args.args]:
                called |= {
                    node.attr
                    for node in ast.walk(function)
                    if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "registry"
                }
    return called


def test_every_public_method_is_called_over_every_kind_of_database() -> None:
    public = {name for name in dir(Registry) if not name.startswith("_")} - _LIFE

    assert public - called_over_every_database() == set()
