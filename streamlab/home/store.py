"""The artifact store: files named by the SHA-256 of their bytes, as `store/ab/cdef...`."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from streamlab.errors import StoreError
from streamlab.files import (
    Opener,
    disk_errors,
    locked,
    open_new,
    read_beneath,
    refuse_link,
    sync_folder,
    write_atomically,
)

MAX_BYTES = 2**36  # of a file, far more than a checkpoint has
_DIGEST = re.compile(r"[0-9a-f]{64}")


class ArtifactStore:
    """A folder of immutable files under their digests, written atomically.

    `opener` opens temporary files; tests pass one that fails.
    """

    def __init__(self, folder: Path, *, opener: Opener = open_new) -> None:
        self.folder = folder
        self._opener = opener

    def put(self, data: bytes) -> str:
        """Store `data` and return its digest; storing the same bytes again changes nothing.

        Raises StoreError where the disk is full or not writable, or an existing file has another
        size.
        """
        digest = hashlib.sha256(data).hexdigest()
        path = self.path(digest)
        with disk_errors(path):
            n_bytes = path.stat().st_size if path.exists() else None
        if n_bytes is None:
            write_atomically(path, data, opener=self._opener)
        elif n_bytes == len(data):
            _touch_status(path)
        else:
            raise StoreError(
                f"The artifact {path} was altered after it was stored: it has {n_bytes} bytes "
                f"instead of {len(data)}. Remove the file and run again."
            )
        return digest

    def get(self, digest: str) -> bytes:
        """Return the bytes stored under `digest`, verified against it.

        Raises StoreError for a missing, unreadable or altered file.
        """
        path = self.path(digest)
        if digest not in self:
            raise StoreError(
                f"The store {self.folder} has no artifact {digest}. "
                "Restore the file, or run again to recreate it."
            )
        with _readable(path):
            data = read_beneath(self.folder, path, most_bytes=MAX_BYTES)
        self.check(data, digest)
        return data

    def check(self, data: bytes, digest: str) -> None:
        """Raise StoreError where bytes that were stored under a digest are not those of it."""
        found = hashlib.sha256(data).hexdigest()
        if found != digest:
            raise StoreError(
                f"The artifact {self.path(digest)} was altered after it was stored: its digest is "
                f"now {found}. Remove the file and restore it, or run again to recreate it."
            )

    @contextmanager
    def adding(self, files: Mapping[str, Path]) -> Iterator[None]:
        """Move verified files into the store for a `with` block that writes their rows.

        Until it ends `gc` deletes nothing; where it fails the files are deleted again. `files`: by
        digest. Raises StoreError as `put` and `get` do.
        """
        added = []
        with locked(self.folder):
            try:
                for digest, file in files.items():
                    if digest in self:
                        self.put(self.get(digest))  # verifies it, and marks it as needed
                    else:
                        added.append(digest)
                        self._move(file, digest)
                yield
            except BaseException:
                for digest in added:
                    self.delete(self.path(digest))
                raise

    def _move(self, file: Path, digest: str) -> None:
        path = self.path(digest)
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file.replace(path)
            sync_folder(path.parent)

    def path(self, digest: str) -> Path:
        """Return the path of the artifact of `digest`, whether it exists or not.

        Raises StoreError unless `digest` is 64 lower-case hexadecimal digits.
        """
        if not _DIGEST.fullmatch(digest):
            raise StoreError(
                f"{digest!r} is not a digest: give all 64 hexadecimal digits, in lower case."
            )
        folder = self.folder / digest[:2]
        refuse_link(folder)
        return folder / digest[2:]

    def hashes(self, *, but: Collection[str] = ()) -> dict[str, str]:
        """Return the actual SHA-256 of every artifact except `but`, by the digest in its name.

        Reads every file. Raises StoreError for an unreadable one.
        """
        found = {}
        for path, digest in self.files():
            if digest is not None and digest not in but:
                with _readable(path):
                    data = read_beneath(self.folder, path, most_bytes=MAX_BYTES)
                found[digest] = hashlib.sha256(data).hexdigest()
        return found

    def delete(self, path: Path) -> None:
        """Delete an unreferenced file or incomplete folder, if it exists. Raises StoreError."""
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(
                f"{path} cannot be deleted: {error.strerror or error}. Make its folder writable."
            ) from error

    def __contains__(self, digest: object) -> bool:
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            return False
        path = self.path(digest)
        with _readable(self.folder):
            return path.is_file() and not path.is_symlink()

    def files(self) -> Iterator[tuple[Path, str | None]]:
        """Yield every path in ascending order with its digest, None for other files.

        Does not read files. Raises StoreError where the folders cannot be read.
        """
        for folder in _sorted(self.folder):
            if not folder.is_dir() or folder.is_symlink():
                yield folder, None
                continue
            for path in _sorted(folder):
                digest = folder.name + path.name
                yield path, digest if _DIGEST.fullmatch(digest) else None


def _touch_status(path: Path) -> None:
    """Set the time of a file's last status change to now, and no other time.

    It tells garbage collection that a row for the file may follow.
    """
    with suppress(OSError):  # the file may belong to another user
        times = path.stat()
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _sorted(folder: Path) -> list[Path]:
    with _readable(folder):
        return sorted(folder.iterdir()) if folder.is_dir() else []


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{path} cannot be read: {error.strerror or error}. Make it readable, or choose "
            "another home with `--home`."
        ) from error
