"""`streamlab ls`: list what the registry remembers."""

from __future__ import annotations

import click

from streamlab.cli.places import Place, with_place
from streamlab.cli.subjects import OneOf
from streamlab.cli.tables import Format, format_option, print_table
from streamlab.views.listings import SUBJECTS, Subject, list_records
from streamlab.views.table import Table, readable


@click.command()
@click.argument("subject", type=OneOf(SUBJECTS, what="listing"), default="runs")
@click.option("--run", metavar="NAME", help="Only of this run: a name, a number or `latest`.")
@click.option(
    "--where", "conditions", metavar="EXPR", multiple=True,
    help="Only rows it is true of; see docs/where.md. Given twice: both have to hold.",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most N rows.")
@click.option("--sort", metavar="COLUMN", help="Order by a column; -COLUMN: largest first.")
@click.option("--columns", metavar="A,B", help="These columns; `all` for every one.")
@click.option("--removed", is_flag=True, help="Of arrivals: those that `rm` removed.")
@format_option()
@with_place
def ls(
    subject: Subject,
    *,
    place: Place,
    run: str | None,
    conditions: tuple[str, ...],
    limit: int | None,
    sort: str | None,
    columns: str | None,
    removed: bool,
    form: Format,
) -> None:
    """List runs, arrivals, diffs, scores, placements, tasks, providers, bases, tags or events.

    Runs are what is listed if nothing is said. A table shows the columns that matter most,
    json and csv show all. Times are UTC. --where chooses rows, --sort orders them, --limit then
    keeps the first (of unsorted runs and events the last). A condition may name every column
    that `--columns all` shows.

    \b
    Example:
      streamlab ls scores --where 'task = sst2 and value > 80%' --sort -value
      streamlab ls arrivals --where 'file_bytes <= 200kB and not task like "s*"'
      streamlab ls diffs --columns digest,n_entries,head_bytes --format csv
    """
    where = _all_of(conditions)
    with place.open() as registry:
        table = list_records(
            registry, subject, run=run, where=where, sort=sort, limit=limit, removed=removed
        )
    print_table(_chosen(table, columns, form), form, folded=columns is None)
    if not table.rows and where is not None:
        click.echo(
            f"There are no {subject} of which this is true: {readable(where, 'text')}", err=True
        )
    elif not table.rows and removed:
        click.echo("No arrival is removed.", err=True)
    elif not table.rows:
        whose = "registry" if run is None else f"run `{run}`"
        click.echo(
            f"There are no {subject} in the {whose} yet. `streamlab init` writes a scenario, and "
            "`streamlab run scenario.yaml` runs it.",
            err=True,
        )


def _all_of(conditions: tuple[str, ...]) -> str | None:
    if len(conditions) < 2:
        return conditions[0] if conditions else None
    return " and ".join(f"({condition})" for condition in conditions)


def _chosen(table: Table, columns: str | None, form: Format) -> Table:
    if columns is not None and columns != "all":
        return table.select(tuple(name.strip() for name in columns.split(",")))
    if columns == "all" or form in ("json", "csv"):
        return table
    return table.select(tuple(column.name for column in table.columns if column.default))
