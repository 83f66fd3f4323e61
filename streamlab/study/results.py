"""What is recorded of a study: the result of each cell, and the setting chosen by them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from streamlab.registry.records import ArrivalRecord, RunRecord
from streamlab.registry.registry import Registry
from streamlab.study.records import CellRecord, describe_cell
from streamlab.study.study import Cell, LoadedStudy, Row
from streamlab.study.tuning import Grid, Interval, Search, SearchReplay, Setting, Value

State = Literal["done", "failed", "elsewhere", "open"]
_NOTHING: Mapping[str, CellRecord] = {}


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """What was recorded of one cell."""

    state: State  # `failed`: its training broke down; `elsewhere`: a living process works on it
    run: str | None = None  # here; None for a cell of the exported file
    record: CellRecord | None = None  # of a cell that is done or failed

    @property
    def validation(self) -> float:
        """Return the score on examples split from train, which settings are chosen by."""
        found = self.record and self.record.score("validation")
        return found.value if found else -math.inf

    @property
    def dev(self) -> float:
        """Return the score that is only reported."""
        found = self.record and self.record.score("dev")
        return found.value if found else math.nan

    @property
    def n_dev(self) -> int:
        """Return the number of examples of that score."""
        found = self.record and self.record.score("dev")
        return found.n_examples if found else 0

    @property
    def metric(self) -> str:
        """Return the metric of that score."""
        found = self.record and self.record.score("dev")
        return found.metric if found else ""

    @property
    def file_bytes(self) -> int:
        """Return the bytes of the stored artifact."""
        return self.record.artifact.file_bytes if self.record and self.record.artifact else 0

    @property
    def n_entries(self) -> int:
        """Return the number of entries of the backbone that the artifact changes."""
        return self.record.artifact.n_entries if self.record and self.record.artifact else 0

    @property
    def seconds(self) -> float:
        """Return what training and scoring took."""
        if self.record is None:
            return 0.0
        return self.record.training_seconds + self.record.evaluation_seconds


@dataclass(frozen=True)
class Trial:
    """One setting that was tried for a row, over the tasks that it is tried for."""

    setting: Setting
    score: float  # mean validation score; -inf where a task failed or is not done
    is_final: bool  # whether every task is done, or failed


@dataclass(frozen=True)
class Choice:
    """The setting that a row was given for a task, and how it was found."""

    setting: Setting
    score: float  # mean validation score over the tasks it is for; NaN where nothing was tuned
    at_edge: tuple[str, ...]  # settings whose best value is at an end of its grid
    is_final: bool  # whether every trial is done
    trials: tuple[Trial, ...] = ()  # in the order of the file

    @property
    def neighbours(self) -> tuple[Trial, ...]:
        """Return the trials next to the chosen one in one setting, equal in the others."""
        return tuple(trial for trial in self.trials if _are_adjacent(self, trial))


class Results:
    """The results of a study's cells, as recorded when each is asked for first."""

    def __init__(
        self, registry: Registry | None, exported: Mapping[str, CellRecord] = _NOTHING
    ) -> None:
        """`registry`: None where there is none yet. `exported`: cells recorded elsewhere."""
        self._registry, self._exported = registry, exported
        self._found: dict[str, CellResult] = {}
        self._runs: dict[str, list[RunRecord]] = {}
        for run in () if registry is None else registry.runs.list():
            self._runs.setdefault(run.scenario_digest, []).append(run)

    def of(self, cell: Cell) -> CellResult:
        """Return what is recorded of a cell: in the registry, else in the exported file."""
        if cell.digest not in self._found:
            results = [self._read(cell, run) for run in self._runs.get(cell.digest, ())]
            if (record := self._exported.get(cell.digest)) is not None:
                results.append(CellResult(state=_state(record.status), record=record))
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

    def _read(self, cell: Cell, run: RunRecord) -> CellResult:
        assert self._registry is not None  # noqa: S101 - it has runs
        if run.status == "running":
            return CellResult(state="elsewhere", run=run.name)
        arrivals = self._registry.arrivals.list(run=run.name)
        finished = next((one for one in arrivals if one.status == "finished"), None)
        last = finished or next(reversed(arrivals), None)
        if last is None:
            return CellResult(state="open", run=run.name)
        record = self._describe(self._registry, cell, run, last)
        return CellResult(state=_state(record.status), run=run.name, record=record)

    @staticmethod
    def _describe(
        registry: Registry, cell: Cell, run: RunRecord, arrival: ArrivalRecord
    ) -> CellRecord:
        named = {
            "row": cell.row.label,
            "setting": dict(cell.chosen),
            "task": cell.task,
            "seed": cell.seed,
        }
        diff = None if arrival.digest is None else registry.artifacts.get(arrival.digest)
        layout = registry.bases.get(run.base_fingerprint).layout
        scores = registry.scores.list(run=run.name)
        return describe_cell(named, run, arrival, diff, layout, scores)

    def records(self, loaded: LoadedStudy) -> list[CellRecord]:
        """Return the record of every cell that is done or failed, and all that were exported.

        The latter also where the study has no such cell any more.
        """
        found = dict(self._exported)
        tasks, later = loaded.study.tasks, loaded.study.seeds[1:]
        for row in loaded.rows():
            cells = [cell for part in self.tuned(loaded, row) for cell in part]
            settings = dict.fromkeys([cell.chosen for cell in cells])
            cells += [
                loaded.cell(row, s, task, seed)
                for s in settings
                for task in tasks
                for seed in later
            ]
            for cell in cells:
                if (record := self.of(cell).record) is not None:
                    found[cell.digest] = record
        return list(found.values())

    def tuned(self, loaded: LoadedStudy, row: Row) -> Iterator[list[Cell]]:
        """Yield the cells that a row's setting is chosen from, in parts, in the order to run them.

        Those of a search depend on the results of the cells before; it ends at one that is open
        when it goes on.
        """
        if not isinstance(loaded.study.methods[row.method].tune, Search):
            yield from loaded.trials(row)
            return
        for tasks in loaded.tuned_together:
            for _, cell in self._searched(loaded, row, tasks):
                yield [cell]

    def _searched(
        self, loaded: LoadedStudy, row: Row, tasks: Sequence[str]
    ) -> Iterator[tuple[int, Cell]]:
        """Yield the cells of a search with the number of their trial."""
        search, seed = loaded.study.methods[row.method].tune, loaded.study.seeds[0]
        assert isinstance(search, Search)  # noqa: S101 - asked by the callers
        name = f"{loaded.study.name} {row.label} {' '.join(tasks)}"
        replay = SearchReplay(search, seed=seed, name=name)
        for number in range(search.n_trials):
            setting, scores = replay.suggest(), list[float]()
            for task in tasks:
                cell = loaded.cell(row, setting, task, seed)
                yield number, cell
                result = self.of(cell)
                if result.state == "failed":
                    replay.tell(None)
                    break
                if result.state != "done":
                    return
                scores.append(result.validation)
                if len(scores) < len(tasks) and replay.should_stop(scores):
                    replay.tell(statistics.fmean(scores), pruned=True)
                    break
            else:
                replay.tell(statistics.fmean(scores))

    def trials(self, loaded: LoadedStudy, row: Row, task: str | None = None) -> list[Trial]:
        """Return what is recorded of each setting that is tried for a row: for one task, or all.

        A trial that was given up by a pruner counts as one that failed.
        """
        tune = loaded.study.methods[row.method].tune
        if not isinstance(tune, Search):
            groups = [[c for c in cells if task in (None, c.task)] for cells in loaded.trials(row)]
            return [self._trial(cells, len(cells)) for cells in groups]
        tasks = list(loaded.study.tasks) if task is None else [task]
        by_number: dict[int, list[Cell]] = {}
        for number, cell in self._searched(loaded, row, tasks):
            by_number.setdefault(number, []).append(cell)
        return [self._trial(cells, len(tasks)) for cells in by_number.values()]

    def _trial(self, cells: Sequence[Cell], n_tasks: int) -> Trial:
        results = [self.of(cell) for cell in cells]
        score = statistics.fmean(result.validation for result in results)
        whole = len(cells) == n_tasks
        final = all(result.state in ("done", "failed") for result in results)
        return Trial(cells[0].chosen, score if whole else -math.inf, final)

    def choose(self, loaded: LoadedStudy, row: Row, task: str) -> Choice:
        """Return the setting with the best validation score, of what is recorded so far.

        A trial that failed or is missing counts as the worst; ties go to the first in the file.
        """
        tune = loaded.study.methods[row.method].tune
        wanted = tune.n_trials if isinstance(tune, Search) else len(loaded.settings(row))
        if wanted == 1 and not isinstance(tune, Search):
            return Choice(loaded.settings(row)[0], math.nan, (), is_final=True)
        trials = self.trials(loaded, row, None if loaded.study.choose == "all_tasks" else task)
        best = max(trials, key=lambda trial: trial.score)
        final = len(trials) == wanted and all(trial.is_final for trial in trials)
        edges = _edges(best.setting, tune)
        return Choice(best.setting, best.score, edges, is_final=final, trials=tuple(trials))

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


def _state(status: str) -> State:
    return "done" if status == "finished" else "failed"


def _edges(setting: Setting, tune: Grid | Search) -> tuple[str, ...]:
    """Return the settings of which a best value may lie outside their grid or interval."""
    spaces = tune.space if isinstance(tune, Search) else tune
    return tuple(path for path, value in setting if _is_edge(value, spaces[path]))


def _is_edge(value: Value, space: Interval | Sequence[Value]) -> bool:
    """Tell whether a value is at an end: the last of a grid, or within a tenth of an interval."""
    if isinstance(space, Interval):
        scale = math.log if space.log else float
        low, high = scale(space.low), scale(space.high)
        share = (scale(float(value)) - low) / (high - low)
        return not 0.1 < share < 0.9
    numbers = [v for v in space if isinstance(v, int | float)]
    return len(numbers) > 1 and value in (min(numbers), max(numbers))


def _are_adjacent(choice: Choice, trial: Trial) -> bool:
    pairs = list(zip(choice.setting, trial.setting, strict=True))
    changed = [(mine, other) for (_, mine), (_, other) in pairs if mine != other]
    paths = [path for (path, mine), (_, other) in pairs if mine != other]
    if len(changed) != 1 or any(isinstance(v, str) for v in changed[0]):
        return False
    values = sorted({v for t in choice.trials for path, v in t.setting if path == paths[0]})
    return abs(values.index(changed[0][0]) - values.index(changed[0][1])) == 1
