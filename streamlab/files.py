"""Atomic writes: a file or folder is complete under its name, or absent."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from streamlab.errors import StoreError, UsageError
from streamlab.units import format_bytes

TEMPORARY_PREFIX = ".tmp-"  # of names under which incomplete files and folders are written
Opener = Callable[[Path], BinaryIO]

# File systems that several machines may mount; shared memory does not reach between these.
NETWORK_DISKS = frozenset(
    (
        *("9p", "afs", "beegfs", "ceph", "cifs", "davfs", "glusterfs", "gpfs", "lustre", "ncpfs"),
        *("nfs", "nfs4", "smb2", "smb3", "smbfs", "fuse.ceph", "fuse.davfs", "fuse.glusterfs"),
        *("fuse.rclone", "fuse.s3fs", "fuse.sshfs"),
    )
)
MOUNTS = Path("/proc/self/mountinfo")


def open_new(path: Path) -> BinaryIO:
    """Open a file that must not exist yet for writing bytes."""
    return path.open("xb")


def open_private(path: Path) -> BinaryIO:
    """Open a file that must not exist yet, and that only its owner may read, for writing bytes."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def read_text(path: Path, *, most_bytes: int) -> str:
    """Read a regular file of UTF-8 text without its byte order mark; line endings stay.

    Raises ValueError with the reason where there is none, and for a longer one. A device or a
    pipe, which might never end, is not opened for longer than it takes to see what it is.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(number, "rb") as file:
            if not stat.S_ISREG(os.fstat(number).st_mode):
                raise ValueError("is not a regular file. Save it in one.")
            data = file.read(most_bytes + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}. Check the path.") from error
    if len(data) > most_bytes:
        raise ValueError(f"is larger than {format_bytes(most_bytes)}. Shorten it.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError("is not UTF-8 text. Save it as UTF-8.") from error


def read_beneath(root: Path, path: Path, *, most_bytes: int) -> bytes:
    """Read a regular file below `root`, following no link on the way.

    Raises FileNotFoundError where there is none, and StoreError for a link, a device, a folder or
    a file of more than `most_bytes`.
    """
    *folders, name = path.relative_to(root).parts
    with ExitStack() as opened:
        parent = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        opened.callback(os.close, parent)
        try:
            for folder in folders:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
                parent = os.open(folder, flags, dir_fd=parent)
                opened.callback(os.close, parent)
            number = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=parent)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StoreError(
                f"{path} cannot be read: {error.strerror}. Links are not followed in a home; put "
                "the file itself in its place."
            ) from error
        file = opened.enter_context(os.fdopen(number, "rb"))
        found = os.fstat(number)
        if not stat.S_ISREG(found.st_mode) or found.st_size > most_bytes:
            raise StoreError(
                f"{path} is not a regular file of at most {most_bytes:,} bytes. Put the file "
                "itself in its place."
            )
        return file.read(found.st_size)


def refuse_link(path: Path) -> None:
    """Raise StoreError where a file or folder of a home is a link, which may lead out of it."""
    if os.path.islink(path):  # noqa: PTH114 - unlike pathlib's, false where it cannot be seen
        raise StoreError(
            f"{path} is a link, and links are not followed in a home. Put the folder itself in "
            "its place; the home as a whole may be a link."
        )


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for the lock on a file or folder, and hold it for the duration of a `with` block.

    It ends with the process. Where nothing is there, or the disk has no locks, nothing is held.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        yield
        return
    try:
        with suppress(OSError):
            fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)


def is_in_use(path: Path) -> bool:
    """Return whether another process is still writing an incomplete file or folder."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(number)
    return False


def find_incomplete(folder: Path) -> Iterator[Path]:
    """Yield the files and folders that were left incomplete anywhere below a folder, in order."""
    for path, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted([*folders, *names]):
            if name.startswith(TEMPORARY_PREFIX):
                yield Path(path, name)
        folders[:] = [name for name in folders if not name.startswith(TEMPORARY_PREFIX)]


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of the files in a folder; 0 where nothing is there."""
    if path.is_dir() and not path.is_symlink():
        return sum(map(size_of, path.iterdir()))
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def delete_path(path: Path) -> None:
    """Delete a file, or a folder with everything in it, if it exists. Raises StoreError."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be deleted: {error.strerror or error}. Make its folder writable."
        ) from error


def check_target(target: Path) -> None:
    """Raise UsageError where a file would replace what is no file: a device, a pipe, a folder.

    The same holds for a link to one.
    """
    try:
        mode = target.stat().st_mode
    except (OSError, ValueError):  # nothing is there, or writing says why it cannot be
        return
    if not stat.S_ISREG(mode):
        raise UsageError(
            f"{target} is not a regular file, and will not be replaced by one. Give another name."
        )


@contextmanager
def atomic_write(
    target: Path, *, opener: Opener = open_new, replace: bool = True
) -> Iterator[BinaryIO]:
    """Yield a temporary file beside `target`; flush it to disk and rename it when the block ends.

    A missing folder is created. On any error the temporary file is removed, `target` stays as it
    was, and an exception of the block propagates unchanged. Raises UsageError where `target` is a
    device, a pipe or a folder, StoreError where the disk is full or not writable, and
    FileExistsError where `target` exists and `replace` is false.
    """
    check_target(target)
    temporary = temporary_path(target)
    try:
        with disk_errors(target):
            _make_folder(target.parent)
            file = opener(temporary)
        try:
            with suppress(OSError, ValueError):  # it is in use; see `is_in_use`
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield file
        except BaseException:
            with suppress(OSError):
                file.close()
            raise
        with disk_errors(target):
            with file:
                file.flush()
                os.fsync(file.fileno())
            if replace:
                temporary.replace(target)
        if not replace:
            with disk_errors(target, FileExistsError):
                os.link(temporary, target)  # a rename would not notice that the name is taken
        with disk_errors(target):
            sync_folder(target.parent)
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_atomically(
    target: Path, data: bytes, *, opener: Opener = open_new, replace: bool = True
) -> None:
    """Write one file's bytes with `atomic_write`; also an error of the disk is a StoreError."""
    with atomic_write(target, opener=opener, replace=replace) as file, disk_errors(target):
        file.write(data)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield a new temporary folder beside `target`; flush and rename it when the block ends.

    `target` must be absent or an empty folder. On any error the temporary folder is removed.
    Raises StoreError where the disk is full or not writable, or `target` has content.
    """
    target = target.absolute()
    temporary = temporary_path(target)
    try:
        with disk_errors(target):
            _make_folder(target.parent)
            temporary.mkdir()
        yield temporary
        with disk_errors(target):
            for path in sorted(temporary.rglob("*")):
                sync_folder(path) if path.is_dir() else _sync_file(path)
            sync_folder(temporary)
            temporary.replace(target)
            sync_folder(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def disk_errors(path: Path, passed: type[OSError] | tuple[()] = ()) -> Iterator[None]:
    """Raise an OSError of the block, unless `passed`, as a StoreError naming `path` and advice."""
    try:
        yield
    except passed:
        raise
    except OSError as error:
        raise StoreError(disk_error_text(error, path)) from error


def has_room(folder: Path, n_bytes: int) -> bool:
    """Return whether that many bytes are free on a folder's disk; true where it cannot be told."""
    try:
        return shutil.disk_usage(folder).free >= n_bytes
    except OSError:
        return True


def find_disk_kind(folder: Path, *, mounts: Path = MOUNTS) -> str | None:
    """Return the file system's type of a folder, None where it is unknown, as outside Linux.

    `mounts`: a file in the format of proc(5)'s mountinfo.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    folder = folder.resolve()
    found: tuple[int, str] | None = None
    for line in lines:
        before, _, after = line.partition(" - ")
        point = Path(_unescape(before.split(" ")[4]))
        # The deepest mount point wins; of two on the same one, the later hides the earlier.
        if folder.is_relative_to(point) and (found is None or len(point.parts) >= found[0]):
            found = len(point.parts), after.split(" ")[0]
    return None if found is None else found[1]


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that a rename in it survives a power failure."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def temporary_path(target: Path) -> Path:
    """Return a new name beside `target` under which it is incomplete; `gc` deletes what is left."""
    return target.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")


def disk_error_text(error: OSError, path: Path) -> str:
    """Return why `path` cannot be written, and what to do about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"{path} cannot be written: the disk is full ({error.strerror}). No partial file was "
            "left. Free some space, or choose another location, and run again."
        )
    return (
        f"{path} cannot be written: {error.strerror or error}. No partial file was left. "
        "Make its folder writable, or choose another location."
    )


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        sync_folder(folder.parent)


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
