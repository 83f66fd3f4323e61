"""Garbage collection of a home: removed arrivals and unreferenced files, rows before files.

A file is deleted only while no row refers to it; an interrupted collection leaves files without
a row, which the next one finds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from streamlab.errors import RegistryError, UsageError
from streamlab.files import delete_path
from streamlab.home.folder import Home
from streamlab.home.store import ArtifactStore, FolderStore, Stored, leftovers_in
from streamlab.registry.database import FILES_AT_ONCE, in_chunks
from streamlab.registry.registry import Registry

GRACE_SECONDS = 3600.0  # the longest time between a file and its row
QUARANTINE_SECONDS = 7 * 86_400.0  # that refused submissions are kept for inspection

Reason = Literal["removed", "orphan", "leftover", "quarantined"]


@dataclass(frozen=True)
class Waste:
    """One unreferenced file; `digest` is None for an incomplete one."""

    where: str  # its path or URL
    digest: str | None
    n_bytes: int  # 0 if the file is gone already
    reason: Reason
    marked_at: float  # see `Stored`


@dataclass(frozen=True)
class Plan:
    """The deletions of a collection."""

    files: tuple[Waste, ...]
    arrivals: tuple[int, ...]  # removed ones, whose rows will be deleted
    n_young: int  # recent files that are kept for now
    n_held: int  # files without a row, kept since rows without a file may belong to them

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
    unneeded = registry.removal.list().artifacts
    lacking = set(registry.artifacts.digests()) - {artifact.digest for artifact in unneeded}
    stored, orphans = _listed(store, lacking, {artifact.digest for artifact in unneeded})
    wanted = [
        artifact.digest
        for artifact in unneeded
        if not young_too and _is_wanted(stored.get(artifact.digest), artifact.removed_at, now=now)
    ]
    going = registry.removal.list(but=wanted)
    removed = [_removed(store, a.digest, stored.get(a.digest)) for a in going.artifacts]
    old = [found for found in orphans if young_too or not is_young(found.marked_at, now=now)]
    free = [] if lacking else old
    left = list(_left_over(store, home, now=now, young_too=young_too))
    partial = [found for found, is_old in left if is_old]
    since = now if young_too else now - QUARANTINE_SECONDS
    files = (
        *removed,
        *(_waste(found, "orphan") for found in free),
        *(_waste(found, "leftover") for found in partial),
        *(() if home is None else _refused(home.quarantine, before=since)),
    )
    n_young = len(orphans) - len(old) + len(left) - len(partial) + len(wanted)
    return Plan(files, going.arrivals, n_young, n_held=len(old) - len(free))


def _listed(
    store: ArtifactStore, lacking: set[str], unneeded: Collection[str]
) -> tuple[dict[str, Stored], list[Stored]]:
    """Return the files that only removed arrivals have, and those without a row.

    `lacking`: the digests of all others; those that are in the store are taken out.
    """
    stored: dict[str, Stored] = {}
    known, orphans = frozenset(lacking), []
    for found in store.list():
        lacking.discard(found.digest or "")
        if found.digest and found.digest in unneeded:
            stored[found.digest] = found
        elif found.digest and found.digest not in known:
            orphans.append(found)
    return stored, orphans


def collect(registry: Registry, store: ArtifactStore, planned: Plan) -> Iterator[Waste]:
    """Carry out a plan, and yield each deleted file.

    Files referenced since the plan was made are kept; an import that is storing files is waited
    for. Raises StoreError where a file cannot be deleted; the next collection finds what is left.
    """
    with store.locked():
        yield from _collect(registry, store, planned)


def _collect(registry: Registry, store: ArtifactStore, planned: Plan) -> Iterator[Waste]:
    for waste in planned.files:  # first: on a full disk a row needs the space of a file
        if waste.reason == "leftover":
            store.delete_leftover(Stored(waste.where, None, waste.n_bytes, waste.marked_at))
            yield waste
        elif waste.reason == "quarantined":
            delete_path(Path(waste.where))
            yield waste
    forgotten = {garbage.digest for garbage in registry.removal.delete(planned.arrivals)}
    kept_by_digest = ("orphan", "removed")
    files = {w.digest: w for w in planned.files if w.digest and w.reason in kept_by_digest}
    digests = [d for d, waste in files.items() if waste.reason == "orphan" or d in forgotten]
    gone: dict[str, Waste] = {}

    def delete(digest: str) -> str | None:
        waste = files[digest]
        found = store.find(digest)
        if found is not None and found.marked_at != waste.marked_at:
            return None  # stored again since: its row may follow
        store.delete(digest)
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
        for stored in FolderStore(folder).list():
            if stored.marked_at <= before:
                yield _waste(stored, "quarantined")


def is_young(marked_at: float, *, now: float) -> bool:
    """Return whether a file is so recent that its row may still follow.

    A run or an import that needs an existing file marks it.
    """
    return now - marked_at < GRACE_SECONDS


def _is_wanted(found: Stored | None, removed_at: float, *, now: float) -> bool:
    """Tell whether a file was stored again since its arrivals were removed, a moment ago."""
    return found is not None and found.marked_at > removed_at and is_young(found.marked_at, now=now)


def _left_over(
    store: ArtifactStore, home: Home | None, *, now: float, young_too: bool
) -> Iterator[tuple[Stored, bool]]:
    """Yield what an interrupted process left incomplete, and whether it is to go."""
    own = {} if home is None else {found.where: found for found in leftovers_in(home.path)}
    for found in (own | {found.where: found for found in store.leftovers()}).values():
        at_once = young_too and (store.excludes_others or found.where in own)
        yield found, at_once or not is_young(found.marked_at, now=now)


def _removed(store: ArtifactStore, digest: str, found: Stored | None) -> Waste:
    return _waste(found or Stored(store.locate(digest), digest, 0, 0.0), "removed")


def _waste(found: Stored, reason: Reason) -> Waste:
    return Waste(found.where, found.digest, found.n_bytes, reason, found.marked_at)
