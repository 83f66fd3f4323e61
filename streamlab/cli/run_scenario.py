"""`streamlab run`: run a scenario, show progress, and print a table of the results."""

from __future__ import annotations

import os
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from streamlab.cli.options import Place, number_option, set_option, with_place
from streamlab.cli.output import note, print_page
from streamlab.errors import StreamlabError, UsageError
from streamlab.units import counted, format_bytes, format_seconds, printable
from streamlab.views.pages import run_page
from streamlab.views.score_notes import learning_advice
from streamlab.views.task_scores import task_scores

if TYPE_CHECKING:
    from collections.abc import Generator

    from streamlab.methods.api import Progress as Step
    from streamlab.registry.records import RunRecord
    from streamlab.stream.lab import Outcome
    from streamlab.stream.run_context import RunContext
    from streamlab.stream.scenario import Scenario
    from streamlab.stream.schedule import Arrival

# Prefixes of the sections of the run's page.
_CLOSING = ("examples", "scores", "notes", "storage", "costs", "totals", "device")


@click.command()
@click.argument("scenario", type=click.Path(path_type=Path))
@set_option
@click.option("--resume", is_flag=True, help="Continue the latest unfinished run of this scenario.")
@click.option(
    "--executor",
    type=click.Choice(["serial", "processes", "ray"]),
    help="Where providers train: in this process, each in its own, or so on a Ray cluster.",
)
@number_option("--workers", "Provider processes at a time; implies --executor processes.")
@click.option(
    "--ray-address", metavar="ADDRESS", help="A Ray cluster to train on; implies --executor ray."
)
@click.option("--quiet", "-q", is_flag=True, help="Print no progress and no notes.")
@click.option("--verbose", "-v", is_flag=True, help="Print a line for every training stage.")
@with_place
def run(
    scenario: Path,
    overrides: tuple[str, ...],
    *,
    resume: bool,
    executor: str | None,
    workers: int | None,
    ray_address: str | None,
    quiet: bool,
    verbose: bool,
    place: Place,
) -> None:
    """Run SCENARIO: train every task as it arrives, store its diff and score the stored file.

    --resume continues a run that was stopped or in which an arrival failed; recorded arrivals
    are skipped. The exit code is 1 if an arrival failed.

    \b
    Example:
      streamlab run scenarios/smoke.yaml
      streamlab run scenarios/smoke.yaml --set seeds=[1,2,3]
      streamlab run scenarios/smoke.yaml --executor processes --workers 2
    """
    if quiet and verbose:
        raise UsageError("`--quiet` and `--verbose` contradict each other. Leave one out.")
    from streamlab.stream.engine import run as serve
    from streamlab.stream.scenario import load_scenario

    notes = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True, markup=False)
    how = _execution(executor, workers, ray_address)
    loaded = load_scenario(scenario, overrides=[*overrides, *how])
    for sentence in loaded.notes:
        _say(notes, sentence)
    live = LiveProgress(notes, stages=verbose)
    name = ""

    def started(record: RunRecord, context: RunContext, n_arrivals: int) -> None:
        nonlocal name
        name = record.name
        live.n_arrivals = n_arrivals
        _announce(notes, record, context)

    outcomes = serve(
        loaded,
        place.home.path,
        registry_url=place.registry,
        store_url=place.store_url,
        resume=resume,
        watch=live.show,
        started=started,
    )
    try:
        with live:
            failed = _follow(outcomes, live, notes)
    except KeyboardInterrupt:
        if name:
            note(f"\nContinue {name} with the same command and `--resume`.")
        raise
    record = _close(place, name, notes)
    if failed:
        raise StreamlabError("\n".join([f"{name}: {record.reason}.", *failed]))


def _execution(executor: str | None, workers: int | None, ray_address: str | None) -> list[str]:
    """Return the overrides that the options on execution stand for."""
    if executor is None and ray_address is not None:
        executor = "ray"
    elif executor is None and workers is not None:
        executor = "processes"
    how = {"executor": executor, "workers": workers, "ray_address": ray_address}
    return [f"execution.{key}={value}" for key, value in how.items() if value is not None]


def _say(notes: Console, text: str) -> None:
    notes.print(printable(text, keep="\n"), markup=False)


def _follow(
    outcomes: Generator[Outcome, None, None], live: LiveProgress, notes: Console
) -> list[str]:
    """Print a line per outcome; return the line of each arrival whose last attempt failed."""
    failed: dict[tuple[object, ...], str] = {}
    # Closed explicitly, so that the run is recorded as interrupted whatever happens.
    with closing(outcomes):
        for outcome in outcomes:
            line = _line(outcome)
            live.settle(outcome.arrival)
            _say(notes, line)
            if outcome.record.status == "failed":
                failed[outcome.arrival.identity] = line
            else:
                failed.pop(outcome.arrival.identity, None)
    return list(failed.values())


def _announce(notes: Console, record: RunRecord, context: RunContext) -> None:
    """Print the base, the environment and the data source of every task."""
    environment = record.environment
    n_threads = environment["threads"]
    _say(
        notes,
        f"{record.name}: base {context.base.settings.model}, "
        f"{context.base.layout.n_gated:,} weights, {environment['precision']}, "
        f"{counted(int(n_threads), 'thread')}, {environment['step']} step",
    )
    note_slow_step(notes, context.scenario)
    crowded = _crowded(context.scenario, os.cpu_count() or 1)
    if crowded:
        _say(notes, crowded)
    if context.base.initialised:
        names = ", ".join(f"`{name}`" for name in context.base.initialised)
        _say(notes, f"  not in the checkpoint, drawn from the seed: {names}")
    skipped: dict[str, list[str]] = {}
    for task in context.tasks():
        _say(notes, f"  {task.name}: {task.source.kind}, {task.source.detail}")
        for attempt in task.tried:
            source, _, reason = attempt.partition(": ")
            skipped.setdefault(source, []).append(reason)
    for source, reasons in skipped.items():
        count = counted(len(reasons), "task")
        _say(notes, f"  not from {source} ({count}): {reasons[0]}")


def note_slow_step(notes: Console, scenario: Scenario) -> None:
    """Say why the training step runs in PyTorch, where a compiled one was to be expected."""
    from streamlab.methods.kernels.availability import explain_eager
    from streamlab.stream.run_context import find_device

    training = scenario.defaults.training
    reason = explain_eager(training.step, find_device(training.device))
    if reason:
        _say(notes, f"  {reason}: the training step runs in PyTorch, which is slower.")


def _crowded(scenario: Scenario, n_cores: int) -> str:
    """Return a warning where workers have more threads than this machine has cores; else ""."""
    execution, tasks = scenario.execution, scenario.tasks.values()
    n_workers = execution.workers or 1
    n_threads = max(task.training.threads for task in tasks)
    if execution.executor == "serial" or execution.ray_address is not None:
        return ""
    if n_workers * n_threads <= n_cores:
        return ""
    return (
        f"  warning: {counted(n_workers, 'worker')} of {counted(n_threads, 'thread')} share "
        f"{counted(n_cores, 'core')}, and slow one another down. Have fewer workers, or lower "
        "`training.threads`, which changes the results."
    )


def _line(outcome: Outcome) -> str:
    """Return one line on an outcome."""
    arrival, record = outcome.arrival, outcome.record
    task = arrival.task if arrival.version == 1 else f"{arrival.task}@{arrival.version}"
    who = f"{task} from {arrival.provider}, {arrival.method.label}, seed {arrival.seed}"
    if outcome.diff is None:
        return f"{record.status.upper()} {who}: {record.reason}"
    score = next(s for s in outcome.scores if s.is_primary and s.split == "dev")
    synthetic = ", synthetic data" if record.source == "synthetic" else ""
    return (
        f"{who}: {score.metric} {100 * score.value:.1f}{synthetic}, "
        f"{format_bytes(outcome.diff.file_bytes)} in "
        f"{format_seconds(record.training_seconds + record.evaluation_seconds)}"
    )


def _close(place: Place, name: str, notes: Console) -> RunRecord:
    """Print the closing tables and the paths written; return the ended run."""
    began = time.time()
    with place.open() as registry:
        record = registry.runs.get(name)
        page = run_page(registry, record)
        advice = learning_advice(
            record, task_scores(registry.scores.list(run=record.id, primary=True))
        )
        records = "registry.db" if place.registry is None else registry.url
    store = record.environment.get("store", "store/")
    sections = tuple(s for s in page.sections if s.key.startswith(_CLOSING))
    print_page(replace(page, sections=sections))
    if advice:
        _say(notes, advice)
    _say(
        notes,
        f"Took {format_seconds((record.finished_at or began) - record.started_at)}. Written to "
        f"{place.home.path}: {records}, {store}, curves/{name}/.\n"
        f"Next: streamlab show {name} | streamlab ls scores --run {name} | "
        f"streamlab plot storage --run {name}",
    )
    return record


@dataclass
class _Bar:
    """The bar of one arrival and the line of its current stage."""

    row: TaskID
    place: str
    stage: str = ""
    line: str = ""


class LiveProgress(Progress):
    """A progress bar per arrival on a terminal; into a pipe only the lines of `stages`."""

    n_arrivals = 0  # that remain

    def __init__(self, console: Console, *, stages: bool = False) -> None:
        """Draw on `console` within a `with` block; `stages`: print a line per stage."""
        super().__init__(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=10),
            TextColumn("{task.fields[facts]}", markup=False),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
            disable=console.quiet or not console.is_terminal,
        )
        self._stages = stages
        self._n_seen = 0
        self._bars: dict[tuple[object, ...], _Bar] = {}
        self._loading = self.add_task("loading", total=None, facts="base and data")

    def show(self, arrival: Arrival, step: Step) -> None:
        """Show one training step."""
        bar = self._bars.get(arrival.identity)
        if bar is None:
            self._n_seen += 1
            place = f"{self._n_seen}/{self.n_arrivals}"
            description = f"{place} {arrival.task[:14]}"
            row = self.add_task(description, total=step.n_steps, facts="")
            bar = self._bars[arrival.identity] = _Bar(row, place)
            self.update(self._loading, visible=False)
        elif step.stage != bar.stage:
            self._leave_line(bar)
        # The words of a provider's process, which may hold anything.
        facts = f"{printable(step.stage)} {step.step}/{step.n_steps}, loss {step.loss:.2f}"
        if step.density is not None:
            facts += f", {step.density:.1%} open"
        bar.stage, bar.line = step.stage, f"  {bar.place} {arrival.task}: {facts}"
        self.update(bar.row, completed=step.step, facts=facts)

    def settle(self, arrival: Arrival) -> None:
        """Remove the bar of an arrival whose outcome is known."""
        bar = self._bars.pop(arrival.identity, None)
        if bar is not None:
            self._leave_line(bar)
            self.remove_task(bar.row)

    def clear(self) -> None:
        """Remove every bar."""
        for bar in self._bars.values():
            self.remove_task(bar.row)
        self._bars.clear()

    def _leave_line(self, bar: _Bar) -> None:
        if self._stages and bar.line:
            _say(self.console, bar.line)
        bar.line = ""
