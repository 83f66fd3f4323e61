"""The runner of a study: open cells one after the other, in the order of their worth.

First every trial of the first seed, the first value of every row before its second; then the
chosen settings under the other seeds, one seed of everything before the next. Several processes
may work on one study in one registry: a cell that another one has begun is left to it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from streamlab.base import Base, load_base
from streamlab.errors import RunInProgressError
from streamlab.home.folder import Home
from streamlab.registry.registry import Registry
from streamlab.stream.engine import run
from streamlab.stream.event_loop import Watch
from streamlab.study.records import read_cells
from streamlab.study.results import CellResult, Results
from streamlab.study.study import Cell, LoadedStudy
from streamlab.study.tuning import Search

Clock = Callable[[], float]


@dataclass(frozen=True)
class Plan:
    """How much of a study is done, and the time that the rest may take."""

    n_cells: int
    n_done: int
    n_failed: int
    n_elsewhere: int
    seconds: float | None  # of the open ones, one after the other; None before any is done

    @property
    def n_open(self) -> int:
        """Return the number of cells that nobody has begun."""
        return self.n_cells - self.n_done - self.n_failed - self.n_elsewhere


def ordered(loaded: LoadedStudy, results: Results) -> Iterator[Cell]:
    """Yield every cell in the order of worth; those of later seeds by what is recorded by then."""
    study, rows = loaded.study, loaded.rows()
    for parts in _in_turns([results.tuned(loaded, row) for row in rows]):
        yield from parts
    for seed in study.seeds[1:]:
        for row in rows:
            for task in study.tasks:
                choice = results.choose(loaded, row, task)
                yield loaded.cell(row, choice.setting, task, seed)


def _in_turns(columns: list[Iterator[list[Cell]]]) -> Iterator[list[Cell]]:
    """Yield the first part of every column before the second, each only when it is asked for."""
    while columns:
        for column in list(columns):
            part = next(column, None)
            if part is None:
                columns.remove(column)
            else:
                yield part


def _n_unknown(loaded: LoadedStudy, results: Results) -> int:
    """Return how many cells the trials of searches may have that are not known yet."""
    n_missing = 0
    for row in loaded.rows():
        tune = loaded.study.methods[row.method].tune
        if isinstance(tune, Search):
            for tasks in loaded.tuned_together:
                task = tasks[0] if len(tasks) == 1 else None
                n_tried = len(results.trials(loaded, row, task))
                n_missing += (tune.n_trials - n_tried) * len(tasks)
    return n_missing


def plan(loaded: LoadedStudy, results: Results) -> Plan:
    """Count the cells by state, and estimate the rest by the mean of the task's done cells."""
    cells = list(ordered(loaded, results))
    found = [(cell, results.of(cell)) for cell in cells]
    spent: dict[str, list[float]] = {}
    for cell, result in found:
        if result.state == "done":
            spent.setdefault(cell.task, []).append(result.seconds)
    states = [result.state for _, result in found]
    missing = [cell.task for cell, result in found if result.state == "open"]
    means = {task: statistics.fmean(seconds) for task, seconds in spent.items()}
    usual = statistics.fmean(means.values()) if means else None
    n_unknown = _n_unknown(loaded, results)
    seconds = None
    if usual is not None:
        seconds = sum(means.get(task, usual) for task in missing) + usual * n_unknown
    return Plan(
        n_cells=len(cells) + n_unknown,
        n_done=states.count("done"),
        n_failed=states.count("failed"),
        n_elsewhere=states.count("elsewhere"),
        seconds=seconds,
    )


def run_study(
    loaded: LoadedStudy,
    home: Path,
    *,
    registry_url: str,
    store_url: str | None = None,
    until: float | None = None,
    clock: Clock = time.time,
    watch: Watch = lambda _arrival, _progress: None,
) -> Iterator[tuple[Cell, CellResult]]:
    """Run the open cells of a study, and yield each as it is recorded.

    `until`: no cell is begun after this time, in seconds since the epoch. A cell whose training
    breaks down is recorded as failed, and not tried again; one that was interrupted continues.
    """
    Home(home).create()
    bases: dict[str, Base] = {}
    with Registry.open(registry_url, clock=clock) as registry:
        results = Results(registry, read_cells(loaded.cells_file))
        for cell in ordered(loaded, results):
            if until is not None and clock() >= until:
                return
            if results.of(cell).state != "open" or results.refresh(cell).state != "open":
                continue
            scenario = cell.scenario
            key = scenario.base.model_dump_json()
            if key not in bases:
                bases = {key: load_base(scenario.base, seed=scenario.scenario.seeds[0])}
            try:
                with closing(
                    run(
                        scenario,
                        home,
                        registry_url=registry_url,
                        store_url=store_url,
                        resume=results.of(cell).run is not None,
                        base=bases[key],
                        alone=True,
                        watch=watch,
                        clock=clock,
                    )
                ) as outcomes:
                    for _ in outcomes:
                        pass
            except RunInProgressError:
                continue
            yield cell, results.refresh(cell)
