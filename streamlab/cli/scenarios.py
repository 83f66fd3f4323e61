"""Commands on a scenario file and its keys: `init`, `plan`, `keygen` and `check`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamlab.cli.lazy_group import SuggestingGroup
from streamlab.cli.output import Format, format_option, print_table
from streamlab.errors import UsageError
from streamlab.files import open_private, write_atomically
from streamlab.units import format_seconds
from streamlab.views.table import Column, Table

if TYPE_CHECKING:
    from streamlab.stream.invariants import Claim


@click.command()
@click.argument(
    "path", type=click.Path(dir_okay=False, path_type=Path), default=Path("scenario.yaml")
)
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
def init(path: Path, *, force: bool) -> None:
    """Write a commented starter scenario to PATH (default: scenario.yaml).

    \b
    Example:
      streamlab init mine.yaml
    """
    if path.exists() and not force:
        raise UsageError(f"{path} is there already. Give another name, or `--force` to replace it.")
    text = (files("streamlab.cli") / "starter.yaml").read_text(encoding="utf-8")
    write_atomically(path, text.encode())
    click.echo(f"Wrote {path}. Run it with: streamlab run {path}", err=True)


_PLAN_COLUMNS = (
    *(Column("seed", "number"), Column("task"), Column("provider"), Column("method")),
    *(Column("source"), Column("rows", "count"), Column("steps", "count")),
    *(Column("entries", "count", default=False), Column("bytes", "bytes")),
    Column("seconds", "seconds"),
)


@click.command()
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Override a setting.")
@format_option()
def plan(scenario: Path, overrides: tuple[str, ...], form: Format) -> None:
    """Show what SCENARIO would run: every arrival, its expected bytes and time.

    Bytes are an upper estimate (positions at their entropy, values at full width, the head).
    Seconds come from timing two batches of every task here.

    \b
    Example:
      streamlab plan scenarios/smoke.yaml
    """
    from streamlab.base import load_base
    from streamlab.stream.context import RunContext
    from streamlab.stream.estimate import plan as planned
    from streamlab.stream.scenario import load_scenario

    loaded = load_scenario(scenario, overrides=overrides)
    seeds = loaded.scenario.seeds
    context = RunContext(loaded.scenario, load_base(loaded.base, seed=seeds[0]), loaded.folder)
    rows = planned(context)
    table = Table(
        "plan",
        f"Plan of {loaded.scenario.name}",
        _PLAN_COLUMNS,
        tuple(
            (
                *(row.arrival.seed, row.arrival.task, row.arrival.provider),
                *(row.arrival.method.name, row.source, row.n_train_examples, row.n_steps),
                *(row.n_entries, row.file_bytes, row.seconds),
            )
            for row in rows
        ),
    )
    shown = (
        table
        if form in ("json", "csv")
        else table.select(tuple(column.name for column in _PLAN_COLUMNS if column.default))
    )
    print_table(shown, form)
    total = format_seconds(sum(row.seconds for row in rows))
    click.echo(f"{len(rows)} arrivals, about {total} of training. Nothing was trained.", err=True)


@click.command()
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("provider.key"),
    show_default=True,
    help="The file for the private key.",
)
def keygen(*, out: Path) -> None:
    """Make an Ed25519 key pair: the private key to a file, the public one to standard output.

    The public key goes into the scenario, under its provider. The private key stays with the
    provider; only its owner may read the file, and a file that is there is never replaced.

    \b
    Example:
      streamlab keygen --out reviews_inc.key
    """
    from streamlab.stream.submission import generate

    keys = generate()
    try:
        # The key never exists with wider permissions.
        write_atomically(out, f"{keys.private}\n".encode(), opener=open_private, replace=False)
    except FileExistsError as error:
        raise UsageError(
            f"{out} exists already, and a lost private key cannot be recreated. Give another name "
            "with `--out`."
        ) from error
    click.echo(keys.public)
    click.echo(f"Wrote the private key to {out}. Give it to nobody.", err=True)


_CLAIM_COLUMNS = (Column("holds"), Column("claim"), Column("found"))


@click.group(cls=SuggestingGroup)
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
        _report(check_order(loaded, Path(folder), n_shuffles=shuffles, seed=seed), form)


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
        _report(check_isolation(loaded, Path(folder), clock=time.time), form)


def _report(claims: Iterator[Claim], form: Format) -> None:
    """Print every claim as a table; exits with 1 where one does not hold."""
    found = []
    for claim in claims:
        click.echo(f"{'holds' if claim.holds else 'FAILS'}  {claim.subject}", err=True)
        found.append(claim)
    rows = tuple(("yes" if c.holds else "NO", c.subject, c.found) for c in found)
    print_table(Table("claims", "Claims", _CLAIM_COLUMNS, rows), form)
    n_broken = sum(not claim.holds for claim in found)
    if n_broken:
        click.echo(f"Error: {n_broken} of {len(found)} claims do not hold.", err=True)
        click.get_current_context().exit(1)
    click.echo(f"All {len(found)} claims hold.", err=True)
