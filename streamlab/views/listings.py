"""Listings: one table of records for each thing the registry remembers.

A score taken on rows that a generator of this project made says `synthetic` as its source.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Literal, get_args

from streamlab.errors import UsageError
from streamlab.registry.records import (
    ArrivalRecord,
    DiffRecord,
    RunRecord,
    ScoreRecord,
    Total,
)
from streamlab.registry.registry import Registry
from streamlab.views import columns
from streamlab.views.matching import first_matching, matcher
from streamlab.views.scores import by_arrival, find_own_score
from streamlab.views.table import Cell, Column, Table

Subject = Literal[
    "runs",
    "arrivals",
    "diffs",
    "scores",
    "placements",
    "tasks",
    "providers",
    "bases",
    "tags",
    "events",
]
SUBJECTS: tuple[Subject, ...] = get_args(Subject)
_OF_RUNS = ("runs", "arrivals", "diffs", "scores", "placements")
_LATEST = ("runs", "events")  # of these a limit keeps the last, as one asks for what is new
Rows = tuple[tuple[Cell, ...], ...]


def list_records(
    registry: Registry,
    subject: Subject,
    *,
    run: str | None = None,
    where: str | None = None,
    sort: str | None = None,
    limit: int | None = None,
    removed: bool = False,
) -> Table:
    """List records of one subject, of one run or of all, as raw values in every column.

    As in SQL, `where` (see `where.py`) chooses rows, then `sort` orders them by a column (with a
    `-` before it the largest first), then `limit` keeps the first; of runs and events without
    `sort` the last. `removed`: of arrivals those that were removed, in place of the others.
    Raises UsageError where an option does not fit the subject, and NotInRegistryError where there
    is no such run.
    """
    if removed and subject != "arrivals":
        raise UsageError(f"`--removed` is for arrivals, not {subject}. Leave it out.")
    if run is not None and subject not in _OF_RUNS:
        raise UsageError(
            f"`--run` narrows {', '.join(_OF_RUNS[:-1])} and {_OF_RUNS[-1]}, not {subject}. "
            "Leave it out."
        )
    known, rows = _REMOVED if removed else _LISTINGS[subject]
    if run is not None and subject != "runs":
        # The one run that was asked for needs no column of its own beside every row.
        known = tuple(Column("run", default=False) if c.name == "run" else c for c in known)
    table = Table(subject, subject.capitalize(), known, ())
    # What was asked is read before any row, so that a mistake costs no time.
    matches = None if where is None else matcher(where, known)
    table = _sorted(table, sort)
    limit = None if limit is None else min(limit, sys.maxsize)  # as far as anything counts
    most = limit if sort is None else None
    if matches is None:
        table = table.having(rows(registry, run, most))
    else:
        table = table.having(first_matching(partial(rows, registry, run), matches, most))
    table = _sorted(table, sort)
    if limit is None:
        return table
    last = subject in _LATEST and sort is None
    return table.having(table.rows[-limit:] if last else table.rows[:limit])


def columns_of(subject: Subject) -> tuple[Column, ...]:
    """Return every column of a subject, in order."""
    return _LISTINGS[subject][0]


def _sorted(table: Table, sort: str | None) -> Table:
    if sort is None:
        return table
    return table.sort(sort.removeprefix("-"), descending=sort.startswith("-"))


def _runs(registry: Registry, run: str | None, limit: int | None) -> Rows:
    runs = registry.runs(limit) if run is None else (registry.run(run),)
    totals: dict[str, list[Total]] = defaultdict(list)
    for total in registry.totals("run"):
        totals[total.name].append(total)
    return tuple(_run(record, totals[record.name]) for record in runs)


def _run(run: RunRecord, totals: Sequence[Total]) -> tuple[Cell, ...]:
    n_failed, n_quarantined = (
        sum(total.n_arrivals for total in totals if total.kind == kind)
        for kind in ("failed", "quarantined")
    )
    return (
        run.id,
        run.name,
        run.status,
        sum(total.n_arrivals for total in totals) - n_failed - n_quarantined,
        n_failed,
        n_quarantined,
        run.n_expected,
        sum(total.stored.file_bytes for total in totals),
        run.started_at,
        None if run.finished_at is None else run.finished_at - run.started_at,
        run.finished_at,
        run.heartbeat_at,
        run.scenario_name,
        run.scenario_digest,
        run.base_fingerprint,
        run.host,
        run.pid,
        run.reason,
    )


def _removed_arrivals(registry: Registry, run: str | None, limit: int | None) -> Rows:
    arrivals = registry.arrivals(run=run, limit=limit, removed=True)
    return _as_they_are(arrivals, columns.REMOVED_ARRIVALS)


def _arrivals(registry: Registry, run: str | None, limit: int | None) -> Rows:
    arrivals = registry.arrivals(run=run, limit=limit)
    if limit is None:
        diffs = {diff.digest: diff for diff in registry.diffs(run=run)}
        scores = by_arrival(registry.scores(run=run))
    else:  # a few of possibly very many
        found = registry.diffs_of({a.digest for a in arrivals if a.digest})
        diffs = {diff.digest: diff for diff in found}
        scores = by_arrival(registry.scores_of({a.id for a in arrivals}))
    return tuple(
        _arrival(a, diffs.get(a.digest or ""), find_own_score(scores.get(a.id, ())))
        for a in arrivals
    )


def _arrival(
    arrival: ArrivalRecord, diff: DiffRecord | None, score: ScoreRecord | None
) -> tuple[Cell, ...]:
    return (
        arrival.id,
        arrival.run,
        arrival.seed,
        arrival.sequence,
        arrival.provider,
        arrival.task,
        arrival.version,
        arrival.method,
        arrival.status,
        diff.density if diff else None,
        diff.file_bytes if diff else None,
        score.metric if score else None,
        score.value if score else None,
        arrival.source,
        arrival.source_detail,
        arrival.n_train_examples,
        arrival.n_steps,
        arrival.training_seconds,
        arrival.evaluation_seconds,
        arrival.peak_memory_bytes,
        arrival.attempt,
        arrival.started_at,
        arrival.finished_at,
        arrival.digest,
        arrival.reason,
        arrival.rule,
        arrival.behaviour,
        arrival.declared_score,
        arrival.arrived_us,
        arrival.began_us,
        arrival.ended_us,
    )


def _diffs(registry: Registry, run: str | None, limit: int | None) -> Rows:
    return tuple(
        (
            diff.digest,
            diff.kind,
            diff.value_type,
            diff.n_entries,
            diff.density,
            diff.n_head_entries,
            diff.file_bytes,
            diff.positions_bytes,
            diff.values_bytes,
            diff.head_bytes,
            diff.metadata_bytes,
            diff.full_checkpoint_bytes,
            diff.n_gated,
            diff.base_fingerprint,
            diff.added_at,
        )
        for diff in registry.diffs(run=run, limit=limit)
    )


def _scores(registry: Registry, run: str | None, limit: int | None) -> Rows:
    return tuple(
        (
            score.arrival_id,
            score.run,
            score.seed,
            score.provider,
            score.task,
            score.method,
            score.metric,
            score.split,
            score.value,
            score.n_rows,
            score.after_sequence,
            score.is_primary,
            "synthetic" if score.synthetic else score.source,
        )
        for score in registry.scores(run=run, limit=limit)
    )


def _placements(registry: Registry, run: str | None, limit: int | None) -> Rows:
    runs = [record.id for record in registry.runs()] if run is None else [run]
    lines = (line for ref in runs for line in registry.placements(ref))
    return _as_they_are(islice(lines, limit), columns.PLACEMENTS)


def _tasks(registry: Registry, _run: str | None, _limit: int | None) -> Rows:
    return _as_they_are(registry.tasks(), columns.SUMMARIES)


def _providers(registry: Registry, _run: str | None, _limit: int | None) -> Rows:
    return _as_they_are(registry.providers(), columns.SUMMARIES)


def _bases(registry: Registry, _run: str | None, _limit: int | None) -> Rows:
    return _as_they_are(registry.bases(), columns.BASES)


def _tags(registry: Registry, _run: str | None, _limit: int | None) -> Rows:
    return _as_they_are(registry.tags(), columns.TAGS)


def _events(registry: Registry, _run: str | None, limit: int | None) -> Rows:
    return _as_they_are(registry.events(limit), columns.EVENTS)


def _as_they_are(records: Iterable[object], known: Sequence[Column]) -> Rows:
    """Return records whose columns are called as their own parts."""
    return tuple(tuple(getattr(record, column.name) for column in known) for record in records)


_Lister = Callable[[Registry, str | None, int | None], Rows]
_LISTINGS: Mapping[Subject, tuple[tuple[Column, ...], _Lister]] = {
    "runs": (columns.RUNS, _runs),
    "arrivals": (columns.ARRIVALS, _arrivals),
    "diffs": (columns.DIFFS, _diffs),
    "scores": (columns.SCORES, _scores),
    "placements": (columns.PLACEMENTS, _placements),
    "tasks": (columns.SUMMARIES, _tasks),
    "providers": (columns.SUMMARIES, _providers),
    "bases": (columns.BASES, _bases),
    "tags": (columns.TAGS, _tags),
    "events": (columns.EVENTS, _events),
}
_REMOVED = (columns.REMOVED_ARRIVALS, _removed_arrivals)
