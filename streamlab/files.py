"""Files that are whole or not there: written aside, synced, then renamed into place."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from streamlab.errors import StoreError

TEMPORARY_PREFIX = ".tmp-"  # what a file is called until it is whole
Opener = Callable[[Path], BinaryIO]


def open_new(path: Path) -> BinaryIO:
    """Open a file that must not exist yet for writing bytes."""
    return path.open("xb")


@contextmanager
def atomic_write(target: Path, *, opener: Opener = open_new) -> Iterator[BinaryIO]:
    """Yield a file beside `target` and rename it to `target` once its bytes are on the disk.

    The folder of `target` is made where it is missing. Whatever goes wrong, the file aside is
    removed and `target` is as it was; what the block raises is passed on as it is. Raises
    StoreError where the disk is full or refuses.
    """
    aside = target.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")
    try:
        with disk_errors(target):
            _make_folder(target.parent)
            file = opener(aside)
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
            aside.replace(target)
            sync_folder(target.parent)
    finally:
        # After the rename there is nothing left aside; before it, nothing may stay.
        with suppress(OSError):
            aside.unlink()


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an error of the disk while `path` is written into a StoreError that explains it."""
    try:
        yield
    except OSError as error:
        raise StoreError(disk_error_text(error, path)) from error


def sync_folder(folder: Path) -> None:
    """Flush a folder's own entries, so that a rename in it survives a power cut."""
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
