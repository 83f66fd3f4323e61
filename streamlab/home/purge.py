"""Purge everything a home has of one provider: rows first, then files.

An interrupted purge leaves files without a row, which another purge or `gc` finds.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from streamlab.errors import StoreError
from streamlab.home.curves import curves_of, recorded_curve_path
from streamlab.home.folder import Home
from streamlab.home.store import ArtifactStore
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
    path: Path | None = None


@dataclass(frozen=True)
class Plan:
    """Everything that a home has of a provider."""

    provider: str
    arrivals: tuple[int, ...]
    parts: tuple[Part, ...]

    def of(self, kind: Kind) -> tuple[Part, ...]:
        """Return the parts of one kind."""
        return tuple(part for part in self.parts if part.kind == kind)

    @property
    def going(self) -> frozenset[str]:
        """Return the digests of the artifacts to be deleted."""
        return frozenset(part.digest or "" for part in self.of("artifact"))


def plan(registry: Registry, store: ArtifactStore, home: Home, provider: str) -> Plan:
    """Find everything from a provider, without changing anything.

    Raises NotInRegistryError for an unknown provider.
    """
    known = registry.arrivals.provider_names()
    if provider not in known:
        raise missing("provider", provider, known)
    found = registry.arrivals.list(provider=provider, removed=None)
    arrivals = sorted(found, key=lambda arrival: arrival.id)
    parts = [
        *(_arrival(arrival) for arrival in arrivals),
        *_artifacts(registry, store, provider, arrivals),
        *_curves(home, provider, arrivals),
        *_quarantined(home, provider),
    ]
    return Plan(provider, tuple(arrival.id for arrival in arrivals), tuple(parts))


def carry_out(registry: Registry, store: ArtifactStore, home: Home, planned: Plan) -> None:
    """Carry out a plan. Raises RegistryError while a run uses it, StoreError as `delete` does."""
    gone = registry.removal.revoke(planned.provider, planned.arrivals)

    def delete(digest: str) -> str:
        store.delete(store.path(digest))
        return f"came from `{planned.provider}`"

    for batch in in_chunks([garbage.digest for garbage in gone], FILES_AT_ONCE):
        registry.removal.release(batch, delete)
    for part in planned.of("curve"):
        assert part.path is not None  # noqa: S101 - set by `_curves`
        store.delete(part.path)
    folder = home.quarantine_of(planned.provider)
    try:
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise StoreError(f"{folder} cannot be deleted: {error.strerror or error}.") from error


def _arrival(arrival: ArrivalRecord) -> Part:
    removed = "" if arrival.removed_at is None else ", removed before"
    what = f"{arrival.task}@{arrival.version} by {arrival.method} in {arrival.run}"
    return Part("arrival", str(arrival.id), arrival.digest, f"{what}, {arrival.status}{removed}")


def _artifacts(
    registry: Registry, store: ArtifactStore, provider: str, arrivals: Iterable[ArrivalRecord]
) -> Iterable[Part]:
    digests = dict.fromkeys(arrival.digest for arrival in arrivals if arrival.digest)
    sizes = {diff.digest: diff.file_bytes for diff in registry.artifacts.with_digests(digests)}
    for digest in digests:
        sharing = registry.arrivals.list(digest=digest, removed=None)
        others = {arrival.provider for arrival in sharing} - {provider}
        note = f"kept, as it also came from {', '.join(sorted(others))}" if others else ""
        kind: Kind = "shared" if others else "artifact"
        yield Part(kind, None, digest, note, sizes[digest], store.path(digest))


def _curves(home: Home, provider: str, arrivals: Iterable[ArrivalRecord]) -> Iterable[Part]:
    named = [recorded_curve_path(home.curves, arrival.run, arrival) for arrival in arrivals]
    # Includes curves of arrivals whose rows were deleted before.
    for path in dict.fromkeys([*named, *curves_of(home.curves, provider)]):
        if path.is_file():
            note = f"of {path.parent.name}"
            yield Part("curve", path.name, None, note, path.stat().st_size, path)


def _quarantined(home: Home, provider: str) -> Iterable[Part]:
    for path, digest in ArtifactStore(home.quarantine_of(provider)).files():
        yield Part("quarantined", None, digest, "", path.lstat().st_size, path)
