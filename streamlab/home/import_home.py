"""Import the finished runs of another home, with their files and curves.

A run is imported completely or not at all, and nothing existing is overwritten. If its name is
taken, the imported run gets the next number. A run is recognised by its scenario's digest, its
start and its host; one that was made for a single file by its digest alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Final

from streamlab.diff.format.container import decode
from streamlab.errors import RegistryError, StoreError
from streamlab.files import write_atomically
from streamlab.home.curves import recorded_curve_path
from streamlab.home.folder import Home
from streamlab.home.store import ArtifactStore
from streamlab.registry.records import (
    ArrivalRecord,
    NewArrival,
    NewBase,
    NewDiff,
    NewPlacement,
    NewScore,
    RunRecord,
    given_part,
)
from streamlab.registry.registry import Registry

IMPORTED = "imported"  # the method of an imported file, whose training is unknown
NO_HOME: Final = "Give a folder that `streamlab run` filled."
_identity = attrgetter("seed", "provider", "task", "version", "method", "attempt")


@dataclass(frozen=True, kw_only=True)
class ImportedArrival:
    """An arrival with its artifact and scores, or with the reason why it left none."""

    arrival: NewArrival  # its `run_id` is set on import
    diff: NewDiff | None
    scores: tuple[NewScore, ...] = ()
    reason: str | None = None
    rule: str | None = None  # that a quarantined one broke


@dataclass(frozen=True, kw_only=True)
class ImportedRun:
    """A finished run with everything in it; `origin` says where it comes from."""

    base: NewBase
    run: RunRecord  # as it is recorded there
    arrivals: tuple[ImportedArrival, ...]
    origin: str
    placements: tuple[NewPlacement, ...] = ()  # `arrival_id`: an index into `arrivals`
    by_digest_alone: bool = False  # its start and host do not identify it


@dataclass(frozen=True)
class Imported:
    """A run as it is recorded here; not `is_new` where it had been imported before."""

    run: RunRecord
    is_new: bool
    source: ImportedRun


def import_home(
    registry: Registry, store: ArtifactStore, home: Home, other: Home
) -> tuple[Imported, ...]:
    """Import every finished run of another home, oldest first, with its files and curves.

    A run that exists here is skipped. Raises RegistryError where the other home cannot be read or
    a run exists here with other content, and StoreError where a file is missing or altered; the
    runs before that one stay imported.
    """
    other.require_registry(NO_HOME)
    found = []
    elsewhere = ArtifactStore(other.store)
    with Registry.open(other.registry_url, clock=time.time, read_only=True) as source:
        for run in source.runs.list():
            if run.status != "finished":
                continue
            imported = _read_run(source, run, other)
            # Checked before any file is written, so that a refused run leaves nothing.
            result = find_imported(registry, imported)
            if result is None:
                for part in imported.arrivals:
                    if part.diff is not None:
                        _copy(elsewhere, store, part.diff, imported.base)
                result = add_imported(registry, imported)
            # An earlier import may have been interrupted before the curves.
            _copy_curves(home, other, imported, result.run)
            found.append(result)
    return tuple(found)


def find_imported(registry: Registry, run: ImportedRun) -> Imported | None:
    """Return a run that finished elsewhere as it is recorded here, None where it is not.

    One that has lost all its arrivals counts as missing. Raises RegistryError where the same run
    is here with other arrivals.
    """
    for known in registry.runs.list(scenario_digest=run.run.scenario_digest):
        same = (known.started_at, known.host) == (run.run.started_at, run.run.host)
        if not (same or run.by_digest_alone):
            continue
        # Also the removed ones, which are not to come back by themselves.
        arrivals = registry.arrivals.list(run=known.id, removed=None)
        if arrivals or not run.arrivals:
            _refuse_different(run, known, arrivals)
            return Imported(known, is_new=False, source=run)
    return None


def add_imported(registry: Registry, run: ImportedRun) -> Imported:
    """Record a run that finished elsewhere, or find it; its files are stored first.

    All in one transaction. Where another run here has its name, the next free one is taken.
    Raises RegistryError where the same run is here with other arrivals.
    """
    return registry.transaction(lambda: find_imported(registry, run) or _add(registry, run))


def _add(registry: Registry, run: ImportedRun) -> Imported:
    registry.bases.add(run.base)
    record = registry.runs.add_finished(run.run)
    ids, event = [], "arrival-imported"
    for part in run.arrivals:
        arrival = replace(part.arrival, run_id=record.id)
        if part.diff is not None:
            added = registry.arrivals.add(arrival, part.diff, part.scores, event=event)
        else:
            reason = part.reason or ""
            added = registry.arrivals.add_failed(arrival, reason, rule=part.rule, event=event)
        ids.append(added.id)
    placed = [replace(line, arrival_id=ids[line.arrival_id]) for line in run.placements]
    registry.placements.add(placed)
    message = f"`{run.run.name}` of {run.origin}, {len(run.arrivals)} arrivals"
    registry.events.add("run-imported", record.name, message)
    return Imported(record, is_new=True, source=run)


def _refuse_different(
    run: ImportedRun, known: RunRecord, arrivals: Sequence[ArrivalRecord]
) -> None:
    """Raise RegistryError unless the run here has the arrivals that the other one has."""
    # Without the device log, which is continued where a version is taken back.
    here = sorted(repr((_identity(a), a.digest, a.reason, a.rule)) for a in arrivals)
    there = sorted(
        repr((_identity(part.arrival), part.diff and part.diff.digest, part.reason, part.rule))
        for part in run.arrivals
    )
    if here != there:
        raise RegistryError(
            f"The run `{run.run.name}` of {run.origin} is here already as `{known.name}`, with "
            f"other content: {len(here)} arrivals here, {len(there)} there. Nothing was changed; "
            "compare the two with `streamlab ls arrivals`."
        )


def _read_run(source: Registry, run: RunRecord, other: Home) -> ImportedRun:
    """Read a complete run of another registry."""
    diffs = {diff.digest: diff for diff in source.artifacts.list(run=run.id)}
    # In recorded order: the name of a task refers to its last arrival.
    arrivals = sorted(source.arrivals.list(run=run.id), key=lambda arrival: arrival.id)
    places = {arrival.id: place for place, arrival in enumerate(arrivals)}
    return ImportedRun(
        base=given_part(source.bases.get(run.base_fingerprint), NewBase),
        run=run,
        arrivals=tuple(
            ImportedArrival(
                arrival=given_part(arrival, NewArrival),
                diff=given_part(diffs[arrival.digest], NewDiff) if arrival.digest else None,
                scores=tuple(
                    given_part(score, NewScore)
                    for score in source.scores.list(arrival_id=arrival.id)
                ),
                reason=arrival.reason,
                rule=arrival.rule,
            )
            for arrival in arrivals
        ),
        placements=tuple(
            given_part(line, NewPlacement, arrival_id=places[line.arrival_id])
            for line in source.placements.list(run.id)
            if line.arrival_id in places
        ),
        origin=str(other.path),
        by_digest_alone=run.scenario_name == IMPORTED and "imported" in run.scenario,
    )


def _copy(elsewhere: ArtifactStore, store: ArtifactStore, diff: NewDiff, base: NewBase) -> None:
    """Copy an artifact, verified against its digest, its base and its record."""
    if diff.digest in store:
        store.put(store.get(diff.digest))  # verifies the file, and marks it as needed
        return
    data = elsewhere.get(diff.digest)
    counts = diff.tensor_counts
    if diff.kind == "diff":
        counts = decode(data, base.as_layout(), expected_digest=diff.digest).counts
    if (len(data), counts) != (diff.file_bytes, diff.tensor_counts):
        raise StoreError(
            f"The artifact {diff.digest} of {elsewhere.folder} disagrees with its record; nothing "
            "of its run was imported. Run `streamlab verify` on that home first."
        )
    store.put(data)


def _copy_curves(home: Home, other: Home, imported: ImportedRun, run: RunRecord) -> None:
    """Copy the existing curves of a run's arrivals, under the run's name here."""
    for part in imported.arrivals:
        there = recorded_curve_path(other.curves, imported.run.name, part.arrival)
        here = recorded_curve_path(home.curves, run.name, part.arrival)
        if there.is_file() and not here.exists():
            write_atomically(here, there.read_bytes())
