"""`streamlab check`: run a scenario anew, and see that order and neighbours change nothing."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamlab.cli.tables import Format, format_option, print_table
from streamlab.views.table import Column, Table

if TYPE_CHECKING:
    from streamlab.stream.invariants import Claim

_COLUMNS = (Column("holds"), Column("claim"), Column("found"))


@click.group()
def check() -> None:
    """Run a scenario anew in a folder of its own, and prove what it is to keep.

    \b
    Example:
      streamlab check order scenarios/smoke.yaml --shuffles 1
      streamlab check isolation scenarios/smoke.yaml
    """


@check.command()
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Override a setting.")
@click.option(
    "--shuffles", type=click.IntRange(min=1), default=3, show_default=True, help="Other orders."
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Of the orders."
)
@format_option()
def order(
    scenario: Path, overrides: tuple[str, ...], *, shuffles: int, seed: int, form: Format
) -> None:
    """Show that the same tasks in other orders give the same files, byte for byte.

    The scenario is run once as listed and once for every shuffle. The exit code is 1 where a
    file differs.

    \b
    Example:
      streamlab check order scenarios/smoke.yaml --shuffles 1
    """
    from streamlab.stream.invariants import check_order
    from streamlab.stream.scenario import load_scenario

    loaded = load_scenario(scenario, overrides=overrides)
    with tempfile.TemporaryDirectory(prefix="streamlab-") as folder:
        _tell(check_order(loaded, Path(folder), n_shuffles=shuffles, seed=seed), form)


@check.command()
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Override a setting.")
@format_option()
def isolation(scenario: Path, overrides: tuple[str, ...], *, form: Format) -> None:
    """Show that no arrival changes the base, or the score of an earlier one.

    The scenario is run once, the base is fingerprinted after every arrival, and every earlier
    task is scored again. The exit code is 1 where anything moved.

    \b
    Example:
      streamlab check isolation scenarios/smoke.yaml
    """
    from streamlab.stream.invariants import check_isolation
    from streamlab.stream.scenario import load_scenario

    loaded = load_scenario(scenario, overrides=overrides)
    with tempfile.TemporaryDirectory(prefix="streamlab-") as folder:
        _tell(check_isolation(loaded, Path(folder), clock=time.time), form)


def _tell(claims: Iterator[Claim], form: Format) -> None:
    """Print every claim as a table; exits with 1 where one does not hold."""
    found = []
    for claim in claims:
        click.echo(f"{'holds' if claim.holds else 'FAILS'}  {claim.subject}", err=True)
        found.append(claim)
    rows = tuple(("yes" if c.holds else "NO", c.subject, c.found) for c in found)
    print_table(Table("claims", "Claims", _COLUMNS, rows), form)
    n_broken = sum(not claim.holds for claim in found)
    if n_broken:
        click.echo(f"Error: {n_broken} of {len(found)} claims do not hold.", err=True)
        click.get_current_context().exit(1)
    click.echo(f"All {len(found)} claims hold.", err=True)
