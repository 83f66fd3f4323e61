"""Atomic writes: to a temporary file, synced, then renamed into place."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from streamlab.errors import StoreError

TEMPORARY_PREFIX = ".tmp-"  # of the name of a file until it is complete
Opener = Callable[[Path], BinaryIO]


def open_new(path: Path) -> BinaryIO:
    """Open a file that must not exist yet for writing bytes."""
    return path.open("xb")


@contextmanager
def atomic_write(target: Path, *, opener: Opener = open_new) -> Iterator[BinaryIO]:
    """Yield a file beside `target` and rename it to `target` once its bytes are on the disk.

    A missing folder of `target` is created. After any error the temporary file is removed and
    `target` is as it was; what the block raises is passed on. Raises StoreError where the disk is
    full or the file cannot be written.
    """
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")
    try:
        with disk_errors(target):
            _make_folder(target.parent)
            file = opener(temporary)
        try:
            yield file
        except BaseException:
            with suppress(OSError):
                file.close()
            raise
        with disk_errors(target):
            with file:
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
            sync_folder(target.parent)
    finally:
        # After the rename there is no temporary file any more.
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an error of the disk while `path` is written into a StoreError that explains it."""
    try:
        yield
    except OSError as error:
        raise StoreError(disk_error_text(error, path)) from error


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename in it survives a power cut."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def disk_error_text(error: OSError, path: Path) -> str:
    """Say in one paragraph why `path` cannot be written and what to do about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"{path} cannot be written: the disk is full ({error.strerror}). Nothing was left "
            "half-written. Free some space, or name another place with `--home`, and run again."
        )
    return (
        f"{path} cannot be written: {error.strerror or error}. Nothing was left half-written. "
        "Make its folder writable, or name another place with `--home`."
    )


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        sync_folder(folder.parent)
