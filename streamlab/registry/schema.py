"""The version of the tables: which one a database has, and how it gets to the newest.

The version is read by plain SQL, so that alembic is loaded only where there is something to do.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, inspect, text

from streamlab.errors import RegistryError
from streamlab.registry.database import Database
from streamlab.registry.tables import Tables

VERSION_TABLE = "streamlab_version"
REVISIONS = ("0001",)  # oldest first, one file each in migrations/versions
NEWEST = REVISIONS[-1]


def current(database: Database) -> str | None:
    """Return the version of a database's tables, None where it has none of ours."""
    return database.read(_version)


def prepare(database: Database, *, read_only: bool) -> None:
    """Make a database ready for use: check its version, and bring it up to date to write to it.

    Raises RegistryError as `check` does, and where it is out of date but only to be read.
    """
    found = check(database)
    if read_only and found is None:
        raise RegistryError(f"{database.url} holds no registry yet. Make one with `streamlab run`.")
    if read_only and found != NEWEST:
        raise RegistryError(
            f"The registry {database.url} has version {found!r} and must be brought to "
            f"{NEWEST!r} before it can be read. Run `streamlab db upgrade`."
        )
    if not read_only:
        database.use_write_ahead_log()
        if found != NEWEST:
            upgrade(database)


def check(database: Database) -> str | None:
    """Return the version of a database that this program can read or bring up to date.

    Raises RegistryError for a database that is newer than the program or another program's.
    """
    found, tables = database.read(lambda connection: (_version(connection), _tables(connection)))
    if found is not None and found not in REVISIONS:
        raise RegistryError(
            f"The registry {database.url} is newer than this program: its tables have version "
            f"{found!r}, and this program knows versions up to {NEWEST!r}. "
            "Update streamlab, or name another registry with `--registry`."
        )
    ours = sorted(tables & set(Tables.metadata.tables))
    if found is None and ours:
        raise RegistryError(
            f"The database {database.url} belongs to another program: it has a table `{ours[0]}` "
            f"but no `{VERSION_TABLE}`. Name another registry with `--registry`."
        )
    return found


def upgrade(database: Database) -> None:
    """Bring the tables to the newest version in one transaction; an empty database gets them all.

    Several processes may ask at once: one does the work. Raises RegistryError.
    """
    database.write(_migrate)


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    # The name is this module's own constant.
    return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608


def _tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())


def _migrate(connection: Connection) -> None:
    if _version(connection) == NEWEST:
        return
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "streamlab.registry:migrations")
    config.set_main_option("path_separator", "os")
    with _silent("alembic"):
        command.upgrade(config, NEWEST)


@contextmanager
def _silent(name: str) -> Iterator[None]:
    """Keep a library's reports of progress off the terminal; its warnings still pass."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
