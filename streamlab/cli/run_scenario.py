"""`streamlab run`: run a scenario, show progress, and print a table of the results."""

from __future__ import annotations

import os
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from streamlab.cli.options import Place, number_option, set_option, with_place
from streamlab.cli.output import note, print_page
from streamlab.cli.progress import LiveProgress, say
from streamlab.errors import StreamlabError, UsageError
from streamlab.units import counted, format_bytes, format_seconds
from streamlab.views.pages import run_page
from streamlab.views.score_notes import learning_advice
from streamlab.views.task_scores import task_scores

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from streamlab.registry.records import RunRecord
    from streamlab.stream.lab import Outcome
    from streamlab.stream.run_context import RunContext
    from streamlab.stream.scenario import Scenario
    from streamlab.study.sweep import Sweep, SweptRun

# Prefixes of the sections of the run's page.
_CLOSING = ("examples", "scores", "notes", "storage", "costs", "totals", "device")


@click.command()
@click.argument("scenario", type=click.Path(path_type=Path))
@set_option
@click.option(
    "--sweep",
    "sweeps",
    multiple=True,
    metavar="A.B=C,D",
    help="Run once with each of these values; repeat for every combination.",
)
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
    sweeps: tuple[str, ...],
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

    --sweep makes a run for each value, or combination of values, and ends with a table of all
    of them, as `compare --sweep` prints it. Runs that are recorded are not made again, and one
    that was stopped goes on, so that the same command continues a sweep.

    \b
    Example:
      streamlab run scenarios/smoke.yaml
      streamlab run scenarios/smoke.yaml --set seeds=[1,2,3]
      streamlab run scenarios/smoke.yaml --executor processes --workers 2
      streamlab run smoke --sweep defaults.method.target_density=0.001,0.005
    """
    if quiet and verbose:
        raise UsageError("`--quiet` and `--verbose` contradict each other. Leave one out.")
    notes = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True, markup=False)
    live = LiveProgress(notes, stages=verbose)
    given = [*overrides, *_execution(executor, workers, ray_address)]
    if not sweeps:
        _run(scenario, given, place, live, resume=resume)
        return
    if resume:
        raise UsageError("A sweep goes on where it was stopped; leave `--resume` out.")
    _sweep(scenario, sweeps, given, place, live)


def _run(
    scenario: Path, overrides: Sequence[str], place: Place, live: LiveProgress, *, resume: bool
) -> None:
    """Run a scenario, and print a line for each arrival and the closing tables."""
    notes = live.console
    name = ""

    def started(record: RunRecord, context: RunContext, n_arrivals: int) -> None:
        nonlocal name
        name = record.name
        live.n_arrivals = n_arrivals
        _announce(notes, record, context)

    try:
        with live:
            live.wait("loading libraries")  # which takes seconds
            from streamlab.stream.engine import run as serve
            from streamlab.stream.scenario import load_scenario

            loaded = load_scenario(scenario, overrides=overrides)
            for sentence in loaded.notes:
                say(notes, sentence)
            live.wait("loading base and data")
            outcomes = serve(
                loaded,
                place.home.path,
                registry_url=place.registry,
                store_url=place.store_url,
                resume=resume,
                watch=live.show,
                reached=live.reach,
                started=started,
                notice=lambda text: say(notes, text),
            )
            failed = _follow(outcomes, live, notes)
    except KeyboardInterrupt:
        if name:
            note(f"\nContinue {name} with the same command and `--resume`.")
        raise
    record = _close(place, name, notes)
    if failed:
        raise StreamlabError("\n".join([f"{name}: {record.reason}.", *failed]))


def _sweep(
    scenario: Path,
    sweeps: Sequence[str],
    overrides: Sequence[str],
    place: Place,
    live: LiveProgress,
) -> None:
    """Run what is open of a sweep, and print a table of all its runs."""
    with live:
        live.wait("loading libraries")
        from streamlab.registry.registry import Registry
        from streamlab.study.sweep import Sweep, load_sweep, make_runner
        from streamlab.views.sweep import compare_sweep

        runs = load_sweep(scenario, sweeps, overrides=overrides)
    for sentence in dict.fromkeys(s for run in runs for s in run.scenario.notes):
        say(live.console, sentence)
    runner = make_runner(
        place.home.path,
        registry_url=place.url,
        store_url=place.store_url,
        watch=live.show,
        reached=live.reach,
    )
    failed: list[str] = []
    with Registry.open(place.url, clock=time.time) as registry:
        sweep = Sweep(registry, runner)
        for number, run in enumerate(runs, start=1):
            title = f"{number}/{len(runs)} {run}"
            failed += _run_of_sweep(sweep, run, title, live, is_first=number == 1)
        names = [name for run in runs if (name := sweep.state(run)[1]) is not None]
        found = compare_sweep(registry, names) if len(names) > 1 else None
    if found is not None:
        print_page(found.page, rows=found.by_task)
        say(live.console, f"Next: streamlab compare --sweep {' '.join(names)}")
    if failed:
        raise StreamlabError("\n".join(["Arrivals failed; the same command tries again.", *failed]))


def _run_of_sweep(
    sweep: Sweep, run: SweptRun, title: str, live: LiveProgress, *, is_first: bool
) -> list[str]:
    """Carry out one run unless that was done, and return the lines of arrivals that failed."""
    from streamlab.errors import RunInProgressError

    state, name = sweep.state(run)
    if state == "finished":
        say(live.console, f"{title}: {name}, recorded before")
        return []

    def started(record: RunRecord, context: RunContext, n_arrivals: int) -> None:
        nonlocal name
        name = record.name
        live.n_arrivals += n_arrivals
        say(live.console, f"{title}: {name}")
        if is_first:
            _announce(live.console, record, context)

    try:
        with live:
            live.wait("loading base and data")
            return _follow(sweep.outcomes(run, started), live, live.console)
    except RunInProgressError:
        say(live.console, f"{title}: {name or 'it'} is being run by another process")
        return []
    except KeyboardInterrupt:
        note("\nContinue with the same command.")
        raise


def _execution(executor: str | None, workers: int | None, ray_address: str | None) -> list[str]:
    """Return the overrides that the options on execution stand for."""
    if executor is None and ray_address is not None:
        executor = "ray"
    elif executor is None and workers is not None:
        executor = "processes"
    how = {"executor": executor, "workers": workers, "ray_address": ray_address}
    return [f"execution.{key}={value}" for key, value in how.items() if value is not None]


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
            say(notes, line)
            if outcome.record.status == "failed":
                failed[outcome.arrival.identity] = line
            else:
                failed.pop(outcome.arrival.identity, None)
    return list(failed.values())


def _announce(notes: Console, record: RunRecord, context: RunContext) -> None:
    """Print the base, the environment and the data source of every task."""
    environment = record.environment
    n_threads = environment["threads"]
    say(
        notes,
        f"{record.name}: base {context.base.settings.model}, "
        f"{context.base.layout.n_gated:,} weights, {environment['precision']}, "
        f"{counted(int(n_threads), 'thread')}, {environment['step']} step",
    )
    note_slow_step(notes, context.scenario)
    crowded = _crowded(context.scenario, os.cpu_count() or 1)
    if crowded:
        say(notes, crowded)
    types = ", ".join(context.base.dequantised)
    if types:
        say(notes, f"  weights read as float32 from {types}, not those of before quantisation")
    if context.base.pads_with_end:
        end = context.base.tokenizer.eos_token
        say(notes, f"  texts padded with {end!r}, as the tokenizer has no padding token")
    if context.base.initialised:
        names = ", ".join(f"`{name}`" for name in context.base.initialised)
        say(notes, f"  not in the checkpoint, drawn from the seed: {names}")
    for task in context.tasks():
        say(notes, f"  {task.name}: {task.source.kind}, {task.source.detail}")
    for line in context.skipped_sources():
        say(notes, f"  {line}")


def note_slow_step(notes: Console, scenario: Scenario) -> None:
    """Say why the training step runs in PyTorch, where a compiled one was to be expected."""
    from streamlab.methods.kernels.availability import explain_eager
    from streamlab.stream.run_context import find_device

    training = scenario.defaults.training
    reason = explain_eager(training.step, find_device(training.device))
    if reason:
        say(notes, f"  {reason}: the training step runs in PyTorch, which is slower.")


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
        f"{who}: {score.metric} {score.value:.4f}{synthetic}, "
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
        say(notes, advice)
    say(
        notes,
        f"Took {format_seconds((record.finished_at or began) - record.started_at)}. Written to "
        f"{place.home.path}: {records}, {store}, curves/{name}/.\n"
        f"Next:\n  streamlab show {name}\n  streamlab ls scores --run {name}\n"
        f"  streamlab plot storage --run {name}",
    )
    return record
