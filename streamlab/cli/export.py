"""`streamlab export`: a stored diff, or a whole table, as a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamlab.cli.places import Place, with_place
from streamlab.cli.stored import described, find_task, narrowing_options, opened
from streamlab.errors import UsageError
from streamlab.views.export import check_ending, write_table
from streamlab.views.listings import SUBJECTS, Subject, list_records

if TYPE_CHECKING:
    from streamlab.inference.refs import Narrowing


@click.command()
@click.argument("thing")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to write.",
)
@narrowing_options
@with_place
def export(thing: str, *, output: Path, narrowing: Narrowing, place: Place) -> None:
    """Write a THING to a file; one that is there already is replaced as a whole.

    THING is a table (runs, arrivals, diffs, scores, tasks, providers or bases), written as CSV
    or JSON by the file's ending with raw values in every column; or a stored diff, by the name
    of its task, arrival:NUMBER or the beginning of its digest, written as it is stored.

    \b
    Example:
      streamlab export scores --run latest -o scores.csv
      streamlab export sst2 -o sst2.diff.safetensors
    """
    if thing in SUBJECTS:
        _table(place, thing, narrowing, output)
    else:
        stored = find_task(opened(place), thing, narrowing)
        click.echo(described(thing, stored), err=True)
        stored.save(output)
    click.echo(output)


def _table(place: Place, subject: Subject, narrowing: Narrowing, output: Path) -> None:
    if narrowing.seed is not None or narrowing.method is not None:
        raise UsageError(
            f"A table is exported whole; `--seed` and `--method` do not narrow {subject}. For a "
            f"task of that name write `task:{subject}`."
        )
    check_ending(output)
    with place.open() as registry:
        table = list_records(registry, subject, run=narrowing.run)
    write_table(table, output)
