"""`streamlab plan`: the resolved stream, with expected bytes and time, and no training."""

from __future__ import annotations

from pathlib import Path

import click

from streamlab.cli.tables import Format, format_option, print_table
from streamlab.units import format_seconds
from streamlab.views.table import Column, Table

_COLUMNS = (
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
    from streamlab.stream.context import World
    from streamlab.stream.estimate import plan as planned
    from streamlab.stream.scenario import load_scenario

    loaded = load_scenario(scenario, overrides=overrides)
    seeds = loaded.scenario.seeds
    world = World(loaded.scenario, load_base(loaded.base, seed=seeds[0]), loaded.folder)
    rows = planned(world)
    table = Table(
        "plan",
        f"Plan of {loaded.scenario.name}",
        _COLUMNS,
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
        else table.select(tuple(column.name for column in _COLUMNS if column.default))
    )
    print_table(shown, form)
    total = format_seconds(sum(row.seconds for row in rows))
    click.echo(f"{len(rows)} arrivals, about {total} of training. Nothing was trained.", err=True)
