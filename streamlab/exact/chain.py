"""Checkpoints of one training in a folder: whole ones now and then, between them exact differences.

    00000/  00001.slexact  00002.slexact  ...  00010/  00011.slexact  ...

A difference turns the checkpoint before it into its own, and refuses any other.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from streamlab.errors import StoreError, StreamlabError, UsageError
from streamlab.exact.change_file import (
    SUFFIX,
    Change,
    apply_change,
    describing_files,
    read_change,
    write_change,
)
from streamlab.exact.tensor_files import fingerprint, open_tensors
from streamlab.files import TEMPORARY_PREFIX, atomic_folder, disk_errors

_NAME: Final = re.compile(r"(\d{5,})(\.slexact)?")


@dataclass(frozen=True)
class Link:
    """One checkpoint of a chain: a folder with all of it, or the file of a difference."""

    number: int
    path: Path

    @property
    def is_whole(self) -> bool:
        """Return whether it is a whole checkpoint."""
        return self.path.suffix != SUFFIX

    @property
    def n_bytes(self) -> int:
        """Return the bytes that it takes."""
        files = self.path.rglob("*") if self.is_whole else [self.path]
        return sum(path.stat().st_size for path in files if path.is_file())


def apply_in_order(base: Path, changes: Sequence[Path], folder: Path) -> Change:
    """Apply differences one after the other, and write the last result into a new folder.

    Raises what `apply_change` raises, and UsageError for none.
    """
    if not changes:
        raise UsageError("Give at least one difference to apply.")
    with _temporary(folder) as temporary:
        for number, path in enumerate(changes[:-1]):
            apply_change(base, path, temporary / str(number))
            if number:
                shutil.rmtree(base)
            base = temporary / str(number)
        return apply_change(base, changes[-1], folder)


class Chain:
    """A chain in `folder`, which may be absent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def links(self) -> tuple[Link, ...]:
        """Return the checkpoints in order. Raises StoreError where one is missing."""
        if not self.folder.is_dir():
            return ()
        found = {
            int(match[1]): Link(int(match[1]), path)
            for path in sorted(self.folder.iterdir())
            if (match := _NAME.fullmatch(path.name)) and path.is_dir() == (match[2] is None)
        }
        for number in range(len(found)):
            if number not in found:
                raise StoreError(
                    f"{self.folder} has no checkpoint {number:05}, and later ones need it. Copy it "
                    "there again."
                )
        if found and not found[0].is_whole:
            raise StoreError(f"{self.folder} has no whole checkpoint to begin with.")
        return tuple(found[number] for number in sorted(found))

    def add(self, checkpoint: Path, *, whole_every: int) -> Link:
        """Add a checkpoint: every so many whole, the others as differences.

        Raises what `write_change` raises, and UsageError for fewer than one.
        """
        if whole_every < 1:
            raise UsageError(f"A whole checkpoint every {whole_every} is none; give at least 1.")
        links = self.links()
        number = len(links)
        if number % whole_every == 0:
            link = Link(number, self.folder / f"{number:05}")
            _copy(checkpoint, link.path)
            return link
        link = Link(number, self.folder / f"{number:05}{SUFFIX}")
        with self._restored(links[-1]) as before:
            write_change(before, checkpoint, link.path)
        return link

    def restore(self, number: int, folder: Path) -> None:
        """Write a checkpoint into a new folder. Raises what `apply_change` raises."""
        link = self._link(number)
        if link.is_whole:
            _copy(link.path, folder)
            return
        whole, changes = self._way_to(link)
        apply_in_order(whole.path, changes, folder)

    def squash(self, first: int, last: int, path: Path) -> Change:
        """Write the one difference between two checkpoints."""
        with (
            self._restored(self._link(first)) as before,
            self._restored(self._link(last)) as after,
        ):
            return write_change(before, after, path).change

    def verify(self) -> Iterator[tuple[Link, str | None]]:
        """Yield every checkpoint with what is wrong with it, None where it follows the one before.

        A difference must be whole and begin where the checkpoint before it ends; a whole checkpoint
        in between is itself compared with nothing.
        """
        before: str | None = None
        for link in self.links():
            try:
                if link.is_whole:
                    before = fingerprint(open_tensors(link.path))
                    yield link, None
                    continue
                change = read_change(link.path)
            except StreamlabError as error:
                before = None
                yield link, str(error)
                continue
            follows = before in (None, change.base)
            wrong = (
                f"it is of the checkpoint {change.base[:12]}, and {str(before)[:12]} is before it"
            )
            before = change.result
            yield link, None if follows else wrong

    def _link(self, number: int) -> Link:
        links = self.links()
        if not 0 <= number < len(links):
            raise UsageError(
                f"{self.folder} has {len(links)} checkpoints, from 0 on, and none is {number}."
            )
        return links[number]

    def _way_to(self, link: Link) -> tuple[Link, list[Path]]:
        """Return the last whole checkpoint up to one, and the differences from there."""
        links = self.links()[: link.number + 1]
        start = max(one.number for one in links if one.is_whole)
        return links[start], [one.path for one in links[start + 1 :]]

    @contextmanager
    def _restored(self, link: Link) -> Iterator[Path]:
        """Give a folder with a checkpoint for the duration of a `with` block."""
        if link.is_whole:
            yield link.path
            return
        with _temporary(self.folder / link.path.name) as temporary:
            self.restore(link.number, temporary / "checkpoint")
            yield temporary / "checkpoint"


@contextmanager
def _temporary(beside: Path) -> Iterator[Path]:
    """Give a temporary folder on the disk where something is written."""
    parent = beside.absolute().parent
    with disk_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=parent) as name:
            yield Path(name)


def _copy(checkpoint: Path, folder: Path) -> None:
    """Copy the files of a checkpoint, or the one file that it is, into a new folder."""
    stored = open_tensors(checkpoint)
    names = [file.name for file in stored.files]
    if checkpoint.is_dir():
        names += [path.name for path in describing_files(checkpoint)]
    with atomic_folder(folder) as temporary, disk_errors(folder):
        for name in names:
            shutil.copyfile(stored.folder / name, temporary / name)
