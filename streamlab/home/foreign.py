"""Another's home, which is read as something hostile.

Its database is read from a private copy that nobody changes, its files without following a link,
and every row is checked before anything is made of it.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from streamlab.errors import RegistryError, StoreError
from streamlab.files import refuse_link
from streamlab.home.folder import Home
from streamlab.home.pack import PACK, Pack
from streamlab.home.store import FolderStore
from streamlab.registry.backends import private_copy
from streamlab.registry.records import (
    ArrivalRecord,
    DeviceRequests,
    DiffRecord,
    NewArrival,
    NewBase,
    NewDiff,
    NewPlacement,
    NewScore,
    PlacementRecord,
    RunRecord,
    ScoreRecord,
    given_part,
)
from streamlab.registry.registry import Registry

NO_HOME: Final = "Give a folder that `streamlab run` filled."
_MOST_DIGITS = 9  # of a run's number


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
    requests: tuple[DeviceRequests, ...] = ()
    by_digest_alone: bool = False  # its start and host do not identify it


def read_runs(other: Home) -> tuple[ImportedRun, ...]:
    """Return every finished run of another home, oldest first; its files are not looked at.

    Raises RegistryError where its database is not one of this program, or a row is not what this
    program would write.
    """
    with TemporaryDirectory(prefix="streamlab-import-") as folder:
        try:
            url = private_copy(other.path / "registry.db", Path(folder))
            with Registry.open(url, clock=lambda: 0.0, read_only=True) as source:
                return tuple(_finished_runs(source, other))
        except (RegistryError, OSError) as error:
            reason = str(error).replace(folder, str(other.path))
            raise RegistryError(f"Nothing was imported from {other.path}. {reason}") from error


@contextmanager
def opened_foreign_store(other: Home) -> Iterator[FolderStore]:
    """Yield the store of another home, whose pack is read from a private copy.

    Raises StoreError where the pack cannot be copied safely.
    """
    refuse_link(other.store)
    with TemporaryDirectory(prefix="streamlab-import-") as folder:
        pack = other.store / PACK
        try:
            if os.path.lexists(pack):
                private_copy(pack, Path(folder))
        except (RegistryError, OSError) as error:
            raise StoreError(f"Nothing was imported from {other.path}. {error}") from error
        yield FolderStore(other.store, packed=Pack(Path(folder)))


def _finished_runs(source: Registry, other: Home) -> Iterator[ImportedRun]:
    # Each table is read once, whatever the number of runs.
    bases = {base.fingerprint: base for base in source.bases.list()}
    diffs = {diff.digest: diff for diff in source.artifacts.list()}
    arrivals: Mapping[str, list[ArrivalRecord]] = defaultdict(list)
    for arrival in source.arrivals.list():
        arrivals[arrival.run].append(arrival)
    scores: Mapping[int, list[ScoreRecord]] = defaultdict(list)
    for score in source.scores.list():
        scores[score.arrival_id].append(score)
    placements: Mapping[str, list[PlacementRecord]] = defaultdict(list)
    for line in source.placements.list():
        placements[line.run].append(line)
    for run in source.runs.list():
        if run.status == "finished":
            # In recorded order: the name of a task refers to its last arrival.
            own = sorted(arrivals[run.name], key=lambda arrival: arrival.id)
            _refuse_unprintable(run, own)
            places = {arrival.id: place for place, arrival in enumerate(own)}
            yield ImportedRun(
                base=given_part(bases[run.base_fingerprint], NewBase),
                run=run,
                arrivals=tuple(_arrival(arrival, diffs, scores[arrival.id]) for arrival in own),
                placements=tuple(
                    given_part(line, NewPlacement, arrival_id=places[line.arrival_id])
                    for line in placements[run.name]
                    if line.arrival_id in places
                ),
                requests=source.placements.requests(run.id),
                origin=str(other.path),
                by_digest_alone=run.settings.is_imported_file,
            )


def _arrival(
    arrival: ArrivalRecord, diffs: Mapping[str, DiffRecord], scores: Sequence[ScoreRecord]
) -> ImportedArrival:
    diff = None if arrival.digest is None else diffs.get(arrival.digest)
    if (diff is None) == (arrival.status == "finished") or (scores and diff is None):
        raise RegistryError(
            f"Arrival {arrival.id} is {arrival.status}, which its artifact and scores contradict."
        )
    return ImportedArrival(
        arrival=given_part(arrival, NewArrival),
        diff=diff and given_part(diff, NewDiff),
        scores=tuple(given_part(score, NewScore) for score in scores),
        reason=arrival.reason,
        rule=arrival.rule,
    )


def _refuse_unprintable(run: RunRecord, arrivals: Sequence[ArrivalRecord]) -> None:
    """Raise RegistryError for a run whose name or names cannot be written in one line."""
    named = f"{run.scenario_name}-"
    names = [run.name, *(name for a in arrivals for name in (a.provider, a.task, a.method))]
    wrong = next((name for name in names if not name.isprintable()), None)
    if wrong is not None:
        raise RegistryError(f"The name {wrong[:40]!a} has characters that cannot be printed.")
    number = run.name.removeprefix(named)
    if not (run.name.startswith(named) and number.isascii() and number.isdigit()) or (
        len(number) > _MOST_DIGITS
    ):
        raise RegistryError(
            f"The run {run.name[:40]!r} must be called `{run.scenario_name[:40]}-` and a number."
        )
