"""A database that was made to hurt is refused by name before anything of it is carried out."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hostile_samples import SCHEMAS, plant_journal
from registry_samples import Clock

from streamlab.errors import RegistryError
from streamlab.registry.registry import Registry


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
