"""A private copy of another's SQLite database, which may be hostile or being written to."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from stat import S_ISREG

from streamlab.errors import RegistryError
from streamlab.registry.backends import default_url
from streamlab.registry.backends.sqlite import check_files

_SPARSE_BYTES = 2**26  # that a file may lack on the disk
_ATTEMPTS = 3  # to copy a database that is written to


def copied(path: Path, folder: Path) -> str:
    """Copy a database into a private folder, and return the URL that reads it as it is.

    Raises RegistryError where it is no file of its own, sparse, or written to all the time.
    """
    copy = folder / path.name
    for _ in range(_ATTEMPTS):
        check_files(path)
        before = _state(path)
        for ending in ("", "-wal") if os.path.lexists(f"{path}-wal") else ("",):
            _copy_file(Path(f"{path}{ending}"), Path(f"{copy}{ending}"))
        if _state(path) == before:
            _fold(copy)
            return f"{default_url(copy)}?immutable=1"
    raise RegistryError(f"{path} is written to all the time. Wait for its run to end.")


def _state(path: Path) -> list[tuple[int, ...]]:
    """Return what changes with every change of a database and its log."""
    files = [file for file in (path, Path(f"{path}-wal")) if os.path.lexists(file)]
    found = [file.lstat() for file in files]
    return [(status.st_ino, status.st_size, status.st_mtime_ns) for status in found]


def _copy_file(path: Path, copy: Path) -> None:
    number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(number, "rb") as file:
        status = os.fstat(number)
        if not S_ISREG(status.st_mode) or status.st_size > 1024 * status.st_blocks + _SPARSE_BYTES:
            raise RegistryError(
                f"{path} is not a regular file, or a sparse one that has less on the disk than "
                "it says. It was not read."
            )
        with copy.open("wb") as target:
            shutil.copyfileobj(file, target, 2**20)


def _fold(copy: Path) -> None:
    """Take a log into its database, which is then read alone."""
    if not Path(f"{copy}-wal").exists():
        return
    try:
        with closing(sqlite3.connect(copy)) as database:
            database.execute("PRAGMA trusted_schema = OFF")
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            database.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        raise RegistryError(f"Its database cannot be read: {error}.") from error
