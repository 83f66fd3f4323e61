"""Runs that ended elsewhere, taken in as wholes: each is there with all it has, or not at all.

A run is known again by its scenario's digest, its start and its host; one that was made for a
single file by its digest alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from sqlalchemy import Connection

from streamlab.errors import RegistryError
from streamlab.registry import arrivals, bases, events, finished, placements, runs
from streamlab.registry.device_log import NewPlacement
from streamlab.registry.records import (
    ArrivalRecord,
    FinishedArrival,
    NewArrival,
    NewBase,
    NewDiff,
    NewRun,
    NewScore,
    RunRecord,
)


@dataclass(frozen=True, kw_only=True)
class WholeArrival:
    """An arrival with its artifact and scores, or with the reason why it left none."""

    arrival: NewArrival  # its `run_id` is set when it is taken in
    diff: NewDiff | None
    scores: tuple[NewScore, ...] = ()
    reason: str | None = None
    rule: str | None = None  # that a quarantined one broke

    @property
    def identity(self) -> tuple[Any, ...]:
        """Return what tells it from the other arrivals of its run, and what came of it."""
        digest = None if self.diff is None else self.diff.digest
        return (*_identity(self.arrival), digest, self.reason, self.rule)


@dataclass(frozen=True, kw_only=True)
class WholeRun:
    """A finished run with everything in it; `origin` says where it comes from."""

    base: NewBase
    run: NewRun
    name: str  # as it is called where it comes from
    number: int
    started_at: float
    finished_at: float
    host: str
    pid: int
    arrivals: tuple[WholeArrival, ...]
    origin: str
    placements: tuple[NewPlacement, ...] = ()  # `arrival_id`: its place in `arrivals`
    by_digest_alone: bool = False  # when it started and where says nothing of it


@dataclass(frozen=True)
class TakenIn:
    """A run as it is recorded here; not `is_new` where it had been taken in before."""

    run: RunRecord
    is_new: bool


def find(connection: Connection, whole: WholeRun, *, now: float) -> RunRecord | None:
    """Return the very run as it is here, None where it is not.

    One that has lost all its arrivals is as good as none. Raises RegistryError where it is here
    with other content.
    """
    known = _find(connection, whole, now=now)
    if known is not None:
        _refuse_other(connection, whole, known)
    return known


def take_in(connection: Connection, whole: WholeRun, *, now: float) -> TakenIn:
    """Add a whole run, or find it. Raises RegistryError where it is here with other content."""
    known = find(connection, whole, now=now)
    if known is not None:
        return TakenIn(known, is_new=False)
    if bases.add(connection, whole.base, at=now):
        events.append(connection, "base-added", whole.base.fingerprint, whole.base.model, at=now)
    number = runs.add_ended(
        connection,
        whole.run,
        number=whole.number,
        started_at=whole.started_at,
        finished_at=whole.finished_at,
        host=whole.host,
        pid=whole.pid,
    )
    numbers = [
        _add(connection, replace(part.arrival, run_id=number), part, now=now)
        for part in whole.arrivals
    ]
    placed = [replace(line, arrival_id=numbers[line.arrival_id]) for line in whole.placements]
    placements.add(connection, placed)
    record = runs.get(connection, number, now=now)
    message = f"`{whole.name}` of {whole.origin}, {len(whole.arrivals)} arrivals"
    events.append(connection, "run-imported", record.name, message, at=now)
    return TakenIn(record, is_new=True)


def _add(connection: Connection, arrival: NewArrival, part: WholeArrival, *, now: float) -> int:
    event = "arrival-imported"
    if part.diff is not None:
        new = FinishedArrival(arrival=arrival, diff=part.diff, scores=part.scores)
        (number,) = finished.add(connection, [new], at=now, event=event)
        return number
    reason, rule = part.reason or "", part.rule
    if rule is None:
        number = arrivals.add_failed(connection, arrival, reason, at=now)
    else:
        number = arrivals.add_quarantined(connection, arrival, rule=rule, reason=reason, at=now)
    events.append(connection, event, str(number), reason, at=now)
    return number


def _find(connection: Connection, whole: WholeRun, *, now: float) -> RunRecord | None:
    for run in runs.with_digest(connection, whole.run.scenario_digest, now=now):
        same = (run.started_at, run.host) == (whole.started_at, whole.host)
        if (whole.by_digest_alone or same) and (_arrivals(connection, run) or not whole.arrivals):
            return run
    return None


def _refuse_other(connection: Connection, whole: WholeRun, known: RunRecord) -> None:
    """Raise RegistryError unless the run that is here holds what the other one holds."""
    here = sorted(map(repr, (_recorded(arrival) for arrival in _arrivals(connection, known))))
    there = sorted(repr(part.identity) for part in whole.arrivals)
    if here != there:
        raise RegistryError(
            f"The run `{whole.name}` of {whole.origin} is here already as `{known.name}`, with "
            f"other content: {len(here)} arrivals here, {len(there)} there. Nothing was changed; "
            "compare the two with `streamlab ls arrivals`."
        )


def _arrivals(connection: Connection, run: RunRecord) -> list[ArrivalRecord]:
    """Return a run's arrivals; what was removed since is not to come back by itself."""
    return [
        arrival
        for removed in (False, True)
        for arrival in arrivals.listed(
            connection,
            run_id=run.id,
            task=None,
            provider=None,
            method=None,
            status=None,
            limit=None,
            removed=removed,
        )
    ]


def _recorded(arrival: ArrivalRecord) -> tuple[Any, ...]:
    # The device's log is left out: it goes on where a version is taken back.
    return (*_identity(arrival), arrival.digest, arrival.reason, arrival.rule)


def _identity(arrival: NewArrival) -> tuple[Any, ...]:
    names = ("seed", "provider", "task", "version", "method", "attempt")
    return tuple(getattr(arrival, name) for name in names)


def given_part(record: Any, kind: type[Any], **changes: Any) -> Any:
    """Return the part of a record that was once given, as the `New...` class it was given in."""
    return kind(**{f.name: getattr(record, f.name) for f in fields(kind)} | changes)


def whole_arrivals(
    found: Sequence[tuple[ArrivalRecord, NewDiff | None, Sequence[NewScore]]],
) -> tuple[WholeArrival, ...]:
    """Bring records back into the form they were given in."""
    return tuple(
        WholeArrival(
            arrival=given_part(arrival, NewArrival),
            diff=None if diff is None else given_part(diff, NewDiff),
            scores=tuple(given_part(score, NewScore) for score in scores),
            reason=arrival.reason,
            rule=arrival.rule,
        )
        for arrival, diff, scores in found
    )
