"""Damage that a home can take, each kind done to one artifact; see `DAMAGES`."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from streamlab.home.folder import Home
from streamlab.home.store import FolderStore
from streamlab.registry.records import DiffRecord
from streamlab.registry.registry import Registry

NOW = 4_000_000_000.0  # long after every file was written


def opened(home: Home, *, read_only: bool = False) -> Registry:
    return Registry.open(home.registry_url, clock=lambda: NOW, read_only=read_only)


def first_diff(home: Home) -> DiffRecord:
    """Return the artifact that the damage is done to."""
    with opened(home, read_only=True) as registry:
        return registry.artifacts.list()[0]


def path_of(home: Home) -> Path:
    return FolderStore(home.store).path(first_diff(home).digest)


def work_on(home: Home) -> None:
    """Make the last run one that another machine works on at `NOW`."""
    execute(
        home,
        "UPDATE runs SET status = 'running', finished_at = NULL, host = 'elsewhere', "
        "heartbeat_at = 4000000000.0 WHERE id = (SELECT max(id) FROM runs)",
    )


def execute(home: Home, *lines: str) -> None:
    """Change the database past the registry, as it would never do itself."""
    with closing(sqlite3.connect(home.path / "registry.db")) as connection, connection:
        for line in lines:
            connection.execute(line)


def _flip(home: Home) -> None:
    path = path_of(home)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _lose(home: Home) -> None:
    path_of(home).unlink()


def _orphan(home: Home) -> None:
    FolderStore(home.store).put(b"nobody's")


def _truncate(home: Home) -> None:
    path = path_of(home)
    path.write_bytes(path.read_bytes()[:-1])


def _edit(home: Home) -> None:
    execute(home, "UPDATE diffs SET n_entries = n_entries - 1 WHERE id = 1")


def _forget(home: Home) -> None:
    with Registry.open(home.registry_url, clock=time.time) as registry:
        digest = registry.artifacts.list()[0].digest
        registry.removal.remove([a.id for a in registry.arrivals.list(digest=digest)])
    execute(
        home,
        "DELETE FROM scores WHERE arrival_id IN (SELECT id FROM arrivals WHERE diff_id = 1)",
        "DELETE FROM details WHERE arrival_id IN (SELECT id FROM arrivals WHERE diff_id = 1)",
        "DELETE FROM arrivals WHERE diff_id = 1",
    )


def _unmoor(home: Home) -> None:
    execute(home, "DELETE FROM diffs WHERE id = 1")


def _leave(home: Home) -> None:
    (home.store / "ab").mkdir(exist_ok=True)
    (home.store / "ab" / ".tmp-0123").write_bytes(b"half")


@dataclass(frozen=True)
class Harm:
    """How it is done, and what is then found."""

    do: Callable[[Home], None]
    found: tuple[str, ...]


DAMAGES = {
    "a flipped byte": Harm(_flip, ("altered",)),
    "a missing file": Harm(_lose, ("missing",)),
    "an orphan": Harm(_orphan, ("orphan",)),
    "a truncated file": Harm(_truncate, ("truncated",)),
    "an edited row": Harm(_edit, ("row",)),
    "a row without its arrival": Harm(_forget, ("unused",)),
    # Both arrivals that share the file, and the file itself.
    "an arrival without its row": Harm(_unmoor, ("lost", "lost", "orphan")),
    "a file left half-written": Harm(_leave, ("leftover",)),
}
