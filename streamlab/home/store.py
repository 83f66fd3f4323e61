"""The artifact store: immutable bytes under their SHA-256, in a folder or behind a URL.

A folder has them as `ab/cdef...`, or small ones together in one file (see `pack`); see
`remote_store` for the stores that are elsewhere.
"""

from __future__ import annotations

import hashlib
import heapq
import os
import re
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from streamlab.errors import StoreError
from streamlab.files import (
    TEMPORARY_PREFIX,
    Opener,
    delete_path,
    disk_errors,
    find_incomplete,
    is_in_use,
    locked,
    open_new,
    read_beneath,
    refuse_link,
    size_of,
    sync_folder,
    write_atomically,
)
from streamlab.home.pack import PACK_FILES, Pack, Packed

MAX_BYTES = 2**36  # of a file, far more than a checkpoint has
MARKER = "streamlab-store"  # the name of the file with a store's id
MARKER_BYTES = 32
SMALL_BYTES = 1 << 15  # up to which files are packed; above, blocks add 6% or less on average
_FILES_AT_ONCE = 256  # packed in one transaction
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Stored:
    """One file of a store; `digest` is None where its name is not one."""

    where: str  # its path or URL
    digest: str | None
    n_bytes: int
    marked_at: float  # when it was last stored or needed, by this machine's clock
    is_complete: bool = True


class ArtifactStore(ABC):
    """Immutable artifacts by digest. Each method raises StoreError where the store fails."""

    excludes_others: bool  # whether `locked` and `leftovers` know what other processes do
    where: str  # a path or URL

    def put(self, data: bytes) -> str:
        """Store `data` and return its digest.

        Bytes that are there already are marked as needed, so that `gc` waits for their row.
        Raises StoreError where they have another size.
        """
        digest = hashlib.sha256(data).hexdigest()
        there = self._put(digest, data)
        if there not in (None, len(data)):
            raise StoreError(
                f"The artifact {self.locate(digest)} was altered after it was stored: it has "
                f"{there} bytes instead of {len(data)}. Remove the file and run again."
            )
        return digest

    def get(self, digest: str) -> bytes:
        """Return the bytes stored under `digest`, verified against it.

        Raises StoreError for a missing, unreadable or altered file.
        """
        try:
            data = self.read(digest, most_bytes=MAX_BYTES)
        except FileNotFoundError as error:
            raise StoreError(
                f"The store {self.where} has no artifact {digest}. "
                "Restore the file, or run again to recreate it."
            ) from error
        self.check(data, digest)
        return data

    def check(self, data: bytes, digest: str) -> None:
        """Raise StoreError where bytes that were stored under a digest are not those of it."""
        found = hashlib.sha256(data).hexdigest()
        if found != digest:
            raise StoreError(
                f"The artifact {self.locate(digest)} was altered after it was stored: its digest "
                f"is now {found}. Remove the file and restore it, or run again to recreate it."
            )

    @abstractmethod
    def _put(self, digest: str, data: bytes) -> int | None:
        """Store bytes, or mark those that are there and return how many they are."""

    @abstractmethod
    def read(self, digest: str, *, most_bytes: int) -> bytes:
        """Return what is stored under `digest`, verified or not.

        Raises FileNotFoundError, and StoreError for more than `most_bytes`.
        """

    @abstractmethod
    def find(self, digest: str) -> Stored | None:
        """Return what is stored under `digest`, without reading it."""

    def __contains__(self, digest: object) -> bool:
        return is_digest(digest) and self.find(str(digest)) is not None

    @abstractmethod
    def list(self) -> Iterator[Stored]:
        """Yield every file but incomplete ones, in ascending order; none is read."""

    @abstractmethod
    def leftovers(self) -> Iterator[Stored]:
        """Yield what is incomplete; where `excludes_others`, only what nobody is writing."""

    @abstractmethod
    def delete(self, digest: str) -> None:
        """Delete an artifact, if it exists."""

    @abstractmethod
    def delete_leftover(self, found: Stored) -> None:
        """Delete one of `leftovers`, if it still exists."""

    def pack(self, *, before: float) -> int:  # noqa: ARG002
        """Keep small files together that were last needed before a time; return how many.

        Bytes stay available under their digests meanwhile. Does nothing where a small artifact
        takes little more than its length, as an object behind a URL does.
        """
        return 0

    @abstractmethod
    def locate(self, digest: str) -> str:
        """Return the path or URL of an artifact, whether it exists or not."""

    @abstractmethod
    def contents(self, *, but: Collection[str] = ()) -> dict[str, str]:
        """Return what tells whether an artifact has changed, by digest, for all except `but`."""

    @abstractmethod
    def locked(self) -> AbstractContextManager[None]:
        """Exclude collections and other imports; nobody unless `excludes_others`."""

    @abstractmethod
    def _read_marker(self) -> bytes | None:
        """Return what the file MARKER holds."""

    @abstractmethod
    def _add_marker(self, data: bytes) -> None:
        """Write the file MARKER, unless it exists."""

    @contextmanager
    def adding(self, files: Mapping[str, Path]) -> Iterator[None]:
        """Move verified files into the store for a `with` block that writes their rows.

        Until it ends `gc` deletes nothing, or what it deleted is stored again; where it fails the
        files are deleted again. `files`: by digest. Raises StoreError as `put` and `get` do.
        """
        added: dict[str, Stored | None] = {}
        with self.locked():
            try:
                for digest, file in files.items():
                    if digest in self:
                        self.put(self.get(digest))  # verifies it, and marks it as needed
                    else:
                        added[digest] = None
                        self._take(digest, file)
                        added[digest] = self.find(digest)
                yield
            except BaseException:
                with suppress(StoreError):  # what is left has no row, and is an orphan
                    self._take_back(added)
                raise
            self._confirm(files)

    @abstractmethod
    def _take(self, digest: str, file: Path) -> None:
        """Store a file, which may be moved."""

    def _take_back(self, added: Mapping[str, Stored | None]) -> None:
        """Delete what was added and no other process has needed since."""
        for digest, taken in added.items():
            here = self.find(digest)
            if here is not None and (taken is None or here.marked_at == taken.marked_at):
                self.delete(digest)

    def _confirm(self, files: Mapping[str, Path]) -> None:
        """Store again what was deleted meanwhile, where others are not excluded."""
        for digest, file in {} if self.excludes_others else files.items():
            if digest not in self:
                self._take(digest, file)

    def try_out(self) -> str | None:
        """Put, get, list and delete one file; return what is noteworthy of the store.

        Raises StoreError where one of these fails.
        """
        data = b"written to try out the store: " + uuid.uuid4().bytes
        digest = self.put(data)
        try:
            self.get(digest)
            next(self.list(), None)
            noted = self._try_twice(digest, data)
        finally:
            self.delete(digest)
        if digest in self:
            raise StoreError(f"The store {self.where} still has a file that was deleted.")
        return noted

    def _try_twice(self, digest: str, data: bytes) -> str | None:  # noqa: ARG002
        """Store a file that is there; return what is noteworthy of the answer."""
        return None

    def claim(self, own: str, *, is_known: bool) -> None:
        """Mark the store as that of an id, or check that it is.

        `is_known`: whether the store has been used under this id before. Raises StoreError where
        the store belongs to another registry, whose files a collection would take for orphans.
        """
        found = self._read_marker()
        if found is None and not is_known:
            self._add_marker(own.encode())
            found = self._read_marker()
        if found == own.encode():
            return
        if is_known:
            raise StoreError(
                f"The store {self.where} is not the one that this registry's runs have used, whose "
                f"file `{MARKER}` holds {own}. Name that one with `--store`, or copy this file too "
                "if the store was moved."
            )
        raise StoreError(
            f"The store {self.where} is in use by another registry. Give each home a prefix of its "
            "own, or name the registry that uses this store with `--registry`. If none does, "
            f"delete its file `{MARKER}`."
        )


class FolderStore(ArtifactStore):
    """A folder of files, written atomically; `pack` moves small ones into one file.

    A file goes before a packed artifact of the same digest. `opener` opens temporary files; tests
    pass one that fails.
    """

    excludes_others = True

    def __init__(
        self,
        folder: Path,
        *,
        opener: Opener = open_new,
        packed: Pack | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`packed`: where the pack is, if not in the folder."""
        self.folder = folder
        self.where = str(folder)
        self._opener = opener
        self._packed = packed or Pack(folder)
        self._clock = clock

    def _put(self, digest: str, data: bytes) -> int | None:
        path = self.path(digest)
        with disk_errors(path):
            n_bytes = path.stat().st_size if path.exists() else None
        if n_bytes == len(data):
            _touch_status(path)
        elif n_bytes is None:
            packed = self._packed.find(digest)
            if packed is None:
                write_atomically(path, data, opener=self._opener)
                return None
            n_bytes = packed.n_bytes
            if n_bytes == len(data):
                self._packed.mark(digest, self._clock())
        return n_bytes

    def read(self, digest: str, *, most_bytes: int) -> bytes:
        """Read a file, following no link, or from the pack."""
        path = self.path(digest)
        try:
            return read_beneath(self.folder, path, most_bytes=most_bytes)
        except FileNotFoundError:
            return self._packed.read(digest, most_bytes=most_bytes)
        except OSError as error:
            raise _unreadable(error, path) from error

    def find(self, digest: str) -> Stored | None:
        """Return the file under `digest`, which a link or a folder is not, or what is packed."""
        path = self.path(digest)
        with _readable(self.folder):
            is_file = path.is_file() and not path.is_symlink()
        if is_file:
            return _stored(path, digest)
        packed = self._packed.find(digest)
        return None if packed is None else self._stored_in_pack(packed)

    def list(self) -> Iterator[Stored]:
        """Yield every file and every packed artifact; links and folders are not followed."""
        packed = map(self._stored_in_pack, self._packed.every())
        last = None
        for found in heapq.merge(self._files(), packed, key=lambda found: found.digest or ""):
            if found.digest is None or found.digest != last:  # a file comes before what is packed
                yield found
                last = found.digest or last

    def _files(self) -> Iterator[Stored]:
        for folder in _sorted(self.folder):
            if not folder.is_dir() or folder.is_symlink():
                if folder.name not in (MARKER, *PACK_FILES):
                    yield _stored(folder, None)
                continue
            for path in _sorted(folder):
                digest = folder.name + path.name
                yield _stored(path, digest if is_digest(digest) else None)

    def _stored_in_pack(self, packed: Packed) -> Stored:
        where = self._packed.locate(packed.digest)
        return Stored(where, packed.digest, packed.n_bytes, packed.marked_at)

    def pack(self, *, before: float) -> int:
        """Move verified files of at most `SMALL_BYTES` into the pack, and shrink it.

        A file is deleted once its bytes are on the disk in the pack. Waits for the folder's lock.
        """
        if not self.folder.is_dir() or not self._packed.can_grow():
            return 0
        with self.locked():
            small = (
                found
                for found in self._files()
                if found.digest and found.n_bytes <= SMALL_BYTES and found.marked_at < before
            )
            n_packed = 0
            while files := list(islice(small, _FILES_AT_ONCE)):
                n_packed += self._move(files)
            self._packed.reclaim()
        return n_packed

    def _move(self, files: Sequence[Stored]) -> int:
        """Move files into the pack; return how many."""
        moving: dict[str, tuple[float, bytes]] = {}
        for found in files:
            with suppress(StoreError, FileNotFoundError):  # an altered one stays, for `verify`
                digest = str(found.digest)
                data = read_beneath(self.folder, self.path(digest), most_bytes=SMALL_BYTES)
                self.check(data, digest)
                moving[digest] = found.marked_at, data
        self._packed.add((digest, *rest) for digest, rest in moving.items())
        for digest, (marked_at, _) in moving.items():
            path = self.path(digest)
            now = _stored(path, digest).marked_at
            if now > marked_at:  # needed again meanwhile
                self._packed.mark(digest, now)
            delete_path(path)
        return len(moving)

    def leftovers(self) -> Iterator[Stored]:
        """Yield what an interrupted process left incomplete, not what one is writing."""
        return leftovers_in(self.folder)

    def delete(self, digest: str) -> None:
        """Delete an artifact, if it exists."""
        delete_path(self.path(digest))
        self._packed.delete(digest)

    def delete_leftover(self, found: Stored) -> None:
        """Delete a file or folder that was left incomplete."""
        delete_path(Path(found.where))

    def locate(self, digest: str) -> str:
        """Return the path of an artifact's file, or of the pack that has it with its digest."""
        path = self.path(digest)
        is_packed = not path.exists() and self._packed.find(digest) is not None
        return self._packed.locate(digest) if is_packed else str(path)

    def path(self, digest: str) -> Path:
        """Return the path of the file of `digest`, whether it exists or not.

        Raises StoreError unless `digest` is 64 lower-case hexadecimal digits.
        """
        name = check_digest(digest)
        folder = self.folder / name[:2]
        refuse_link(folder)
        return folder / name[2:]

    def contents(self, *, but: Collection[str] = ()) -> dict[str, str]:
        """Return the actual SHA-256 of every artifact, reading each."""
        found = {}
        for stored in self.list():
            if stored.digest is not None and stored.digest not in but:
                with _readable(Path(stored.where)):
                    data = self.read(stored.digest, most_bytes=MAX_BYTES)
                found[stored.digest] = hashlib.sha256(data).hexdigest()
        return found

    def locked(self) -> AbstractContextManager[None]:
        """Wait for the folder's lock, and hold it for a `with` block."""
        return locked(self.folder)

    def _take(self, digest: str, file: Path) -> None:
        path = self.path(digest)
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            same_disk = file.stat().st_dev == path.parent.stat().st_dev
        if not same_disk:
            write_atomically(path, file.read_bytes(), opener=self._opener)
            return
        with disk_errors(path):
            file.replace(path)
            sync_folder(path.parent)

    def _read_marker(self) -> bytes | None:
        try:
            return read_beneath(self.folder, self.folder / MARKER, most_bytes=MARKER_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(error, self.folder / MARKER) from error

    def _add_marker(self, data: bytes) -> None:
        with suppress(FileExistsError):
            write_atomically(self.folder / MARKER, data, replace=False)


def is_digest(digest: object) -> bool:
    """Tell whether something is 64 lower-case hexadecimal digits."""
    return isinstance(digest, str) and _DIGEST.fullmatch(digest) is not None


def check_digest(digest: str) -> str:
    """Return a digest. Raises StoreError unless it is 64 lower-case hexadecimal digits."""
    if not is_digest(digest):
        raise StoreError(
            f"{digest!r} is not a digest: give all 64 hexadecimal digits, in lower case."
        )
    return digest


def leftovers_in(folder: Path) -> Iterator[Stored]:
    """Yield what an interrupted process left incomplete below a folder."""
    for path in find_incomplete(folder):
        if not is_in_use(path):
            yield replace(_stored(path, None), is_complete=False)


def _stored(path: Path, digest: str | None) -> Stored:
    try:
        times = path.lstat()
    except OSError:  # deleted meanwhile
        return Stored(str(path), digest, 0, 0.0)
    return Stored(str(path), digest, size_of(path), max(times.st_mtime, times.st_ctime))


def _touch_status(path: Path) -> None:
    """Set the time of a file's last status change to now, and no other time.

    It tells garbage collection that a row for the file may follow.
    """
    with suppress(OSError):  # the file may belong to another user
        times = path.stat()
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _sorted(folder: Path) -> list[Path]:
    with _readable(folder):
        paths = folder.iterdir() if folder.is_dir() else ()
        return sorted(path for path in paths if not path.name.startswith(TEMPORARY_PREFIX))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _unreadable(error, path) from error


def _unreadable(error: OSError, path: Path) -> StoreError:
    return StoreError(
        f"{path} cannot be read: {error.strerror or error}. Make it readable, or choose another "
        "home with `--home`."
    )
