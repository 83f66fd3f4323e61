"""Garbage collection of a home: removed arrivals and unreferenced files, rows before files.

A file is deleted only while no row refers to it; an interrupted collection leaves files without
a row, which the next one finds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from streamlab.errors import RegistryError, UsageError
from streamlab.files import find_incomplete, is_in_use, locked, size_of
from streamlab.home.folder import Home
from streamlab.home.store import ArtifactStore
from streamlab.registry.database import FILES_AT_ONCE, in_chunks
from streamlab.registry.registry import Registry
from streamlab.registry.removal import Removed

GRACE_SECONDS = 3600.0  # the longest time between a file and its row
QUARANTINE_SECONDS = 7 * 86_400.0  # that refused submissions are kept for inspection

Reason = Literal["removed", "orphan", "leftover", "quarantined"]


@dataclass(frozen=True)
class Waste:
    """One unreferenced file; `digest` is None for an incomplete one."""

    path: Path
    digest: str | None
    n_bytes: int  # 0 if the file is gone already
    reason: Reason


@dataclass(frozen=True)
class Plan:
    """The deletions of a collection."""

    files: tuple[Waste, ...]
    arrivals: tuple[int, ...]  # removed ones, whose rows will be deleted
    n_young: int  # recent files that are kept for now
    n_held: int  # files without a row, kept since rows without a file may belong to them
    made_at: float  # seconds since the epoch

    @property
    def n_bytes(self) -> int:
        """Return the bytes to be freed."""
        return sum(file.n_bytes for file in self.files)


def plan(
    registry: Registry,
    store: ArtifactStore,
    *,
    now: float,
    young_too: bool = False,
    home: Home | None = None,
) -> Plan:
    """Find what can be deleted, without changing anything.

    `now`: seconds since the epoch. `young_too`: include files without a row that were written less
    than `GRACE_SECONDS` ago, and refused submissions of the last days. `home`: where incomplete
    files and refused submissions are looked for too. Raises RegistryError for a damaged database,
    and UsageError for `young_too` while a run is active.
    """
    if young_too and any(run.status == "running" for run in registry.runs.list()):
        raise UsageError(
            "A run is active, and its newest files have no row yet. Wait for it to finish, or "
            "leave out `--now`."
        )
    damage = registry.integrity.find_damage()
    if damage:
        raise RegistryError(
            f"The registry {registry.url} is damaged ({len(damage)} findings), so the references "
            "to files are unknown; nothing was deleted. See `streamlab verify`."
        )
    stored = list(store.files())  # before reading rows, which are written after files
    known = registry.artifacts.digests()
    going, n_wanted = _going(registry, store, now=now, young_too=young_too)
    unknown = [
        *(_waste(path, digest) for path, digest in stored if digest and digest not in known),
        *(_waste(path, None) for path in _left_over(home.path if home else store.folder)),
    ]
    old = [waste for waste in unknown if young_too or not is_young(waste.path, now=now)]
    lacking = known - {digest for _, digest in stored} - {a.digest for a in going.artifacts}
    free = [waste for waste in old if waste.digest is None or not lacking]
    removed = [_waste(store.path(a.digest), a.digest, "removed") for a in going.artifacts]
    n_young = len(unknown) - len(old) + n_wanted
    n_held = len(old) - len(free)
    since = now if young_too else now - QUARANTINE_SECONDS
    refused = () if home is None else _refused(home.quarantine, before=since)
    return Plan((*removed, *free, *refused), going.arrivals, n_young, n_held=n_held, made_at=now)


def collect(registry: Registry, store: ArtifactStore, planned: Plan) -> Iterator[Waste]:
    """Carry out a plan, and yield each deleted file.

    Files referenced since the plan was made are kept; an import that is storing files is waited
    for. Raises StoreError where a file cannot be deleted; the next collection finds what is left.
    """
    with locked(store.folder):
        yield from _collect(registry, store, planned)


def _collect(registry: Registry, store: ArtifactStore, planned: Plan) -> Iterator[Waste]:
    for waste in planned.files:  # first: on a full disk a row needs the space of a file
        if waste.reason in ("leftover", "quarantined") and not is_in_use(waste.path):
            store.delete(waste.path)
            yield waste
    forgotten = {garbage.digest for garbage in registry.removal.delete(planned.arrivals)}
    kept_by_digest = ("orphan", "removed")
    files = {w.digest: w for w in planned.files if w.digest and w.reason in kept_by_digest}
    digests = [d for d, waste in files.items() if waste.reason == "orphan" or d in forgotten]
    gone: dict[str, Waste] = {}

    def delete(digest: str) -> str | None:
        waste = files[digest]
        if _changed_at(waste.path) > planned.made_at:
            return None  # stored again since: its row may follow
        store.delete(waste.path)
        gone[digest] = waste
        return f"{waste.reason}, {waste.n_bytes} bytes"

    for batch in in_chunks(digests, FILES_AT_ONCE):
        gone.clear()
        registry.removal.release(batch, delete)
        yield from gone.values()


def _refused(quarantine: Path, *, before: float) -> Iterator[Waste]:
    """Yield the quarantined submissions that were stored before a time."""
    folders = sorted(quarantine.iterdir()) if quarantine.is_dir() else ()
    for folder in folders:
        for path, digest in ArtifactStore(folder).files():
            if _changed_at(path) <= before:
                yield _waste(path, digest, "quarantined")


def is_young(path: Path, *, now: float) -> bool:
    """Return whether a file is so recent that its row may still follow.

    A run or an import that needs an existing file updates its time.
    """
    try:
        times = path.lstat()
    except OSError:
        return True  # deleted meanwhile
    return now - max(times.st_mtime, times.st_ctime) < GRACE_SECONDS


def _changed_at(path: Path) -> float:
    """Return when a file or its metadata last changed, in seconds since the epoch; 0 if gone."""
    try:
        return path.lstat().st_ctime
    except OSError:
        return 0.0


def _going(
    registry: Registry, store: ArtifactStore, *, now: float, young_too: bool
) -> tuple[Removed, int]:
    """Return the removable records, and the number of files kept since a row may follow."""
    going = registry.removal.list()
    if young_too:
        return going, 0
    changed = {a.digest: (_changed_at(store.path(a.digest)), a.removed_at) for a in going.artifacts}
    # Stored again since the removal.
    wanted = [
        digest
        for digest, (since, removed_at) in changed.items()
        if since > removed_at and now - since < GRACE_SECONDS
    ]
    return registry.removal.list(but=wanted), len(wanted)


def _left_over(folder: Path) -> Iterator[Path]:
    """Yield what an interrupted process left incomplete, not what one is writing."""
    return (path for path in find_incomplete(folder) if not is_in_use(path))


def _waste(path: Path, digest: str | None, reason: Reason | None = None) -> Waste:
    reason = reason or ("leftover" if digest is None else "orphan")
    return Waste(path, digest, size_of(path), reason)
