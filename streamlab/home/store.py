"""The artifact store: files named by the SHA-256 of their bytes, as `store/ab/cdef...`."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from streamlab.errors import StoreError
from streamlab.files import Opener, atomic_write, disk_errors, open_new

_DIGEST = re.compile(r"[0-9a-f]{64}")


class ArtifactStore:
    """Keep bytes in `folder` under their digest; nothing is ever half-written or overwritten.

    `opener` opens the file aside and is an argument so that a failing disk can be tried out.
    """

    def __init__(self, folder: Path, *, opener: Opener = open_new) -> None:
        self.folder = folder
        self._opener = opener

    def put(self, data: bytes) -> str:
        """Store `data` and return its digest; storing the same bytes again changes nothing.

        Raises StoreError where the disk is full or refuses, or where the file that is already
        there has another size.
        """
        digest = hashlib.sha256(data).hexdigest()
        path = self.path(digest)
        with disk_errors(path):
            n_bytes = path.stat().st_size if path.exists() else None
        if n_bytes is None:
            with atomic_write(path, opener=self._opener) as file, disk_errors(path):
                file.write(data)
        elif n_bytes == len(data):
            _mark_wanted(path)
        else:
            raise StoreError(
                f"The artifact {path} was altered after it was stored: it holds {n_bytes} bytes "
                f"where its digest stands for {len(data)}. Remove the file and run again."
            )
        return digest

    def get(self, digest: str) -> bytes:
        """Return the bytes stored under `digest`, checked against it.

        Raises StoreError where they are missing, cannot be read or were altered.
        """
        path = self.path(digest)
        if digest not in self:
            raise StoreError(
                f"The store {self.folder} holds no artifact {digest}. "
                "Restore the file, or run again to make it anew."
            )
        with _readable(path):
            data = path.read_bytes()
        found = hashlib.sha256(data).hexdigest()
        if found != digest:
            raise StoreError(
                f"The artifact {path} was altered after it was stored: its bytes now have the "
                f"digest {found}. Remove the file and restore it, or run again to make it anew."
            )
        return data

    def path(self, digest: str) -> Path:
        """Return where the artifact of `digest` lies, or would lie.

        Raises StoreError for what is no digest: 64 lower-case hexadecimal digits.
        """
        if not _DIGEST.fullmatch(digest):
            raise StoreError(
                f"{digest!r} is no digest: give all 64 hexadecimal digits, in lower case."
            )
        return self.folder / digest[:2] / digest[2:]

    def hashes(self, *, but: Collection[str] = ()) -> dict[str, str]:
        """Return the SHA-256 of the bytes of every artifact but some, by the digest it lies under.

        All are read. Raises StoreError for a file that cannot be.
        """
        found = {}
        for path, digest in self.files():
            if digest is not None and digest not in but:
                with _readable(path), path.open("rb") as file:
                    found[digest] = hashlib.file_digest(file, "sha256").hexdigest()
        return found

    def delete(self, path: Path) -> None:
        """Delete one file of the store; one that is not there is gone already. Raises StoreError.

        Whoever calls this knows that nothing needs it.
        """
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(
                f"{path} cannot be deleted: {error.strerror or error}. Make its folder writable."
            ) from error

    def __contains__(self, digest: object) -> bool:
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            return False
        with _readable(self.folder):
            return self.path(digest).is_file()

    def digests(self) -> Iterator[str]:
        """Yield the digest of every stored artifact in ascending order; bytes are not read.

        Raises StoreError where the folders cannot be read.
        """
        for _, digest in self.files():
            if digest is not None:
                yield digest

    def files(self) -> Iterator[tuple[Path, str | None]]:
        """Yield the path of everything in the store, and its digest; None for what is no artifact.

        In ascending order; bytes are not read. Raises StoreError where the folders cannot be read.
        """
        for folder in _sorted(self.folder):
            if not folder.is_dir():
                yield folder, None
                continue
            for path in _sorted(folder):
                digest = folder.name + path.name
                yield path, digest if _DIGEST.fullmatch(digest) else None


def _mark_wanted(path: Path) -> None:
    """Set the time of a file's last change of status, and no other, to the present.

    Whoever deletes files sees by it that a row for this one may be on its way.
    """
    with suppress(OSError):  # somebody else's file, say
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
            f"{path} cannot be read: {error.strerror or error}. Make it readable, or name another "
            "place with `--home`."
        ) from error
