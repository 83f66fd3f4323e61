"""Everything SQLite asks for that another database does not; no other file holds its dialect.

Every writing transaction begins with BEGIN IMMEDIATE: a read that is upgraded to a write fails
at once, whatever the busy timeout.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from streamlab.errors import RegistryError
from streamlab.hashing import canonical_json
from streamlab.registry.disks import MOUNTS, NETWORK_KINDS, find_disk_kind

BUSY_SECONDS = 30.0
_CACHE_KIB = 65_536  # taken as it fills; of 2 MB, SQLite's own, a big registry asks the disk
# Pages in the log before they are copied into the file. Each batch of a big registry changes the
# same pages again, and with SQLite's own 1,000 all of them would be copied after every batch.
_LOG_PAGES = 16_384
MODE = "streamlab_mode"  # the execution option that says how a transaction begins
_BEGIN = {"read": "BEGIN", "write": "BEGIN IMMEDIATE"}  # any other mode begins none

# The log is only ever appended to, whoever holds the file.
APPEND_ONLY = tuple(
    f"CREATE TRIGGER events_no_{verb.lower()} BEFORE {verb} ON events"
    " BEGIN SELECT RAISE(ABORT, 'the log of events is append-only'); END"
    for verb in ("UPDATE", "DELETE")
)

# How many rows share an index's first column, its first two, ...: of a million arrivals as they
# may be. SQLite plans by these, so that a listing walks the same index however full the table is.
STATISTICS = (
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
    "ANALYZE sqlite_master",  # read them now
)

# A line of the device's log stays as it is, and goes only when its arrival goes for good.
KEEP_PLACEMENTS = (
    "CREATE TRIGGER placements_no_update BEFORE UPDATE ON placements"
    " BEGIN SELECT RAISE(ABORT, 'the log of placements is append-only'); END",
    "CREATE TRIGGER placements_no_delete BEFORE DELETE ON placements WHEN EXISTS"
    " (SELECT 1 FROM arrivals WHERE id = OLD.arrival_id AND removed_at IS NULL)"
    " BEGIN SELECT RAISE(ABORT, 'the log of placements is append-only'); END",
)


_PARTS = ("positions_bytes", "values_bytes", "head_bytes", "metadata_bytes")
_TOTALS = ("n_arrivals", "n_files", *_PARTS, *(f"stored_{part}" for part in _PARTS))


def _total(grouping: str, own: str, *, row: str, sign: str) -> str:
    """Return the statement that adds one arrival to its total, or takes it off.

    `own`: the column that groups, or nothing. `row`: NEW or OLD.
    """
    alike = f"AND other.{own} = {row}.{own}" if own else ""
    logical = ", ".join(f"{sign} coalesce(diffs.{part}, 0)" for part in _PARTS)
    stored = ", ".join(f"{sign} met.first * coalesce(diffs.{part}, 0)" for part in _PARTS)
    # All of it is this file's own words.
    return (
        f"INSERT INTO totals (grouping, key, kind, {', '.join(_TOTALS)}) "  # noqa: S608
        f"SELECT '{grouping}', {f'{row}.{own}' if own else repr('')}, "
        f"coalesce(diffs.kind, 'failed'), {sign} 1, {sign} met.first, {logical}, {stored} "
        f"FROM (SELECT {row}.diff_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM arrivals AS other "
        f"WHERE other.diff_id = {row}.diff_id AND other.id <> {row}.id "
        f"AND other.removed_at IS NULL {alike}) AS first) AS met "
        f"LEFT JOIN diffs ON diffs.id = {row}.diff_id WHERE true "
        "ON CONFLICT (grouping, key, kind) DO UPDATE SET "
        + ", ".join(f"{name} = {name} + excluded.{name}" for name in _TOTALS)
    )


def _keeps_totals(name: str, when: str, *, row: str, sign: str) -> str:
    groupings = {"all": "", "run": "run_id", "task": "task_id", "provider": "provider_id"}
    totals = [
        _total(grouping, own, row=row, sign=sign)
        for grouping, own in (groupings | {"method": "method"}).items()
    ]
    return (
        f"CREATE TRIGGER {name} AFTER {when} ON arrivals WHEN {row}.removed_at IS NULL "
        f"BEGIN {'; '.join(totals)}; END"
    )


# Whoever removes, restores or deletes an arrival: its totals follow in the same transaction. New
# ones are added by the program: row by row it was most of their time.
KEEP_TOTALS = (
    _keeps_totals("totals_deleted", "DELETE", row="OLD", sign="-"),
    _keeps_totals("totals_before", "UPDATE", row="OLD", sign="-"),
    _keeps_totals("totals_after", "UPDATE", row="NEW", sign="+"),
)

CREATED_WITH_TABLES = (*APPEND_ONLY, *KEEP_PLACEMENTS, *KEEP_TOTALS, *STATISTICS)

_ADVICE = {
    "SQLITE_BUSY": "Another process has kept it locked for too long; try again when that ended.",
    "SQLITE_LOCKED": "Another thread has kept it locked for too long; try again.",
    "SQLITE_FULL": "The disk is full and the transaction was undone as a whole; free some space.",
    "SQLITE_CANTOPEN": "Make its folder, make it readable and writable, or name another place.",
    "SQLITE_READONLY": "Make the file and its folder writable, or name another place.",
    "SQLITE_NOTADB": "The file is no SQLite database; name another one.",
    "SQLITE_CORRUPT": "The file is damaged; restore it from a copy.",
    "SQLITE_IOERR": "The disk failed; check it, and restore the file from a copy if need be.",
}


def in_memory(url: URL) -> bool:
    """Say whether the database of `url` lives in memory only."""
    return url.database in (None, "", ":memory:")


def make_engine(
    url: URL, *, read_only: bool, busy_seconds: float = BUSY_SECONDS, mounts: Path = MOUNTS
) -> Engine:
    """Make the engine for a database in a file or in memory; nothing is opened yet.

    A database in memory has one connection that every thread shares. Raises RegistryError where
    the file is to be read and missing, or lies on a network disk.
    """
    options: dict[str, Any] = {"timeout": busy_seconds, "check_same_thread": False}
    if in_memory(url):
        engine = create_engine(
            url, poolclass=StaticPool, connect_args=options, json_serializer=canonical_json
        )
    else:
        url = _file_url(url, read_only=read_only, mounts=mounts)
        engine = create_engine(url, connect_args=options, json_serializer=canonical_json)

    @event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # the driver begins nothing; `_begun` does
        connection.execute("PRAGMA foreign_keys = ON")
        # `synchronous` stays FULL, SQLite's own: a row says that the work is whole, and with
        # NORMAL a power cut could take the last ones back.
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
        connection.execute(f"PRAGMA query_only = {'ON' if read_only else 'OFF'}")

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        statement = _BEGIN.get(connection.get_execution_options().get(MODE, "read"))
        if statement is not None:
            connection.exec_driver_sql(statement)

    return engine


def use_write_ahead_log(connection: Connection) -> None:
    """Let readers and one writer work side by side; the file remembers it.

    `connection` has begun no transaction. Raises RegistryError where the disk forbids it.
    """
    url = connection.engine.url
    if in_memory(url):
        return
    mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
    if mode != "wal":
        mode = connection.exec_driver_sql("PRAGMA journal_mode = WAL").scalar_one()
    if mode != "wal":
        raise RegistryError(
            f"The registry {url} cannot use SQLite's write-ahead log: the disk allows "
            f"{mode!r} only. Put it on a local disk with `--registry sqlite:////folder/file.db`."
        )


def damage(connection: Connection) -> list[str]:
    """Return what is wrong with the file's pages, indices and constraints; nothing if all is well.

    A link that leads nowhere is one thing, and is told by `broken_links`.
    """
    found = connection.exec_driver_sql("PRAGMA integrity_check").scalars()
    # A constraint is told once for every row that breaks it.
    return list(dict.fromkeys(line for line in found if line != "ok"))


def broken_links(connection: Connection) -> list[tuple[str, int, str]]:
    """Return the table and the number of every row that refers to a missing row, and to where."""
    found = connection.exec_driver_sql("PRAGMA foreign_key_check")
    return [(table, number, target) for table, number, target, _ in found]


def disk_bytes(connection: Connection) -> int:
    """Return the bytes of the database's file and its log on the disk; 0 in memory."""
    rows = connection.exec_driver_sql("PRAGMA database_list")
    path = next(file for _, name, file in rows if name == "main")
    return file_bytes(Path(path)) if path else 0


def file_bytes(path: Path) -> int:
    """Return the bytes of a database's file and its log; 0 where there is none."""
    files = (path, path.with_name(f"{path.name}-wal"))  # a third one goes with the last process
    return sum(file.stat().st_size for file in files if file.is_file())


def is_busy(error: DBAPIError) -> bool:
    """Say whether another process or thread held the lock, so that trying again may help."""
    return _name(error).startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def advice(error: DBAPIError) -> str:
    """Say what to do about an error of the database, or nothing where that is not known."""
    name = _name(error)
    return next((text for prefix, text in _ADVICE.items() if name.startswith(prefix)), "")


def _file_url(url: URL, *, read_only: bool, mounts: Path) -> URL:
    path = Path(str(url.database)).absolute()
    try:
        there, logged = path.is_file(), path.with_name(f"{path.name}-wal").exists()
    except OSError as error:
        raise RegistryError(
            f"The registry {path} could not be opened: {error.strerror}. "
            f"{_ADVICE['SQLITE_CANTOPEN']}"
        ) from error
    kind = find_disk_kind(path.parent, mounts=mounts)
    remote = kind in NETWORK_KINDS
    if read_only and not there:
        raise RegistryError(
            f"There is no registry at {path}. Check the path, or make one with `streamlab run`."
        )
    if remote and (logged or not read_only):
        raise RegistryError(
            f"The registry {path} lies on a network disk ({kind}), where SQLite's write-ahead "
            "log does not work. Put it on a local disk with "
            "`--registry sqlite:////folder/file.db`; artifacts may stay where they are."
        )
    if not read_only:
        return url
    # Without a log beside it, a file in a folder that cannot be written to can be read only
    # where SQLite may take it for unchanging.
    still = not logged and (remote or not os.access(path.parent, os.W_OK))
    query = {"uri": "true", "mode": "ro" if still else "rw"} | ({"immutable": "1"} if still else {})
    return url.set(database=f"file:{quote(str(path))}", query=query)


def _name(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlite_errorname", None) or ""
