"""`streamlab rm` and `streamlab restore`: arrivals left out, until they go or come back."""

from __future__ import annotations

from collections.abc import Sequence

import click

from streamlab.cli.places import Place, with_place
from streamlab.cli.tables import Format, format_option, print_table
from streamlab.registry.records import ArrivalRecord
from streamlab.units import counted
from streamlab.views.selection import select_arrivals
from streamlab.views.table import Column, Table

_COLUMNS = (
    *(Column("id", "number"), Column("run"), Column("seed", "number"), Column("task")),
    *(Column("method"), Column("digest", "digest")),
)


@click.command()
@click.argument("words", metavar="ARRIVAL|TASK|RUN...", nargs=-1, required=True)
@click.option("--run", metavar="NAME", help="Of a task: its arrivals in this run only.")
@format_option()
@with_place
def rm(words: tuple[str, ...], *, place: Place, run: str | None, form: Format) -> None:
    """Remove arrivals by their numbers, or all those of a task or a run.

    They are left out of listings, scores, plots and `du`; their files stay. `restore` brings
    them back, until `gc` deletes what nothing needs. An arrival of an unfinished run that is
    removed is made anew by `run --resume`.

    \b
    Example:
      streamlab rm 3 4
      streamlab rm task:sst2 --run latest
    """
    with place.open(read_only=False) as registry:
        chosen = select_arrivals(registry, words, run=run)
        removed = registry.remove_arrivals([arrival.id for arrival in chosen])
    print_table(removed_table(removed), form)
    numbers = " ".join(str(arrival.id) for arrival in removed[:5])
    click.echo(
        f"Removed {counted(len(removed), 'arrival')}. Bring back with: streamlab restore {numbers}"
        f"{' ...' if len(removed) > 5 else ''}",
        err=True,
    )


@click.command()
@click.argument("words", metavar="ARRIVAL|TASK|RUN...", nargs=-1, required=True)
@click.option("--run", metavar="NAME", help="Of a task: its arrivals in this run only.")
@format_option()
@with_place
def restore(words: tuple[str, ...], *, place: Place, run: str | None, form: Format) -> None:
    """Bring removed arrivals back by their numbers, or all those of a task or a run.

    `ls arrivals --removed` lists what there is to bring back.

    \b
    Example:
      streamlab restore 8
    """
    with place.open(read_only=False) as registry:
        chosen = select_arrivals(registry, words, run=run, removed=True)
        restored = registry.restore_arrivals([arrival.id for arrival in chosen])
    print_table(removed_table(restored), form)
    click.echo(f"Restored {counted(len(restored), 'arrival')}.", err=True)


def removed_table(arrivals: Sequence[ArrivalRecord]) -> Table:
    """Return the table of arrivals that were removed, or brought back."""
    rows = tuple((a.id, a.run, a.seed, a.task, a.method, a.digest) for a in arrivals)
    return Table("arrivals", "Arrivals", _COLUMNS, rows)
