"""The runner of a study: open cells one after the other, in the order of their worth.

First every trial of the first seed, the first value of every row before its second; then the
chosen settings under the other seeds, one seed of everything before the next. Several processes
may work on one study in one registry: a cell that another one has begun is left to it.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import statistics
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

from streamlab.base import Base, load_base
from streamlab.errors import RunInProgressError, StreamlabError
from streamlab.home.cache import StageCache
from streamlab.home.folder import Home
from streamlab.registry.registry import Registry
from streamlab.stream.engine import Started, run
from streamlab.stream.event_loop import Watch
from streamlab.stream.lab import Outcome, Reached
from streamlab.stream.run_context import SharedWork
from streamlab.stream.scenario import LoadedScenario
from streamlab.study.records import read_cells
from streamlab.study.results import CellResult, Results
from streamlab.study.study import Cell, LoadedStudy, load_study
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
    most_shared: int = 0,
    clock: Clock = time.time,
    wait: Callable[[], None] = lambda: time.sleep(1.0),
    watch: Watch = lambda _arrival, _progress: None,
) -> Iterator[tuple[Cell, CellResult]]:
    """Run the open cells of a study, and yield each as it is recorded.

    `until`: no cell is begun after this time, in seconds since the epoch. A cell whose training
    breaks down is recorded as failed, and not tried again; one that was interrupted continues.
    `most_shared`: bytes on disk for the finetunings that several cells start from. `wait` is called
    where all that is left depends on cells that other processes work on.
    """
    Home(home).create()
    with Registry.open(registry_url, clock=clock) as registry:
        results = Results(registry, read_cells(loaded.cells_file))
        stages = StageCache(Home(home).stages, most_shared) if most_shared else None
        shared = SharedWork(stages)
        runner = Runner(home, registry_url, store_url, clock, watch, shared)
        while True:
            postponed = yield from _pass(loaded, results, runner, until)
            if until is not None and clock() >= until:
                return
            if _must_wait(loaded, results):
                wait()
            elif not postponed:
                return


def _pass(
    loaded: LoadedStudy, results: Results, runner: Runner, until: float | None
) -> Generator[tuple[Cell, CellResult], None, bool]:
    """Run what is open, once over all cells; return whether some were put off.

    These are of later seeds, under a setting that trials of other processes may still change.
    """
    postponed = False
    for cell in ordered(loaded, results):
        if until is not None and runner.clock() >= until:
            break
        if not _is_open(results, cell):
            continue
        if cell.seed != loaded.study.seeds[0] and not _is_chosen(loaded, results, cell):
            postponed = True
        elif _carry_out(runner, cell, resume=results.of(cell).run is not None):
            yield cell, results.refresh(cell)
    return postponed


def run_in_processes(
    study: Path,
    home: Path,
    *,
    registry_url: str,
    store_url: str | None = None,
    until: float | None = None,
    most_shared: int = 0,
    workers: int,
) -> Iterator[CellResult]:
    """Run the open cells of a study by several processes, and yield each as it is recorded.

    Raises StreamlabError where a process ends early; what it was working on stays open.
    """
    spawning = multiprocessing.get_context("spawn")  # a fork of a process that uses torch may hang
    readers: list[Connection] = []
    processes: list[SpawnProcess] = []
    try:
        for _ in range(workers):
            reader, writer = spawning.Pipe(duplex=False)
            given = (study, home, registry_url, store_url, until, most_shared, writer)
            processes.append(spawning.Process(target=_run_all, args=given, daemon=True))
            processes[-1].start()
            writer.close()  # so that the process's end is the connection's
            readers.append(reader)
        while readers:
            for ready in multiprocessing.connection.wait(readers):
                assert isinstance(ready, Connection)  # noqa: S101 - for types
                try:
                    yield ready.recv()
                except EOFError:
                    readers.remove(ready)
    finally:
        for process in processes:
            if readers:  # interrupted
                process.terminate()
            process.join()
    n_broken = sum(process.exitcode != 0 for process in processes)
    if n_broken:
        raise StreamlabError(
            f"{n_broken} of {workers} processes ended early; what they were working on is open "
            "again. Run the study again, with fewer workers if memory ran out."
        )


def _run_all(
    study: Path,
    home: Path,
    registry_url: str,
    store_url: str | None,
    until: float | None,
    most_shared: int,
    writer: Connection,
) -> None:
    """Run open cells until there is none, and send each result."""
    with writer:
        for _, result in run_study(
            load_study(study),
            home,
            registry_url=registry_url,
            store_url=store_url,
            until=until,
            most_shared=most_shared,
        ):
            writer.send(result)


@dataclass
class Runner:
    """Runs scenarios one after the other; they share examples, and the base of the last one."""

    home: Path
    registry_url: str
    store_url: str | None
    clock: Clock
    watch: Watch
    shared: SharedWork = field(default_factory=SharedWork)
    reached: Reached = lambda _point: None
    _base: tuple[str, int, Base] | None = None  # with its settings and its seed

    def outcomes(
        self,
        scenario: LoadedScenario,
        *,
        resume: bool,
        started: Started = lambda _run, _context, _n_arrivals: None,
    ) -> Generator[Outcome, None, None]:
        """Run a scenario; RunInProgressError is raised where another process works on it."""
        return run(
            scenario,
            self.home,
            registry_url=self.registry_url,
            store_url=self.store_url,
            resume=resume,
            base=self._load(scenario),
            shared=self.shared,
            alone=True,
            watch=self.watch,
            started=started,
            reached=self.reached,
            clock=self.clock,
        )

    def _load(self, scenario: LoadedScenario) -> Base:
        key, seed = scenario.base.model_dump_json(), scenario.scenario.seeds[0]
        if self._base is not None and self._base[0] == key:
            _, last_seed, base = self._base
            if seed == last_seed or not base.initialised:  # else the seed decides weights of it
                return base
        base = load_base(scenario.base, seed=seed)
        self._base = key, seed, base
        return base


def _carry_out(runner: Runner, cell: Cell, *, resume: bool) -> bool:
    """Run a cell; return False where another process began it first."""
    try:
        with closing(runner.outcomes(cell.scenario, resume=resume)) as outcomes:
            for _ in outcomes:
                pass
    except RunInProgressError:
        return False
    return True


def _is_open(results: Results, cell: Cell) -> bool:
    """Tell whether nobody has begun a cell, as is recorded now."""
    is_final = results.of(cell).state in ("done", "failed")
    return not is_final and results.refresh(cell).state == "open"


def _is_chosen(loaded: LoadedStudy, results: Results, cell: Cell) -> bool:
    choice = results.choose(loaded, cell.row, cell.task)
    return choice.is_final and choice.setting == cell.chosen


def _must_wait(loaded: LoadedStudy, results: Results) -> bool:
    """Tell whether cells are left that depend on others which are not done yet."""
    for row in loaded.rows():
        search = isinstance(loaded.study.methods[row.method].tune, Search)
        if search or len(loaded.study.seeds) > 1:
            for tasks in loaded.tuned_together:
                if not results.choose(loaded, row, tasks[0]).is_final:
                    return True
    return False
