"""SQLite: files in write-ahead mode on a local disk, or a database in memory.

Every writing transaction begins with BEGIN IMMEDIATE: a read that is upgraded to a write fails
at once, whatever the busy timeout.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from stat import S_ISREG
from typing import Any
from urllib.parse import quote

from sqlalchemy import ColumnElement, Connection, MetaData, Table, create_engine, event
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool, StaticPool

from streamlab.errors import RegistryError
from streamlab.files import MOUNTS, NETWORK_DISKS, find_disk_kind, has_room
from streamlab.hashing import canonical_json
from streamlab.registry.backends import MODE, Backend, owns_ids, read_json

BUSY_SECONDS = 30.0
_INDEX_BYTES = 1 << 15  # of a log, at least
_LEAST_FREE = 1 << 18  # bytes of the disk without which no file beside the database can be made
_CACHE_KIB = 65_536  # allocated as needed; SQLite's own 2 MB make a large registry read the disk
# Pages in the log before they are copied into the file. Each batch of a large registry changes the
# same pages again, and with SQLite's own 1,000 all of them would be copied after every batch.
_LOG_PAGES = 16_384
_BEGIN = {"read": "BEGIN", "write": "BEGIN IMMEDIATE"}

_APPEND_ONLY = (
    *(
        f"CREATE TRIGGER events_no_{verb.lower()} BEFORE {verb} ON events"
        " BEGIN SELECT RAISE(ABORT, 'the log of events is append-only'); END"
        for verb in ("UPDATE", "DELETE")
    ),
    "CREATE TRIGGER placements_no_update BEFORE UPDATE ON placements"
    " BEGIN SELECT RAISE(ABORT, 'the log of placements is append-only'); END",
    # A line of the device log is deleted only together with its removed arrival.
    "CREATE TRIGGER placements_no_delete BEFORE DELETE ON placements WHEN EXISTS"
    " (SELECT 1 FROM arrivals WHERE id = OLD.arrival_id AND removed_at IS NULL)"
    " BEGIN SELECT RAISE(ABORT, 'the log of placements is append-only'); END",
)

# How many rows share an index's first column, its first two, ...: of a million arrivals. SQLite
# plans by these, so that a listing takes the same index however full the table is.
_STATISTICS = (
    "ANALYZE",
    *(
        "INSERT INTO sqlite_stat1 (tbl, idx, stat) "  # noqa: S608 - the constants below
        f"VALUES ('arrivals', '{index}', '{rows}')"
        for index, rows in (
            ("ix_arrivals_run", "1000000 10000 2000 2 1 1"),
            ("ix_arrivals_task", "1000000 5000 100 20 2 1 1"),
            ("ix_arrivals_provider", "1000000 1000 100 20 2 1 1"),
            ("ix_arrivals_method", "1000000 250000 2500 500 1 1"),
            ("ix_arrivals_status", "1000000 1000 10 2 2 1 1"),  # of the failed ones
            ("ix_arrivals_diff", "1000000 1"),
            ("ix_arrivals_run_diff", "1000000 10000 1"),
            ("uq_arrivals_finished", "1000000 10000 2000 2 2 1 1"),
            ("ix_arrivals_removed", "1000 2 1"),
        )
    ),
    "ANALYZE sqlite_master",  # load them now
)

_ADVICE = {
    "SQLITE_BUSY": "Another process has locked it for too long; try again when that has ended.",
    "SQLITE_LOCKED": "Another thread has locked it for too long; try again.",
    "SQLITE_FULL": "The disk is full and the transaction was rolled back; free some space.",
    "SQLITE_CANTOPEN": "Make its folder, make it readable and writable, or name another place.",
    "SQLITE_READONLY": "Make the file and its folder writable, or name another place.",
    "SQLITE_NOTADB": "The file is not an SQLite database; name another one.",
    "SQLITE_CORRUPT": "The file is damaged; restore it from a copy.",
    "SQLITE_IOERR": "The disk failed; check it, and restore the file from a copy if need be.",
}


class SQLite(Backend):
    """A database in a file, or one in memory whose one connection every thread shares."""

    name = "sqlite"
    # The triggers of the logs, and the statistics that queries are planned by.
    created_with_tables = (*_APPEND_ONLY, *_STATISTICS)

    def __init__(self, url: URL, *, read_only: bool, mounts: Path = MOUNTS) -> None:
        """Create the engine.

        Raises RegistryError where the file is to be read and missing, or on a network disk.
        """
        self.url = url
        self.shares_connection = url.database in (None, "", ":memory:")
        if not self.shares_connection:
            self.path = Path(str(url.database)).absolute()
            url = _file_url(url, self.path, read_only=read_only, mounts=mounts)
        self.engine = create_engine(
            url,
            poolclass=StaticPool if self.shares_connection else QueuePool,
            connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
            json_serializer=canonical_json,
            json_deserializer=read_json,
        )

        @event.listens_for(self.engine, "connect")
        def _connected(connection: sqlite3.Connection, _: object) -> None:
            connection.isolation_level = None  # the driver begins nothing; `_begun` does
            connection.text_factory = partial(str, encoding="utf-8", errors="replace")
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA cell_size_check = ON")
            connection.execute("PRAGMA temp_store = MEMORY")
            if read_only and self._is_full and not self._shares_memory:
                connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # its index in memory
            connection.execute("PRAGMA foreign_keys = ON")
            # `synchronous` stays FULL, the default: with NORMAL a power cut could take back the
            # last rows, and a row promises that its artifact is stored.
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
            connection.execute(f"PRAGMA query_only = {'ON' if read_only else 'OFF'}")

        @event.listens_for(self.engine, "begin")
        def _begun(connection: Connection) -> None:
            statement = _BEGIN.get(connection.get_execution_options().get(MODE, "read"))
            if statement is not None:
                connection.exec_driver_sql(statement)

    @property
    def _is_full(self) -> bool:
        return self.path is not None and not has_room(self.path.parent, _LEAST_FREE)

    @property
    def _shares_memory(self) -> bool:
        """Tell whether the index of a log is there for all processes, as after a crash."""
        if self.path is None or not self.path.with_name(f"{self.path.name}-wal").exists():
            return True  # or is not needed
        index = self.path.with_name(f"{self.path.name}-shm")
        return index.exists() and index.stat().st_size >= _INDEX_BYTES

    def configure(self, connection: Connection) -> None:
        """Switch a file to write-ahead mode, in which readers do not wait for the writer."""
        if self.path is None:
            return
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
        if mode != "wal":
            mode = connection.exec_driver_sql("PRAGMA journal_mode = WAL").scalar_one()
        if mode != "wal":
            raise RegistryError(
                f"The registry {self.url} cannot use SQLite's write-ahead log: the disk allows "
                f"{mode!r} only. Put it on a local disk with "
                "`--registry sqlite:////folder/file.db`."
            )

    def describe(self, connection: Connection) -> str:  # noqa: ARG002 - the library's own
        """Return the library's version."""
        return f"SQLite {sqlite3.sqlite_version}"

    def create_tables(self, connection: Connection, metadata: MetaData) -> None:
        """Create every table, its ids from a sequence that never gives one twice."""
        for table in metadata.tables.values():
            table.dialect_options[self.name]["autoincrement"] = owns_ids(table)
        super().create_tables(connection, metadata)

    def reserve_ids(self, connection: Connection, table: Table, n: int) -> range:
        """Move the table's own sequence on."""
        taken = connection.exec_driver_sql(
            "UPDATE sqlite_sequence SET seq = seq + ? WHERE name = ? RETURNING seq", (n, table.name)
        ).scalar()
        if taken is None:  # the sequence begins with the first row
            connection.exec_driver_sql(
                "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table.name, n)
            )
            taken = n
        return range(taken - n + 1, taken + 1)

    def last_id(self, connection: Connection, table: Table) -> int:
        """Ask the table's own sequence."""
        asked = "SELECT seq FROM sqlite_sequence WHERE name = ?"
        return connection.exec_driver_sql(asked, (table.name,)).scalar() or 0

    def continue_ids(self, connection: Connection, table: Table, last: int) -> None:
        """Move the table's own sequence on, which follows the ids of its rows by itself."""
        if last > self.last_id(connection, table):
            self.reserve_ids(connection, table, last - self.last_id(connection, table))

    def upsert(self, table: Table) -> Any:
        """Return SQLite's INSERT."""
        return insert(table)

    def like(self, column: ColumnElement[Any], pattern: str) -> ColumnElement[bool]:
        """Return a GLOB, in which a bracket stands for itself."""
        return column.bool_op("GLOB")(re.sub(r"\[", "[[]", pattern))

    def disk_bytes(self, connection: Connection, metadata: MetaData) -> int:  # noqa: ARG002
        """Return the bytes of the file and its log; 0 in memory."""
        return self.file_bytes() or 0

    def file_bytes(self) -> int | None:
        """Return the bytes of the file and its log, None for a database in memory."""
        if self.path is None:
            return None
        # The shared memory beside them is deleted with the last process.
        files = (self.path, self.path.with_name(f"{self.path.name}-wal"))
        return sum(file.stat().st_size for file in files if file.is_file())

    def is_busy(self, error: DBAPIError) -> bool:
        """Tell whether another process or thread held the lock."""
        return _error_name(error).startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))

    def advice(self, error: DBAPIError) -> str:
        """Return what to do about an error, by SQLite's name of it."""
        name = _error_name(error)
        if self._is_full and name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN")):
            name = "SQLITE_FULL"
        return next((text for prefix, text in _ADVICE.items() if name.startswith(prefix)), "")

    def find_strange(self, connection: Connection, metadata: MetaData) -> list[str]:
        """Return what these tables have beside what they are created with, or lack of it.

        A view in a table's place, a trigger or a computed column would run another's statements.
        """
        listed = (
            "SELECT type, name, sql, tbl_name FROM sqlite_master WHERE name NOT GLOB 'sqlite_*'"
        )
        rows = connection.exec_driver_sql(listed)
        found = {row[:3] for row in rows if row.tbl_name in metadata.tables}
        triggers = {("trigger", line.split()[2], line) for line in _APPEND_ONLY}
        wanted = {("table", name) for name in metadata.tables}
        wanted |= {("index", str(i.name)) for t in metadata.tables.values() for i in t.indexes}
        there = {row[:2] for row in found if row[0] != "trigger"}
        strange = [
            f"no {kind} {name!r}"
            for kind, name, *_ in sorted((wanted - there) | (triggers - found))
        ]
        more = (there - wanted) | ({row for row in found if row[0] == "trigger"} - triggers)
        strange += [f"the {kind} {name!r}" for kind, name, *_ in sorted(more)]
        tables = () if strange else metadata.tables.values()
        return [*strange, *(line for table in tables for line in _altered(connection, table))]

    def find_damage(self, connection: Connection, metadata: MetaData) -> list[str]:  # noqa: ARG002
        """Return what SQLite's integrity check finds, each finding once."""
        found = connection.exec_driver_sql("PRAGMA integrity_check").scalars()
        return list(dict.fromkeys(line for line in found if line != "ok"))

    def find_broken_links(
        self,
        connection: Connection,
        metadata: MetaData,  # noqa: ARG002 - every table is checked
    ) -> list[tuple[str, int, str]]:
        """Return what SQLite's check of foreign keys finds."""
        found = connection.exec_driver_sql("PRAGMA foreign_key_check")
        return [(table, number, target) for table, number, target, _ in found]


def _altered(connection: Connection, table: Table) -> Iterator[str]:
    """Yield how a table's columns, key and indices differ from those it is created with."""
    columns = connection.exec_driver_sql(f'PRAGMA table_xinfo("{table.name}")').all()
    expected = {(column.name, not column.nullable, column.primary_key, 0) for column in table.c}
    found = {(name, full > 0, key > 0, hidden) for _, name, _, full, _, key, hidden in columns}
    if found != expected:
        yield f"other columns in the table {table.name!r}"
    for index in table.indexes:
        rows = connection.exec_driver_sql(f'PRAGMA index_info("{index.name}")')
        if [name for _, _, name in rows] != [column.name for column in index.columns]:
            yield f"another index {index.name!r}"


def check_files(path: Path) -> None:
    """Refuse a database whose files lead elsewhere, or that has a rollback journal.

    SQLite would carry out the journal, which can name any file to delete; a registry, which is in
    write-ahead mode from the start, never has one. Raises RegistryError.
    """
    for ending in ("", "-wal", "-shm", "-journal"):
        file = path.with_name(path.name + ending)
        try:
            found = file.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise _cannot_open(path, error) from error
        if ending == "-journal":
            raise RegistryError(
                f"{file} is a rollback journal, which this program never leaves behind and which "
                "could delete other files; it was not opened. If the home is your own, "
                "move the journal away; do not trust a home of somebody else."
            )
        if not S_ISREG(found.st_mode) or (ending and found.st_nlink > 1):
            raise RegistryError(
                f"{file} is not a file of its own (a link, folder or device), so it was not "
                "opened. Put the file itself in its place, or name it with `--registry`."
            )


def _cannot_open(path: Path, error: OSError) -> RegistryError:
    return RegistryError(
        f"The registry {path} could not be opened: {error.strerror}. {_ADVICE['SQLITE_CANTOPEN']}"
    )


def _file_url(url: URL, path: Path, *, read_only: bool, mounts: Path) -> URL:
    check_files(path)
    try:
        there, logged = path.is_file(), path.with_name(f"{path.name}-wal").exists()
    except OSError as error:
        raise _cannot_open(path, error) from error
    kind = find_disk_kind(path.parent, mounts=mounts)
    remote = kind in NETWORK_DISKS
    if read_only and not there:
        raise RegistryError(
            f"There is no registry at {path}. Check the path, or make one with `streamlab run`."
        )
    if remote and (logged or not read_only):
        raise RegistryError(
            f"The registry {path} is on a network disk ({kind}), where SQLite's write-ahead log "
            "does not work. Put it on a local disk with `--registry sqlite:////folder/file.db`; "
            "artifacts may stay where they are."
        )
    if not read_only:
        return url
    # Without a log beside it, a file in a folder that cannot be written to, or on a full disk, can
    # be read only as an immutable one.
    writable = os.access(path.parent, os.W_OK) and has_room(path.parent, _LEAST_FREE)
    immutable = not logged and ("immutable" in url.query or remote or not writable)
    query = {"uri": "true", "mode": "ro" if immutable else "rw"}
    query |= {"immutable": "1"} if immutable else {}
    return url.set(database=f"file:{quote(str(path))}", query=query)


def _error_name(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlite_errorname", None) or ""
