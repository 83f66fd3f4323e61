"""`streamlab du`: how many bytes, and of what."""

from __future__ import annotations

import click

from streamlab.cli.places import Place, with_place
from streamlab.cli.tables import Format, format_option, print_table
from streamlab.errors import UsageError
from streamlab.views.disk_usage import BYS, By, home_usage, usage


@click.command()
@click.option("--by", type=click.Choice(BYS), help="Add up stored files by this.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The N largest.")
@format_option()
@with_place
def du(*, place: Place, by: By | None, limit: int | None, form: Format) -> None:
    """Add up what the home takes, or with --by what stored files take by one thing.

    Logical bytes count a file once per arrival, physical ones once; a file that two tasks
    share is physical in both. Removed arrivals are left out; the files that `gc` would
    delete for them are a line of their own.

    \b
    Example:
      streamlab du
      streamlab du --by task --limit 10
    """
    if by is None and limit is not None:
        raise UsageError("`--limit` keeps the largest of what `--by` names; give `--by` too.")
    with place.open() as registry:
        table = home_usage(registry, place.home) if by is None else usage(registry, by)
    if limit is not None:
        table = table.having(table.rows[:limit])
    print_table(table if form in ("json", "csv") else table.brief(), form)
    if not table.rows:
        click.echo("Nothing is stored yet.", err=True)
