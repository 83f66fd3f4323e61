"""Import the finished runs of another home, with their files and curves.

A run is imported completely or not at all, and nothing existing is overwritten. If its name is
taken, the imported run gets the next number.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from streamlab.diff.format.container import decode
from streamlab.errors import StoreError
from streamlab.files import write_atomically
from streamlab.home.curves import recorded_curve_path
from streamlab.home.folder import Home
from streamlab.home.store import ArtifactStore
from streamlab.registry.records import NewBase, NewDiff, NewPlacement, NewRun, RunRecord
from streamlab.registry.registry import Registry
from streamlab.registry.transfer import Imported, ImportedRun, given_part, imported_arrivals

IMPORTED = "imported"  # the method of an imported file, whose training is unknown


@dataclass(frozen=True)
class Import:
    """One run of the other home and its record here."""

    name: str  # in the other home
    result: Imported
    n_arrivals: int


NO_HOME: Final = "Give a folder that `streamlab run` filled."


def import_home(
    registry: Registry, store: ArtifactStore, home: Home, other: Home
) -> tuple[Import, ...]:
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
            known = registry.transfer.find(imported)
            if known is not None:
                result = Imported(known, is_new=False)
            else:
                for part in imported.arrivals:
                    if part.diff is not None:
                        _copy(elsewhere, store, part.diff, imported.base)
                result = registry.transfer.add(imported)
            # An earlier import may have been interrupted before the curves.
            _copy_curves(home, other, imported, result.run)
            found.append(Import(run.name, result, len(imported.arrivals)))
    return tuple(found)


def _read_run(source: Registry, run: RunRecord, other: Home) -> ImportedRun:
    """Read a complete run of another registry."""
    diffs = {diff.digest: diff for diff in source.artifacts.list(run=run.id)}
    found = [
        (
            arrival,
            diffs[arrival.digest] if arrival.digest else None,
            source.scores.list(arrival_id=arrival.id),
        )
        # In recorded order: the name of a task refers to its last arrival.
        for arrival in sorted(source.arrivals.list(run=run.id), key=lambda arrival: arrival.id)
    ]
    places = {arrival.id: place for place, (arrival, _, _) in enumerate(found)}
    log = [line for line in source.placements.list(run.id) if line.arrival_id in places]
    return ImportedRun(
        base=given_part(source.bases.get(run.base_fingerprint), NewBase),
        run=given_part(run, NewRun),
        name=run.name,
        number=int(run.name.rpartition("-")[2]),
        started_at=run.started_at,
        finished_at=run.finished_at or run.started_at,
        host=run.host,
        pid=run.pid,
        arrivals=imported_arrivals(found),
        placements=tuple(
            given_part(line, NewPlacement, arrival_id=places[line.arrival_id]) for line in log
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
        there = recorded_curve_path(other.curves, imported.name, part.arrival)
        here = recorded_curve_path(home.curves, run.name, part.arrival)
        if there.is_file() and not here.exists():
            write_atomically(here, there.read_bytes())
