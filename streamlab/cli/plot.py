"""`streamlab plot`: figures, and the numbers behind them as CSV."""

from __future__ import annotations

from pathlib import Path

import click

from streamlab.cli.places import Place, with_place
from streamlab.cli.subjects import OneOf
from streamlab.report.storage import storage_series
from streamlab.report.storage_files import write_storage


def _storage(place: Place, run: str, output: Path | None) -> tuple[Path, ...]:
    with place.open() as registry:
        series = storage_series(registry, run)
    files = write_storage([series], output or place.home.figures / series.run)
    return (files.png, files.svg, files.csv)


_FIGURES = {"storage": _storage}


@click.command()
@click.argument("figure", type=OneOf(tuple(_FIGURES), what="figure"))
@click.option(
    "--run", metavar="NAME", default="latest", help="A run's name or number; default: latest."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where to write; default: figures/RUN in the home.",
)
@with_place
def plot(figure: str, *, place: Place, run: str, output: Path | None) -> None:
    """Draw a FIGURE as PNG and SVG, and write its numbers as CSV.

    storage: the bytes kept after each task, one base and a diff a task, against one full
    checkpoint a task. Of the run's first seed, by the scenario's own method.

    \b
    Example:
      streamlab plot storage --run latest -o figures
    """
    for path in _FIGURES[figure](place, run, output):
        click.echo(path)
