"""Commands that remove, restore, delete and verify what a home holds, and upgrade its tables."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from streamlab.cli.lazy_group import SuggestingGroup
from streamlab.cli.options import Place, with_place
from streamlab.cli.output import Format, format_option, print_table
from streamlab.errors import UsageError
from streamlab.home.store import ArtifactStore
from streamlab.registry.records import ArrivalRecord
from streamlab.registry.references import find_arrivals, find_version
from streamlab.units import counted, format_bytes
from streamlab.views.table import Column, Table, readable

if TYPE_CHECKING:
    from streamlab.home.purge import Plan
    from streamlab.registry.database import Database

_ARRIVAL_COLUMNS = (
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
        chosen = find_arrivals(registry, words, run=run)
        removed = registry.removal.remove([arrival.id for arrival in chosen])
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
        chosen = find_arrivals(registry, words, run=run, removed=True)
        restored = registry.removal.restore([arrival.id for arrival in chosen])
    print_table(removed_table(restored), form)
    click.echo(f"Restored {counted(len(restored), 'arrival')}.", err=True)


def removed_table(arrivals: Sequence[ArrivalRecord]) -> Table:
    """Return the table of arrivals that were removed, or brought back."""
    rows = tuple((a.id, a.run, a.seed, a.task, a.method, a.digest) for a in arrivals)
    return Table("arrivals", "Arrivals", _ARRIVAL_COLUMNS, rows)


@click.command()
@click.argument("word", metavar="TASK@VERSION")
@click.option("--run", metavar="NAME", help="In this run; default: the latest that has the task.")
@format_option()
@with_place
def rollback(word: str, *, place: Place, run: str | None, form: Format) -> None:
    """Put an earlier version of a task back to use.

    The task's later versions in that run are removed as by `rm`, for every seed and method,
    so that the task's name means the highest version that is left. `restore` brings them
    back, until `gc` lets them go.

    \b
    Example:
      streamlab rollback sst2@1
      streamlab rollback sst2@1 --run latest
    """
    with place.open(read_only=False) as registry:
        name, task, version = find_version(registry, word, run)
        gone = registry.removal.roll_back(name, task, version)
    if not gone:
        click.echo(f"`{task}@{version}` is the highest version in `{name}` already.", err=True)
        return
    print_table(removed_table(gone), form)
    numbers = " ".join(str(arrival.id) for arrival in gone[:5])
    click.echo(
        f"`{task}` in `{name}` is at version {version} again. Undo with: streamlab restore "
        f"{numbers}{' ...' if len(gone) > 5 else ''}",
        err=True,
    )


_PURGE_COLUMNS = (
    *(Column("what"), Column("name"), Column("digest", "digest"), Column("bytes", "bytes")),
    Column("note"),
    Column("file", default=False),
)


@click.command()
@click.option("--provider", required=True, metavar="NAME", help="Whose arrivals go.")
@click.option("--dry-run", is_flag=True, help="List what would go, and remove nothing.")
@click.option("--yes", is_flag=True, help="Remove it; it cannot be brought back.")
@format_option()
@with_place
def purge(*, place: Place, provider: str, dry_run: bool, yes: bool, form: Format) -> None:
    """Remove for good everything that came from one provider, and list it.

    \b
    arrival      its rows, with scores and the device's log; removed ones too
    artifact     the file of its arrivals alone
    shared       a file that came from another provider too: it stays
    curve        what its training looked like
    quarantined  bytes that admission stopped

    The bytes of every other artifact are hashed before and after; the exit code is 1 where
    one of them changed. The log and the scenarios of runs go on naming the provider. What
    has a tag is not removed, nor anything while a run is being worked on.

    \b
    Example:
      streamlab purge --provider press --dry-run
      streamlab purge --provider press --yes
    """
    from streamlab.home.purge import carry_out, plan

    if dry_run == yes:
        raise UsageError("Say either `--dry-run` to list what would go, or `--yes` to remove it.")
    store = ArtifactStore(place.home.store)
    with place.open(read_only=dry_run) as registry:
        planned = plan(registry, store, place.home, provider)
        before = {} if dry_run else store.hashes(but=planned.going)
        if not dry_run:
            carry_out(registry, store, place.home, planned)
    rows = tuple(
        (p.kind, p.name, p.digest, p.n_bytes, p.note, str(p.path) if p.path else None)
        for p in planned.parts
    )
    table = Table("purge", "Purge", _PURGE_COLUMNS, rows)
    print_table(table if form in ("json", "csv") else table.brief(), form)
    click.echo(_summary(planned, dry_run=dry_run), err=True)
    if not dry_run:
        _compare_hashes(before, store.hashes(but=planned.going))


def _compare_hashes(before: dict[str, str], after: dict[str, str]) -> None:
    """Say whether every other artifact is as it was, and end with 1 where one is not."""
    changed = [digest for digest, found in before.items() if after.get(digest) != found]
    if changed:
        told = ", ".join(digest[:12] for digest in changed)
        click.echo(
            f"Error: of {len(before):,} other artifacts {len(changed):,} changed meanwhile: "
            f"{told}. `streamlab verify` tells more.",
            err=True,
        )
        click.get_current_context().exit(1)
    click.echo(f"All {len(before):,} other artifacts have the digest they had before.", err=True)


def _summary(planned: Plan, *, dry_run: bool) -> str:
    counts = {
        "arrival": len(planned.of("arrival")),
        "artifact": len(planned.of("artifact")),
        "curve": len(planned.of("curve")),
        "quarantined file": len(planned.of("quarantined")),
    }
    listed = ", ".join(counted(count, noun) for noun, count in counts.items())
    verb = "Would remove" if dry_run else "Removed"
    shared = len(planned.of("shared"))
    told = f"{verb} of `{planned.provider}`: {listed}."
    if shared:
        told += f" {shared:,} shared with other providers stay{'s' if shared == 1 else ''}."
    return readable(told, "text")


_GC_COLUMNS = (
    *(Column("reason"), Column("digest", "digest"), Column("bytes", "bytes")),
    Column("file", default=False),
)


@click.command()
@click.option("--dry-run", is_flag=True, help="List what would go, and delete nothing.")
@click.option("--now", "young_too", is_flag=True, help="Also files of the last hour without a row.")
@format_option()
@with_place
def gc(*, place: Place, dry_run: bool, young_too: bool, form: Format) -> None:
    """Delete the files that nothing needs, and make the removal of arrivals final.

    \b
    removed    the file of removed arrivals that no other arrival shares
    orphan     a file without a row
    leftover   a file that a process left half-written

    All are listed first. What has a tag stays, and so does a file without a row that is
    younger than an hour, since its row may be on its way. Nothing is deleted while the
    database is damaged; no file without a row while a row lacks its file.

    \b
    Example:
      streamlab gc --dry-run
      streamlab gc
    """
    from streamlab.home.gc import collect, plan

    store = ArtifactStore(place.home.store)
    with place.open(read_only=dry_run) as registry:
        planned = plan(registry, store, now=time.time(), young_too=young_too)
        rows = tuple((w.reason, w.digest, w.n_bytes, str(w.path)) for w in planned.files)
        table = Table("files", "Files", _GC_COLUMNS, rows)
        print_table(table if form in ("json", "csv") else table.brief(), form)
        gone = list(planned.files if dry_run else collect(registry, store, planned))
    verb = "Would delete" if dry_run else "Deleted"
    click.echo(
        f"{verb} {counted(len(gone), 'file')}, {format_bytes(sum(w.n_bytes for w in gone))}, "
        f"and {counted(len(planned.arrivals), 'removed arrival')} for good.",
        err=True,
    )
    if planned.n_young:
        click.echo(f"Left {counted(planned.n_young, 'file')} younger than an hour.", err=True)
    if planned.n_held:
        click.echo(
            f"Left {counted(planned.n_held, 'file')} without a row, since a row lacks its file "
            "and may want it. `streamlab verify` tells which.",
            err=True,
        )


_FINDING_COLUMNS = (
    *(Column("finding"), Column("digest", "digest"), Column("detail"), Column("what_to_do")),
    Column("file", default=False),
)


@click.command()
@format_option()
@with_place
def verify(*, place: Place, form: Format) -> None:
    """Check every stored file against its digest and its row, and the database itself.

    Every file is read, and nothing is changed; json and csv name each file. The
    exit code is 1 where anything is found. Scores, times and names have nothing to
    be held against: `verify` cannot tell whether somebody edited them.

    \b
    missing     a row without its file
    truncated   a file that lost its end
    altered     a file whose bytes changed
    unreadable  a file that cannot be read
    row         a row that says other than its file
    orphan      a file without a row
    leftover    a file that a process left half-written
    stray       something in the store that is no artifact
    unused      an artifact's row without any arrival
    lost        an arrival whose artifact has no row
    database    the registry's file is damaged, or a row leads nowhere

    \b
    Example:
      streamlab verify
      streamlab verify --format json
    """
    from streamlab.home.verify import verify as verified

    with place.open() as registry:
        found = list(verified(registry, ArtifactStore(place.home.store), now=time.time()))
        n_artifacts = 0 if found else registry.artifacts.count()
    rows = tuple(
        (f.problem, f.digest, f.detail, f.advice, str(f.path) if f.path else None) for f in found
    )
    table = Table("findings", "Findings", _FINDING_COLUMNS, rows)
    print_table(table if form in ("json", "csv") else table.brief(), form)
    if found:
        click.echo(
            f"Error: {counted(len(found), 'finding')} in the home {place.home.path}.", err=True
        )
        click.get_current_context().exit(1)
    click.echo(f"All is well: {n_artifacts:,} artifacts and the registry were checked.", err=True)


@click.group(cls=SuggestingGroup)
def db() -> None:
    """Show or change the version of the registry's tables.

    \b
    Example:
      streamlab db current
      streamlab db upgrade
    """


@db.command()
@format_option()
@with_place
def current(*, place: Place, form: Format) -> None:
    """Show the version of the registry's tables, and the newest this program knows.

    \b
    Example:
      streamlab db current --format json
    """
    from streamlab.registry import schema

    with _opened(place, read_only=True) as database:
        found = schema.existing(database)
    columns = (Column("version"), Column("newest"), Column("status"))
    status = "up to date" if found == schema.NEWEST else "to be upgraded"
    print_table(Table("db", "Tables", columns, ((found, schema.NEWEST, status),)), form)
    if found != schema.NEWEST:
        click.echo("Bring it up to date with: streamlab db upgrade", err=True)


@db.command()
@format_option()
@with_place
def upgrade(*, place: Place, form: Format) -> None:
    """Bring the registry's tables to the newest version, as one step: all of it, or nothing.

    Every row is kept. No copy is made; make one first if you want one: the file registry.db,
    while nothing works on it. Refused while a run is worked on.

    \b
    Example:
      streamlab db upgrade
    """
    from streamlab.registry import schema

    with _opened(place, read_only=True) as database:
        schema.existing(database)  # first, so that no file is made where there is none
    with _opened(place, read_only=False) as database:
        steps = schema.upgrade(database)
    columns = (Column("version"), Column("change"))
    rows = tuple((step.version, step.change) for step in steps)
    print_table(Table("steps", "Steps", columns, rows), form)
    done = f"Now at version {schema.NEWEST}." if steps else "Nothing to do."
    click.echo(f"{done} Every row was kept." if steps else f"{done} It is up to date.", err=True)


@contextmanager
def _opened(place: Place, *, read_only: bool) -> Iterator[Database]:
    """Open the database as it is, whatever its version. Raises RegistryError."""
    from streamlab.registry.database import Database

    place.require()
    database = Database.open(place.url, read_only=read_only)
    try:
        yield database
    finally:
        database.close()
