"""An artifact store behind a URL, with a bounded cache of verified copies on this machine.

An object's name is that of a file in a folder store, `ab/cdef...`. It is written once, on the
condition that it does not exist. Since the name is the content's digest, two writers of one object
are harmless also where a server ignores the condition.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from streamlab.home.cache import Cache
from streamlab.home.objects import PATIENCE_SECONDS, Object, Upload, open_objects
from streamlab.home.store import (
    MARKER,
    MARKER_BYTES,
    MAX_BYTES,
    ArtifactStore,
    Stored,
    check_digest,
    is_digest,
)

_LARGE_BYTES = 1 << 20  # from which on it is worth asking whether an object exists
_CLOCK_ERROR = 2.0  # seconds: a server's times and the difference of clocks are whole ones


class RemoteStore(ArtifactStore):
    """Objects behind a URL; `cache_bytes` bounds the copies in the folder `cache`.

    It cannot exclude other processes, so that a collection spares what is younger than an hour.
    """

    excludes_others = False

    def __init__(
        self,
        url: str,
        cache: Path,
        *,
        cache_bytes: int,
        patience: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.where = url
        self._objects = open_objects(url, patience=patience, clock=clock)
        self._cache = Cache(cache, cache_bytes)

    def _put(self, digest: str, data: bytes) -> int | None:
        name = _name(digest)
        there = self._objects.find(name) if len(data) >= _LARGE_BYTES else None
        if there is None and self._objects.create(name, data):
            return None
        there = there or self._objects.find(name)
        if there is None:  # deleted meanwhile
            self._objects.overwrite(name, data)
        elif there.n_bytes == len(data):
            self._objects.touch(name, data)
        return None if there is None else there.n_bytes

    def get(self, digest: str) -> bytes:
        """Return the bytes stored under `digest`, from the cache if it has them."""
        data = self._cache.get(check_digest(digest))
        if data is None:
            data = super().get(digest)
            self._cache.add(digest, data)
        return data

    def read(self, digest: str, *, most_bytes: int) -> bytes:
        """Read an object from the server."""
        return self._objects.read(_name(digest), most_bytes)

    def find(self, digest: str) -> Stored | None:
        """Return what the server says of an object."""
        found = self._objects.find(_name(digest))
        return None if found is None else self._stored(found)

    def list(self) -> Iterator[Stored]:
        """Yield every object, page by page."""
        for found in self._objects.list():
            if found.name != MARKER:
                yield self._stored(found)

    def leftovers(self) -> Iterator[Stored]:
        """Yield the uploads in parts that were not completed, whoever makes them."""
        for upload in self._objects.uploads():
            where = f"{self.where}/{upload.name}#{upload.id}"
            yield Stored(where, None, 0, self._here(upload.began_at), is_complete=False)

    def delete(self, digest: str) -> None:
        """Delete an object and its copy on this machine, if they exist."""
        self._objects.delete(_name(digest))
        self._cache.remove(digest)

    def delete_leftover(self, found: Stored) -> None:
        """Give up an upload in parts."""
        name, _, upload = found.where.removeprefix(f"{self.where}/").partition("#")
        self._objects.abort(Upload(name, upload, found.marked_at))

    def locate(self, digest: str) -> str:
        """Return the URL of an artifact."""
        return f"{self.where}/{_name(digest)}"

    def contents(self, *, but: Collection[str] = ()) -> dict[str, str]:
        """Return the server's tag of every artifact, or the SHA-256 where it has none."""
        found = {}
        for one in self._objects.list():
            digest = _digest(one.name)
            if digest is not None and digest not in but:
                found[digest] = one.tag or self._hash(digest)
        return found

    def _hash(self, digest: str) -> str:
        return hashlib.sha256(self.read(digest, most_bytes=MAX_BYTES)).hexdigest()

    def locked(self) -> AbstractContextManager[None]:
        """Exclude nobody."""
        return nullcontext()

    def _try_twice(self, digest: str, data: bytes) -> str | None:
        if self._objects.create(_name(digest), data):
            return "ignores conditional puts, so that equal files may be written twice"
        return None

    def _take(self, digest: str, file: Path) -> None:  # noqa: ARG002
        self.put(file.read_bytes())

    def _read_marker(self) -> bytes | None:
        try:
            return self._objects.read(MARKER, MARKER_BYTES)
        except FileNotFoundError:
            return None

    def _add_marker(self, data: bytes) -> None:
        self._objects.create(MARKER, data)

    def _stored(self, found: Object) -> Stored:
        where = f"{self.where}/{found.name}"
        return Stored(where, _digest(found.name), found.n_bytes, self._here(found.modified_at))

    def _here(self, moment: float) -> float:
        """Return a moment of the server's clock by this machine's, the latest it can be."""
        return moment + _CLOCK_ERROR - self._objects.clock_ahead


def _name(digest: str) -> str:
    """Return the name of an artifact's object. Raises StoreError for what is not a digest."""
    name = check_digest(digest)
    return f"{name[:2]}/{name[2:]}"


def _digest(name: str) -> str | None:
    digest = name[:2] + name[3:]
    return digest if name[2:3] == "/" and is_digest(digest) else None
