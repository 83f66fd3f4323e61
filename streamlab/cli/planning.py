"""`streamlab fit` and `simulate`: what many tasks would take, estimated from a measured run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from streamlab.cli.options import (
    BYTES,
    COUNT,
    RATE,
    SHARE,
    Place,
    number_option,
    run_option,
    with_place,
)
from streamlab.cli.output import Format, format_option, note, print_page
from streamlab.errors import UsageError
from streamlab.planning.capacity import MOST_TASKS, DensityFit, Fit, backtest, fit_density
from streamlab.planning.capacity import fit as fitted
from streamlab.planning.measured import Measured, measure
from streamlab.planning.simulation import simulate as simulated_steps
from streamlab.planning.what_if import WhatIf, suppose
from streamlab.registry.references import find_run
from streamlab.views.plans import fit_page, simulation_page
from streamlab.views.table import Table

if TYPE_CHECKING:
    from streamlab.arrivals.arrival_processes import Steady
    from streamlab.planning.simulation import Simulation


density_option = click.option(
    "--density", type=SHARE, metavar="SHARE", help="Assume another density, such as 0.1%."
)
block_option = click.option(
    "--block",
    type=BYTES,
    metavar="BYTES",
    default=4096,
    show_default=True,
    help="Disk block size; a file takes whole blocks.",
)


@click.command()
@click.option(
    "--budget", type=BYTES, metavar="BYTES", required=True, help="Such as 64MB or 1.5GiB."
)
@click.option("--tasks", type=COUNT, metavar="N", help="Find the density at which N tasks fit.")
@click.option("--first", type=COUNT, metavar="N", help="Use only the run's first N tasks.")
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
    """Estimate how many tasks fit a budget from the measured diffs of a run.

    The estimate counts one base, one diff per task with its head, the rows of the registry, and
    whole disk blocks for every file. The 95% interval comes from the spread of the measured
    diffs. With --first, the estimate from the first tasks is compared with all tasks of the run.
    csv holds the table of parts.

    \b
    Example:
      streamlab fit --budget 64MB
      streamlab fit --budget 64MB --density 0.1% --first 2
      streamlab fit --budget 64MB --tasks 200
    """
    if tasks is not None and density is not None:
        raise UsageError(
            "`--tasks` finds a density and `--density` sets one. Leave one of them out."
        )
    everything = measured_run(place, run)
    measured = everything if first is None else everything.first(first)
    model = measured.model(block_bytes=block)
    supposed = suppose(model, measured.base, WhatIf(density=density))
    found: Fit | DensityFit
    found = fitted(supposed, budget) if tasks is None else fit_density(supposed, tasks, budget)
    check = None if first is None else backtest(model, everything.model(block_bytes=block))
    page = fit_page(found, measured, model, check, density=density)
    (parts,) = (section for section in page.sections if isinstance(section, Table))
    print_page(page, form, rows=parts)
    _note_on_fit(found, len(measured.tasks))


def _note_on_fit(found: Fit | DensityFit, n_measured: int) -> None:
    """Print what the numbers leave out to standard error."""
    if n_measured == 1:
        note("One task was measured, so there is no interval.")
    elif isinstance(found, Fit) and found.high is None:
        note("The measured diffs differ too much for an upper limit.")
    if found.storage.registry is None:
        note("The registry is not a local file; its bytes are not counted.")


MOST_QUEUED = 10_000_000  # whose times fit in memory


@click.command()
@click.option("--tasks", type=COUNT, metavar="N", required=True, help="How many tasks, such as 1M.")
@run_option
@density_option
@click.option(
    "--value-type",
    type=click.Choice(("fp32", "bf16", "int8", "int4", "int2", "ternary", "sign")),
    help="Assume values of this type.",
)
@click.option(
    "--base-params", type=COUNT, metavar="N", help="Assume a base of N parameters, such as 340M."
)
@click.option("--heads", "n_classes", type=COUNT, metavar="N", help="Assume heads of N classes.")
@click.option(
    "--replication", "n_copies", type=COUNT, metavar="N", default=1, help="Store N copies."
)
@click.option("--rate", type=RATE, metavar="PER_DAY", help="Simulate arrivals at this rate.")
@click.option(
    "--cv",
    type=click.FloatRange(0.001, 100),
    metavar="CV",
    help="Gamma process with this coefficient of variation; default: a Poisson process.",
)
@click.option("--burst", type=COUNT, metavar="N", help="N tasks arrive at once.")
@click.option("--slots", type=COUNT, metavar="N", help="Tasks trained at a time; default: 1.")
@number_option("--seed", "Seed of the arrivals.", default=0, least=0)
@click.option("--budget", type=BYTES, metavar="BYTES", help="Report when this budget is full.")
@block_option
@format_option()
@with_place
def simulate(
    *,
    place: Place,
    tasks: int,
    run: str,
    rate: float | None,
    cv: float | None,
    burst: int | None,
    slots: int | None,
    seed: int,
    budget: int | None,
    block: int,
    form: Format,
    **assumptions: Any,
) -> None:
    """Estimate the bytes and waiting times of N tasks, compared with full finetuning and adapters.

    The estimate uses the measured bytes of the run's tasks, and their mean beyond those. With
    --rate, tasks arrive at random, wait for a free slot and train for as long as the tasks of
    the run did; --cv or --burst make the arrivals uneven. csv holds the table of bytes.

    \b
    Example:
      streamlab simulate --tasks 1000000
      streamlab simulate --tasks 1M --density 0.1% --base-params 340M
      streamlab simulate --tasks 10000 --rate 200 --slots 2 --budget 10GB
      streamlab simulate --tasks 10000 --rate 200 --cv 3
    """
    if tasks > MOST_TASKS:
        raise UsageError(f"`--tasks` takes at most {MOST_TASKS:.0e}, got {tasks:,}.")
    measured = measured_run(place, run)
    process = _process(rate, cv, burst, slots)
    queue = None
    if process is not None:
        if tasks > MOST_QUEUED:
            raise UsageError(
                f"With `--rate`, at most {MOST_QUEUED:,} tasks can be simulated, got {tasks:,}. "
                "Leave `--rate` out, or simulate fewer."
            )
        from streamlab.planning.queueing import serve

        seconds = measured.training_seconds
        queue = serve(
            tasks, process=process, n_slots=slots or 1, service_seconds=seconds, seed=seed
        )
    what_if = WhatIf(**assumptions)
    simulated = simulated_steps(
        measured, tasks, what_if, block_bytes=block, queue=queue, budget=budget
    )
    page = simulation_page(simulated)
    tables = (section for section in page.sections if isinstance(section, Table))
    print_page(page, form, rows=next(table for table in tables if table.key == "steps"))
    _note_on_simulation(simulated)


def _process(
    rate: float | None, cv: float | None, burst: int | None, slots: int | None
) -> Steady | None:
    """Return the arrival process of the options; None without arrivals."""
    if rate is None:
        for option, given in (("slots", slots), ("cv", cv), ("burst", burst)):
            if given is not None:
                raise UsageError(
                    f"`--{option}` applies to simulated arrivals: give `--rate PER_DAY` too."
                )
        return None
    if cv is not None and burst is not None:
        raise UsageError("`--cv` and `--burst` choose different processes. Leave one of them out.")
    from streamlab.arrivals.arrival_processes import Burst, Gamma, Poisson

    if cv is not None:
        return Gamma(rate_per_day=rate, cv=cv)
    if burst is not None:
        return Burst(rate_per_day=rate, size=burst)
    return Poisson(rate_per_day=rate)


def _note_on_simulation(simulated: Simulation) -> None:
    """Print what the numbers leave out to standard error."""
    queue = simulated.queue
    if simulated.model.registry is None:
        note("The registry is not a local file; its bytes are not counted.")
    if queue is not None and queue.load >= 1:
        note(f"Tasks arrive faster than {queue.n_slots} at a time train: waits keep growing.")


def measured_run(place: Place, run: str) -> Measured:
    """Measure a run's stream and the file of the registry."""
    from streamlab.home.folder import empty_file_bytes, find_file_bytes

    with place.open() as registry:
        name = find_run(registry, run).name
        n_bytes = find_file_bytes(place.url)
        empty = 0 if n_bytes is None else empty_file_bytes()
        return measure(registry, name, file_bytes=n_bytes, empty_bytes=empty)
