"""Ways to make a home hurt whoever reads it; each is done to a copy of an honest one."""

from __future__ import annotations

import os
import random
import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

from streamlab.home.folder import Home
from streamlab.registry.tables import Tables

DEEP = "[" * 100_000
HOSTILE = (
    b"\xff\xfe\x00", "x" * 2_000_000, "\ud7ff\x1b[31m", 2**63 - 1, -(2**63), 9e999, -1e308, 10**12,
    DEEP, "{}", "null", "1e999", '{"seeds": [1], "defaults": {"method": {"name": "x"}}, "base": 3}',
)  # fmt: skip
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
SCHEMAS = {
    "a view in a table's place": (
        "DROP TABLE tags", f"CREATE VIEW tags AS {ENDLESS}",
    ),
    "a trigger": (
        "CREATE TRIGGER more AFTER INSERT ON tasks BEGIN DELETE FROM providers; END",
    ),
    "another trigger of a known name": (
        "DROP TRIGGER events_no_delete",
        "CREATE TRIGGER events_no_delete AFTER INSERT ON runs BEGIN DELETE FROM tags; END",
    ),
    "a computed column": (
        "ALTER TABLE runs ADD COLUMN more GENERATED ALWAYS AS (zeroblob(900000000)) VIRTUAL",
    ),
    "a missing column": ("ALTER TABLE scores DROP COLUMN is_primary",),
    "a column that may be empty": (
        "DROP TABLE providers", "CREATE TABLE providers (id INTEGER PRIMARY KEY, name TEXT)",
    ),
    "a missing index": ("DROP INDEX ix_arrivals_task",),
    "another index of a known name": (
        "DROP INDEX ix_arrivals_task", "CREATE INDEX ix_arrivals_task ON arrivals (abs(seed))",
    ),
    "a further index": ("CREATE INDEX more ON arrivals (abs(seed))",),
    "a virtual table": (
        "DROP TABLE details", "CREATE VIRTUAL TABLE details USING fts5(one, two)",
    ),
}  # fmt: skip
_MAGIC = bytes.fromhex("d9d505f920a163d7")

Harm = Callable[[Home, Path], None]  # a home, and somebody's own file or folder elsewhere


def columns() -> Iterator[tuple[str, str]]:
    """Yield every column that a row's author chooses, with its table."""
    for table in Tables.metadata.tables.values():
        for column in table.columns:
            if not column.primary_key and table.name != "totals":
                yield table.name, column.name


def damage(home: Home, table: str, column: str, value: object) -> bool:
    """Put a value into the last row of a table; return whether the database takes it."""
    with closing(sqlite3.connect(home.path / "registry.db")) as database, database:
        database.execute("PRAGMA ignore_check_constraints = ON")
        listed = "SELECT sql, 'DROP TRIGGER ' || name FROM sqlite_master WHERE type = 'trigger'"
        triggers = [
            sql for sql, drop in database.execute(listed).fetchall() if database.execute(drop)
        ]
        try:
            key = database.execute(f"SELECT max(rowid) FROM {table}").fetchone()  # noqa: S608
            changed = database.execute(
                f"UPDATE {table} SET {column} = ? WHERE rowid = ?",  # noqa: S608 - ours
                (value, *key),
            )
        except sqlite3.Error:
            return False
        finally:
            for trigger in triggers:
                database.execute(trigger)
    return changed.rowcount == 1


def plant_journal(path: Path, victim: Path) -> None:
    """Write a hot rollback journal that makes SQLite delete `victim`."""
    name = os.fsencode(victim)
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = DELETE")
        page, pages = (
            database.execute(f"PRAGMA {of}").fetchone()[0] for of in ("page_size", "page_count")
        )
    header = (_MAGIC + struct.pack(">IIIII", 0, 0x1234, pages, 512, page)).ljust(512, b"\0")
    trailer = struct.pack(">I", 0x40000000 // page + 1) + name
    trailer += struct.pack(">II", len(name), sum(name)) + _MAGIC
    Path(f"{path}-journal").write_bytes(header + trailer)


def harms() -> Iterator[tuple[str, Harm]]:
    """Yield everything that can be done to a home, by name; the values are the same each time."""
    for number, (table, column) in enumerate(columns()):
        value = HOSTILE[number % len(HOSTILE)]
        yield f"{table}.{column} {number % len(HOSTILE)}", _value(table, column, value)
    for name, statements in SCHEMAS.items():
        yield name, _statements(statements)
    for seed in range(12):
        yield f"flipped bytes {seed}", _flipped(seed)
    yield from _FILES.items()


def _value(table: str, column: str, value: object) -> Harm:
    def do(home: Home, _: Path) -> None:
        damage(home, table, column, value)

    return do


def _statements(statements: tuple[str, ...]) -> Harm:
    def do(home: Home, _: Path) -> None:
        with closing(sqlite3.connect(home.path / "registry.db")) as database, database:
            for statement in statements:
                database.execute(statement)

    return do


def _flipped(seed: int) -> Harm:
    def do(home: Home, _: Path) -> None:
        path, source = home.path / "registry.db", random.Random(seed)  # noqa: S311
        data = bytearray(path.read_bytes())
        for _ in range(40):
            data[source.randrange(len(data))] = source.randrange(256)
        path.write_bytes(data)

    return do


def _first(folder: Path, pattern: str) -> Path:
    return min(path for path in folder.glob(pattern) if path.is_file())


def _linked(find: Callable[[Home], Path]) -> Harm:
    def do(home: Home, victim: Path) -> None:
        path = find(home)
        target = victim
        if path.is_dir():
            path.rename(victim.parent / f"moved-{path.name}")
            target = victim.parent / f"moved-{path.name}"
        else:
            with suppress(FileNotFoundError):
                path.unlink()
        path.symlink_to(target)

    return do


def _piped(find: Callable[[Home], Path]) -> Harm:
    def do(home: Home, _: Path) -> None:
        path = find(home)
        path.unlink()
        os.mkfifo(path)

    return do


def _written(find: Callable[[Home], Path], data: bytes, *, size: int | None = None) -> Harm:
    def do(home: Home, _: Path) -> None:
        path = find(home)
        path.write_bytes(data)
        if size is not None:
            os.truncate(path, size)

    return do


def _artifact(home: Home) -> Path:
    return _first(home.store, "*/*")


def _curve(home: Home) -> Path:
    return _first(home.curves, "*/*.jsonl")


def _database(ending: str = "") -> Callable[[Home], Path]:
    return lambda home: home.path / f"registry.db{ending}"


_FILES: dict[str, Harm] = {
    "a journal": lambda home, victim: plant_journal(home.path / "registry.db", victim),
    "a linked database": _linked(_database()),
    "a linked log": _linked(_database("-wal")),
    "a linked index of the log": _linked(_database("-shm")),
    "a linked artifact": _linked(_artifact),
    "a linked folder of artifacts": _linked(lambda home: _artifact(home).parent),
    "a linked store": _linked(lambda home: home.store),
    "a linked curve": _linked(_curve),
    "a linked folder of curves": _linked(lambda home: _curve(home).parent),
    "linked curves": _linked(lambda home: home.curves),
    "a pipe for a database": _piped(_database()),
    "a pipe for an artifact": _piped(_artifact),
    "a pipe for a curve": _piped(_curve),
    "a sparse database": _written(_database(), b"SQLite format 3\0", size=2**40),
    "a sparse artifact": _written(_artifact, b"", size=2**40),
    "a sparse curve": _written(_curve, b"", size=2**40),
    "no database": _written(_database(), b"nothing of the kind" * 1000),
    "an empty database": _written(_database(), b""),
    "a log of noise": _written(_database("-wal"), bytes(range(256)) * 100),
    "an altered artifact": _written(_artifact, b"other bytes"),
    "a curve too deep": _written(_curve, b'{"a": ' * 100_000),
    "a curve of no numbers": _written(_curve, b'{"loss": NaN}\n'),
    "a curve that is no text": _written(_curve, b"\xff\xfe"),
}
