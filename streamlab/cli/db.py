"""`streamlab db`: which version the registry's tables have, and how they get to the newest."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from streamlab.cli.group import LazyCommand, LazyGroup
from streamlab.cli.places import Place, with_place
from streamlab.cli.tables import Format, format_option, print_table
from streamlab.views.table import Column, Table

if TYPE_CHECKING:
    from streamlab.registry.database import Database


class VersionCommands(LazyGroup):
    """What can be asked of, or done to, the version of the tables."""

    table = {  # noqa: RUF012 - a constant of the class, as the group has it
        "current": LazyCommand("streamlab.cli.db:current", "Show the version of the tables."),
        "upgrade": LazyCommand("streamlab.cli.db:upgrade", "Bring them to the newest version."),
    }


@click.group(cls=VersionCommands)
def db() -> None:
    """Show or change the version of the registry's tables.

    \b
    Example:
      streamlab db current
      streamlab db upgrade
    """


@click.command()
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


@click.command()
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
        steps = schema.upgrade(database, clock=time.time)
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
