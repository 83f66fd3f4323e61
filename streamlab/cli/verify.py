"""`streamlab verify`: is every stored file, and every row, what it should be?"""

from __future__ import annotations

import time

import click

from streamlab.cli.places import Place, with_place
from streamlab.cli.tables import Format, format_option, print_table
from streamlab.home.store import ArtifactStore
from streamlab.units import counted
from streamlab.views.table import Column, Table

_COLUMNS = (
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
        n_artifacts = 0 if found else registry.n_artifacts()
    rows = tuple(
        (f.problem, f.digest, f.detail, f.advice, str(f.path) if f.path else None) for f in found
    )
    table = Table("findings", "Findings", _COLUMNS, rows)
    print_table(table if form in ("json", "csv") else table.brief(), form)
    if found:
        click.echo(
            f"Error: {counted(len(found), 'finding')} in the home {place.home.path}.", err=True
        )
        click.get_current_context().exit(1)
    click.echo(f"All is well: {n_artifacts:,} artifacts and the registry were checked.", err=True)
