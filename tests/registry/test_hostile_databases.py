"""A database that was made to hurt is refused by name before anything of it is carried out."""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from registry_samples import Clock

from streamlab.errors import RegistryError
from streamlab.registry.registry import Registry

_MAGIC = bytes.fromhex("d9d505f920a163d7")


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


def link(ending: str) -> Callable[[Path, Path], None]:
    def do(path: Path, victim: Path) -> None:
        path.with_name(path.name + ending).unlink(missing_ok=True)
        path.with_name(path.name + ending).symlink_to(victim)

    return do


def pipe(path: Path, victim: Path) -> None:
    del victim
    path.unlink()
    os.mkfifo(path)


def second_name(path: Path, victim: Path) -> None:
    Path(f"{path}-wal").hardlink_to(victim)


FILES = {
    "a journal": (plant_journal, "is a rollback journal"),
    "a linked database": (link(""), "is not a file of its own"),
    "a linked log": (link("-wal"), "is not a file of its own"),
    "a linked index of the log": (link("-shm"), "is not a file of its own"),
    "a log with a second name": (second_name, "is not a file of its own"),
    "a pipe": (pipe, "is not a file of its own"),
}


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize("name", FILES)
def test_files_that_lead_elsewhere_are_refused_and_nothing_elsewhere_is_touched(
    name: str, *, read_only: bool, file_url: str, tmp_path: Path
) -> None:
    victim, (do, message) = tmp_path / "victim", FILES[name]
    victim.write_bytes(b"mine")
    do(tmp_path / "registry.db", victim)

    with pytest.raises(RegistryError, match=message):
        Registry.open(file_url, clock=Clock(), read_only=read_only)

    assert victim.read_bytes() == b"mine"


_ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
SCHEMAS = {
    "a view in a table's place": (
        "DROP TABLE tags", f"CREATE VIEW tags AS {_ENDLESS}",
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


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize("name", SCHEMAS)
def test_tables_that_were_not_made_here_are_refused(
    name: str, *, read_only: bool, file_url: str, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "registry.db")) as database, database:
        for statement in SCHEMAS[name]:
            database.execute(statement)

    with pytest.raises(RegistryError, match="was not made by this program as it is"):
        Registry.open(file_url, clock=Clock(), read_only=read_only)


def test_a_new_file_appears_as_a_whole(new_url: str, tmp_path: Path) -> None:
    Registry.open(new_url, clock=Clock()).close()

    assert [path.name for path in tmp_path.iterdir()] == ["registry.db"]
