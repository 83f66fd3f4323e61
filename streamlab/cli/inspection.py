"""Commands that show records: `ls`, `show`, `compare`, `tag` and `du`."""

from __future__ import annotations

from typing import Literal

import click

from streamlab.cli.options import OneOf, Place, with_place
from streamlab.cli.output import Format, format_option, print_json, print_page, print_table
from streamlab.errors import UsageError
from streamlab.home.store import ArtifactStore
from streamlab.registry.references import find_run, find_tagged, split_tag
from streamlab.views.comparison import compare as compared
from streamlab.views.disk_usage import BYS, By, home_usage, usage
from streamlab.views.listings import SUBJECTS, Subject, list_records
from streamlab.views.pages import find_page
from streamlab.views.table import Table, readable


@click.command()
@click.argument("subject", type=OneOf(SUBJECTS, what="listing"), default="runs")
@click.option("--run", metavar="NAME", help="Only of this run: a name, a number or `latest`.")
@click.option(
    "--where", "conditions", metavar="EXPR", multiple=True,
    help="Only rows it is true of; see docs/reference/where.md. Given twice: both have to hold.",
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
        run = None if run is None else find_run(registry, run).name
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


@click.command()
@click.argument("word", metavar="[KIND:]NAME", default="latest")
@click.option("--run", metavar="NAME", default="latest", help="Where a task is looked up.")
@format_option("table", "json")
@with_place
def show(word: str, *, place: Place, run: str, form: Literal["table", "json"]) -> None:
    """Show all of one run (the latest by default), arrival, diff, task or base.

    \b
    run:NAME         a run by name or number, or `latest`
    arrival:NUMBER   an arrival
    diff:DIGEST      a stored artifact, by the beginning of its digest
    task:NAME        a task in the latest run, or in that of --run
    base:DIGEST      a base, by the beginning of its fingerprint

    Without a KIND, the NAME may be a run, a task, or at least six digits of a diff's digest;
    one that means several of these is refused. Digests are shortened; json has them whole.

    \b
    Example:
      streamlab show glue_stream-1
      streamlab show arrival:7
    """
    with place.open() as registry:
        page = find_page(registry, word, run=run, store=ArtifactStore(place.home.store))
    if form == "json":
        print_json(page.tree())
    else:
        print_page(page)


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


@click.command()
@click.argument("name", required=False)
@click.argument("thing", metavar="[KIND:]THING", required=False)
@click.option("--remove", is_flag=True, help="Take the tag NAME off.")
@format_option()
@with_place
def tag(name: str | None, thing: str | None, *, place: Place, remove: bool, form: Format) -> None:
    """Give a run, an arrival or a diff a NAME of your own, or list the names there are.

    THING is run:NAME, arrival:NUMBER or diff:DIGEST, or what of these `show` would take
    without a KIND. `show` then takes the NAME, and `gc` leaves alone what has one. A
    NAME is on one thing of each kind; `--remove KIND:NAME` says which.

    \b
    Example:
      streamlab tag best arrival:1
      streamlab tag
      streamlab tag --remove best
    """
    if name is None:
        with place.open() as registry:
            table = list_records(registry, "tags")
        print_table(table, form)
        if not table.rows:
            click.echo("There is no tag yet. Make one with: streamlab tag NAME THING", err=True)
    elif remove:
        if thing is not None:
            raise UsageError(f"`--remove` takes the name of a tag only; leave {thing!r} out.")
        with place.open(read_only=False) as registry:
            gone = registry.tags.remove(*split_tag(name))
        click.echo(f"Took `{gone.name}` off {gone.kind} {gone.target}.", err=True)
    elif thing is None:
        raise UsageError(
            f"Say what `{name}` is to be on: `streamlab tag {name} arrival:1`, or take it off "
            f"with `streamlab tag --remove {name}`."
        )
    else:
        with place.open(read_only=False) as registry:
            made = registry.tags.add(name, *find_tagged(registry, thing))
        click.echo(f"`{made.name}` is on {made.kind} {made.target}.", err=True)


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
