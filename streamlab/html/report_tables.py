"""The tables of the report page: tasks, settings, arrivals, failures and findings."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from streamlab.figures.accuracy import BASELINE
from streamlab.home.verify import Finding
from streamlab.registry.records import ArrivalRecord, DiffRecord, RunRecord, ScoreRecord
from streamlab.registry.registry import Registry
from streamlab.views.listings import list_records
from streamlab.views.pages import leaves
from streamlab.views.table import Cell, Column, Table, columns
from streamlab.views.task_scores import own_scores, paired, task_score

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

    A score is the mean over the run's seeds, a spread the sample standard deviation, `majority`
    what the majority class of the training examples scores.
    """
    own, first = run.settings.primary_method, run.settings.seeds[0]
    finished = [a for a in arrivals if a.status == "finished"]
    own_score = own_scores(scores)
    by_key: dict[_Key, list[ScoreRecord]] = defaultdict(list)
    for arrival in finished:
        if arrival.id in own_score:
            by_key[arrival.method, arrival.task, arrival.version].append(own_score[arrival.id])
    found = {key: task_score(records) for key, records in by_key.items()}
    baselines = [m for m in dict.fromkeys(a.method for a in finished) if m != own]
    several = len({a.seed for a in finished}) > 1
    known = (
        *columns("task, provider, source, metric"),
        *columns("mean score: score, spread: score" if several else "score: score"),
        *columns("majority: score, learned: flag"),
        *(Column(f"by {baseline}", "score") for baseline in baselines),
        *([Column(f"difference from {BASELINE}", "change")] if BASELINE in baselines else []),
        *columns(
            "density: share, file: bytes, full checkpoint: bytes, training examples: count, "
            "steps: count, training: seconds"
        ),
    )
    rows = []
    for arrival in (a for a in finished if (a.method, a.seed) == (own, first)):
        diff = diffs.get(arrival.digest or "")
        mine = found.get((own, arrival.task, arrival.version))
        theirs = {m: found.get((m, arrival.task, arrival.version)) for m in baselines}
        row: list[Cell] = [arrival.task, arrival.provider, arrival.source]
        row += [mine.metric, mine.mean] if mine else [None, None]
        row += [mine.spread if mine else None] if several else []
        row += [mine.majority, mine.learned] if mine else [None, None]
        row += [score.mean if score else None for score in theirs.values()]
        if BASELINE in theirs:
            full = theirs[BASELINE]
            row.append(paired(mine, full).mean if mine and full else None)
        row += [diff.density, diff.file_bytes, diff.full_checkpoint_bytes] if diff else [None] * 3
        row += [arrival.n_train_examples, arrival.n_steps, arrival.training_seconds]
        rows.append(tuple(row))
    seeds = f": scores over all seeds, other columns of seed {first}" if several else ""
    return Table("tasks", f"Scores and bytes by task{seeds}", known, tuple(rows))


def settings_table(run: RunRecord) -> Table:
    """Return the settings in which tasks differ; the others are in the scenario."""
    tasks = {task: leaves(settings) for task, settings in run.settings.tasks.items()}
    names = dict.fromkeys(name for settings in tasks.values() for name in settings)
    kept = [
        name
        for name in names
        if (name in _ALWAYS and any(own.get(name) is not None for own in tasks.values()))
        or len({own.get(name) for own in tasks.values()}) > 1
    ]
    known = (Column("task"), *(Column(name, "setting") for name in kept))
    rows = tuple((task, *(own.get(name) for name in kept)) for task, own in tasks.items())
    return Table("task_settings", "Settings in which tasks differ", known, rows)


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
    known = columns("finding, count: count, in this run: count, what to do")
    rows = tuple((kind, number, own[kind], advice[kind]) for kind, number in counts.items())
    return Table("findings", "Findings by kind", known, rows)
