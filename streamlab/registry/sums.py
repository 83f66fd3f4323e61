"""What the arrivals of one run come to: the rows they learnt from, and what each method takes.

A run may have very many, so that the database goes through them and only the result is handed out.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, Select, case, func, select

from streamlab.registry.records import ExamplesUsed, MethodStorage
from streamlab.registry.tables import ArrivalRow, DiffRow, ProviderRow, TaskRow

_NAMED = {"task": TaskRow.name, "provider": ProviderRow.name}
_ROWS_USED = [
    _NAMED[field.name] if field.name in _NAMED else getattr(ArrivalRow, field.name)
    for field in fields(ExamplesUsed)
]


def rows_used(connection: Connection, run_id: int) -> tuple[ExamplesUsed, ...]:
    """Return the rows that a run's arrivals learnt from, each once, in the order they came."""
    distinct = dict.fromkeys(tuple(row) for row in connection.execute(rows_query(run_id)))
    return tuple(ExamplesUsed(*row) for row in distinct)


def by_method(connection: Connection, run_id: int) -> tuple[MethodStorage, ...]:
    """Return what each method's artifacts take, the method that came first first."""
    rows = connection.execute(method_query(run_id))
    return tuple(MethodStorage(*row) for row in rows)


def rows_query(run_id: int) -> Select[Any]:
    """Return the query of what every arrival of a run learnt from, in the order of listing."""
    arrival = ArrivalRow
    return (
        select(*_ROWS_USED)
        .select_from(arrival)
        # Outer joins leave the arrivals in front, so that an index gives the order.
        .join(TaskRow, TaskRow.id == arrival.task_id, isouter=True)
        .join(ProviderRow, ProviderRow.id == arrival.provider_id, isouter=True)
        .where(arrival.run_id == run_id, arrival.removed_at.is_(None))
        .order_by(arrival.seed, arrival.sequence, arrival.method, arrival.id)
    )


def method_query(run_id: int) -> Select[Any]:
    """Return the query of what each method's artifacts take in a run."""
    arrival, diff = ArrivalRow, DiffRow
    density = case((diff.n_gated > 0, 1.0 * diff.n_entries / diff.n_gated), else_=0.0)
    return (
        select(
            arrival.method,
            func.count(arrival.diff_id),
            # Of no artifact there is no mean.
            func.avg(case((arrival.diff_id.is_not(None), density))),
            func.coalesce(func.sum(diff.file_bytes), 0),
            func.coalesce(func.sum(diff.full_checkpoint_bytes), 0),
        )
        .select_from(arrival)
        .join(diff, diff.id == arrival.diff_id, isouter=True)
        .where(arrival.run_id == run_id, arrival.removed_at.is_(None))
        .group_by(arrival.method)
        .order_by(func.min(arrival.seed), func.min(arrival.sequence), arrival.method)
    )
