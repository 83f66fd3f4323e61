"""What a registry holds of a study: the result of each cell, and the setting chosen by them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from streamlab.registry.records import ArrivalRecord, RunRecord
from streamlab.registry.registry import Registry
from streamlab.study.study import Cell, LoadedStudy, Row, Setting, Value

State = Literal["done", "failed", "elsewhere", "open"]


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """What was recorded of one cell."""

    state: State  # `failed`: its training broke down; `elsewhere`: a living process works on it
    run: str | None = None
    validation: float = -math.inf  # on examples split from train; chosen by
    dev: float = math.nan  # only reported
    n_dev: int = 0
    metric: str = ""
    file_bytes: int = 0
    n_entries: int = 0
    seconds: float = 0.0  # training and scoring


@dataclass(frozen=True)
class Choice:
    """The setting that a row was given for a task, and how it was found."""

    setting: Setting
    score: float  # mean validation score over the tasks it is for; NaN where nothing was tuned
    at_edge: tuple[str, ...]  # settings whose best value is at an end of its grid
    is_final: bool  # whether every trial is done


class Results:
    """The results of a study's cells, as recorded when each is asked for first."""

    def __init__(self, registry: Registry | None) -> None:
        """`registry`: None where there is none yet, and with it no result."""
        self._registry = registry
        self._found: dict[str, CellResult] = {}
        self._runs: dict[str, list[RunRecord]] = {}
        for run in () if registry is None else registry.runs.list():
            self._runs.setdefault(run.scenario_digest, []).append(run)

    def of(self, cell: Cell) -> CellResult:
        """Return what is recorded of a cell."""
        if cell.digest not in self._found:
            results = [self._read(run) for run in self._runs.get(cell.digest, ())]
            order = ("done", "failed", "elsewhere", "open")
            best = min(results, key=lambda r: order.index(r.state), default=None)
            self._found[cell.digest] = best or CellResult(state="open")
        return self._found[cell.digest]

    def refresh(self, cell: Cell) -> CellResult:
        """Look a cell up again, after work on it."""
        if self._registry is not None:
            runs = self._registry.runs.list(scenario_digest=cell.digest)
            self._runs[cell.digest] = list(runs)
        self._found.pop(cell.digest, None)
        return self.of(cell)

    def _read(self, run: RunRecord) -> CellResult:
        assert self._registry is not None  # noqa: S101 - it has runs
        if run.status == "running":
            return CellResult(state="elsewhere", run=run.name)
        arrivals = self._registry.arrivals.list(run=run.name)
        finished = next((one for one in arrivals if one.status == "finished"), None)
        if finished is not None:
            return self._done(run, finished)
        return CellResult(state="failed" if arrivals else "open", run=run.name)

    def _done(self, run: RunRecord, arrival: ArrivalRecord) -> CellResult:
        assert self._registry is not None  # noqa: S101
        scores = [
            score
            for score in self._registry.scores.list(run=run.name)
            if score.is_primary and score.arrival_id == arrival.id
        ]
        by_split = {score.split: score for score in scores}
        diff = self._registry.artifacts.get(arrival.digest or "")
        dev = by_split["dev"]
        return CellResult(
            state="done",
            run=run.name,
            validation=by_split["validation"].value if "validation" in by_split else -math.inf,
            dev=dev.value,
            n_dev=dev.n_examples,
            metric=dev.metric,
            file_bytes=diff.file_bytes,
            n_entries=diff.n_entries,
            seconds=arrival.training_seconds + arrival.evaluation_seconds,
        )

    def choose(self, loaded: LoadedStudy, row: Row, task: str) -> Choice:
        """Return the setting with the best validation score, of what is recorded so far.

        A trial that failed or is missing counts as the worst; ties go to the first in the file.
        """
        trials = loaded.trials(row)
        if len(trials) == 1:
            return Choice(trials[0][0].chosen, math.nan, (), is_final=True)
        counted = [
            [cell for cell in cells if loaded.study.choose == "all_tasks" or cell.task == task]
            for cells in trials
        ]
        results = [[self.of(cell) for cell in cells] for cells in counted]
        scores = [statistics.fmean(r.validation for r in one) for one in results]
        best = max(range(len(scores)), key=scores.__getitem__)
        setting = counted[best][0].chosen
        final = all(r.state in ("done", "failed") for one in results for r in one)
        edges = _edges(setting, loaded.study.methods[row.method].tune)
        return Choice(setting, scores[best], edges, is_final=final)

    def reported(self, loaded: LoadedStudy, row: Row) -> dict[str, dict[int, CellResult]]:
        """Return the results of a row's chosen settings that are done, by task and seed."""
        found: dict[str, dict[int, CellResult]] = {}
        for task in loaded.study.tasks:
            choice = self.choose(loaded, row, task)
            if not choice.is_final:
                continue
            for seed in loaded.study.seeds:
                result = self.of(loaded.cell(row, choice.setting, task, seed))
                if result.state == "done":
                    found.setdefault(task, {})[seed] = result
        return found


def _edges(setting: Setting, grid: Mapping[str, Sequence[Value]]) -> tuple[str, ...]:
    """Return the settings of which a best value may lie outside their grid."""
    found = []
    for path, value in setting:
        numbers = [v for v in grid[path] if isinstance(v, int | float)]
        if len(numbers) > 1 and value in (min(numbers), max(numbers)):
            found.append(path)
    return tuple(found)
