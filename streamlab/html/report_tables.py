"""The tables of the report page: tasks, settings, arrivals, failures and findings."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from streamlab.figures.accuracy import BASELINE
from streamlab.home.verify import Finding
from streamlab.registry.records import ArrivalRecord, DiffRecord, RunRecord, ScoreRecord
from streamlab.registry.registry import Registry
from streamlab.views.listings import list_records
from streamlab.views.pages import flat
from streamlab.views.table import Cell, Column, Table
from streamlab.views.task_scores import own_scores

_Key = tuple[str, str, int]  # method, task, version
_ALWAYS = ("dataset", "metric")  # shown even where all tasks have the same
_ARRIVALS = (
    "id", "task", "provider", "seed", "method", "status", "score", "file_bytes", "n_steps",
    "training_seconds", "peak_memory_bytes", "started_at", "digest",
)  # fmt: skip
_FAILED = ("id", "task", "provider", "seed", "method", "status", "attempt", "reason")


def task_table(
    run: RunRecord,
    arrivals: Sequence[ArrivalRecord],
    diffs: Mapping[str, DiffRecord],
    scores: Iterable[ScoreRecord],
) -> Table:
    """Return the first seed's finished tasks by the own method, with scores by every method.

    A score is the mean over the run's seeds, a spread the sample standard deviation.
    """
    own, first = run.settings.primary_method, run.settings.seeds[0]
    finished = [a for a in arrivals if a.status == "finished"]
    found = _by_key(finished, own_scores(scores))
    baselines = [m for m in dict.fromkeys(a.method for a in finished) if m != own]
    several = len({a.seed for a in finished}) > 1
    columns = (
        *(Column("task"), Column("provider"), Column("source"), Column("metric")),
        Column("mean score" if several else "score", "score"),
        *([Column("spread", "score")] if several else []),
        *(Column(f"by {baseline}", "score") for baseline in baselines),
        *([Column(f"difference from {BASELINE}", "change")] if BASELINE in baselines else []),
        *(Column("density", "share"), Column("file", "bytes"), Column("full checkpoint", "bytes")),
        *(
            Column("training examples", "count"),
            Column("steps", "count"),
            Column("training", "seconds"),
        ),
    )
    rows = []
    for arrival in (a for a in finished if (a.method, a.seed) == (own, first)):
        diff = diffs.get(arrival.digest or "")
        mine = found.get((own, arrival.task, arrival.version), [])
        theirs = [
            found.get((baseline, arrival.task, arrival.version), []) for baseline in baselines
        ]
        metric = mine[0].metric if mine else None
        row: list[Cell] = [arrival.task, arrival.provider, arrival.source, metric, _mean(mine)]
        row += [_spread(mine)] if several else []
        row += [_mean(scores) for scores in theirs]
        row += (
            [_difference(mine, theirs[baselines.index(BASELINE)])] if BASELINE in baselines else []
        )
        row += [diff.density, diff.file_bytes, diff.full_checkpoint_bytes] if diff else [None] * 3
        row += [arrival.n_train_examples, arrival.n_steps, arrival.training_seconds]
        rows.append(tuple(row))
    seeds = f": scores over all seeds, other columns of seed {first}" if several else ""
    return Table("tasks", f"Scores and bytes by task{seeds}", columns, tuple(rows))


def settings_table(run: RunRecord) -> Table:
    """Return the settings in which tasks differ; the others are in the scenario."""
    tasks: Mapping[str, Mapping[str, Cell]] = {
        task: {fact.name: fact.value for fact in flat(settings)}
        for task, settings in run.settings.tasks.items()
    }
    names = dict.fromkeys(name for settings in tasks.values() for name in settings)
    kept = [
        name
        for name in names
        if (name in _ALWAYS and any(own.get(name) is not None for own in tasks.values()))
        or len({own.get(name) for own in tasks.values()}) > 1
    ]
    columns = (Column("task"), *(Column(name, "setting") for name in kept))
    rows = tuple((task, *(own.get(name) for name in kept)) for task, own in tasks.items())
    return Table("task_settings", "Settings in which tasks differ", columns, rows)


def arrival_tables(registry: Registry, run: RunRecord) -> tuple[Table, Table]:
    """Return every arrival of a run, and those that did not finish, with reasons."""
    listed = list_records(registry, "arrivals", run=run.name)
    every = listed.select(_ARRIVALS)
    place = [column.name for column in listed.columns].index("status")
    rows = tuple(row for row in listed.rows if row[place] != "finished")
    failed = listed.having(rows).select(_FAILED)
    return (
        Table("arrivals", "All arrivals, with baselines and all seeds", every.columns, every.rows),
        Table("failed", "Failed and quarantined arrivals", failed.columns, failed.rows),
    )


def findings_table(findings: Sequence[Finding], digests: frozenset[str]) -> Table:
    """Count findings of verification by kind; `digests` are those of the run's artifacts."""
    counts = Counter(finding.problem for finding in findings)
    own = Counter(finding.problem for finding in findings if finding.digest in digests)
    advice = {finding.problem: finding.advice for finding in findings}
    columns = (
        *(Column("finding"), Column("count", "count"), Column("in this run", "count")),
        Column("what to do"),
    )
    rows = tuple((kind, number, own[kind], advice[kind]) for kind, number in counts.items())
    return Table("findings", "Findings by kind", columns, rows)


def _by_key(
    arrivals: Iterable[ArrivalRecord], scores: Mapping[int, ScoreRecord]
) -> dict[_Key, list[ScoreRecord]]:
    found: dict[_Key, list[ScoreRecord]] = defaultdict(list)
    for arrival in arrivals:
        if arrival.id in scores:
            found[arrival.method, arrival.task, arrival.version].append(scores[arrival.id])
    return found


def _mean(scores: Sequence[ScoreRecord]) -> float | None:
    return statistics.fmean(score.value for score in scores) if scores else None


def _spread(scores: Sequence[ScoreRecord]) -> float | None:
    return statistics.stdev(score.value for score in scores) if len(scores) > 1 else None


def _difference(mine: Sequence[ScoreRecord], theirs: Sequence[ScoreRecord]) -> float | None:
    """Return the mean difference over the seeds that both have."""
    other = {score.seed: score.value for score in theirs}
    pairs = [score.value - other[score.seed] for score in mine if score.seed in other]
    return statistics.fmean(pairs) if pairs else None
