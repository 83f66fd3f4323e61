"""Scores: what an arrival's artifact reached on a split, after its own or a later arrival."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, select
from sqlalchemy.exc import IntegrityError

from streamlab.errors import RegistryError
from streamlab.registry.conditions import Columns, Condition, Joined, narrow
from streamlab.registry.database import Repository, in_chunks, reads, writes
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
_SELECTED = [
    *(getattr(ScoreRow, name) for name in _OWN),
    *(column.label(name) for name, column in _FOREIGN.items()),
]
_COLUMNS: Columns = {
    **{name: getattr(ScoreRow, name) for name in _OWN},
    **_FOREIGN,
    "run": Joined(ArrivalRow.run_id, RunRow.id, RunRow.name),
    "task": Joined(ArrivalRow.task_id, TaskRow.id, TaskRow.name),
    "provider": Joined(ArrivalRow.provider_id, ProviderRow.id, ProviderRow.name),
}


def own_score(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return a column of the score that an arrival is judged by: the first primary one, of dev."""
    score = ScoreRow
    return (
        select(column)
        .where(score.arrival_id == ArrivalRow.id, score.is_primary)
        .order_by(score.after_sequence, score.split, score.metric)  # `dev` before `validation`
        .limit(1)
        .correlate(ArrivalRow.__table__)
        .scalar_subquery()
    )


class Scores(Repository):
    """The scores of arrivals; one is never replaced."""

    @reads
    def list(
        self,
        *,
        run: str | int | None = None,
        arrival_id: int | None = None,
        task: str | None = None,
        primary: bool = False,
        where: Condition | None = None,
        limit: int | None = None,
    ) -> tuple[ScoreRecord, ...]:
        """Return the first `limit` scores that match, or all, in the order of their arrivals.

        Of one arrival by the place they were measured after, then by split and metric.
        `primary`: those alone that an arrival is judged by.
        """
        run_id = None if run is None else self._registry.runs.id_of(run)
        query = scores_of(run_id=run_id, arrival_id=arrival_id, task=task)
        if primary:
            query = query.where(ScoreRow.is_primary)
        query = narrow(query, where, _COLUMNS, self._backend.like).limit(limit)
        return tuple(_record(row) for row in self._connection.execute(query))

    @reads
    def of_arrivals(self, ids: Collection[int]) -> tuple[ScoreRecord, ...]:
        """Return the scores of these arrivals, removed or not; of one in the order of `list`."""
        return tuple(
            _record(row)
            for chunk in in_chunks(sorted(set(ids)))
            for row in self._connection.execute(scores_of(arrival_ids=chunk))
        )

    @writes
    def add(self, new: Mapping[int, Sequence[NewScore]]) -> None:
        """Add scores by the id of their arrival.

        Raises RegistryError for a value that is not finite, or a score that is there already.
        """
        given = [(number, score) for number, scores in new.items() for score in scores]
        _check(given, taken=set())
        rows = [
            {**dict(zip(_GIVEN, _values(score), strict=True)), "arrival_id": number}
            | {"added_at": self._now}
            for number, score in given
        ]
        try:
            with self._connection.begin_nested():
                self._backend.insert_rows(self._connection, ScoreRow.__table__, rows)
        except IntegrityError:
            _check(given, taken=self._taken([*new]))
            raise

    def _taken(self, ids: Sequence[int]) -> set[tuple[Any, ...]]:
        score = ScoreRow
        known = select(score.arrival_id, score.metric, score.split, score.after_sequence)
        return {
            tuple(row)
            for chunk in in_chunks(ids)
            for row in self._connection.execute(known.where(score.arrival_id.in_(chunk)))
        }


def scores_of(
    *,
    run_id: int | None = None,
    arrival_id: int | None = None,
    arrival_ids: Collection[int] | None = None,
    task: str | None = None,
) -> Select[Any]:
    """Return the query of the scores that match, in the order they are listed in.

    Those of removed arrivals only where the arrivals are given.
    """
    arrival, score = ArrivalRow, ScoreRow
    query = (
        select(*_SELECTED)
        .select_from(arrival)
        .join(score, score.arrival_id == arrival.id)
        # Outer joins leave the arrivals in front, so that an index gives the order.
        .join(RunRow, RunRow.id == arrival.run_id, isouter=True)
        .join(TaskRow, TaskRow.id == arrival.task_id, isouter=True)
        .join(ProviderRow, ProviderRow.id == arrival.provider_id, isouter=True)
        .order_by(arrival.run_id, arrival.seed, arrival.sequence, arrival.method, arrival.id)
        .order_by(score.after_sequence, score.split, score.metric)
    )
    if arrival_ids is not None:
        return query.where(score.arrival_id.in_(arrival_ids))
    if arrival_id is not None:
        query = query.where(arrival.id == arrival_id)
    else:
        query = query.where(arrival.removed_at.is_(None))
    if run_id is not None:
        query = query.where(arrival.run_id == run_id)
    if task is not None:
        number = select(TaskRow.id).where(TaskRow.name == task).scalar_subquery()
        query = query.where(arrival.task_id == number)
    return query


def _record(row: Row[Any]) -> ScoreRecord:
    return ScoreRecord(**row._mapping, synthetic=row.source == "synthetic")


def _check(given: Sequence[tuple[int, NewScore]], *, taken: set[tuple[Any, ...]]) -> None:
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
