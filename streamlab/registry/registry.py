"""The registry: what is remembered of bases, runs, arrivals, diffs, scores and events.

Every public method is one transaction and hands out frozen records. The artifacts themselves
lie in the store; a row is written last, so that it means the work is whole.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from streamlab.registry import arrivals, bases, events, finished, placements, runs, scores, whole
from streamlab.registry.device_log import NewPlacement
from streamlab.registry.records import (
    ArrivalRecord,
    BaseRecord,
    EventRecord,
    FinishedArrival,
    NewArrival,
    NewBase,
    NewDiff,
    NewRun,
    NewScore,
    RunRecord,
)
from streamlab.registry.runs import RunEnd
from streamlab.registry.upkeep import Upkeep


class Registry(Upkeep):
    """One registry in one database; several processes and threads may use it at once.

    Every method raises RegistryError where the database cannot be used, and NotInRegistryError
    where a name or number it is given has no record.
    """

    def add_base(self, base: NewBase) -> BaseRecord:
        """Add a base, or return the one recorded under the same fingerprint."""

        def work(connection: Connection, now: float) -> BaseRecord:
            if bases.add(connection, base, at=now):
                events.append(connection, "base-added", base.fingerprint, base.model, at=now)
            return bases.get(connection, base.fingerprint)

        return self._write(work)

    def start_run(self, run: NewRun) -> RunRecord:
        """Add a running run of this process, called "<scenario>-<n>" with n counted from 1."""

        def work(connection: Connection, now: float) -> RunRecord:
            number = runs.start(connection, run, now=now)
            return _logged_run(connection, number, "run-started", "", now=now)

        return self._write(work)

    def resume_run(self, run_id: int) -> RunRecord:
        """Take over an unfinished run as this process's.

        Raises RegistryError where it has finished or is still being worked on.
        """

        def work(connection: Connection, now: float) -> RunRecord:
            runs.resume(connection, run_id, now=now)
            return _logged_run(connection, run_id, "run-resumed", "", now=now)

        return self._write(work)

    def heartbeat(self, run_id: int) -> None:
        """Record that this process still works on a run; more often than `STALE_SECONDS`.

        Raises RegistryError where the run has ended or another process took it over.
        """
        self._write(lambda connection, now: runs.beat(connection, run_id, now=now))

    def finish_run(self, run_id: int, status: RunEnd, reason: str | None = None) -> RunRecord:
        """End a running or stale run as finished, failed or interrupted.

        Raises RegistryError where it has ended already or another process is at work on it.
        """

        def work(connection: Connection, now: float) -> RunRecord:
            runs.finish(connection, run_id, status, reason, now=now)
            return _logged_run(connection, run_id, f"run-{status}", reason or "", now=now)

        return self._write(work)

    def add_arrival(
        self, arrival: NewArrival, diff: NewDiff, scores: Sequence[NewScore]
    ) -> ArrivalRecord:
        """Record a finished arrival, its stored artifact and its scores as one.

        Raises RegistryError where the same arrival is finished already, the artifact's digest
        is known with other facts, or the records contradict themselves.
        """
        new = FinishedArrival(arrival=arrival, diff=diff, scores=tuple(scores))

        def work(connection: Connection, now: float) -> ArrivalRecord:
            (number,) = finished.add(connection, [new], at=now)
            return arrivals.get(connection, number)

        return self._write(work)

    def add_arrivals(self, new: Sequence[FinishedArrival]) -> tuple[int, ...]:
        """Record finished arrivals as `add_arrival` does, all or none; return their numbers.

        In the order given. A few thousand at once are quickest, and hold others up for the
        fraction of a second that they take.
        """
        return self._write(lambda connection, now: tuple(finished.add(connection, new, at=now)))

    def add_failure(self, arrival: NewArrival, reason: str) -> ArrivalRecord:
        """Record a failed attempt; another attempt at the same arrival may follow."""

        def work(connection: Connection, now: float) -> ArrivalRecord:
            number = arrivals.add_failed(connection, arrival, reason, at=now)
            return _logged_arrival(connection, number, "arrival-failed", reason, now=now)

        return self._write(work)

    def add_quarantined(self, arrival: NewArrival, rule: str, reason: str) -> ArrivalRecord:
        """Record a submission that broke a rule of admission; another attempt may follow."""

        def work(connection: Connection, now: float) -> ArrivalRecord:
            number = arrivals.add_quarantined(connection, arrival, rule=rule, reason=reason, at=now)
            message = f"{rule}: {reason}"
            return _logged_arrival(connection, number, "arrival-quarantined", message, now=now)

        return self._write(work)

    def add_placements(self, new: Sequence[NewPlacement]) -> None:
        """Append lines to the device's log of the run that their arrivals are of, in order.

        Raises RegistryError for an arrival that did not finish and for arrivals of several runs.
        """
        self._write(lambda connection, _: placements.add(connection, new))

    def add_scores(self, arrival_id: int, new_scores: Sequence[NewScore]) -> None:
        """Add scores of a finished arrival that were measured later.

        Raises RegistryError where one is there already for its metric, split and place.
        """

        def work(connection: Connection, now: float) -> None:
            arrivals.get_finished(connection, arrival_id)
            scores.add(connection, {arrival_id: new_scores}, at=now)
            message = f"{len(new_scores)} scores"
            _logged_arrival(connection, arrival_id, "scores-added", message, now=now)

        self._write(work)

    def find_whole(self, run: whole.WholeRun) -> RunRecord | None:
        """Return a run that finished elsewhere as it is recorded here, None where it is not.

        Raises RegistryError where the very run is here with other arrivals.
        """
        now = self._clock()
        return self._database.read(lambda connection: whole.find(connection, run, now=now))

    def import_run(self, run: whole.WholeRun) -> whole.TakenIn:
        """Record a run that finished elsewhere with all it has, or find it; its files come first.

        A name that another run has here is left to that run, and the next one is taken. Raises
        RegistryError where the very run is here with other arrivals.
        """
        return self._write(lambda connection, now: whole.take_in(connection, run, now=now))

    def add_event(self, kind: str, subject: str, message: str) -> EventRecord:
        """Append one line to the log."""

        def work(connection: Connection, now: float) -> EventRecord:
            number = events.append(connection, kind, subject, message, at=now)
            return events.get(connection, number)

        return self._write(work)


def _logged_run(
    connection: Connection, number: int, kind: str, message: str, *, now: float
) -> RunRecord:
    run = runs.get(connection, number, now=now)
    events.append(connection, kind, run.name, message, at=now)
    return run


def _logged_arrival(
    connection: Connection, number: int, kind: str, message: str, *, now: float
) -> ArrivalRecord:
    arrival = arrivals.get(connection, number)
    events.append(connection, kind, str(number), message, at=now, digest=arrival.digest)
    return arrival
