"""Commands that show records: `ls`, `show`, `compare`, `tag` and `du`."""

from __future__ import annotations

import time

import click

from streamlab.cli.completion import ARRIVALS, TAGS, names_of
from streamlab.cli.options import OneOf, Place, number_option, run_named, where_option, with_place
from streamlab.cli.output import Format, format_option, note, print_line, print_page, print_table
from streamlab.errors import UsageError
from streamlab.registry.references import LATEST, find, find_run, find_runs, find_tagged, split_tag
from streamlab.views.comparison import compare as compared
from streamlab.views.disk_usage import BYS, By, home_usage, usage
from streamlab.views.listings import SUBJECTS, Subject, list_records, parse_where
from streamlab.views.pages import find_page
from streamlab.views.sweep import compare_sweep
from streamlab.views.table import readable


@click.command()
@click.argument(
    "subject", type=OneOf(SUBJECTS, what="listing"), metavar="[LISTING]", default="runs"
)
@run_named("Only the records of this run.")
@where_option("Only rows that meet this condition")
@number_option("--limit", "At most N rows.")
@click.option("--sort", metavar="COLUMN", help="Sort by this column; -COLUMN: descending.")
@click.option("--columns", metavar="A,B", help="Show these columns; `all`: every column.")
@click.option("--removed", is_flag=True, help="List the arrivals that `rm` removed.")
@click.option("--rescored", is_flag=True, help="List scores taken again after later arrivals, too.")
@format_option()
@with_place
def ls(
    subject: Subject,
    *,
    place: Place,
    run: str | None,
    where: str | None,
    limit: int | None,
    sort: str | None,
    columns: str | None,
    removed: bool,
    rescored: bool,
    form: Format,
) -> None:
    """List runs, arrivals, diffs, scores, placements, tasks, providers, bases, tags or events.

    The default is runs. A table shows the main columns, json and csv show all. Times are UTC.
    Rows are filtered by --where, sorted by --sort and then cut to --limit; of unsorted runs and
    events the last rows are kept. Every column that `--columns all` shows can be used in
    --where and --sort.

    \b
    Example:
      streamlab ls scores --where 'task = sst2 and value > 80%' --sort -value
      streamlab ls arrivals --where 'file_bytes <= 200kB and not task like "s*"'
      streamlab ls diffs --columns digest,n_entries,head_bytes --format csv
    """
    with place.open() as registry:
        run = None if run is None else find_run(registry, run).name
        table = list_records(
            registry,
            subject,
            run=run,
            where=where,
            sort=sort,
            limit=limit,
            removed=removed,
            rescored=rescored,
        )
    if columns not in (None, "all"):
        table = table.select(tuple(name.strip() for name in columns.split(",")))
    print_table(table, form, every=columns is not None, folded=columns is None)
    if not table.rows and where is not None:
        note(f"No {subject} meet the condition: {readable(where, 'text')}")
    elif not table.rows and removed:
        note("No arrival is removed.")
    elif not table.rows:
        whose = "registry" if run is None else f"run `{run}`"
        note(
            f"There are no {subject} in the {whose} yet. `streamlab init` writes a scenario, and "
            "`streamlab run scenario.yaml` runs it."
        )


@click.command()
@click.argument("reference", default="latest", shell_complete=names_of(*ARRIVALS, words=(LATEST,)))
@run_named("Look a task up in this run.", default=LATEST)
@click.option("--live", is_flag=True, help="Serve the report page of a run that goes on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), metavar="N",
    help="--live: the port on 127.0.0.1; default: a free one.",
)  # fmt: skip
@format_option("table", "json")
@with_place
def show(
    reference: str, *, place: Place, run: str, live: bool, port: int | None, form: Format
) -> None:
    """Show one run, arrival, diff, task or base; the default is the latest run.

    \b
    latest, run:NAME    a run, by name or number
    arrival:NUMBER      an arrival
    diff:DIGEST         a stored artifact, by the first digits of its digest
    task:NAME           a task in the run of --run
    NAME@VERSION        the arrival of one version of a task
    base:FINGERPRINT    a base, by its first digits

    `latest` passes over runs whose arrivals were all removed, and over imported files unless there
    is nothing else.

    Every command names things in this way. The KIND before the colon can be left out of a run, a
    task and a digest of six digits or more; a name that fits several things is refused. A bare
    number is a run here and for --run, and an arrival in commands that work on arrivals or
    artifacts. A tag stands for what it is on. Digests are shortened; json has them whole.

    --live prints the address of a page on this machine that follows a run: it is the page of
    `streamlab report`, renewed as arrivals finish. Ctrl-C ends it; the run goes on.

    \b
    Example:
      streamlab show glue_stream-1
      streamlab show arrival:7
      streamlab show latest --live
    """
    if port is not None and not live:
        raise UsageError("`--port` is for the page that `--live` serves; give `--live` too.")
    if live:
        _follow(place, reference, port or 0)
        return
    with place.open() as registry:
        page = find_page(registry, reference, run=run, store=place.find_store(registry))
    print_page(page, form)


def _follow(place: Place, reference: str, port: int) -> None:
    """Serve the page of a run until Ctrl-C."""
    from streamlab.html.live import LiveRun, LiveServer

    with place.open() as registry:
        target = find(registry, reference)
        if target.kind != "run":
            raise UsageError(
                f"`--live` follows a run, and {reference!r} is {target.kind} `{target.name}`."
            )
    live = LiveRun(place.open, place.home, target.name, clock=time.time, store_url=place.store_url)
    with LiveServer(live, port) as server:
        print_line(server.url)
        note(f"The page follows {target.name}. Ctrl-C ends it; the run goes on.")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            note("\nThe page is no longer served.")


@click.command()
@click.argument("references", metavar="A B ...", nargs=-1, shell_complete=names_of(*ARRIVALS))
@click.option("--all", "everything", is_flag=True, help="Also show what is equal.")
@click.option("--sweep", is_flag=True, help="Tabulate runs by the settings in which they differ.")
@where_option("Only runs that meet this condition; without names all of them")
@format_option()
@with_place
def compare(
    references: tuple[str, ...],
    *,
    place: Place,
    everything: bool,
    sweep: bool,
    where: str | None,
    form: Format,
) -> None:
    """Compare runs, arrivals or diffs with the first of them.

    It shows the settings, environment, base and data that differ, then scores and bytes. Scores
    are paired by task, method and seed: the difference is the mean over the pairs, the spread
    their standard deviation. csv has one row per value.

    --sweep takes runs, and one alone, or none for the latest, stands for all runs of its
    scenario. It has a row for each run: its settings that differ, mean score and bytes; and a
    row for each task, which csv has.

    \b
    Example:
      streamlab compare glue_stream-1 tiny-1
      streamlab compare arrival:1 arrival:2 --all
      streamlab compare --sweep
      streamlab compare --where 'status = finished'
    """
    condition = parse_where("runs", where)
    if sweep:
        if everything:
            raise UsageError("`--all` is for a comparison with the first; leave it out.")
        with place.open() as registry:
            swept = compare_sweep(registry, references, where=condition)
        print_page(swept.page, form, rows=swept.by_task)
        return
    with place.open() as registry:
        if condition is not None:
            chosen = find_runs(registry, references, where=condition)
            references = tuple(f"run:{run.name}" for run in chosen)
        found = compared(registry, references, everything=everything)
    print_page(found.page, form, rows=found.rows)
    if not any(table.rows for table in found.facts):
        note("No setting differs; `--all` shows what is equal.")
    if found.scores and not found.n_pairs:
        note("No scores can be paired: no task, metric and seed is in both.")


@click.command()
@click.argument("name", required=False, shell_complete=names_of(*TAGS))
@click.argument("reference", required=False, shell_complete=names_of(*ARRIVALS, words=(LATEST,)))
@click.option("--remove", is_flag=True, help="Remove the tag NAME.")
@format_option()
@with_place
def tag(
    name: str | None, reference: str | None, *, place: Place, remove: bool, form: Format
) -> None:
    """Tag a run, an arrival or a diff with a NAME, or list all tags.

    Every command then takes the NAME as a reference, and `gc` and `purge` keep what it is on. A
    NAME can be on one run, one arrival and one diff; `--remove KIND:NAME` removes one of them.

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
            note("There is no tag yet. Make one with: streamlab tag NAME REFERENCE")
    elif remove:
        if reference is not None:
            raise UsageError(f"`--remove` takes the name of a tag only; leave {reference!r} out.")
        with place.open(read_only=False) as registry:
            gone = registry.tags.remove(*split_tag(name))
        note(f"Removed `{gone.name}` from {gone.kind} {gone.target}.")
    elif reference is None:
        raise UsageError(
            f"Say what to tag: `streamlab tag {name} arrival:1`. To remove the tag: "
            f"`streamlab tag --remove {name}`."
        )
    else:
        with place.open(read_only=False) as registry:
            made = registry.tags.add(name, *find_tagged(registry, reference))
        note(f"`{made.name}` is on {made.kind} {made.target}.")


@click.command()
@click.option("--by", type=click.Choice(BYS), help="Group stored files by this.")
@number_option("--limit", "Show the N largest.")
@format_option()
@with_place
def du(*, place: Place, by: By | None, limit: int | None, form: Format) -> None:
    """Show the disk usage of the home, or with --by that of stored files by group.

    Logical bytes count a file once per arrival, physical bytes once; a file that two tasks
    share counts as physical in both. Removed arrivals are left out; the files that `gc` would
    delete for them have a row of their own.

    \b
    Example:
      streamlab du
      streamlab du --by task --limit 10
    """
    if by is None and limit is not None:
        raise UsageError("`--limit` applies to the groups of `--by`; give `--by` too.")
    with place.open() as registry:
        table = home_usage(registry, place.home) if by is None else usage(registry, by)
    if limit is not None:
        table = table.having(table.rows[:limit])
    print_table(table, form)
    if not table.rows:
        note("Nothing is stored yet.")
