"""Copies of artifacts from a store that is not on this machine, within a bound.

What was used longest ago goes first. Several processes may share a folder.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from streamlab.errors import StoreError, UsageError
from streamlab.files import locked, read_beneath, write_atomically

_STEPS = 16  # of the bound, after each of which a process looks at what all have added


class Cache:
    """A folder of copies by digest of at most `max_bytes`; it never fails, and may forget.

    Each further process that adds at the same time may exceed the bound by a sixteenth.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._room = 0  # bytes that this process may add before it looks again

    def get(self, digest: str) -> bytes | None:
        """Return a copy that has its digest, and note that it was used."""
        path = self._folder / digest
        try:
            data = read_beneath(self._folder, path, most_bytes=self._max_bytes)
            if hashlib.sha256(data).hexdigest() == digest:
                os.utime(path)
                return data
        except (OSError, StoreError):
            return None
        self.remove(digest)
        return None

    def add(self, digest: str, data: bytes) -> None:
        """Keep a copy, where the bound and the disk have room for it."""
        if len(data) > self._max_bytes:
            return
        with suppress(OSError, StoreError, UsageError):
            if len(data) > self._room:
                self._room = max(len(data), self._max_bytes // _STEPS)
                self._make_room()
            write_atomically(self._folder / digest, data)
            self._room -= len(data)

    def remove(self, digest: str) -> None:
        """Forget a copy."""
        with suppress(OSError):
            (self._folder / digest).unlink()

    def _make_room(self) -> None:
        """Delete what was used longest ago, until there is room within the bound."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with locked(self._folder):
            found = sorted(_sizes(self._folder))
            total = sum(size for _, size, _ in found)
            for _, size, path in found:
                if total + self._room <= self._max_bytes:
                    break
                with suppress(OSError):
                    Path(path).unlink()
                    total -= size


def _sizes(folder: Path) -> Iterator[tuple[int, int, str]]:
    """Yield the time, the bytes and the path of every file in a folder."""
    for entry in os.scandir(folder):
        with suppress(OSError):  # deleted meanwhile
            times = entry.stat(follow_symlinks=False)
            yield times.st_mtime_ns, times.st_size, entry.path
