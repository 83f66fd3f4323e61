"""Names: providers and tasks as rows of their own, and what to say when no record has a name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, case, cast, func, insert, select

from streamlab.errors import NotInRegistryError
from streamlab.registry.pieces import in_pieces
from streamlab.registry.records import ProviderSummary, TaskSummary
from streamlab.registry.tables import ArrivalRow, DiffRow, ProviderRow, TaskRow

Named = type[ProviderRow] | type[TaskRow]


def ids_of(connection: Connection, table: Named, given: Iterable[str]) -> dict[str, int]:
    """Return the number of each provider's or task's name; one that is new is added."""
    wanted = list(dict.fromkeys(given))
    numbers: dict[str, int] = {}
    for piece in in_pieces(wanted):
        known = select(table.name, table.id).where(table.name.in_(piece))
        numbers |= {row.name: row.id for row in connection.execute(known)}
    for name in wanted:
        if name not in numbers:
            added = insert(table).values(name=name).returning(table.id)
            numbers[name] = connection.execute(added).scalar_one()
    return numbers


def tasks(connection: Connection) -> tuple[TaskSummary, ...]:
    """Sum up what arrived per task, by name."""
    rows = _summaries(connection, TaskRow, ArrivalRow.task_id)
    return tuple(TaskSummary(**row) for row in rows)


def providers(connection: Connection) -> tuple[ProviderSummary, ...]:
    """Sum up what arrived per provider, by name."""
    rows = _summaries(connection, ProviderRow, ArrivalRow.provider_id)
    return tuple(ProviderSummary(**row) for row in rows)


def missing(what: str, given: object, known: Sequence[str]) -> NotInRegistryError:
    """Say that no `what` is called `given`, and name those that come near."""
    near = difflib.get_close_matches(str(given), known, n=3, cutoff=0.5)
    if near:
        hint = f"Did you mean {_listed(near)}?"
    elif known:
        hint = f"There are {_listed(known[:5])}{' and others' if len(known) > 5 else ''}."
    else:
        hint = f"The registry holds no {what} yet."
    return NotInRegistryError(f"The registry holds no {what} {given!r}. {hint}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _summaries(
    connection: Connection, table: Named, key: ColumnElement[int]
) -> list[dict[str, Any]]:
    # One row per artifact first, so that a file shared by arrivals is met once. A failed
    # arrival has no artifact and falls into the group of none.
    met = (
        select(key.label("owner"), ArrivalRow.diff_id, func.count().label("n"))
        .group_by(key, ArrivalRow.diff_id)
        .subquery()
    )
    logical_bytes = met.c.n * DiffRow.file_bytes
    sums = {
        "n_arrivals": case((met.c.diff_id.is_not(None), met.c.n), else_=0),
        "n_failures": case((met.c.diff_id.is_(None), met.c.n), else_=0),
        "diff_bytes": case((DiffRow.kind == "diff", logical_bytes), else_=0),
        "checkpoint_bytes": case((DiffRow.kind == "checkpoint", logical_bytes), else_=0),
        "stored_bytes": func.coalesce(DiffRow.file_bytes, 0),
    }
    query = (
        # A sum is a decimal number in some databases.
        select(
            table.name,
            *(cast(func.sum(amount), BigInteger).label(name) for name, amount in sums.items()),
        )
        .join(met, met.c.owner == table.id)
        .join(DiffRow, DiffRow.id == met.c.diff_id, isouter=True)
        .group_by(table.id, table.name)
        .order_by(table.name)
    )
    return [row._asdict() for row in connection.execute(query)]
