"""The finished runs of another home, taken in with their files and curves.

A run is taken in whole or not at all, and nothing that is here is written over. A name that
another run has here is left to it; the run that comes gets the next number.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from streamlab.diff.format.container import decode
from streamlab.errors import StoreError
from streamlab.files import atomic_write, disk_errors
from streamlab.home.curves import curve_path
from streamlab.home.store import ArtifactStore
from streamlab.registry.device_log import NewPlacement
from streamlab.registry.layouts import recorded_layout
from streamlab.registry.records import NewBase, NewRun
from streamlab.registry.registry import Registry
from streamlab.registry.whole import TakenIn, WholeRun, given_part, whole_arrivals

if TYPE_CHECKING:
    from pathlib import Path

    from streamlab.home.folder import Home
    from streamlab.registry.records import NewArrival, NewDiff, RunRecord

IMPORTED = "imported"  # the method of an imported file: how it was made is unknown


@dataclass(frozen=True)
class Import:
    """One run of the other home, and what it is here."""

    there: str
    taken: TakenIn
    n_arrivals: int


NO_HOME: Final = "Give a folder that `streamlab run` filled."


def import_home(
    registry: Registry, store: ArtifactStore, home: Home, other: Home
) -> tuple[Import, ...]:
    """Take in every finished run of another home, oldest first, with its files and curves.

    A run that is here already changes nothing. Raises RegistryError where the other home cannot
    be read or a run is here with other content, and StoreError where a file is missing there or
    does not have its digest; the runs before it are then taken in, that one is not at all.
    """
    other.require_registry(NO_HOME)
    found = []
    elsewhere = ArtifactStore(other.store)
    with Registry.open(other.registry_url, clock=time.time, read_only=True) as source:
        for run in source.runs():
            if run.status != "finished":
                continue
            whole = _run_there(source, run, other)
            # Before any file is written, so that what is refused leaves nothing.
            known = registry.find_whole(whole)
            if known is not None:
                taken = TakenIn(known, is_new=False)
            else:
                for part in whole.arrivals:
                    if part.diff is not None:
                        _bring(elsewhere, store, part.diff, whole.base)
                taken = registry.import_run(whole)
            # Also where it was here: an earlier import may have been broken off after its rows.
            _bring_curves(home, other, whole, taken.run)
            found.append(Import(run.name, taken, len(whole.arrivals)))
    return tuple(found)


def _run_there(source: Registry, run: RunRecord, other: Home) -> WholeRun:
    """Read a whole run of another registry."""
    diffs = {diff.digest: diff for diff in source.diffs(run=run.id)}
    found = [
        (
            arrival,
            diffs[arrival.digest] if arrival.digest else None,
            source.scores(arrival_id=arrival.id),
        )
        # As they were recorded: the last one of a task is the one its name means.
        for arrival in sorted(source.arrivals(run=run.id), key=lambda arrival: arrival.id)
    ]
    places = {arrival.id: place for place, (arrival, _, _) in enumerate(found)}
    log = [line for line in source.placements(run.id) if line.arrival_id in places]
    return WholeRun(
        base=given_part(source.base(run.base_fingerprint), NewBase),
        run=given_part(run, NewRun),
        name=run.name,
        number=int(run.name.rpartition("-")[2]),
        started_at=run.started_at,
        finished_at=run.finished_at or run.started_at,
        host=run.host,
        pid=run.pid,
        arrivals=whole_arrivals(found),
        placements=tuple(
            given_part(line, NewPlacement, arrival_id=places[line.arrival_id]) for line in log
        ),
        origin=str(other.path),
        by_digest_alone=run.scenario_name == IMPORTED and "imported" in run.scenario,
    )


def _bring(elsewhere: ArtifactStore, store: ArtifactStore, diff: NewDiff, base: NewBase) -> None:
    """Copy an artifact, its bytes checked against its digest, its base and its record."""
    if diff.digest in store:
        store.put(store.get(diff.digest))  # it is what it should be, and wanted again
        return
    data = elsewhere.get(diff.digest)
    counts = diff.tensor_counts
    if diff.kind == "diff":
        counts = decode(data, recorded_layout(base), expected_digest=diff.digest).counts
    if (len(data), counts) != (diff.file_bytes, diff.tensor_counts):
        raise StoreError(
            f"The artifact {diff.digest} of {elsewhere.folder} is not what its record says; "
            "nothing of its run was taken in. Verify that home first."
        )
    store.put(data)


def _bring_curves(home: Home, other: Home, whole: WholeRun, run: RunRecord) -> None:
    """Copy the curves there are of a run's arrivals, under the name it has here."""
    for part in whole.arrivals:
        there = _curve(other.curves, whole.name, part.arrival)
        here = _curve(home.curves, run.name, part.arrival)
        if there.is_file() and not here.exists():
            with atomic_write(here) as file, disk_errors(here):
                file.write(there.read_bytes())


def _curve(folder: Path, run: str, arrival: NewArrival) -> Path:
    return curve_path(
        folder,
        run=run,
        seed=arrival.seed,
        provider=arrival.provider,
        task=arrival.task,
        version=arrival.version,
        method=arrival.method,
    )
