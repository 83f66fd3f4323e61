"""Files that may be forgotten, within a bound: copies of artifacts, and states of trainings.

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


class _BoundedFolder:
    """A folder of files of at most `max_bytes`; it never fails, and may forget.

    Each further process that adds at the same time may exceed the bound by a sixteenth, or by a
    file.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._room = 0  # bytes that this process may add before it looks again

    def _read(self, name: str) -> bytes | None:
        """Return a file's bytes, and note that it was used."""
        path = self._folder / name
        try:
            data = read_beneath(self._folder, path, most_bytes=self._max_bytes)
            os.utime(path)
        except (OSError, StoreError):
            return None
        return data

    def _write(self, name: str, data: bytes) -> None:
        """Keep a file, where the bound and the disk have room for it."""
        if len(data) > self._max_bytes:
            return
        with suppress(OSError, StoreError, UsageError):
            if len(data) > self._room:
                self._room = max(len(data), self._max_bytes // _STEPS)
                self._make_room()
            write_atomically(self._folder / name, data)
            self._room -= len(data)

    def remove(self, name: str) -> None:
        """Forget a file."""
        with suppress(OSError):
            (self._folder / name).unlink()

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


class Cache(_BoundedFolder):
    """Copies, by their digests, of artifacts from a store that is not on this machine."""

    def get(self, digest: str) -> bytes | None:
        """Return a copy that has its digest, and note that it was used."""
        data = self._read(digest)
        if data is None or hashlib.sha256(data).hexdigest() == digest:
            return data
        self.remove(digest)
        return None

    def add(self, digest: str, data: bytes) -> None:
        """Keep a copy, where the bound and the disk have room for it."""
        self._write(digest, data)


class StageCache(_BoundedFolder):
    """States of training stages, by keys that are digests of what they depend on.

    A file begins with the digest of the rest, so that a damaged one is no state.
    """

    def __init__(self, folder: Path, max_bytes: int, *, scope: str = "") -> None:
        """`scope`: what keys do not say, such as the machine; equal keys differ by it."""
        super().__init__(folder, max_bytes)
        self._scope = scope

    def within(self, scope: str) -> StageCache:
        """Return the cache of the same folder for a scope."""
        return StageCache(self._folder, self._max_bytes, scope=scope)

    def get(self, key: str) -> bytes | None:
        """Return a state as it was added, and note that it was used."""
        name = self._name(key)
        data = self._read(name)
        if data is None:
            return None
        stated, state = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        if hashlib.sha256(state).digest() == stated:
            return state
        self.remove(name)
        return None

    def add(self, key: str, state: bytes) -> None:
        """Keep a state, where the bound and the disk have room for it."""
        self._write(self._name(key), hashlib.sha256(state).digest() + state)

    def _name(self, key: str) -> str:
        return hashlib.sha256(f"{self._scope} {key}".encode()).hexdigest()


_DIGEST_BYTES = 32


def _sizes(folder: Path) -> Iterator[tuple[int, int, str]]:
    """Yield the time, the bytes and the path of every file in a folder."""
    for entry in os.scandir(folder):
        with suppress(OSError):  # deleted meanwhile
            times = entry.stat(follow_symlinks=False)
            yield times.st_mtime_ns, times.st_size, entry.path
