"""Verify a home: compare every file with its digest and its row, and check the database.

A file is read and decoded once; its header is compared with its row.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from streamlab.diff.layout import Layout
from streamlab.errors import DiffError, RegistryError, StoreError
from streamlab.files import TEMPORARY_PREFIX
from streamlab.home.gc import is_young
from streamlab.home.store import ArtifactStore

if TYPE_CHECKING:
    from streamlab.diff.format.container import DiffFile
    from streamlab.registry.integrity import RecordedArtifact
    from streamlab.registry.registry import Registry

Problem = Literal[
    "missing",  # a row without its file
    "truncated",
    "altered",  # a file with another digest
    "unreadable",
    "row",  # a row that disagrees with its file
    "orphan",  # a file without a row
    "leftover",  # an incomplete file of an interrupted process
    "stray",  # a file that is not an artifact
    "unused",  # a row of an artifact without any arrival
    "lost",  # an arrival without its artifact's row
    "database",
]
_PAGE = 1000  # rows in memory at once
_UNFINISHED = ("running", "stale", "interrupted")  # can be continued by `--resume`

_ADVICE: dict[Problem, str] = {
    "missing": "Restore the file from a copy, or `streamlab rm` its arrivals and run again.",
    "truncated": "Restore the file from a copy.",
    "altered": "Restore the file from a copy.",
    "unreadable": "Make the file readable, or restore it from a copy.",
    "row": "Restore registry.db from a copy: the file is intact.",
    "orphan": "Delete it by `streamlab gc`; nothing refers to it.",
    "leftover": "Delete it by `streamlab gc`.",
    "stray": "Move it out of the store.",
    "unused": "Restore registry.db from a copy to recover its arrival; `gc` keeps the file.",
    "lost": "Restore registry.db from a copy, or `streamlab rm` the arrival.",
    "database": "Restore registry.db from a copy.",
}


@dataclass(frozen=True)
class Finding:
    """One inconsistency; `digest` and `path` if it concerns an artifact or a file."""

    problem: Problem
    digest: str | None
    detail: str
    path: Path | None = None

    @property
    def advice(self) -> str:
        """Return how to repair it."""
        return _ADVICE[self.problem]


def verify(registry: Registry, store: ArtifactStore, *, now: float) -> Iterator[Finding]:
    """Yield every inconsistency of a home, without changing anything.

    While a run is unfinished, recent files may lack a row, which is written after them. `now`:
    seconds since the epoch. Raises StoreError where the store's folders cannot be read.
    """
    unfinished = any(run.status in _UNFINISHED for run in registry.runs.list())
    files = list(store.files())  # before reading rows, which are written after files
    try:
        known: set[str] = set()
        problems: set[Problem] = set()
        for finding in _recorded(registry, store, known):
            problems.add(finding.problem)
            yield finding
        # Damaged rows have no meaningful totals.
        if problems.isdisjoint(("database", "lost", "row", "unused")):
            for line in registry.totals.verify():
                yield Finding("database", None, line)
    except RegistryError as error:
        yield Finding("database", None, str(error))
        return
    for path, digest in files:
        young = unfinished and is_young(path, now=now)
        if digest not in known and not young and os.path.lexists(path):
            yield _unknown(path, digest)


def _recorded(registry: Registry, store: ArtifactStore, known: set[str]) -> Iterator[Finding]:
    """Yield inconsistencies of rows and their files; add the digest of every row to `known`."""
    yield from _database(registry)
    layouts: dict[str | None, Layout | None] = {None: None}
    for facts in _rows(registry):
        known.add(facts.digest)
        if facts.base not in layouts:
            layouts[facts.base] = _layout(registry, str(facts.base))
        yield from _artifact(facts, store, layouts[facts.base])


def _layout(registry: Registry, fingerprint: str) -> Layout | None:
    """Return the layout of a base; None if its row is damaged."""
    try:
        return registry.bases.get(fingerprint).as_layout()
    except (RegistryError, ValueError):
        return None


def _database(registry: Registry) -> Iterator[Finding]:
    damage = registry.integrity.find_damage()
    for line in damage.pages:
        yield Finding("database", None, line)
    for table, number, target in damage.links:
        yield Finding(
            "database", None, f"Row {number} of {table} refers to a missing row of {target}."
        )
    for number, diff in damage.lost:
        yield Finding(
            "lost", None, f"Arrival {number} refers to artifact {diff}, which has no row."
        )


def _rows(registry: Registry) -> Iterator[RecordedArtifact]:
    after = 0
    while page := registry.integrity.artifacts(after=after, limit=_PAGE):
        yield from page
        after = page[-1].id


def _artifact(
    facts: RecordedArtifact, store: ArtifactStore, layout: Layout | None
) -> Iterator[Finding]:
    if not facts.used:
        yield Finding("unused", facts.digest, "No arrival refers to this artifact.")
    try:
        path = store.path(facts.digest)
        data = path.read_bytes()
    except StoreError:
        yield Finding("row", facts.digest, f"`digest` is {facts.digest!r}, which is not a digest")
        return
    except FileNotFoundError:
        yield Finding("missing", facts.digest, "The file is missing.", path)
        return
    except OSError as error:
        yield Finding("unreadable", facts.digest, f"{error.strerror}.", path)
        return
    found = hashlib.sha256(data).hexdigest()
    if found == facts.digest:
        differences = _differences(facts, data, layout)
        if differences:
            yield Finding("row", facts.digest, "; ".join(differences), path)
    elif len(data) < facts.file_bytes:
        detail = f"The file has {len(data)} bytes of {facts.file_bytes}."
        yield Finding("truncated", facts.digest, detail, path)
    else:
        detail = f"The file has {len(data)} bytes and the digest {found[:12]}."
        yield Finding("altered", facts.digest, detail, path)


def _unknown(path: Path, digest: str | None) -> Finding:
    n_bytes = path.lstat().st_size
    if digest is not None:
        return Finding("orphan", digest, f"The file has {n_bytes} bytes and no row.", path)
    leftover = path.name.startswith(TEMPORARY_PREFIX)
    detail = f"{path.name!r} has {n_bytes} bytes."
    return Finding("leftover" if leftover else "stray", None, detail, path)


def _differences(facts: RecordedArtifact, data: bytes, layout: Layout | None) -> list[str]:
    """Return where a row disagrees with its file, whose bytes have their digest."""
    file = _opened(data)
    found = list(_differing_fields(facts, len(data), file))
    if found or file is None or layout is None:
        return found
    return list(_miscounted(facts, file, layout))


def _differing_fields(
    facts: RecordedArtifact, n_bytes: int, file: DiffFile | None
) -> Iterator[str]:
    if n_bytes != facts.file_bytes:
        yield f"`file_bytes` is {facts.file_bytes}, the file has {n_bytes}"
    if facts.n_counted != facts.n_entries:
        counted = "are damaged" if facts.n_counted is None else f"add up to {facts.n_counted}"
        yield f"`n_entries` is {facts.n_entries}, the counts per tensor {counted}"
    if (file is None) == (facts.kind == "diff"):
        yield f"`kind` is {facts.kind!r}, the file is {'not a' if file is None else 'a'} diff"
    elif file is not None:
        from streamlab.home.diff_records import header_fields  # deferred: loads the codecs

        for name, value in {"base": file.header.base, **header_fields(file)}.items():
            if getattr(facts, name) != value:
                yield f"`{name}` is {getattr(facts, name)!r}, the file has {value!r}"


def _miscounted(facts: RecordedArtifact, file: DiffFile, layout: Layout) -> Iterator[str]:
    """Yield where the counts per tensor differ from those of the file's positions."""
    try:
        counts = file.decode(layout).counts
    except DiffError as error:
        yield f"the file does not fit its base: {error}"
        return
    if counts != facts.counts:
        yield "the counts per tensor differ from those of the file's positions"


def _opened(data: bytes) -> DiffFile | None:
    """Return a diff file, None for any other file."""
    from streamlab.diff.format.container import open_diff  # deferred: loads the codecs

    try:
        return open_diff(data, max_bytes=len(data))
    except DiffError:
        return None
