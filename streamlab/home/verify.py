"""Is the home whole? Every file against its digest and its row, both ways, and the database itself.

A file is read once, and what its own header says is held against its row.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from streamlab.diff.layout import Layout
from streamlab.errors import DiffError, RegistryError, StoreError
from streamlab.files import TEMPORARY_PREFIX
from streamlab.home.gc import is_young
from streamlab.home.store import ArtifactStore
from streamlab.registry.layouts import recorded_layout

if TYPE_CHECKING:
    from streamlab.registry.audits import StoredFacts
    from streamlab.registry.registry import Registry

Problem = Literal[
    "missing",  # a row without its file
    "truncated",  # a file that lost its end
    "altered",  # a file whose bytes changed
    "unreadable",
    "row",  # a row that says other than its file
    "orphan",  # a file without a row
    "leftover",  # a file that a process left half-written
    "stray",  # a file that is no artifact
    "unused",  # an artifact's row without any arrival
    "lost",  # an arrival without its artifact's row
    "database",
]
_PAGE = 1000  # rows held in memory
_UNFINISHED = ("running", "stale", "interrupted")  # `--resume` goes on with each

_ADVICE: dict[Problem, str] = {
    "missing": "Put the file back from a copy, or `streamlab rm` its arrivals and run again.",
    "truncated": "Put the file back from a copy.",
    "altered": "Put the file back from a copy.",
    "unreadable": "Make the file readable, or put it back from a copy.",
    "row": "Put registry.db back from a copy: the file is whole.",
    "orphan": "`streamlab gc` deletes it; nothing refers to it.",
    "leftover": "`streamlab gc` deletes it.",
    "stray": "Move it out of the store.",
    "unused": "Put registry.db back from a copy to have its arrival; `gc` leaves the file.",
    "lost": "Put registry.db back from a copy, or `streamlab rm` the arrival.",
    "database": "Put registry.db back from a copy.",
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong; `digest` and `path` where it is about an artifact or a file."""

    problem: Problem
    digest: str | None
    detail: str
    path: Path | None = None

    @property
    def advice(self) -> str:
        """Return what to do about it."""
        return _ADVICE[self.problem]


def verify(registry: Registry, store: ArtifactStore, *, now: float) -> Iterator[Finding]:
    """Yield everything that is wrong with a home; nothing is changed.

    While a run is unfinished, young files may be without a row: a file is written before it.
    `now`: seconds since the epoch. Raises StoreError where the store's folders cannot be read.
    """
    unfinished = any(run.status in _UNFINISHED for run in registry.runs())
    files = list(store.files())  # before the rows, which are written after their files
    try:
        known: set[str] = set()
        met: set[Problem] = set()
        for finding in _recorded(registry, store, known):
            met.add(finding.problem)
            yield finding
        # What wrong rows add up to says nothing of the totals.
        if met.isdisjoint(("database", "lost", "row")):
            for line in registry.miscounted():
                yield Finding("database", None, line)
    except RegistryError as error:
        yield Finding("database", None, str(error))
        return
    for path, digest in files:
        young = unfinished and is_young(path, now=now)
        if digest not in known and not young and os.path.lexists(path):
            yield _unknown(path, digest)


def _recorded(registry: Registry, store: ArtifactStore, known: set[str]) -> Iterator[Finding]:
    """Yield what is wrong with the rows and their files; `known` gets every row's digest."""
    yield from _database(registry)
    layouts: dict[str | None, Layout | None] = {None: None}
    for facts in _rows(registry):
        known.add(facts.digest)
        if facts.base not in layouts:
            layouts[facts.base] = _layout(registry, str(facts.base))
        yield from _artifact(facts, store, layouts[facts.base])


def _layout(registry: Registry, fingerprint: str) -> Layout | None:
    """Return the layout of a base, None where its row is damaged."""
    try:
        return recorded_layout(registry.base(fingerprint))
    except (RegistryError, ValueError):
        return None


def _database(registry: Registry) -> Iterator[Finding]:
    damage = registry.damage()
    for line in damage.pages:
        yield Finding("database", None, line)
    for table, number, target in damage.links:
        yield Finding("database", None, f"Row {number} of {table} leads to no row of {target}.")
    for number, diff in damage.lost:
        yield Finding("lost", None, f"Arrival {number} leads to artifact {diff}, which has no row.")


def _rows(registry: Registry) -> Iterator[StoredFacts]:
    after = 0
    while page := registry.stored(after=after, limit=_PAGE):
        yield from page
        after = page[-1].id


def _artifact(facts: StoredFacts, store: ArtifactStore, layout: Layout | None) -> Iterator[Finding]:
    if not facts.used:
        yield Finding("unused", facts.digest, "No arrival has this artifact.")
    try:
        path = store.path(facts.digest)
        data = path.read_bytes()
    except StoreError:
        yield Finding("row", facts.digest, f"`digest` is {facts.digest!r}, which is none")
        return
    except FileNotFoundError:
        yield Finding("missing", facts.digest, "There is no file.", path)
        return
    except OSError as error:
        yield Finding("unreadable", facts.digest, f"{error.strerror}.", path)
        return
    found = hashlib.sha256(data).hexdigest()
    if found == facts.digest:
        differences = list(_differences(facts, data)) or list(_miscounted(facts, data, layout))
        if differences:
            yield Finding("row", facts.digest, "; ".join(differences), path)
    elif len(data) < facts.file_bytes:
        detail = f"The file has {len(data)} bytes of {facts.file_bytes}."
        yield Finding("truncated", facts.digest, detail, path)
    else:
        detail = f"The file has the digest {found[:12]}, and {len(data)} bytes."
        yield Finding("altered", facts.digest, detail, path)


def _unknown(path: Path, digest: str | None) -> Finding:
    n_bytes = path.lstat().st_size
    if digest is not None:
        return Finding("orphan", digest, f"The file has {n_bytes} bytes and no row.", path)
    leftover = path.name.startswith(TEMPORARY_PREFIX)
    detail = f"{path.name!r} has {n_bytes} bytes."
    return Finding("leftover" if leftover else "stray", None, detail, path)


def _differences(facts: StoredFacts, data: bytes) -> Iterator[str]:
    """Yield where a row differs from its file, whose bytes have their digest."""
    if len(data) != facts.file_bytes:
        yield f"`file_bytes` is {facts.file_bytes}, the file has {len(data)}"
    if facts.n_counted != facts.n_entries:
        counted = "are damaged" if facts.n_counted is None else f"add up to {facts.n_counted}"
        yield f"`n_entries` is {facts.n_entries}, the counts per tensor {counted}"
    said = _find_header(data)
    if said is None or facts.kind != "diff":
        # Of a baseline's file nothing is known but that it is no diff.
        if (said is None) == (facts.kind == "diff"):
            yield f"`kind` is {facts.kind!r}, the file is {'no' if said is None else 'a'} diff"
        return
    expected = {
        "base": said["base"],
        "value_type": said["value_type"],
        "n_gated": said["d"],
        "n_entries": said["k"],
        "n_head_entries": sum(prod(shape) for shape in said["head"].values()),
        **{f"{part}_bytes": size for part, size in said["parts"].items()},
    }
    for name, value in expected.items():
        if getattr(facts, name) != value:
            yield f"`{name}` is {getattr(facts, name)!r}, the file has {value!r}"


def _miscounted(facts: StoredFacts, data: bytes, layout: Layout | None) -> Iterator[str]:
    """Yield where the counts per tensor differ from those of the file's positions."""
    from streamlab.diff.format.container import decode  # here, since it loads the codecs

    if facts.kind != "diff" or layout is None:
        return
    try:
        counts = decode(data, layout, max_bytes=len(data)).counts
    except DiffError as error:
        yield f"the file does not go on its base: {error}"
        return
    if tuple(counts) != facts.counts:
        yield "the counts per tensor are not those of the file's positions"


def _find_header(data: bytes) -> dict[str, Any] | None:
    """Return what a diff file says of itself, None for any other file."""
    from streamlab.diff.format.container import inspect  # here, since it loads the codecs

    try:
        return inspect(data, max_bytes=len(data))
    except DiffError:
        return None
