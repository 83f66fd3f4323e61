"""Listings of `ls`: one table of records for each subject, and its columns.

The default columns fit into 80 characters if names are short. Scores on synthetic data have the
source `synthetic`.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, get_args

from streamlab.errors import UsageError
from streamlab.registry.conditions import Condition
from streamlab.registry.records import (
    ArrivalRecord,
    DiffRecord,
    RunRecord,
    ScoreRecord,
    Total,
)
from streamlab.registry.registry import Registry
from streamlab.views.table import Cell, Column, Table
from streamlab.views.task_scores import by_arrival, find_own_score
from streamlab.views.where import parse_condition

RUNS = (
    Column("id", "number", default=False),
    Column("run"),
    Column("status", "status"),
    Column("done", "count"),  # arrivals, baselines included
    Column("failed", "count"),  # attempts
    Column("quarantined", "count", default=False),
    Column("expected", "count"),
    Column("stored_bytes", "bytes"),  # each file once
    Column("started_at", "time"),
    Column("seconds", "seconds", default=False),
    Column("finished_at", "time", default=False),
    Column("heartbeat_at", "time", default=False),
    Column("scenario", default=False),
    Column("scenario_digest", "digest", default=False),
    Column("base", "digest", default=False),
    Column("host", default=False),
    Column("pid", "number", default=False),
    Column("reason", default=False),
)
ARRIVALS = (
    Column("id", "number"),
    Column("run"),
    Column("seed", "number"),
    Column("sequence", "number", default=False),
    Column("provider", default=False),
    Column("task"),
    Column("version", "number", default=False),
    Column("method"),
    Column("status", "status"),
    Column("density", "share", default=False),
    Column("file_bytes", "bytes"),
    Column("metric", default=False),
    Column("score", "score"),
    Column("source"),
    Column("source_detail", default=False),
    Column("n_train_examples", "count", default=False),
    Column("n_steps", "count", default=False),
    Column("training_seconds", "seconds", default=False),
    Column("evaluation_seconds", "seconds", default=False),
    Column("peak_memory_bytes", "bytes", default=False),
    Column("attempt", "number", default=False),
    Column("started_at", "time", default=False),
    Column("finished_at", "time", default=False),
    Column("digest", "digest", default=False),
    Column("reason", default=False),
    Column("rule", default=False),
    Column("behaviour", default=False),
    Column("declared_score", "score", default=False),
    Column("arrived_us", "virtual", default=False),
    Column("began_us", "virtual", default=False),
    Column("ended_us", "virtual", default=False),
)
REMOVED_ARRIVALS = (
    Column("id", "number"),
    Column("run"),
    Column("seed", "number"),
    Column("provider", default=False),
    Column("task"),
    Column("version", "number", default=False),
    Column("method"),
    Column("status", "status"),
    Column("removed_at", "time"),
    Column("digest", "digest", default=False),
)
DIFFS = (
    Column("digest", "digest"),
    Column("kind"),
    Column("value_type"),
    Column("n_entries", "count"),
    Column("density", "share"),
    Column("n_head_entries", "count", default=False),
    Column("file_bytes", "bytes"),
    Column("positions_bytes", "bytes", default=False),
    Column("values_bytes", "bytes", default=False),
    Column("head_bytes", "bytes", default=False),
    Column("metadata_bytes", "bytes", default=False),
    Column("full_checkpoint_bytes", "bytes", default=False),
    Column("n_gated", "count", default=False),
    Column("base", "digest", default=False),
    Column("added_at", "time", default=False),
)
SCORES = (
    Column("arrival_id", "number", default=False),
    Column("run"),
    Column("seed", "number"),
    Column("provider", default=False),
    Column("task"),
    Column("method"),
    Column("metric"),
    Column("split"),
    Column("value", "score"),
    Column("n_examples", "count", default=False),
    Column("after_sequence", "number", default=False),
    Column("is_primary", "flag", default=False),
    Column("source"),
)
SUMMARIES = (
    Column("name"),
    Column("n_arrivals", "count"),
    Column("n_failures", "count"),
    Column("n_quarantined", "count", default=False),
    Column("diff_bytes", "bytes"),
    Column("checkpoint_bytes", "bytes"),
    Column("adapter_bytes", "bytes", default=False),
    Column("stored_bytes", "bytes"),
)
PLACEMENTS = (
    Column("id", "number", default=False),
    Column("run"),
    Column("seed", "number"),
    Column("at_us", "virtual"),
    Column("task"),
    Column("version", "number"),
    Column("action"),
    Column("device_bytes", "bytes"),
    Column("note", default=False),
    Column("arrival_id", "number", default=False),
    Column("provider", default=False),
    Column("method", default=False),
)
TAGS = (
    Column("name"),
    Column("kind"),
    Column("run"),
    Column("arrival_id", "number"),
    Column("digest", "digest"),
    Column("added_at", "time"),
)
EVENTS = (
    Column("id", "number", default=False),
    Column("at", "time"),
    Column("kind"),
    Column("subject"),
    Column("message"),
    Column("digest", "digest", default=False),
    Column("version", default=False),
)
BASES = (
    Column("fingerprint", "digest"),
    Column("model"),
    Column("revision", default=False),
    Column("layers", "count"),
    Column("n_tensors", "count", default=False),
    Column("n_parameters", "count"),
    Column("weights_bytes", "bytes", default=False),
    Column("file_bytes", "bytes"),
    Column("added_at", "time", default=False),
)

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
    # What was asked is parsed before any row is read, so that a mistake costs no time.
    condition = None if where is None else parse_condition(where, known)
    table = _sorted(table, sort)
    limit = None if limit is None else min(limit, sys.maxsize)  # as far as anything counts
    most = limit if sort is None else None
    table = _sorted(table.having(rows(registry, run, condition, most)), sort)
    if limit is None:
        return table
    last = subject in _LATEST and sort is None
    return table.having(table.rows[-limit:] if last else table.rows[:limit])


def columns_of(subject: Subject) -> tuple[Column, ...]:
    """Return all columns of a subject."""
    return _LISTINGS[subject][0]


def _sorted(table: Table, sort: str | None) -> Table:
    if sort is None:
        return table
    return table.sort(sort.removeprefix("-"), descending=sort.startswith("-"))


def _runs(registry: Registry, run: str | None, where: Condition | None, limit: int | None) -> Rows:
    runs = registry.runs.list(limit, run=run, where=where)
    totals: dict[str, list[Total]] = defaultdict(list)
    for total in registry.totals.list("run"):
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


def _removed_arrivals(
    registry: Registry, run: str | None, where: Condition | None, limit: int | None
) -> Rows:
    arrivals = registry.arrivals.list(run=run, where=where, limit=limit, removed=True)
    return _attributes(arrivals, REMOVED_ARRIVALS)


def _arrivals(
    registry: Registry, run: str | None, where: Condition | None, limit: int | None
) -> Rows:
    arrivals = registry.arrivals.list(run=run, where=where, limit=limit)
    if limit is None and where is None:
        diffs = {diff.digest: diff for diff in registry.artifacts.list(run=run)}
        scores = by_arrival(registry.scores.list(run=run))
    else:  # a few of possibly very many
        found = registry.artifacts.with_digests({a.digest for a in arrivals if a.digest})
        diffs = {diff.digest: diff for diff in found}
        scores = by_arrival(registry.scores.of_arrivals({a.id for a in arrivals}))
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


def _diffs(registry: Registry, run: str | None, where: Condition | None, limit: int | None) -> Rows:
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
        for diff in registry.artifacts.list(run=run, where=where, limit=limit)
    )


def _scores(
    registry: Registry, run: str | None, where: Condition | None, limit: int | None
) -> Rows:
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
            score.n_examples,
            score.after_sequence,
            score.is_primary,
            score.source,
        )
        for score in registry.scores.list(run=run, where=where, limit=limit)
    )


def _placements(
    registry: Registry, run: str | None, where: Condition | None, limit: int | None
) -> Rows:
    return _attributes(registry.placements.list(run, where=where, limit=limit), PLACEMENTS)


def _tasks(
    registry: Registry, _run: str | None, where: Condition | None, _limit: int | None
) -> Rows:
    return _attributes(registry.totals.tasks(where=where), SUMMARIES)


def _providers(
    registry: Registry, _run: str | None, where: Condition | None, _limit: int | None
) -> Rows:
    return _attributes(registry.totals.providers(where=where), SUMMARIES)


def _bases(
    registry: Registry, _run: str | None, where: Condition | None, _limit: int | None
) -> Rows:
    return _attributes(registry.bases.list(where=where), BASES)


def _tags(
    registry: Registry, _run: str | None, where: Condition | None, _limit: int | None
) -> Rows:
    return _attributes(registry.tags.list(where=where), TAGS)


def _events(
    registry: Registry, _run: str | None, where: Condition | None, limit: int | None
) -> Rows:
    return _attributes(registry.events.list(limit, where=where), EVENTS)


def _attributes(records: Iterable[object], known: Sequence[Column]) -> Rows:
    """Return records whose attributes have the names of the columns."""
    return tuple(tuple(getattr(record, column.name) for column in known) for record in records)


_Lister = Callable[[Registry, str | None, Condition | None, int | None], Rows]
_LISTINGS: Mapping[Subject, tuple[tuple[Column, ...], _Lister]] = {
    "runs": (RUNS, _runs),
    "arrivals": (ARRIVALS, _arrivals),
    "diffs": (DIFFS, _diffs),
    "scores": (SCORES, _scores),
    "placements": (PLACEMENTS, _placements),
    "tasks": (SUMMARIES, _tasks),
    "providers": (SUMMARIES, _providers),
    "bases": (BASES, _bases),
    "tags": (TAGS, _tags),
    "events": (EVENTS, _events),
}
_REMOVED = (REMOVED_ARRIVALS, _removed_arrivals)
