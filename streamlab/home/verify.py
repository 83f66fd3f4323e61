"""Verify a home: compare every file with its digest and its row, and check the database.

A file is read and decoded once; its header is compared with its row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Literal

from streamlab.diff.layout import Layout
from streamlab.errors import DiffError, RegistryError, StoreError
from streamlab.home.gc import is_young
from streamlab.home.store import ArtifactStore, Stored, leftovers_in
from streamlab.registry.records import header_fields

if TYPE_CHECKING:
    from streamlab.diff.format.container import DiffFile
    from streamlab.home.folder import Home
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
    "row": "Restore the registry from a copy: the file is intact.",
    "orphan": "Delete it by `streamlab gc`; nothing refers to it.",
    "leftover": "Delete it by `streamlab gc`.",
    "stray": "Move it out of the store.",
    "unused": "Restore the registry from a copy to recover its arrival; `gc` keeps the file.",
    "lost": "Restore the registry from a copy, or `streamlab rm` the arrival.",
    "database": "Restore the registry from a copy.",
}


@dataclass(frozen=True)
class Finding:
    """One inconsistency; `digest` and `where` if it concerns an artifact or a file."""

    problem: Problem
    digest: str | None
    detail: str
    where: str | None = None  # its path or URL

    @property
    def advice(self) -> str:
        """Return how to repair it."""
        return _ADVICE[self.problem]


def verify(
    registry: Registry, store: ArtifactStore, *, now: float, home: Home | None = None
) -> Iterator[Finding]:
    """Yield every inconsistency of a home, without changing anything.

    While a run is unfinished, recent files may lack a row, which is written after them; what an
    import or a collection has in hand meanwhile is looked at again before it is a finding. `now`:
    seconds since the epoch. `home`: where incomplete files are looked for too. Raises StoreError
    where the store's folders cannot be read.
    """
    unfinished = any(run.status in _UNFINISHED for run in registry.runs.list())
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
    waits = unfinished or not store.excludes_others
    for found in (*_without_row(registry, store, known), *_incomplete(store, home)):
        if not (waits and is_young(found.marked_at, now=now)):
            yield _unknown(found)


def _without_row(registry: Registry, store: ArtifactStore, known: set[str]) -> Iterator[Stored]:
    """Yield the files that have no row; `known` are the digests of those that have one."""
    unknown = [found for found in store.list() if found.digest not in known]
    if unknown:
        with store.locked():  # an import has written the rows of its files by then
            known |= registry.artifacts.digests()
    for found in unknown:
        # A collection may have deleted it meanwhile.
        if found.digest is None or (found.digest not in known and found.digest in store):
            yield found


def _incomplete(store: ArtifactStore, home: Home | None) -> Iterable[Stored]:
    own = () if home is None else leftovers_in(home.path)
    left = {found.where: found for found in (*own, *store.leftovers())}
    return left.values()


def _recorded(registry: Registry, store: ArtifactStore, known: set[str]) -> Iterator[Finding]:
    """Yield inconsistencies of rows and their files; add the digest of every row to `known`."""
    for damage in registry.integrity.find_damage():
        yield Finding(damage.kind, None, damage.detail)
    layout_of = cache(partial(_layout, registry))
    after = 0
    while page := registry.integrity.artifacts(after=after, limit=_PAGE):
        for row in page:
            known.add(row.digest)
            if not row.is_used:
                yield Finding("unused", row.digest, "No arrival refers to this artifact.")
            finding = _compared(row, store, layout_of(row.base_fingerprint))
            # A collection may have deleted both meanwhile, the row first.
            if finding and registry.integrity.artifacts(after=row.id - 1, limit=1) == (row,):
                yield finding
        after = page[-1].id


def _layout(registry: Registry, fingerprint: str) -> Layout | None:
    """Return the layout of a base; None if its row is missing or damaged."""
    try:
        return registry.bases.get(fingerprint).as_layout()
    except (RegistryError, ValueError):
        return None


def _compared(row: RecordedArtifact, store: ArtifactStore, layout: Layout | None) -> Finding | None:
    """Return what is wrong with a file or its row, None if they agree."""
    if row.damage is not None:
        return Finding("row", str(row.digest), row.damage)
    try:
        where = store.locate(row.digest)
    except StoreError:
        return Finding("row", row.digest, f"`digest` is {row.digest!r}, which is not a digest")
    data = _read(row, store, where)
    if isinstance(data, Finding):
        return data
    found = hashlib.sha256(data).hexdigest()
    if found == row.digest:
        differences = "; ".join(_differences(row, data, layout))
        return Finding("row", row.digest, differences, where) if differences else None
    if len(data) < row.file_bytes:
        detail = f"The file has {len(data)} bytes of {row.file_bytes}."
        return Finding("truncated", row.digest, detail, where)
    detail = f"The file has {len(data)} bytes and the digest {found[:12]}."
    return Finding("altered", row.digest, detail, where)


def _read(row: RecordedArtifact, store: ArtifactStore, where: str) -> bytes | Finding:
    """Return the bytes of a file that is not longer than its row says, or what is wrong."""
    try:
        found = store.find(row.digest)
        if found is not None and found.n_bytes > row.file_bytes:
            detail = f"The file has {found.n_bytes} bytes instead of {row.file_bytes}."
            return Finding("altered", row.digest, detail, where)
        return store.read(row.digest, most_bytes=row.file_bytes)
    except StoreError as error:
        return Finding("unreadable", row.digest, str(error), where)
    except FileNotFoundError:
        return Finding("missing", row.digest, "The file is missing.", where)


def _unknown(found: Stored) -> Finding:
    if found.digest is not None:
        detail = f"The file has {found.n_bytes} bytes and no row."
        return Finding("orphan", found.digest, detail, found.where)
    detail = f"{found.where.rpartition('/')[2]!r} has {found.n_bytes} bytes."
    return Finding("stray" if found.is_complete else "leftover", None, detail, found.where)


def _differences(row: RecordedArtifact, data: bytes, layout: Layout | None) -> list[str]:
    """Return where a row disagrees with its file, whose bytes have their digest."""
    from streamlab.diff.format.container import open_diff  # deferred: loads the codecs

    try:
        file = open_diff(data, max_bytes=len(data))
    except DiffError:
        file = None
    found = [*_differing_sizes(row, len(data)), *_differing_fields(row, file)]
    if found or file is None or layout is None:
        return found
    try:
        counts = file.decode(layout).counts
    except DiffError as error:
        return [f"the file does not fit its base: {error}"]
    differ = "the counts per tensor differ from those of the file's positions"
    return [] if counts == row.tensor_counts else [differ]


def _differing_sizes(row: RecordedArtifact, n_bytes: int) -> Iterator[str]:
    if n_bytes != row.file_bytes:
        yield f"`file_bytes` is {row.file_bytes}, the file has {n_bytes}"
    # A baseline's checkpoint may have no counts.
    n_counted = sum(row.tensor_counts) if row.tensor_counts else row.n_entries
    if n_counted != row.n_entries or not row.is_counted:
        counted = f"add up to {n_counted}" if row.is_counted else "are damaged"
        yield f"`n_entries` is {row.n_entries}, the counts per tensor {counted}"


def _differing_fields(row: RecordedArtifact, file: DiffFile | None) -> Iterator[str]:
    if (file is None) == (row.kind == "diff"):
        yield f"`kind` is {row.kind!r}, the file is {'not a' if file is None else 'a'} diff"
    elif file is not None:
        stated = {"base_fingerprint": file.header.base, **header_fields(file)}
        for name, value in stated.items():
            if getattr(row, name) != value:
                field = name.removesuffix("_fingerprint")
                yield f"`{field}` is {getattr(row, name)!r}, the file has {value!r}"
