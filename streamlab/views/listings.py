"""Listings of `ls`: one table of records for each subject, and its columns.

The default columns fit into 80 characters if names are short. Scores on synthetic data have the
source `synthetic`.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, Literal, get_args

from streamlab.errors import UsageError
from streamlab.registry.conditions import Condition
from streamlab.registry.records import ArrivalRecord, DiffRecord, ScoreRecord, TagKind
from streamlab.registry.registry import Registry
from streamlab.views.table import Column, Table, columns, tabulate
from streamlab.views.task_scores import own_scores
from streamlab.views.where import parse_condition

RUNS = columns(
    # `done`: arrivals, baselines included; `failed`: attempts; `stored_bytes`: each file once.
    "[id: number], run = name, status: status, done: count, failed: count, [quarantined: count], "
    "expected = n_expected: count, stored_bytes: bytes, started_at: time, [seconds: seconds], "
    "[finished_at: time], [heartbeat_at: time], [scenario = scenario_name], "
    "[scenario_digest: digest], [base = base_fingerprint: digest], [host], [pid: number], "
    "[reason], [tags]"
)
ARRIVALS = columns(
    "id: number, run, seed: number, [sequence: number], [provider], task, [version: number], "
    "method, status: status, [density: share], file_bytes: bytes, [metric], score: score, "
    "[majority: score], source, [source_detail], [n_train_examples: count], [n_steps: count], "
    "[training_seconds: seconds], [evaluation_seconds: seconds], [peak_memory_bytes: bytes], "
    "[attempt: number], [started_at: time], [finished_at: time], [digest: digest], [reason], "
    "[rule], [behaviour], [declared_score: score], [arrived_us: virtual], [began_us: virtual], "
    "[ended_us: virtual], [tags]"
)
REMOVED_ARRIVALS = columns(
    "id: number, run, seed: number, [provider], task, [version: number], method, status: status, "
    "removed_at: time, [digest: digest]"
)
DIFFS = columns(
    "digest: digest, kind, value_type, n_entries: count, density: share, [n_head_entries: count], "
    "file_bytes: bytes, [positions_bytes: bytes], [values_bytes: bytes], [head_bytes: bytes], "
    "[metadata_bytes: bytes], [full_checkpoint_bytes: bytes], [n_gated: count], "
    "[base = base_fingerprint: digest], [added_at: time], [tags]"
)
SCORES = columns(
    "[arrival_id: number], run, seed: number, [provider], task, method, metric, split, "
    "value: score, [majority: score], [n_examples: count], [after_sequence: number], "
    "[is_primary: flag], source"
)
SUMMARIES = columns(
    "name, n_arrivals: count, n_failures: count, [n_quarantined: count], diff_bytes: bytes, "
    "checkpoint_bytes: bytes, [adapter_bytes: bytes], stored_bytes: bytes"
)
PLACEMENTS = columns(
    "[id: number], run, seed: number, at_us: virtual, task, version: number, action, "
    "device_bytes: bytes, [note], [arrival_id: number], [provider], [method]"
)
TAGS = columns("name, kind, run, arrival_id: number, digest: digest, added_at: time")
EVENTS = columns("[id: number], at: time, kind, subject, message, [digest: digest], [version]")
BASES = columns(
    "fingerprint: digest, model, [revision], layers: count, [n_tensors: count], "
    "n_parameters: count, [weights_bytes: bytes], file_bytes: bytes, [added_at: time]"
)

Subject = Literal[
    "runs", "arrivals", "diffs", "scores", "placements", "tasks", "providers", "bases", "tags",
    "events",
]  # fmt: skip
SUBJECTS: tuple[Subject, ...] = get_args(Subject)
_OF_RUNS = ("runs", "arrivals", "diffs", "scores", "placements")
_LATEST = ("runs", "events")  # of these a limit keeps the last, as one asks for what is new


@dataclass(frozen=True)
class _Asked:
    """What a listing is narrowed to."""

    run: str | None
    where: Condition | None
    limit: int | None
    rescored: bool = False

    @property
    def choice(self) -> dict[str, Any]:
        """Return what every listing of runs' records is narrowed by, as arguments."""
        return {"run": self.run, "where": self.where, "limit": self.limit}


def list_records(
    registry: Registry,
    subject: Subject,
    *,
    run: str | None = None,
    where: str | None = None,
    sort: str | None = None,
    limit: int | None = None,
    removed: bool = False,
    rescored: bool = False,
) -> Table:
    """List records of one subject, of one run or of all, as raw values in every column.

    As in SQL, `where` (see `where.py`) chooses rows, then `sort` orders them by a column (with a
    `-` before it the largest first), then `limit` keeps the first; of runs and events without
    `sort` the last. `removed`: of arrivals those that were removed, in place of the others.
    `rescored`: of scores also those that were taken again after later arrivals.
    Raises UsageError where an option does not fit the subject, and NotInRegistryError where there
    is no such run.
    """
    if removed and subject != "arrivals":
        raise UsageError(f"`--removed` is for arrivals, not {subject}. Leave it out.")
    if rescored and subject != "scores":
        raise UsageError(f"`--rescored` is for scores, not {subject}. Leave it out.")
    if run is not None and subject not in _OF_RUNS:
        raise UsageError(
            f"`--run` narrows {', '.join(_OF_RUNS[:-1])} and {_OF_RUNS[-1]}, not {subject}. "
            "Leave it out."
        )
    known, read = _listing(subject, removed=removed)
    if run is not None and subject != "runs":
        # The one run that was asked for needs no column of its own beside every row.
        known = tuple(replace(c, default=False) if c.name == "run" else c for c in known)
    table = Table(subject, subject.capitalize(), known, ())
    # What was asked is parsed before any row is read, so that a mistake costs no time.
    condition = parse_where(subject, where, removed=removed)
    table = _sorted(table, sort)
    limit = None if limit is None else min(limit, sys.maxsize)  # as far as anything counts
    asked = _Asked(run, condition, limit if sort is None else None, rescored)
    rows = tabulate(subject, table.title, known, read(registry, asked)).rows
    table = _sorted(table.having(rows), sort)
    if limit is None:
        return table
    last = subject in _LATEST and sort is None
    return table.having(table.rows[-limit:] if last else table.rows[:limit])


def parse_where(subject: Subject, where: str | None, *, removed: bool = False) -> Condition | None:
    """Parse a condition on the rows of a listing. Raises UsageError; see `parse_condition`."""
    return None if where is None else parse_condition(where, _listing(subject, removed=removed)[0])


def columns_of(subject: Subject) -> tuple[Column, ...]:
    """Return all columns of a subject."""
    return _LISTINGS[subject][0]


def _sorted(table: Table, sort: str | None) -> Table:
    if sort is None:
        return table
    return table.sort(sort.removeprefix("-"), descending=sort.startswith("-"))


def _runs(registry: Registry, asked: _Asked) -> Iterator[SimpleNamespace]:
    arrivals: dict[str, Counter[str]] = defaultdict(Counter)  # by outcome
    stored_bytes = Counter[str]()
    for total in registry.totals.list("run"):
        outcome = total.kind if total.kind in ("failed", "quarantined") else "done"
        arrivals[total.name][outcome] += total.n_arrivals
        stored_bytes[total.name] += total.stored.file_bytes
    tags = _tags(registry, "run")
    for run in registry.runs.list(asked.limit, run=asked.run, where=asked.where):
        yield SimpleNamespace(
            **vars(run),
            **{kind: arrivals[run.name][kind] for kind in ("done", "failed", "quarantined")},
            stored_bytes=stored_bytes[run.name],
            seconds=None if run.finished_at is None else run.finished_at - run.started_at,
            tags=tags.get(run.name),
        )


def _arrivals(registry: Registry, asked: _Asked) -> Iterator[SimpleNamespace]:
    arrivals = registry.arrivals.list(**asked.choice)
    if asked.limit is None and asked.where is None:
        diffs = registry.artifacts.list(run=asked.run)
        scores = registry.scores.list(run=asked.run)
    else:  # a few of possibly very many
        diffs = registry.artifacts.with_digests({a.digest for a in arrivals if a.digest})
        scores = registry.scores.of_arrivals({a.id for a in arrivals})
    tags = _tags(registry, "arrival")
    for row in joined(arrivals, diffs, scores):
        yield SimpleNamespace(**vars(row), tags=tags.get(str(row.id)))


def _diffs(registry: Registry, asked: _Asked) -> Iterator[SimpleNamespace]:
    tags = _tags(registry, "diff")
    for diff in registry.artifacts.list(**asked.choice):
        yield SimpleNamespace(**vars(diff), density=diff.density, tags=tags.get(diff.digest))


def _tags(registry: Registry, kind: TagKind) -> dict[str, str]:
    """Return the names of the tags on each thing of a kind, joined by ", "."""
    names: dict[str, list[str]] = defaultdict(list)
    for tag in registry.tags.list():
        if tag.kind == kind:
            names[tag.target].append(tag.name)
    return {target: ", ".join(of_one) for target, of_one in names.items()}


def joined(
    arrivals: Iterable[ArrivalRecord], diffs: Iterable[DiffRecord], scores: Iterable[ScoreRecord]
) -> Iterator[SimpleNamespace]:
    """Yield every arrival with the values of its artifact and of its own score."""
    by_digest = {diff.digest: diff for diff in diffs}
    own = own_scores(scores)
    for arrival in arrivals:
        diff, score = by_digest.get(arrival.digest or ""), own.get(arrival.id)
        yield SimpleNamespace(
            **vars(arrival),
            density=diff.density if diff else None,
            file_bytes=diff.file_bytes if diff else None,
            metric=score.metric if score else None,
            score=score.value if score else None,
            majority=score.majority if score else None,
        )


_Lister = Callable[[Registry, _Asked], Iterable[object]]
_LISTINGS: Mapping[Subject, tuple[tuple[Column, ...], _Lister]] = {
    "runs": (RUNS, _runs),
    "arrivals": (ARRIVALS, _arrivals),
    "diffs": (DIFFS, _diffs),
    "scores": (
        SCORES,
        lambda registry, asked: registry.scores.list(own=not asked.rescored, **asked.choice),
    ),
    "placements": (PLACEMENTS, lambda registry, asked: registry.placements.list(**asked.choice)),
    "tasks": (SUMMARIES, lambda registry, asked: registry.totals.tasks(where=asked.where)),
    "providers": (SUMMARIES, lambda registry, asked: registry.totals.providers(where=asked.where)),
    "bases": (BASES, lambda registry, asked: registry.bases.list(where=asked.where)),
    "tags": (TAGS, lambda registry, asked: registry.tags.list(where=asked.where)),
    "events": (
        EVENTS, lambda registry, asked: registry.events.list(asked.limit, where=asked.where),
    ),
}  # fmt: skip
_REMOVED: tuple[tuple[Column, ...], _Lister] = (
    REMOVED_ARRIVALS, lambda registry, asked: registry.arrivals.list(**asked.choice, removed=True),
)  # fmt: skip


def _listing(subject: Subject, *, removed: bool = False) -> tuple[tuple[Column, ...], _Lister]:
    """Return the columns of a listing and what reads its rows."""
    return _REMOVED if removed else _LISTINGS[subject]
