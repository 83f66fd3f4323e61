"""Transfer of runs that finished elsewhere: each is imported with all it has, or not at all.

A run is recognised by its scenario's digest, its start and its host; one that was made for a
single file by its digest alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from streamlab.errors import RegistryError
from streamlab.registry.database import Repository, reads, writes
from streamlab.registry.records import (
    ArrivalRecord,
    NewArrival,
    NewBase,
    NewDiff,
    NewPlacement,
    NewRun,
    NewScore,
    RunRecord,
)
from streamlab.registry.runs import Owner

New = TypeVar("New")

_IDENTITY = ("seed", "provider", "task", "version", "method", "attempt")


@dataclass(frozen=True, kw_only=True)
class ImportedArrival:
    """An arrival with its artifact and scores, or with the reason why it left none."""

    arrival: NewArrival  # its `run_id` is set on import
    diff: NewDiff | None
    scores: tuple[NewScore, ...] = ()
    reason: str | None = None
    rule: str | None = None  # that a quarantined one broke

    @property
    def identity(self) -> tuple[Any, ...]:
        """Return what tells it from the other arrivals of its run, and its outcome."""
        digest = None if self.diff is None else self.diff.digest
        return (*_identity(self.arrival), digest, self.reason, self.rule)


@dataclass(frozen=True, kw_only=True)
class ImportedRun:
    """A finished run with everything in it; `origin` says where it comes from."""

    base: NewBase
    run: NewRun
    name: str  # where it comes from
    number: int
    started_at: float
    finished_at: float
    host: str
    pid: int
    arrivals: tuple[ImportedArrival, ...]
    origin: str
    placements: tuple[NewPlacement, ...] = ()  # `arrival_id`: an index into `arrivals`
    by_digest_alone: bool = False  # its start and host do not identify it


@dataclass(frozen=True)
class Imported:
    """A run as it is recorded here; not `is_new` where it had been imported before."""

    run: RunRecord
    is_new: bool


class Transfer(Repository):
    """Importing runs."""

    @reads
    def find(self, run: ImportedRun) -> RunRecord | None:
        """Return a run that finished elsewhere as it is recorded here, None where it is not.

        One that has lost all its arrivals counts as missing. Raises RegistryError where the same
        run is here with other arrivals.
        """
        for known in self._registry.runs.of_scenario(run.run.scenario_digest):
            same = (known.started_at, known.host) == (run.started_at, run.host)
            if not (same or run.by_digest_alone):
                continue
            arrivals = self._all_arrivals(known)
            if arrivals or not run.arrivals:
                _refuse_different(run, known, arrivals)
                return known
        return None

    @writes
    def add(self, run: ImportedRun) -> Imported:
        """Record a run that finished elsewhere, or find it; its files are stored first.

        Where another run here has its name, the next free one is taken. Raises RegistryError
        where the same run is here with other arrivals.
        """
        known = self.find(run)
        if known is not None:
            return Imported(known, is_new=False)
        self._registry.bases.add(run.base)
        record = self._registry.runs.add_finished(
            run.run,
            number=run.number,
            started_at=run.started_at,
            finished_at=run.finished_at,
            owner=Owner(host=run.host, pid=run.pid),
        )
        ids = [self._add(part, record.id) for part in run.arrivals]
        placed = [replace(line, arrival_id=ids[line.arrival_id]) for line in run.placements]
        self._registry.placements.add(placed)
        message = f"`{run.name}` of {run.origin}, {len(run.arrivals)} arrivals"
        self._registry.events.add("run-imported", record.name, message)
        return Imported(record, is_new=True)

    def _add(self, part: ImportedArrival, run_id: int) -> int:
        arrival, reason = replace(part.arrival, run_id=run_id), part.reason or ""
        if part.diff is not None:
            added = self._registry.arrivals.add(
                arrival, part.diff, part.scores, event="arrival-imported"
            )
        elif part.rule is None:
            added = self._registry.arrivals.add_failed(arrival, reason, event="arrival-imported")
        else:
            added = self._registry.arrivals.add_quarantined(
                arrival, part.rule, reason, event="arrival-imported"
            )
        return added.id

    def _all_arrivals(self, run: RunRecord) -> Sequence[ArrivalRecord]:
        """Return a run's arrivals, also removed ones, which are not to come back by themselves."""
        return [
            arrival
            for removed in (False, True)
            for arrival in self._registry.arrivals.list(run=run.id, removed=removed)
        ]


def given_part(record: Any, kind: type[New], **changes: Any) -> New:
    """Return the part of a record that was once given, as the `New...` class it was given in."""
    return kind(**{f.name: getattr(record, f.name) for f in fields(kind)} | changes)  # type: ignore[arg-type]


def imported_arrivals(
    found: Sequence[tuple[ArrivalRecord, NewDiff | None, Sequence[NewScore]]],
) -> tuple[ImportedArrival, ...]:
    """Return records in the form they were given in."""
    return tuple(
        ImportedArrival(
            arrival=given_part(arrival, NewArrival),
            diff=None if diff is None else given_part(diff, NewDiff),
            scores=tuple(given_part(score, NewScore) for score in scores),
            reason=arrival.reason,
            rule=arrival.rule,
        )
        for arrival, diff, scores in found
    )


def _refuse_different(
    run: ImportedRun, known: RunRecord, arrivals: Sequence[ArrivalRecord]
) -> None:
    """Raise RegistryError unless the run here has the arrivals that the other one has."""
    # Without the device log, which is continued where a version is taken back.
    here = sorted(repr((*_identity(a), a.digest, a.reason, a.rule)) for a in arrivals)
    there = sorted(repr(part.identity) for part in run.arrivals)
    if here != there:
        raise RegistryError(
            f"The run `{run.name}` of {run.origin} is here already as `{known.name}`, with other "
            f"content: {len(here)} arrivals here, {len(there)} there. Nothing was changed; "
            "compare the two with `streamlab ls arrivals`."
        )


def _identity(arrival: NewArrival) -> tuple[Any, ...]:
    return tuple(getattr(arrival, name) for name in _IDENTITY)
