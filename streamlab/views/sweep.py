"""The runs of a sweep beside one another: what they were set to, what they scored, and bytes."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streamlab.errors import UsageError
from streamlab.registry.conditions import Condition
from streamlab.registry.records import RunRecord
from streamlab.registry.references import find_runs
from streamlab.registry.registry import Registry
from streamlab.views.pages import leaves
from streamlab.views.table import Cell, Column, Page, Table
from streamlab.views.task_scores import TaskScore, task_scores


@dataclass(frozen=True)
class SweepComparison:
    """Runs beside one another."""

    runs: tuple[str, ...]
    overall: Table  # a row for each run and method
    by_task: Table  # a row for each task, run and method

    @property
    def page(self) -> Page:
        """Return the comparison as a page."""
        name = f"{len(self.runs)} runs"
        return Page("sweep of", name, {"runs": list(self.runs)}, (self.overall, self.by_task))


def compare_sweep(
    registry: Registry, references: Sequence[str], *, where: Condition | None = None
) -> SweepComparison:
    """Lay runs beside one another by the settings in which they differ.

    `references`: runs; a single one, or none for the latest run, means all runs of its scenario.
    `where`: only the runs that it is true of, without references of every scenario. Of runs with
    equal settings the last one that finished counts. Raises UsageError where fewer than two are
    left.
    """
    if references or where is None:
        runs = find_runs(registry, references or ["latest"])
        if len(runs) == 1:
            scenario = runs[0].scenario_name
            runs = tuple(run for run in registry.runs.list() if run.scenario_name == scenario)
        references = [f"run:{run.name}" for run in runs]
    runs = find_runs(registry, references, where=where)
    latest = {run.scenario_digest: run for run in runs}
    latest |= {run.scenario_digest: run for run in runs if run.status == "finished"}
    runs = tuple(sorted(latest.values(), key=lambda run: run.id))
    if len(runs) < 2:
        raise UsageError(
            f"`{runs[0].scenario_name}` was run with one choice of settings only. Run it with "
            "others, as by `streamlab run SCENARIO --sweep KEY=VALUE,VALUE`."
        )
    return _laid_out(registry, runs)


def _laid_out(registry: Registry, runs: Sequence[RunRecord]) -> SweepComparison:
    settings = [leaves(run.scenario) for run in runs]
    paths = differing(settings)
    names = short_names(paths)
    known = [Column("run"), *(Column(names[path], "setting") for path in paths)]
    overall: list[tuple[Cell, ...]] = []
    by_task: list[tuple[Cell, ...]] = []
    for run, own in zip(runs, settings, strict=True):
        which: tuple[Cell, ...] = (run.name, *(own.get(path) for path in paths))
        by_method: dict[str, list[TaskScore]] = {}
        for score in task_scores(registry.scores.list(run=run.id)):
            by_method.setdefault(score.method, []).append(score)
        stored = {found.method: found for found in registry.totals.by_method(run.id)}
        for method, scores in (by_method or {run.settings.primary_method: []}).items():
            size = stored[method].mean_bytes if method in stored else None
            mean = statistics.fmean(score.mean for score in scores) if scores else None
            learned = sum(score.learned is True for score in scores)
            overall.append((*which, run.status, method, len(scores), learned, mean, size))
            by_task += [
                (score.task, score.metric, *which, method, score.mean, score.spread, score.majority)
                for score in scores
            ]
    first = list(dict.fromkeys(row[0] for row in by_task))
    by_task.sort(key=lambda row: first.index(row[0]))
    several = len({row[len(known) + 1] for row in overall}) > 1
    method_column = Column("method", default=several)
    of_runs = (
        *known, Column("status", "status", default=any(run.status != "finished" for run in runs)),
        method_column, Column("tasks", "count"), Column("learned", "count"),
        Column("mean score", "score"), Column("mean bytes", "bytes"),
    )  # fmt: skip
    of_tasks = (
        Column("task"), Column("metric"), *known, method_column,
        Column("score", "score"), Column("spread", "score", default=_any(by_task, -2)),
        Column("majority", "score"),
    )  # fmt: skip
    return SweepComparison(
        tuple(run.name for run in runs),
        Table("runs", "Runs, and the mean of their scores over tasks", of_runs, tuple(overall)),
        Table("tasks", "Scores by task, the mean over seeds", of_tasks, tuple(by_task)),
    )


def _any(rows: Sequence[tuple[Cell, ...]], place: int) -> bool:
    return any(row[place] is not None for row in rows)


def differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the paths of settings in which runs differ, without those that follow from others.

    Every task has the training settings of the defaults, and another method has settings and a
    label of its own.
    """
    paths = dict.fromkeys(path for own in settings for path in own)
    differ = [path for path in paths if len({own.get(path) for own in settings}) > 1]
    named = {path.rpartition(".")[0] for path in differ if path.endswith((".name", ".process"))}
    kept = []
    for path in differ:
        above, _, last = path.rpartition(".")
        inherited = f"defaults.training.{path.partition('.training.')[2]}"
        if path.startswith("tasks.") and inherited in differ:
            continue
        if any(above == place or above.startswith(f"{place}.") for place in named):
            everywhere = all(path in own for own in settings)
            if last == "label" or not everywhere:
                continue
        kept.append(path)
    return kept


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """Return for each path as many of its last names as tell it from the others."""
    found = {}
    for path in paths:
        parts = path.split(".")
        for n in range(1, len(parts) + 1):
            name = ".".join(parts[-n:])
            ends = Counter(".".join(other.split(".")[-n:]) for other in paths)
            if ends[name] == 1 and (n > 1 or name not in ("name", "process", "label")):
                break
        found[path] = name
    return found
