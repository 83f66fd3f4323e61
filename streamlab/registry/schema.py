"""The version of the tables: which one a database has, and how it is upgraded to the newest.

The version is read by plain SQL, so that alembic is loaded only where there is something to do.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from streamlab.errors import RegistryError
from streamlab.files import disk_errors, sync_folder, temporary_path
from streamlab.registry.backends import backend_of, default_url
from streamlab.registry.database import Database
from streamlab.registry.runs import Owner, is_dead
from streamlab.registry.tables import Tables

VERSION_TABLE = "streamlab_version"
# Oldest first, one file each in migrations/versions.
REVISIONS = ("0001",)
NEWEST = REVISIONS[-1]


@dataclass(frozen=True)
class Step:
    """One version that a database was upgraded to, and what that changed."""

    version: str
    change: str


def prepare(database: Database, *, read_only: bool) -> None:
    """Make a database ready for use: check its version, and upgrade it in order to write to it.

    Raises RegistryError as `check` and `upgrade` do, and where it is out of date but only to be
    read.
    """
    found = existing(database) if read_only else check(database)
    if read_only and found != NEWEST:
        raise RegistryError(
            f"The registry {database.url} has version {found!r} and must be upgraded to "
            f"{NEWEST!r} before it can be read. Run `streamlab db upgrade`."
        )
    if not read_only:
        database.configure()
        if found != NEWEST:
            upgrade(database)


def check(database: Database) -> str | None:
    """Return the version of a database that this program can read or upgrade.

    Raises RegistryError for a database that is newer than the program or another program's.
    """
    found, tables, strange = database.read(lambda c: _describe(database, c))
    if found is not None and found not in REVISIONS:
        raise RegistryError(
            f"The registry {database.url} is newer than this program: its tables have version "
            f"{found!r}, and this program knows versions up to {NEWEST!r}. "
            "Update streamlab, or name another registry with `--registry`."
        )
    ours = sorted(set(tables) & set(Tables.metadata.tables))
    if found is None and ours:
        raise RegistryError(
            f"The database {database.url} belongs to another program: it has a table `{ours[0]}` "
            f"but no `{VERSION_TABLE}`. Name another registry with `--registry`."
        )
    if strange:
        raise RegistryError(
            f"The registry {database.url} was not made by this program as it is: it has "
            f"{', '.join(strange[:3])}. It was not used; restore it from a copy."
        )
    return found


def check_place(url: str, *, home: Path) -> bool:
    """Say whether there is a registry at `url`; nothing is made or changed.

    `home`: a folder that will be there by the time the registry is made. Raises RegistryError
    where none can be kept there, or it cannot be written to.
    """
    path = backend_of(url).path
    if path is None or path.is_file():
        with closing(Database(url, read_only=True)) as there:
            check_server(there)
            return check(there) is not None
    if not path.parent.is_dir() and path.parent != home.absolute():
        raise RegistryError(
            f"The registry {path} cannot be made: there is no folder {path.parent}. Make the "
            f"folder, or name another place with `--registry`."
        )
    return False


def check_server(database: Database) -> str:
    """Return what a database is kept by, and its version.

    Raises RegistryError where it does not answer, or no registry can be made or written to there.
    """
    found = database.read(database.backend.describe)
    exists = database.read(_version) is not None
    obstacle = database.read(lambda c: database.backend.find_obstacle(c, exists=exists))
    if obstacle is not None:
        raise RegistryError(f"The registry {database.url} cannot be written to: {obstacle}.")
    return found


def existing(database: Database) -> str:
    """Return the version of a registry that is there.

    Raises RegistryError as `check` does, and for a database that holds no registry.
    """
    found = check(database)
    if found is None:
        raise RegistryError(f"{database.url} holds no registry yet. Make one with `streamlab run`.")
    return found


def upgrade(database: Database, *, to: str = NEWEST) -> tuple[Step, ...]:
    """Upgrade the tables to a version in one transaction, and return the steps that this took.

    An empty database gets them all. Several processes may ask at once: one does the work. Raises
    RegistryError, also where a run is being worked on: its process knows the old tables only.
    """
    return database.write(lambda connection: _migrate(database, connection, to))


def create(url: str, *, clock: Callable[[], float]) -> None:
    """Create the file of a registry that is missing, as a whole.

    It is made under a temporary name, so that it is never seen half-made. Raises RegistryError.
    """
    path = backend_of(url).path
    if path is None or path.exists():
        return
    temporary = temporary_path(path)
    database = Database(default_url(temporary), clock=clock)
    try:
        database.configure()
        upgrade(database)
        database.close()
        with disk_errors(path), suppress(FileExistsError):  # another process was first
            os.link(temporary, path)
            sync_folder(path.parent)
    finally:
        database.close()
        for file in path.parent.glob(f"{temporary.name}*"):
            file.unlink(missing_ok=True)


def _describe(
    database: Database, connection: Connection
) -> tuple[str | None, Sequence[str], Sequence[str]]:
    """Return a database's version, its tables, and what is strange about those of the newest."""
    found, strange = _version(connection), []
    if found == NEWEST:
        strange = database.backend.find_strange(connection, Tables.metadata)
    return found, inspect(connection).get_table_names(), strange


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    # The name is this module's own constant.
    return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608


def _migrate(database: Database, connection: Connection, to: str) -> tuple[Step, ...]:
    found = _version(connection)
    passed = 0 if found is None else REVISIONS.index(found) + 1
    steps = REVISIONS[passed : REVISIONS.index(to) + 1]
    if not steps:
        return ()
    if found is not None:
        _refuse_running(database, connection)
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config(attributes={"connection": connection, "backend": database.backend})
    config.set_main_option("script_location", "streamlab.registry:migrations")
    config.set_main_option("path_separator", "os")
    with _silent("alembic"):
        command.upgrade(config, to)
        scripts = ScriptDirectory.from_config(config)
        return tuple(Step(step, scripts.get_revision(step).doc) for step in steps)


def _refuse_running(database: Database, connection: Connection) -> None:
    # In plain SQL, since the tables are not yet those that the program knows.
    running = text("SELECT name, host, pid, heartbeat_at FROM runs WHERE status = 'running'")
    now = database.current.now
    for name, host, pid, heartbeat_at in connection.execute(running):
        if not is_dead(Owner(host=host, pid=pid), heartbeat_at=heartbeat_at, now=now):
            raise RegistryError(
                f"The registry {database.url} cannot be upgraded to version {NEWEST!r} while the "
                f"run `{name}` is being worked on by process {pid} on {host!r}. Wait for it to "
                "end, or stop it; then run `streamlab db upgrade`."
            )


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
