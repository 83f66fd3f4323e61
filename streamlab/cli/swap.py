"""`streamlab swap`: how long it takes to switch among stored tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from streamlab.cli.places import Place, with_place
from streamlab.cli.stored import base_option, described, find_task, narrowing_options, opened
from streamlab.cli.tables import Format, format_option, print_table
from streamlab.errors import UsageError
from streamlab.views.table import Column, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamlab.inference.latency import Timing
    from streamlab.inference.refs import Narrowing


@click.command()
@click.argument("tasks", metavar="[TASK]...", nargs=-1)
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    metavar="N",
    help="Times per task.",
)
@narrowing_options
@base_option
@format_option()
@with_place
def swap(
    tasks: tuple[str, ...],
    *,
    repeats: int,
    narrowing: Narrowing,
    base: str | None,
    place: Place,
    form: Format,
) -> None:
    """Measure switching among stored TASKs (default: all of the latest run) in milliseconds.

    decode reads a file and checks it, apply puts a diff on the model, revert takes it off, swap
    goes from one task to the next, reload loads every weight from one file. The base must come
    through bit for bit.

    \b
    Example:
      streamlab swap
      streamlab swap sst2 rte --repeats 100 --format json
    """
    from streamlab.inference.latency import measure_switching

    home = opened(place)
    words = {word: word for word in tasks} or {
        name: f"task:{name}" for name in home.tasks(narrowing.run or "latest")
    }
    if not words:
        raise UsageError(
            "The run has no finished task to switch among. Name another with `--run`, or run one."
        )
    found = {name: find_task(home, word, narrowing) for name, word in words.items()}
    for word, task in found.items():
        click.echo(described(word, task), err=True)
    first = next(iter(found.values()))
    loaded = home.load_base(first.base_fingerprint, model=base)
    print_table(_table(measure_switching(loaded, found, repeats=repeats)), form)
    click.echo("The base came through bit for bit.", err=True)


def _table(timings: Sequence[Timing]) -> Table:
    whole = timings[-1].median
    columns = (
        Column("step"),
        Column("p50_ms", "ratio"),
        Column("p99_ms", "ratio"),
        Column("p50_over_reload", "ratio"),
        Column("n", "count"),
    )
    rows = tuple(
        (t.step, 1e3 * t.median, 1e3 * t.p99, t.median / whole, len(t.seconds)) for t in timings
    )
    return Table("switching", "Switching", columns, rows)
