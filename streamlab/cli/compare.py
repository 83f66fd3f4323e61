"""`streamlab compare`: what differs between runs, arrivals or diffs, and what came of it."""

from __future__ import annotations

import click

from streamlab.cli.places import Place, with_place
from streamlab.cli.tables import Format, format_option, print_json, print_page, print_table
from streamlab.views.comparison import compare as compared


@click.command()
@click.argument("names", metavar="A B ...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="What is equal too.")
@format_option()
@with_place
def compare(
    names: tuple[str, ...],
    *,
    place: Place,
    everything: bool,
    form: Format,
) -> None:
    """Show what differs between runs, arrivals or diffs, named as for `show`.

    Settings, environment, base and data that differ, then scores, then bytes. Each is held
    against the first: a difference is the mean over pairs, which are one task by one method
    under one seed; the spread is their standard deviation. csv is one row a value.

    \b
    Example:
      streamlab compare glue_stream-1 tiny-1
      streamlab compare arrival:1 arrival:2 --all
    """
    with place.open() as registry:
        found = compared(registry, names, everything=everything)
    if form == "csv":
        print_table(found.rows, form)
    elif form == "json":
        print_json(found.page.tree())
    else:
        print_page(found.page, form)
    if not any(table.rows for table in found.facts):
        click.echo("No setting differs; `--all` shows what is equal.", err=True)
    if found.scores and not found.n_pairs:
        click.echo(
            "No score has a like among the others: no task, metric and seed is shared.", err=True
        )
