"""Names: providers and tasks as rows of their own, and what to say when no record has a name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, case, func, insert, select
from sqlalchemy.orm import InstrumentedAttribute

from streamlab.errors import NotInRegistryError
from streamlab.registry.records import ProviderSummary, TaskSummary
from streamlab.registry.tables import ArrivalRow, DiffRow, ProviderRow, TaskRow

Named = type[ProviderRow] | type[TaskRow]


def id_of(connection: Connection, table: Named, name: str) -> int:
    """Return the number of a provider's or a task's name, which is added where it is new."""
    found = connection.execute(select(table.id).where(table.name == name)).scalar()
    if found is not None:
        return found
    added = connection.execute(insert(table).values(name=name).returning(table.id))
    return added.scalar_one()


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
    connection: Connection, table: Named, key: InstrumentedAttribute[int]
) -> list[dict[str, Any]]:
    pairs = select(key.label("owner"), ArrivalRow.diff_id).distinct().subquery()
    stored = (
        select(pairs.c.owner, func.sum(DiffRow.file_bytes).label("stored_bytes"))
        .join(DiffRow, DiffRow.id == pairs.c.diff_id)
        .group_by(pairs.c.owner)
        .subquery()
    )
    arrived = (
        select(
            key.label("owner"),
            func.count(ArrivalRow.diff_id).label("n_arrivals"),
            (func.count() - func.count(ArrivalRow.diff_id)).label("n_failures"),
            *(
                func.sum(case((DiffRow.kind == kind, DiffRow.file_bytes), else_=0)).label(
                    f"{kind}_bytes"
                )
                for kind in ("diff", "checkpoint")
            ),
        )
        .select_from(ArrivalRow)
        .outerjoin(DiffRow, DiffRow.id == ArrivalRow.diff_id)
        .group_by(key)
        .subquery()
    )
    numbers = [*arrived.c[1:], stored.c.stored_bytes]
    query = (
        select(table.name, *numbers)
        .join(arrived, arrived.c.owner == table.id)
        .outerjoin(stored, stored.c.owner == table.id)
        .order_by(table.name)
    )
    return [
        {"name": name}
        | {column.name: int(n or 0) for column, n in zip(numbers, values, strict=True)}
        for name, *values in connection.execute(query)
    ]
