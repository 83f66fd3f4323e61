"""`streamlab gc`: delete the files that nothing needs any more."""

from __future__ import annotations

import time

import click

from streamlab.cli.places import Place, with_place
from streamlab.cli.tables import Format, format_option, print_table
from streamlab.home.store import ArtifactStore
from streamlab.units import counted, format_bytes
from streamlab.views.table import Column, Table

_COLUMNS = (
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
        table = Table("files", "Files", _COLUMNS, rows)
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
