"""Purge everything a home has of one provider, or of one run.

An interrupted purge is finished by the next one of the same; `gc` finds its files too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from streamlab.files import delete_path, size_of
from streamlab.home.curves import curves_of, recorded_curve_path
from streamlab.home.folder import Home
from streamlab.home.store import ArtifactStore, FolderStore
from streamlab.registry.database import FILES_AT_ONCE, in_chunks
from streamlab.registry.records import ArrivalRecord
from streamlab.registry.registry import Registry
from streamlab.registry.runs import missing

Kind = Literal["arrival", "artifact", "shared", "curve", "quarantined"]


@dataclass(frozen=True)
class Part:
    """One record or file of a provider; a `shared` one is kept."""

    kind: Kind
    name: str | None  # an arrival's number or a curve's file
    digest: str | None
    note: str
    n_bytes: int | None = None
    where: str | None = None  # the path or URL of a file


@dataclass(frozen=True)
class Plan:
    """Everything that a home has of a provider or a run."""

    provider: str | None
    run: str | None
    arrivals: tuple[int, ...]
    parts: tuple[Part, ...]
    was_interrupted: bool  # an earlier purge had deleted the rows alone

    def of(self, kind: Kind) -> tuple[Part, ...]:
        """Return the parts of one kind."""
        return tuple(part for part in self.parts if part.kind == kind)

    @property
    def of_what(self) -> str:
        """Return what is purged, in words."""
        return f"run `{self.run}`" if self.provider is None else f"provider `{self.provider}`"

    @property
    def going(self) -> frozenset[str]:
        """Return the digests of the artifacts to be deleted."""
        return frozenset(part.digest or "" for part in self.of("artifact"))


def plan(
    registry: Registry,
    store: ArtifactStore,
    home: Home,
    *,
    provider: str | None = None,
    run: str | None = None,
) -> Plan:
    """Find everything from a provider, or of a run, without changing anything.

    Raises NotInRegistryError for an unknown provider or run.
    """
    left = _left_by_a_purge(registry, store, provider, run)
    if provider is not None:
        known = registry.arrivals.provider_names()
        if provider not in known:
            raise missing("provider", provider, known)
    found: Sequence[ArrivalRecord] = ()
    if run is None or not left:
        run = None if run is None else registry.runs.get(run).name
        found = registry.arrivals.list(provider=provider, run=run, removed=None)
    arrivals = sorted(found, key=lambda arrival: arrival.id)
    parts = [
        *(_arrival(arrival) for arrival in arrivals),
        *_artifacts(registry, store, arrivals, of_run=run is not None),
        *left,
        *_curves(home, provider, run, arrivals),
        *_followed(home, provider, run, arrivals),
        *(() if provider is None else _quarantined(home, provider)),
    ]
    ids = tuple(arrival.id for arrival in arrivals)
    return Plan(provider, run, ids, tuple(parts), was_interrupted=bool(left))


def carry_out(registry: Registry, store: ArtifactStore, home: Home, planned: Plan) -> None:
    """Carry out a plan. Raises RegistryError while a run uses it, StoreError as `delete` does.

    Files that no row names go first, then rows, then the files of which the log keeps the digests:
    so whatever an interruption leaves is found again.
    """
    of = {"provider": planned.provider, "run": planned.run}
    registry.removal.check_revocable(planned.arrivals, **of)
    for part in planned.of("curve"):
        assert part.where is not None  # noqa: S101 - set by `_curves`
        delete_path(Path(part.where))
    if planned.provider is not None:
        delete_path(home.quarantine_of(planned.provider))
    with store.locked():
        registry.removal.revoke(planned.arrivals, **of)

        def delete(digest: str) -> str:
            store.delete(digest)
            return f"came from {planned.of_what}"

        for batch in in_chunks(sorted(planned.going), FILES_AT_ONCE):
            registry.removal.release(batch, delete)


def _left_by_a_purge(
    registry: Registry, store: ArtifactStore, provider: str | None, run: str | None
) -> list[Part]:
    """Return the files whose rows an interrupted purge of the same deleted."""
    digests = registry.events.revoked_digests(provider, run)
    known = {diff.digest for diff in registry.artifacts.with_digests(digests)}
    note = "left by a purge that was interrupted"
    left = (store.find(digest) for digest in digests if digest not in known)
    return [
        Part("artifact", None, found.digest, note, found.n_bytes, found.where)
        for found in left
        if found is not None
    ]


def _arrival(arrival: ArrivalRecord) -> Part:
    removed = "" if arrival.removed_at is None else ", removed before"
    what = f"{arrival.task}@{arrival.version} by {arrival.method} in {arrival.run}"
    return Part("arrival", str(arrival.id), arrival.digest, f"{what}, {arrival.status}{removed}")


def _artifacts(
    registry: Registry, store: ArtifactStore, arrivals: Sequence[ArrivalRecord], *, of_run: bool
) -> Iterable[Part]:
    digests = dict.fromkeys(arrival.digest for arrival in arrivals if arrival.digest)
    own = {arrival.id for arrival in arrivals}
    sizes = {diff.digest: diff.file_bytes for diff in registry.artifacts.with_digests(digests)}
    for digest in digests:
        sharing = registry.arrivals.list(digest=digest, removed=None)
        others = {a.run if of_run else a.provider for a in sharing if a.id not in own}
        how = "is also in" if of_run else "also came from"
        note = f"kept, as it {how} {', '.join(sorted(others))}" if others else ""
        kind: Kind = "shared" if others else "artifact"
        yield Part(kind, None, digest, note, sizes[digest], store.locate(digest))


def _curves(
    home: Home, provider: str | None, run: str | None, arrivals: Iterable[ArrivalRecord]
) -> Iterable[Part]:
    named = [recorded_curve_path(home.curves, arrival.run, arrival) for arrival in arrivals]
    # Includes curves of arrivals whose rows were deleted before.
    for path in dict.fromkeys([*named, *curves_of(home.curves, provider=provider, run=run)]):
        if path.is_file() and not path.parent.is_symlink():
            note = f"of {path.parent.name}"
            yield Part("curve", path.name, None, note, path.stat().st_size, str(path))


def _followed(
    home: Home, provider: str | None, run: str | None, arrivals: Sequence[ArrivalRecord]
) -> Iterable[Part]:
    """Yield the folders that trackers wrote into the home."""
    for folder in sorted(home.tracking.glob("*")):
        named = [recorded_curve_path(folder, a.run, a, suffix="") for a in arrivals]
        found = curves_of(folder, provider=provider, run=run, suffix="")
        for path in dict.fromkeys([*named, *found]):
            if path.is_dir() and not path.parent.is_symlink() and not folder.is_symlink():
                note = f"of {path.parent.name}, by {folder.name}"
                yield Part("curve", path.name, None, note, size_of(path), str(path))


def _quarantined(home: Home, provider: str) -> Iterable[Part]:
    for found in FolderStore(home.quarantine_of(provider)).list():
        yield Part("quarantined", None, found.digest, "", found.n_bytes, found.where)
