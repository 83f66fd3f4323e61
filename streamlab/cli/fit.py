"""`streamlab fit`: how many tasks fit a budget, and which density makes a number of them fit."""

from __future__ import annotations

import click

from streamlab.cli.places import Place, with_place
from streamlab.cli.planned import block_option, density_option, measured_run, run_option
from streamlab.cli.quantities import BYTES, COUNT
from streamlab.cli.tables import Format, format_option, print_json, print_page, print_table
from streamlab.errors import UsageError
from streamlab.planning.capacity import DensityFit, Fit, backtest, fit_density
from streamlab.planning.capacity import fit as fitted
from streamlab.planning.what_if import WhatIf, suppose
from streamlab.views.plans import fit_page
from streamlab.views.table import Page, Table


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
    _print(fit_page(found, measured, model, check, density=density), form)
    _tell(found, len(measured.tasks))


def _print(page: Page, form: Format) -> None:
    if form == "json":
        print_json(page.tree())
    elif form == "csv":
        (parts,) = (part for part in page.sections if isinstance(part, Table))
        print_table(parts, form)
    else:
        print_page(page, form)


def _tell(found: Fit | DensityFit, n_measured: int) -> None:
    """Say on standard error what the numbers cannot."""
    if n_measured == 1:
        click.echo("One task was measured, so there is no interval.", err=True)
    elif isinstance(found, Fit) and found.high is None:
        click.echo("The measured diffs differ too much for an upper end.", err=True)
    if found.storage.registry is None:
        click.echo("The registry is in no file here; its bytes are not counted.", err=True)
