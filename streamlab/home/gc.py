"""What of a home nothing needs any more, and how it goes: rows first, then files.

A file goes only while no row names it; what is broken off half-way leaves files without a row,
which the next collection finds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from streamlab.errors import RegistryError, UsageError
from streamlab.files import TEMPORARY_PREFIX
from streamlab.home.store import ArtifactStore
from streamlab.registry.pieces import FILES_AT_ONCE, in_pieces

if TYPE_CHECKING:
    from streamlab.registry.registry import Registry
    from streamlab.registry.removal import Removed

GRACE_SECONDS = 3600.0  # a file may be this much older than its row

Reason = Literal["removed", "orphan", "leftover"]


@dataclass(frozen=True)
class Waste:
    """One file that nothing needs; `digest` is None for one that was left half-written."""

    path: Path
    digest: str | None
    n_bytes: int  # as it is on the disk; 0 where it is gone already
    reason: Reason


@dataclass(frozen=True)
class Plan:
    """What a collection would do."""

    files: tuple[Waste, ...]
    arrivals: tuple[int, ...]  # removed ones, whose rows go
    n_young: int  # files that stay until they are old enough
    n_held: int  # files without a row that stay, since rows without a file may want them
    made_at: float  # seconds since the epoch

    @property
    def n_bytes(self) -> int:
        """Return the bytes that are freed."""
        return sum(file.n_bytes for file in self.files)


def plan(registry: Registry, store: ArtifactStore, *, now: float, young_too: bool = False) -> Plan:
    """Find what nothing needs; nothing is changed.

    `now`: seconds since the epoch. `young_too`: also files without a row that were written less
    than `GRACE_SECONDS` ago. Raises RegistryError where the database is damaged, so that nobody
    can say what is needed, and UsageError for `young_too` while a run is being worked on.
    """
    working = any(run.status == "running" for run in registry.runs())
    if working and young_too:
        raise UsageError(
            "A run is being worked on, and its newest files have no row yet. Wait for it to end, "
            "or leave `--now` out."
        )
    _refuse_damage(registry)
    stored = list(store.files())  # before the rows, which are written after their files
    known = registry.digests()
    going, n_wanted = _going(registry, store, now=now, young_too=young_too)
    unknown = list(_without_row(stored, known))
    old = [waste for waste in unknown if young_too or not is_young(waste.path, now=now)]
    lacking = known - {digest for _, digest in stored} - {a.digest for a in going.artifacts}
    free = [waste for waste in old if waste.digest is None or not lacking]
    removed = [_waste(store.path(a.digest), a.digest, "removed") for a in going.artifacts]
    n_young = len(unknown) - len(old) + n_wanted
    n_held = len(old) - len(free)
    return Plan((*removed, *free), going.arrivals, n_young, n_held=n_held, made_at=now)


def collect(registry: Registry, store: ArtifactStore, planned: Plan) -> Iterator[Waste]:
    """Carry a plan out, and yield each file that is gone.

    What came to be needed since the plan was made stays. Raises StoreError where a file cannot
    be deleted; what is left is found by the next collection.
    """
    forgotten = {garbage.digest for garbage in registry.forget(planned.arrivals)}
    files = {waste.digest: waste for waste in planned.files if waste.digest is not None}
    digests = [d for d, waste in files.items() if waste.reason == "orphan" or d in forgotten]
    gone: dict[str, Waste] = {}

    def delete(digest: str) -> str | None:
        waste = files[digest]
        if _changed_at(waste.path) > planned.made_at:
            return None  # stored again since: its row is on its way
        store.delete(waste.path)
        gone[digest] = waste
        return f"{waste.reason}, {waste.n_bytes} bytes"

    for batch in in_pieces(digests, FILES_AT_ONCE):
        gone.clear()
        registry.release(batch, delete)
        yield from gone.values()
    for waste in planned.files:
        if waste.digest is None:
            store.delete(waste.path)
            yield waste


def is_young(path: Path, *, now: float) -> bool:
    """Say whether a row for a file may be on its way, being written last.

    A run or an import may want a file that was there already, and changes its time then.
    """
    try:
        times = path.lstat()
    except OSError:
        return True  # gone by now
    return now - max(times.st_mtime, times.st_ctime) < GRACE_SECONDS


def _changed_at(path: Path) -> float:
    """Return when a file or its status last changed, in seconds since the epoch; 0 if gone."""
    try:
        return path.lstat().st_ctime
    except OSError:
        return 0.0


def _going(
    registry: Registry, store: ArtifactStore, *, now: float, young_too: bool
) -> tuple[Removed, int]:
    """Return what may be forgotten, and how many files stay since a row may come for them."""
    going = registry.removed()
    if young_too:
        return going, 0
    wanted = {
        artifact.digest
        for artifact in going.artifacts
        if _is_wanted(store.path(artifact.digest), artifact.removed_at, now)
    }
    return registry.removed(but=wanted), len(wanted)


def _without_row(
    stored: Iterable[tuple[Path, str | None]], known: Collection[str]
) -> Iterator[Waste]:
    for path, digest in stored:
        if digest is None and path.name.startswith(TEMPORARY_PREFIX):
            yield _waste(path, None, "leftover")
        elif digest is not None and digest not in known:
            yield _waste(path, digest, "orphan")


def _is_wanted(path: Path, removed_at: float, now: float) -> bool:
    """Say whether a removed artifact was stored again since, so that a new row may come."""
    since = _changed_at(path)
    return since > removed_at and now - since < GRACE_SECONDS


def _waste(path: Path, digest: str | None, reason: Reason) -> Waste:
    try:
        n_bytes = path.lstat().st_size
    except OSError:
        n_bytes = 0
    return Waste(path, digest, n_bytes, reason)


def _refuse_damage(registry: Registry) -> None:
    damage = registry.damage()
    n_problems = len(damage.pages) + len(damage.links) + len(damage.lost)
    if n_problems:
        raise RegistryError(
            f"The registry {registry.url} is damaged ({n_problems} findings), so that nobody can "
            "say what is still needed; nothing was deleted. `streamlab verify` tells what is wrong."
        )
