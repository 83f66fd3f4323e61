"""Scores: what an arrival's artifact reached on a split, after its own or a later arrival."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, select

from streamlab.errors import RegistryError
from streamlab.registry.bulk import insert_rows
from streamlab.registry.pieces import in_pieces
from streamlab.registry.records import NewScore, ScoreRecord
from streamlab.registry.tables import ArrivalRow, ProviderRow, RunRow, ScoreRow, TaskRow

_FOREIGN: dict[str, ColumnElement[Any]] = {
    "run": RunRow.name,
    "seed": ArrivalRow.seed,
    "task": TaskRow.name,
    "provider": ProviderRow.name,
    "method": ArrivalRow.method,
    "source": ArrivalRow.source,
}
_GIVEN = [f.name for f in fields(NewScore)]
_values = attrgetter(*_GIVEN)
_OWN = [f.name for f in fields(ScoreRecord) if f.name not in {*_FOREIGN, "synthetic"}]
Key = tuple[Any, ...]  # what no two scores share

_COLUMNS = [
    *(getattr(ScoreRow, name) for name in _OWN),
    *(column.label(name) for name, column in _FOREIGN.items()),
]


def add(connection: Connection, new: Mapping[int, Sequence[NewScore]], *, at: float) -> None:
    """Add scores by the number of their arrival.

    Raises RegistryError for a value that is not finite, or a score that is there already.
    """
    given = [(number, score) for number, scores in new.items() for score in scores]
    _check(given, taken=_taken(connection, list(new)))
    _insert(connection, given, at=at)


def add_first(connection: Connection, new: Mapping[int, Sequence[NewScore]], *, at: float) -> None:
    """Add scores as `add` does, of arrivals that are new and so have none yet."""
    given = [(number, score) for number, scores in new.items() for score in scores]
    _check(given, taken=set())
    _insert(connection, given, at=at)


def listed(
    connection: Connection,
    *,
    run_id: int | None,
    arrival_id: int | None,
    task: str | None,
    primary: bool,
    limit: int | None,
) -> tuple[ScoreRecord, ...]:
    """Return scores in the order of their arrivals, then by place, split and metric."""
    found = query(run_id=run_id, arrival_id=arrival_id, task=task)
    if primary:
        found = found.where(ScoreRow.is_primary)
    return tuple(_record(row) for row in connection.execute(found.limit(limit)))


def of_arrivals(connection: Connection, numbers: Collection[int]) -> tuple[ScoreRecord, ...]:
    """Return the scores of these arrivals, those of one in the order they are listed in."""
    return tuple(
        _record(row)
        for piece in in_pieces(sorted(set(numbers)))
        for row in connection.execute(found_for(piece))
    )


def found_for(numbers: Collection[int]) -> Select[Any]:
    """Return the query of the scores of a few arrivals, removed or not."""
    return _every().where(ScoreRow.arrival_id.in_(numbers))


def query(
    *, run_id: int | None = None, arrival_id: int | None = None, task: str | None = None
) -> Select[Any]:
    """Return the query of the scores that match, in the order they are listed in."""
    arrival, found = ArrivalRow, _every()
    if arrival_id is None:  # who asks for one arrival may see it, removed or not
        found = found.where(arrival.removed_at.is_(None))
    if run_id is not None:
        found = found.where(arrival.run_id == run_id)
    if arrival_id is not None:
        found = found.where(arrival.id == arrival_id)
    if task is not None:
        number = select(TaskRow.id).where(TaskRow.name == task).scalar_subquery()
        found = found.where(arrival.task_id == number)
    return found


def _every() -> Select[Any]:
    arrival, score = ArrivalRow, ScoreRow
    return (
        select(*_COLUMNS)
        .select_from(arrival)
        .join(score, score.arrival_id == arrival.id)
        # Outer joins leave the arrivals in front, so that an index gives the order.
        .join(RunRow, RunRow.id == arrival.run_id, isouter=True)
        .join(TaskRow, TaskRow.id == arrival.task_id, isouter=True)
        .join(ProviderRow, ProviderRow.id == arrival.provider_id, isouter=True)
        .order_by(arrival.run_id, arrival.seed, arrival.sequence, arrival.method, arrival.id)
        .order_by(score.after_sequence, score.split, score.metric)
    )


def _record(row: Row[Any]) -> ScoreRecord:
    return ScoreRecord(**row._mapping, synthetic=row.source == "synthetic")


def _insert(connection: Connection, given: Sequence[tuple[int, NewScore]], *, at: float) -> None:
    rows = [
        {**dict(zip(_GIVEN, _values(score), strict=True)), "arrival_id": number, "added_at": at}
        for number, score in given
    ]
    insert_rows(connection, ScoreRow, rows)


def _taken(connection: Connection, numbers: Sequence[int]) -> set[Key]:
    known = select(ScoreRow.arrival_id, ScoreRow.metric, ScoreRow.split, ScoreRow.after_sequence)
    return {
        tuple(row)
        for piece in in_pieces(numbers)
        for row in connection.execute(known.where(ScoreRow.arrival_id.in_(piece)))
    }


def _check(given: Sequence[tuple[int, NewScore]], *, taken: set[Key]) -> None:
    for arrival_id, score in given:
        key = (arrival_id, score.metric, score.split, score.after_sequence)
        if key in taken:
            raise RegistryError(
                f"Arrival {arrival_id} has a score already for `{score.metric}` on "
                f"{score.split!r} after place {score.after_sequence}; a score is never replaced."
            )
        if not math.isfinite(score.value):
            raise RegistryError(
                f"The score `{score.metric}` of arrival {arrival_id} is {score.value!r}; "
                "a score must be a finite number."
            )
        taken.add(key)
