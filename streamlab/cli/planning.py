"""`streamlab fit` and `simulate`: what many tasks would take, estimated from a measured run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from streamlab.cli.options import BYTES, COUNT, RATE, SHARE, Command, Place, run_option, with_place
from streamlab.cli.output import Format, format_option, print_json, print_page, print_table
from streamlab.errors import UsageError
from streamlab.planning.capacity import MOST_TASKS, DensityFit, Fit, backtest, fit_density
from streamlab.planning.capacity import fit as fitted
from streamlab.planning.measured import Measured, measure
from streamlab.planning.simulation import simulate as simulated_steps
from streamlab.planning.what_if import WhatIf, suppose
from streamlab.registry.references import find_run
from streamlab.views.plans import STEPS, fit_page, simulation_page
from streamlab.views.table import Page, Table

if TYPE_CHECKING:
    from streamlab.arrivals.arrival_processes import Steady
    from streamlab.planning.queueing import Queue
    from streamlab.planning.simulation import Simulation


def density_option(command: Command) -> Command:
    """Give a command `--density`."""
    return click.option(
        "--density", type=SHARE, metavar="SHARE", help="Suppose another density, as 0.1%."
    )(command)


def block_option(command: Command) -> Command:
    """Give a command `--block`."""
    return click.option(
        "--block",
        type=BYTES,
        metavar="BYTES",
        default=4096,
        show_default=True,
        help="A file takes whole blocks of the disk.",
    )(command)


@click.command()
@click.option("--budget", type=BYTES, metavar="BYTES", required=True, help="As 64MB or 1.5GiB.")
@click.option(
    "--tasks", type=COUNT, metavar="N", help="Say which density makes that many tasks fit."
)
@click.option("--first", type=COUNT, metavar="N", help="Go by the run's first N tasks alone.")
@run_option
@density_option
@block_option
@format_option()
@with_place
def fit(
    *,
    place: Place,
    budget: int,
    tasks: int | None,
    first: int | None,
    run: str,
    density: float | None,
    block: int,
    form: Format,
) -> None:
    """Show how many tasks fit a budget, going by what a run's own diffs take.

    Counted are one base, a diff a task with its head, the registry's rows, and the blocks of
    the disk that each file fills. The 95% interval comes from the spread of the measured diffs.
    With --first, what the first tasks say of all is checked. csv is the table of parts.

    \b
    Example:
      streamlab fit --budget 64MB
      streamlab fit --budget 64MB --density 0.1% --first 2
      streamlab fit --budget 64MB --tasks 200
    """
    if tasks is not None and density is not None:
        raise UsageError(
            "`--tasks` asks which density fits, and `--density` gives one. Leave one of them out."
        )
    everything = measured_run(place, run)
    measured = everything if first is None else everything.first(first)
    model = measured.model(block_bytes=block)
    supposed = suppose(model, measured.base, WhatIf(density=density))
    found: Fit | DensityFit
    found = fitted(supposed, budget) if tasks is None else fit_density(supposed, tasks, budget)
    check = None if first is None else backtest(model, everything.model(block_bytes=block))
    _print_fit(fit_page(found, measured, model, check, density=density), form)
    _note_on_fit(found, len(measured.tasks))


def _print_fit(page: Page, form: Format) -> None:
    if form == "json":
        print_json(page.tree())
    elif form == "csv":
        (parts,) = (part for part in page.sections if isinstance(part, Table))
        print_table(parts, form)
    else:
        print_page(page, form)


def _note_on_fit(found: Fit | DensityFit, n_measured: int) -> None:
    """Say on standard error what the numbers cannot."""
    if n_measured == 1:
        click.echo("One task was measured, so there is no interval.", err=True)
    elif isinstance(found, Fit) and found.high is None:
        click.echo("The measured diffs differ too much for an upper end.", err=True)
    if found.storage.registry is None:
        click.echo("The registry is in no file here; its bytes are not counted.", err=True)


MOST_QUEUED = 10_000_000  # whose times still fit the memory


@click.command()
@click.option("--tasks", type=COUNT, metavar="N", required=True, help="How many, as 1000000 or 1M.")
@run_option
@density_option
@click.option(
    "--value-type",
    type=click.Choice(("fp32", "bf16", "int8", "int4")),
    help="Suppose values of this type.",
)
@click.option(
    "--base-params", type=COUNT, metavar="N", help="Suppose a base of N parameters, as 340M."
)
@click.option("--heads", type=COUNT, metavar="N", help="Suppose linear heads of N classes.")
@click.option("--replication", type=COUNT, metavar="N", default=1, help="Keep N copies of it all.")
@click.option("--rate", type=RATE, metavar="PER_DAY", help="Let as many tasks a day arrive.")
@click.option(
    "--cv",
    type=click.FloatRange(0.001, 100),
    metavar="CV",
    help="Of the gaps between arrivals, by a gamma process; default: a Poisson process.",
)
@click.option("--burst", type=COUNT, metavar="N", help="Let N tasks arrive at once.")
@click.option("--slots", type=COUNT, metavar="N", help="Tasks learnt at a time; default: 1.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the arrivals."
)
@click.option("--budget", type=BYTES, metavar="BYTES", help="Say when it is full.")
@block_option
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@format_option()
@with_place
def simulate(
    *,
    place: Place,
    tasks: int,
    run: str,
    density: float | None,
    value_type: str | None,
    base_params: int | None,
    heads: int | None,
    replication: int,
    rate: float | None,
    cv: float | None,
    burst: int | None,
    slots: int | None,
    seed: int,
    budget: int | None,
    block: int,
    as_json: bool,
    form: Format,
) -> None:
    """Show what keeping N tasks takes, beside full finetuning and LoRA, going by a measured run.

    Up to the tasks of the run the bytes are the measured ones; beyond, every task takes what
    they do on average. With --rate, tasks arrive at random, wait for a slot and are learnt in
    the time that the run's own trainings took; with --cv or --burst, they come unevenly. csv is
    the table of bytes.

    \b
    Example:
      streamlab simulate --tasks 1000000
      streamlab simulate --tasks 1M --density 0.1% --base-params 340M
      streamlab simulate --tasks 10000 --rate 200 --slots 2 --budget 10GB
      streamlab simulate --tasks 10000 --rate 200 --cv 3
    """
    if tasks > MOST_TASKS:
        raise UsageError(f"`--tasks` takes at most {MOST_TASKS:.0e}, got {tasks:,}.")
    what_if = WhatIf(
        density=density,
        value_type=value_type,
        base_params=base_params,
        n_classes=heads,
        n_copies=replication,
    )
    measured = measured_run(place, run)
    process = _process(rate, cv, burst, slots)
    queue = _queue(measured, tasks, process, slots or 1, seed) if process else None
    simulated = simulated_steps(
        measured, tasks, what_if, block_bytes=block, queue=queue, budget=budget
    )
    _print_simulation(simulation_page(simulated), "json" if as_json else form)
    _note_on_simulation(simulated)


def _process(
    rate: float | None, cv: float | None, burst: int | None, slots: int | None
) -> Steady | None:
    """Return the process that the options ask for; None where no tasks are to arrive."""
    if rate is None:
        for option, given in (("slots", slots), ("cv", cv), ("burst", burst)):
            if given is not None:
                raise UsageError(
                    f"`--{option}` is about tasks that arrive: give `--rate PER_DAY` as well."
                )
        return None
    if cv is not None and burst is not None:
        raise UsageError("`--cv` and `--burst` are of two processes. Leave one of them out.")
    from streamlab.arrivals.arrival_processes import Burst, Gamma, Poisson

    if cv is not None:
        return Gamma(rate_per_day=rate, cv=cv)
    if burst is not None:
        return Burst(rate_per_day=rate, size=burst)
    return Poisson(rate_per_day=rate)


def _queue(measured: Measured, n_tasks: int, process: Steady, n_slots: int, seed: int) -> Queue:
    if n_tasks > MOST_QUEUED:
        raise UsageError(
            f"With `--rate`, at most {MOST_QUEUED:,} tasks can be followed, got {n_tasks:,}. "
            "Leave `--rate` out, or follow fewer."
        )
    from streamlab.planning.queueing import serve

    return serve(
        n_tasks,
        process=process,
        n_slots=n_slots,
        service_seconds=measured.training_seconds,
        seed=seed,
    )


def _note_on_simulation(simulated: Simulation) -> None:
    """Say on standard error what the numbers cannot."""
    queue = simulated.queue
    if simulated.model.registry is None:
        click.echo("The registry is in no file here; its bytes are not counted.", err=True)
    if queue is not None and queue.load >= 1:
        click.echo(
            f"Tasks come faster than {queue.n_slots} at a time can be learnt, so waits only grow.",
            err=True,
        )


def _print_simulation(page: Page, form: Format) -> None:
    tables = {part.key: part for part in page.sections if isinstance(part, Table)}
    if form == "json":
        print_json(page.tree())
    elif form == "csv":
        print_table(tables["steps"], form)
    else:
        shown = tuple(column.name for column in STEPS if column.default)
        narrow = (
            part.select(shown) if isinstance(part, Table) and part.key == "steps" else part
            for part in page.sections
        )
        print_page(replace(page, sections=tuple(narrow)), form)


def measured_run(place: Place, run: str) -> Measured:
    """Read what a run's own stream takes, the registry's own file included."""
    from streamlab.home.folder import empty_file_bytes, find_file_bytes

    with place.open() as registry:
        name = find_run(registry, run).name
        n_bytes = find_file_bytes(place.url)
        empty = 0 if n_bytes is None else empty_file_bytes()
        return measure(registry, name, file_bytes=n_bytes, empty_bytes=empty)
