"""Every public method of the registry is held by the contract, over every kind of database."""

from __future__ import annotations

import ast
from pathlib import Path

from registry_samples import Clock

from streamlab.registry.database import Repository
from streamlab.registry.registry import Registry

# Of one connection's life, not of what is remembered; `open` and `close` are the fixture's own.
_LIFE = {"open", "close", "url"}
# Called by other repositories and by imports, within their transactions.
_WITHIN = {
    *("bases.id_of", "runs.id_of", "runs.add_finished", "runs.refuse_running"),
    *("events.add_all", "artifacts.add", "artifacts.lock"),
    *("scores.add", "totals.change", "report_damage"),
}
# One for every few hundred records; one that deletes each file once, though it is tried again.
_OWN_TRANSACTIONS = {"arrivals.walk", "removal.release"}


def repositories() -> dict[str, Repository]:
    with Registry.open("sqlite://", clock=Clock()) as registry:
        return {name: r for name, r in vars(registry).items() if isinstance(r, Repository)}


def called_over_every_database() -> set[str]:
    """Return what is called on `registry` in functions that are handed a registry."""
    called = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            # A function that opens one by itself is about one kind of database.
            if "registry" in [argument.arg for argument in function.args.args]:
                called |= {
                    ast.unparse(node).removeprefix("registry.")
                    for node in ast.walk(function)
                    if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("registry.")
                }
    return called


def test_every_public_method_is_called_over_every_kind_of_database() -> None:
    own = repositories()
    public = {name for name in dir(Registry) if not name.startswith("_")} - _LIFE
    public |= {
        f"{name}.{method}"
        for name, repository in own.items()
        for method in dir(repository)
        if not method.startswith("_")
    }

    assert public - called_over_every_database() - _WITHIN == set()


def test_every_public_method_of_a_repository_is_one_transaction() -> None:
    for name, repository in repositories().items():
        for method in (m for m in vars(type(repository)) if not m.startswith("_")):
            if f"{name}.{method}" in _OWN_TRANSACTIONS:
                continue
            # `reads` and `writes` wrap it.
            assert hasattr(getattr(repository, method), "__wrapped__"), f"{name}.{method}"
