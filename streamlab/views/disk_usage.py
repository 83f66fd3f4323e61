"""Disk usage of a home: logical bytes count a file once per arrival, physical bytes once.

Sums are aggregated by the registry, so that no arrival is read. A file shared by two tasks is
physical in both, and counted once in the sum over all. What files take of the disk beyond their
length is a line of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain, groupby
from pathlib import Path
from typing import Literal, get_args

from streamlab.files import size_of
from streamlab.home.folder import Home
from streamlab.home.pack import PACK_FILES, Pack
from streamlab.registry.records import Parts, Total
from streamlab.registry.registry import Registry
from streamlab.views.table import Cell, Table, columns

By = Literal["task", "provider", "method", "part", "run"]
BYS: tuple[By, ...] = get_args(By)
_SECTOR_BYTES = 512  # the unit of `st_blocks`, whatever the disk's blocks are

# `share`: of all physical bytes; `baseline_bytes`: physical bytes of checkpoints and adapters.
_BYTES = "logical_bytes: bytes, physical_bytes: bytes, share: share"
_GROUPED = f"arrivals: count, files: count, {_BYTES}, [baseline_bytes: bytes]"
_PLACES = columns("what, files: count, logical_bytes: bytes, physical_bytes: bytes")


def usage(registry: Registry, by: By) -> Table:
    """Return the bytes of stored files by task, provider, ..., the most physical bytes first.

    Removed arrivals are left out.
    """
    kinds = registry.totals.list("all")
    every = _physical(kinds)
    if by == "part":
        known, rows = columns(f"part, {_BYTES}"), _by_part(kinds, every)
    else:
        known, rows = columns(f"{by}, {_GROUPED}"), _by_name(registry.totals.list(by), every)
    table = Table("usage", f"Bytes by {by}", known, tuple(rows))
    return table.sort("physical_bytes", descending=True)


def home_usage(registry: Registry, home: Home) -> Table:
    """Return the bytes of everything in a home: files in use, removed, quarantined, curves, ..."""
    kinds = registry.totals.list("all")
    removed = registry.removal.list().artifacts
    curves, held, store = _walked(home.curves), _walked(home.quarantine), _stored(home.store)
    pictures = _walked(home.figures, home.reports)
    cached, stages, followed = map(_walked, (home.cache, home.stages, home.tracking))
    rows: list[tuple[Cell, ...]] = [
        *(_kind(kinds, kind, name) for kind, name in _KINDS),
        ("removed", len(removed), None, sum(artifact.file_bytes for artifact in removed)),
    ]
    rows += [
        # Kept by a tag though removed, without a record, or partly written; see `verify`.
        _place("other in store", store.beyond(_summed(rows, 1), _summed(rows, 3))),
        _place("curves", curves),
        _place("figures", pictures),
        _place("quarantine", held),
        ("registry", 1, None, registry.disk_bytes()),
    ]
    if cached.n_files:  # copies of files that another store has
        rows.append(_place("cache", cached))
    if stages.n_files:  # of studies
        rows.append(_place("shared stages", stages))
    if followed.n_files:
        rows.append(_place("tracking", followed))
    walked = (curves, held, store, pictures, cached, stages, followed)
    # What the last block of each file leaves unused, folders, and the index of a pack.
    unused = sum(max(0, place.allocated - place.n_bytes) for place in walked)
    rows.append(("blocks and folders", None, None, unused))
    logical = sum(total.logical.file_bytes for total in kinds)
    rows.append(("total", _summed(rows, 1), logical, _summed(rows, 3)))
    return Table("usage", "Bytes of the home", _PLACES, tuple(rows))


@dataclass(frozen=True)
class _Place:
    """Files of some folders: their number, their bytes, and what they take of the disk."""

    n_files: int
    n_bytes: int
    allocated: int

    def beyond(self, n_files: int, n_bytes: int) -> _Place:
        """Return what there is beside so many files and bytes."""
        return replace(
            self, n_files=max(0, self.n_files - n_files), n_bytes=max(0, self.n_bytes - n_bytes)
        )


def _place(name: str, place: _Place) -> tuple[Cell, ...]:
    return (name, place.n_files, None, place.n_bytes)


def _summed(rows: Iterable[tuple[Cell, ...]], place: int) -> int:
    return sum(value for row in rows if isinstance(value := row[place], int))


_KINDS = (("diff", "diffs"), ("checkpoint", "checkpoints"), ("adapter", "adapters"))


def _kind(totals: Iterable[Total], kind: str, name: str) -> tuple[Cell, ...]:
    own = [total for total in totals if total.kind == kind]
    return (
        name,
        sum(total.n_files for total in own),
        sum(total.logical.file_bytes for total in own),
        _physical(own),
    )


def _by_name(totals: Sequence[Total], every: int) -> Iterator[tuple[Cell, ...]]:
    stored = [total for total in totals if total.kind not in ("failed", "quarantined")]
    for name, group in groupby(stored, key=lambda total: total.name):
        own = list(group)
        yield (
            name,
            sum(total.n_arrivals for total in own),
            sum(total.n_files for total in own),
            sum(total.logical.file_bytes for total in own),
            _physical(own),
            _share(_physical(own), every),
            _physical(total for total in own if total.kind != "diff"),
        )


def _by_part(totals: Sequence[Total], every: int) -> Iterator[tuple[Cell, ...]]:
    for field in fields(Parts):
        logical = sum(getattr(total.logical, field.name) for total in totals)
        stored = sum(getattr(total.stored, field.name) for total in totals)
        yield (field.name.removesuffix("_bytes"), logical, stored, _share(stored, every))


def _physical(totals: Iterable[Total]) -> int:
    return sum(total.stored.file_bytes for total in totals)


def _share(n_bytes: int, every: int) -> float | None:
    return n_bytes / every if every else None


def _stored(folder: Path) -> _Place:
    """Return the artifacts of a folder store, those in its pack counted one by one."""
    found, (n_packed, packed_bytes) = _walked(folder), Pack(folder).totals()
    pack = [folder / name for name in PACK_FILES if (folder / name).exists()]
    return _Place(
        found.n_files - len(pack) + n_packed,
        found.n_bytes - sum(map(size_of, pack)) + packed_bytes,
        found.allocated,
    )


def _walked(*folders: Path) -> _Place:
    """Return what is below folders; ignore files that vanish."""
    n_files = n_bytes = allocated = 0
    for where, _, names in chain.from_iterable(map(os.walk, folders)):
        for name in (*names, "."):
            try:
                found = os.lstat(f"{where}/{name}")
            except FileNotFoundError:
                continue
            allocated += found.st_blocks * _SECTOR_BYTES
            if name != ".":
                n_bytes += found.st_size
                n_files += 1
    return _Place(n_files, n_bytes, allocated)
