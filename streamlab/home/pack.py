"""Small artifacts of a folder in one SQLite file, where a file each would waste disk blocks.

A file of 6 kB takes 8 kB of a disk with blocks of 4 kB, and an entry in a folder; here it takes
about its length. SQLite's write-ahead log keeps what was committed through a crash, and lets
several processes read while one writes.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from streamlab.errors import RegistryError, StoreError
from streamlab.files import (
    NETWORK_DISKS,
    delete_path,
    disk_errors,
    find_disk_kind,
    has_room,
    sync_folder,
    temporary_path,
)

PACK = "packed.db"  # the name of the file in a store's folder
PACK_FILES = (PACK, f"{PACK}-wal", f"{PACK}-shm")
_BUSY_SECONDS = 30.0
_PAGE_BYTES = 1024  # larger ones leave more room unused; benchmarks/small_files.py
_ROWS = 1000  # of a listing, read at once
_GARBAGE_SHARE = 0.25  # of the file, above which the rest is moved together
_PAGES_AT_ONCE = 512  # moved in one transaction, so that the log stays below a full disk's reserve
_LOG_BYTES = 1 << 18  # of the disk, without which there is no room for a log
_ROOM_BYTES = 1 << 24  # free bytes of the disk below which nothing is packed
_SCHEMA = (
    "CREATE TABLE artifacts (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, "
    "marked_at REAL NOT NULL, data BLOB NOT NULL)"
)
# Of the columns' types nothing holds in a file of somebody else.
_LOOK = (
    "SELECT digest, length(data) AS n_bytes, ifnull(CAST(marked_at AS REAL), 0.0) "
    "FROM artifacts WHERE typeof(data) = 'blob' AND length(digest) = 32"
)


@dataclass(frozen=True)
class Packed:
    """One artifact of a pack, without its bytes; `marked_at`: see `Stored`."""

    digest: str
    n_bytes: int
    marked_at: float


class Pack:
    """Artifacts by digest in one file, which is created with the first.

    Each method raises StoreError where the file is not a pack, is damaged or cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / PACK
        self._opened: dict[tuple[int, int], sqlite3.Connection] = {}  # by thread and inode
        weakref.finalize(self, _close_all, self._opened)

    def find(self, digest: str) -> Packed | None:
        """Return what is packed under a digest, without reading it."""
        rows = self._ask(f"{_LOOK} AND digest = ?", bytes.fromhex(digest))
        return _packed(*rows[0]) if rows else None

    def read(self, digest: str, *, most_bytes: int) -> bytes:
        """Return the bytes under a digest, verified or not.

        Raises FileNotFoundError, and StoreError for more than `most_bytes`.
        """
        found = self.find(digest)
        if found is None:
            raise FileNotFoundError(self.locate(digest))
        if found.n_bytes > most_bytes:
            raise StoreError(
                f"{self.locate(digest)} has {found.n_bytes:,} bytes, more than the {most_bytes:,} "
                "that it may have. Restore the pack from a copy."
            )
        rows = self._ask(
            "SELECT data FROM artifacts WHERE typeof(data) = 'blob' AND length(data) <= ? "
            "AND digest = ?",
            most_bytes,
            bytes.fromhex(digest),
        )
        if not rows:  # deleted meanwhile
            raise FileNotFoundError(self.locate(digest))
        return bytes(rows[0][0])

    def every(self) -> Iterator[Packed]:
        """Yield every artifact in ascending order of the digests; none is read."""
        after = b""
        while rows := self._ask(f"{_LOOK} AND digest > ? ORDER BY digest LIMIT ?", after, _ROWS):
            yield from (_packed(*row) for row in rows)
            after = rows[-1][0]

    def totals(self) -> tuple[int, int]:
        """Return the number of artifacts and their bytes."""
        rows = self._ask(f"SELECT count(*), total(n_bytes) FROM ({_LOOK})")  # noqa: S608 - ours
        return (int(rows[0][0]), int(rows[0][1])) if rows else (0, 0)

    def add(self, artifacts: Iterable[tuple[str, float, bytes]]) -> None:
        """Add verified artifacts with the times of their marks, in place of those that are there.

        All are on the disk when this returns.
        """
        rows = ((bytes.fromhex(digest), marked_at, data) for digest, marked_at, data in artifacts)
        with self._writing(durably=True) as connection:
            connection.executemany(
                "INSERT INTO artifacts (digest, marked_at, data) VALUES (?, ?, ?) "
                "ON CONFLICT (digest) DO UPDATE SET data = excluded.data, "
                "marked_at = max(marked_at, excluded.marked_at)",
                rows,
            )

    def mark(self, digest: str, marked_at: float) -> None:
        """Set the time at which an artifact was last needed."""
        with self._writing() as connection:
            connection.execute(
                "UPDATE artifacts SET marked_at = max(marked_at, ?) WHERE digest = ?",
                (marked_at, bytes.fromhex(digest)),
            )

    def delete(self, digest: str) -> None:
        """Delete an artifact, if it exists; its bytes in the file become zeros."""
        if self.find(digest) is None:
            return
        # A power failure may bring it back: its row went before it, so that `gc` finds it.
        with self._writing() as connection:
            connection.execute("DELETE FROM artifacts WHERE digest = ?", (bytes.fromhex(digest),))

    def reclaim(self) -> int:
        """Return unused pages to the disk where they are many; return their bytes."""
        pages = self._ask(
            "SELECT freelist_count, page_count FROM pragma_freelist_count, pragma_page_count"
        )
        unused, every = pages[0] if pages else (0, 0)
        if unused <= _GARBAGE_SHARE * every:
            return 0
        for _ in range(0, unused, _PAGES_AT_ONCE):
            with self._connected(writing=True) as connection, self._errors():
                # As a script: `execute` stops after the first page.
                connection.executescript(f"PRAGMA incremental_vacuum({_PAGES_AT_ONCE})")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return int(unused) * _PAGE_BYTES

    def can_grow(self) -> bool:
        """Tell whether something may be added: not on a network disk, nor on a full one."""
        return not self._is_remote and has_room(self.path.parent, _ROOM_BYTES)

    def locate(self, digest: str) -> str:
        """Return where an artifact is: the pack's path and the digest."""
        return f"{self.path}#{digest}"

    def _ask(self, query: str, *values: object) -> list[Any]:
        """Return the rows of a query, none where there is no pack."""
        with disk_errors(self.path):
            if not self.path.exists():
                return []
        with self._connected(writing=False) as connection, self._errors():
            return connection.execute(query, values).fetchall()

    @contextmanager
    def _writing(self, *, durably: bool = False) -> Iterator[sqlite3.Connection]:
        """Yield a connection for one transaction; `durably`: on the disk when the block ends."""
        with self._connected(writing=True) as connection, self._errors():
            connection.execute(f"PRAGMA synchronous = {'FULL' if durably else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _connected(self, *, writing: bool) -> Iterator[sqlite3.Connection]:
        """Yield this thread's connection, which stays open."""
        with self._errors():
            if writing and not self.path.exists():
                self._create()
            key = threading.get_ident(), self.path.stat().st_ino
            connection = self._opened.get(key)
            if connection is None:
                immutable = self._is_immutable()
                if immutable and writing:
                    raise StoreError(
                        f"{self.path} can only be read: its disk is full, a network disk or not "
                        "writable. Change that, or move the store."
                    )
                connection = self._connect(immutable=immutable)
                if immutable:  # others may be able to write: see what they wrote the next time
                    with closing(connection):
                        yield connection
                    return
                self._opened[key] = connection
        yield connection

    def _is_immutable(self) -> bool:
        """Tell whether only the file itself can be read, without a log beside it."""
        if self.path.with_name(PACK_FILES[1]).exists():
            return False
        writable = os.access(self.path.parent, os.W_OK) and has_room(self.path.parent, _LOG_BYTES)
        return self._is_remote or not writable

    def _connect(self, *, immutable: bool) -> sqlite3.Connection:
        # Deferred: loads SQLAlchemy, which a folder without a pack does without.
        from streamlab.registry.backends.sqlite import check_files

        try:
            check_files(self.path)
        except RegistryError as error:
            raise StoreError(str(error)) from error
        mode = "mode=ro&immutable=1" if immutable else "mode=rw"
        connection = sqlite3.connect(
            f"file:{quote(str(self.path.absolute()))}?{mode}",
            uri=True,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,  # the last reference may go in another thread
        )
        try:
            for setting in ("trusted_schema = OFF", "cell_size_check = ON", "secure_delete = ON"):
                connection.execute(f"PRAGMA {setting}").fetchall()
            connection.execute(f"PRAGMA wal_autocheckpoint = {_PAGES_AT_ONCE}").fetchall()
            self._check(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _create(self) -> None:
        """Make an empty pack, which is complete under its name or absent."""
        new = temporary_path(self.path)
        with closing(sqlite3.connect(new, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            connection.execute(_SCHEMA)
        with disk_errors(self.path), suppress(FileExistsError):
            os.link(new, self.path)  # another process may have made it meanwhile
            sync_folder(self.path.parent)
        delete_path(new)

    def _check(self, connection: sqlite3.Connection) -> None:
        """Raise StoreError where the file has another table: a trigger would run statements."""
        found = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        if found != [(_SCHEMA,)]:
            raise StoreError(
                f"{self.path} is not a pack of this program. Restore it from a copy, or move it "
                "out of the store."
            )

    @cached_property
    def _is_remote(self) -> bool:
        return find_disk_kind(self.path.parent) in NETWORK_DISKS

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.OperationalError, OSError) as error:
            raise StoreError(
                f"{self.path} cannot be used: {error}. Nothing was lost; free some space, make "
                "it and its folder writable, or wait for the process that holds it."
            ) from error
        except sqlite3.DatabaseError as error:
            raise StoreError(
                f"{self.path} is damaged: {error}. Restore it from a copy, or put the files of "
                "its artifacts in its place, each as `ab/cdef...` by its digest."
            ) from error


def _packed(digest: bytes, n_bytes: int, marked_at: float) -> Packed:
    return Packed(digest.hex(), n_bytes, marked_at)


def _close_all(connections: dict[tuple[int, int], sqlite3.Connection]) -> None:
    for connection in connections.values():
        with suppress(sqlite3.Error):
            connection.close()
