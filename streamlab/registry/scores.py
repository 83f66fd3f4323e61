"""Scores: what an arrival's artifact reached on a split, after its own or a later arrival."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, select
from sqlalchemy.exc import IntegrityError

from streamlab.errors import RegistryError
from streamlab.registry.conditions import Columns, Condition
from streamlab.registry.database import Repository, reads, writes
from streamlab.registry.records import NewScore, ScoreRecord
from streamlab.registry.tables import (
    IN_ORDER,
    NAMES,
    ArrivalRow,
    ScoreRow,
    TaskRow,
    columns_of,
    values_of,
    with_names,
)
from streamlab.registry.validation import build, check_new

_SELECTED = columns_of(ScoreRecord, ScoreRow, synthetic=ArrivalRow.source == "synthetic")
_COLUMNS: Columns = {**_SELECTED, **NAMES}
_values = values_of(NewScore)


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
        own: bool = False,
        where: Condition | None = None,
        limit: int | None = None,
    ) -> tuple[ScoreRecord, ...]:
        """Return the first `limit` scores that match, or all, in the order of their arrivals.

        Of one arrival by the place they were measured after, then by split and metric.
        `primary`: those by the first metric alone. `own`: those alone that were taken right after
        the arrival, not again after a later one.
        """
        run_id = None if run is None else self._registry.runs.id_of(run)
        query = scores_of(run_id=run_id, arrival_id=arrival_id, task=task)
        if primary:
            query = query.where(ScoreRow.is_primary)
        if own:
            query = query.where(ScoreRow.after_sequence == ArrivalRow.sequence)
        return self._records("scores", self._listed(query, where, _COLUMNS, limit), read_score)

    @reads
    def of_arrivals(self, ids: Collection[int]) -> tuple[ScoreRecord, ...]:
        """Return the scores of these arrivals, removed or not; of one in the order of `list`."""
        rows = self._among(every_score(), ScoreRow.arrival_id, ids)
        return self._records("scores", rows, read_score)

    @reads
    def places(self, run: str | int) -> set[tuple[int, int]]:
        """Return which arrivals of a run were scored after which places of its stream."""
        query = select(ScoreRow.arrival_id, ScoreRow.after_sequence).distinct()
        own = ArrivalRow.run_id == self._registry.runs.id_of(run)
        rows = self._connection.execute(query.join(ArrivalRow).where(own))
        return {(row.arrival_id, row.after_sequence) for row in rows}

    @writes
    def add(self, new: Mapping[int, Sequence[NewScore]]) -> None:
        """Add scores by the id of their arrival.

        Raises RegistryError for a value that is not finite, or a score that is there already.
        """
        given = [(number, score) for number, scores in new.items() for score in scores]
        _check(given, taken=set())
        rows = [
            {**_values(score), "arrival_id": number, "added_at": self._now}
            for number, score in given
        ]
        try:
            with self._connection.begin_nested():
                self._insert(ScoreRow.__table__, rows)
        except IntegrityError:
            score = ScoreRow
            keys = select(score.arrival_id, score.metric, score.split, score.after_sequence)
            known = self._among(keys, score.arrival_id, new)
            _check(given, taken={tuple(row) for row in known})
            raise


def every_score() -> Select[Any]:
    """Return the query of all scores, those of removed arrivals too, in the order of listing."""
    score = ScoreRow
    query = select(*_SELECTED.values()).select_from(ArrivalRow)
    return (
        with_names(query.join(score, score.arrival_id == ArrivalRow.id))
        .order_by(*IN_ORDER)
        .order_by(score.after_sequence, score.split, score.metric)
    )


def scores_of(
    *, run_id: int | None = None, arrival_id: int | None = None, task: str | None = None
) -> Select[Any]:
    """Return the query of the scores that match, of removed arrivals only by `arrival_id`."""
    query = every_score()
    if arrival_id is not None:
        query = query.where(ArrivalRow.id == arrival_id)
    else:
        query = query.where(ArrivalRow.removed_at.is_(None))
    if run_id is not None:
        query = query.where(ArrivalRow.run_id == run_id)
    if task is not None:
        number = select(TaskRow.id).where(TaskRow.name == task).scalar_subquery()
        query = query.where(ArrivalRow.task_id == number)
    return query


def read_score(row: Row[Any]) -> ScoreRecord:
    """Return the record of a score. Raises RegistryError where the row is damaged."""
    return build(ScoreRecord, row._asdict())


def _check(given: Sequence[tuple[int, NewScore]], *, taken: set[tuple[Any, ...]]) -> None:
    for arrival_id, score in given:
        key = (arrival_id, score.metric, score.split, score.after_sequence)
        if key in taken:
            raise RegistryError(
                f"Arrival {arrival_id} has a score already for `{score.metric}` on "
                f"{score.split!r} after place {score.after_sequence}; a score is never replaced."
            )
        check_new(score)
        taken.add(key)
