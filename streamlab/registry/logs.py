"""The logs, which are only ever appended to: of events, and of each run's simulated device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Row, Select, delete, insert, select

from streamlab.errors import NotInRegistryError, RegistryError
from streamlab.registry.conditions import Columns, Condition, Joined
from streamlab.registry.database import Repository, reads, writes
from streamlab.registry.records import (
    DeviceRequests,
    EventRecord,
    NewPlacement,
    PlacementRecord,
)
from streamlab.registry.tables import (
    ArrivalRow,
    DeviceRequestsRow,
    EventRow,
    PlacementRow,
    RunRow,
    columns_of,
    with_names,
)
from streamlab.registry.validation import build, check_new, without_nul
from streamlab.version import __version__

_SELECTED = columns_of(PlacementRecord, PlacementRow)
_EVENT_COLUMNS = columns_of(EventRecord, EventRow)
_REQUESTS_COLUMNS = columns_of(DeviceRequests, DeviceRequestsRow)
_COLUMNS: Columns = {**_SELECTED, "run": Joined(PlacementRow.run_id, RunRow.id, RunRow.name)}


class Events(Repository):
    """The log of events."""

    @reads
    def list(
        self, limit: int | None = None, *, where: Condition | None = None
    ) -> tuple[EventRecord, ...]:
        """Return the last `limit` lines, or all, oldest first."""
        query = query_events().order_by(EventRow.id.desc())
        rows = self._listed(query, where, _EVENT_COLUMNS, limit).all()
        return self._records("events", reversed(rows), read_event)

    @reads
    def revoked_digests(self, provider: str | None, run: str | None) -> tuple[str, ...]:
        """Return the digests of what was revoked of a provider or of a run, each once."""
        query = select(EventRow.digest).distinct().order_by(EventRow.digest)
        query = query.where(
            EventRow.kind == "arrival-revoked",
            EventRow.message == revoked_from(provider, run),
            EventRow.digest.is_not(None),
        )
        return tuple(digest for digest in self._connection.execute(query).scalars() if digest)

    @writes
    def add(self, kind: str, subject: str, message: str = "", *, digest: str | None = None) -> None:
        """Append one line; `digest` is that of the artifact it is about."""
        self.add_all(kind, [(subject, message, digest)])

    @writes
    def add_all(self, kind: str, lines: Sequence[tuple[str, str, str | None]]) -> None:
        """Append a line for each subject, message and digest, in order."""
        shared = {"kind": kind, "at": self._now, "version": __version__}
        rows = [
            shared
            | {"subject": without_nul(subject), "message": without_nul(message), "digest": digest}
            for subject, message, digest in lines
        ]
        self._insert(EventRow.__table__, rows)


class Placements(Repository):
    """The device logs, which are only ever appended to, and the requests to the devices."""

    @writes
    def add(self, new: Sequence[NewPlacement]) -> None:
        """Append lines to the log of the run that their arrivals are of, in order.

        Raises RegistryError for an arrival that did not finish and for arrivals of several runs.
        """
        if not new:
            return
        query = select(ArrivalRow.id, ArrivalRow.run_id, ArrivalRow.status)
        rows = self._among(query, ArrivalRow.id, (line.arrival_id for line in new))
        known = {row.id: row for row in rows}
        for line in new:
            check_new(line)
            if line.arrival_id not in known:
                raise NotInRegistryError(f"The registry holds no arrival {line.arrival_id}.")
            if known[line.arrival_id].status != "finished":
                raise RegistryError(
                    f"Arrival {line.arrival_id} is {known[line.arrival_id].status} and left no "
                    "artifact that could be placed on a device."
                )
        run_ids = {row.run_id for row in known.values()}
        if len(run_ids) > 1:
            raise RegistryError(
                f"Placements of {len(run_ids)} runs were given at once; each run has a device of "
                "its own."
            )
        (run_id,) = run_ids
        lines = [asdict(line) | {"run_id": run_id} for line in new]
        self._connection.execute(insert(PlacementRow), lines)

    @writes
    def set_requests(self, run_id: int, new: Sequence[DeviceRequests]) -> None:
        """Record how the requests to a run's device were answered, in place of what was there.

        Other seeds of the run keep theirs.
        """
        for one in new:
            check_new(one)
        seeds = {one.seed for one in new}
        row = DeviceRequestsRow
        self._connection.execute(delete(row).where(row.run_id == run_id, row.seed.in_(seeds)))
        self._insert(row.__table__, [asdict(one) | {"run_id": run_id} for one in new])

    @reads
    def requests(self, run: str | int) -> tuple[DeviceRequests, ...]:
        """Return the requests to a run's device, by seed and in the order they were recorded."""
        row = DeviceRequestsRow
        query = query_requests().where(row.run_id == self._registry.runs.id_of(run))
        rows = self._connection.execute(query.order_by(row.seed, row.id))
        return self._records("device_requests", rows, read_requests)

    @reads
    def list(
        self,
        run: str | int | None = None,
        *,
        where: Condition | None = None,
        limit: int | None = None,
    ) -> tuple[PlacementRecord, ...]:
        """Return the first `limit` lines of a run's log, or of all, by run and oldest first.

        Lines of removed arrivals are there until these are deleted: a log says what happened.
        """
        query = query_placements().order_by(PlacementRow.run_id, PlacementRow.id)
        if run is not None:
            query = query.where(PlacementRow.run_id == self._registry.runs.id_of(run))
        rows = self._listed(query, where, _COLUMNS, limit)
        return self._records("placements", rows, read_placement)


def revoked_from(provider: str | None, run: str | None) -> str:
    """Return what the log says of an arrival that was revoked with a provider or a run."""
    return f"of run `{run}`" if provider is None else f"from `{provider}`"


def query_events() -> Select[Any]:
    """Return the query of all events."""
    return select(*_EVENT_COLUMNS.values())


def query_placements() -> Select[Any]:
    """Return the query of all placements, with what they are about."""
    query = select(*_SELECTED.values()).select_from(PlacementRow)
    return with_names(query.join(ArrivalRow, ArrivalRow.id == PlacementRow.arrival_id))


def query_requests() -> Select[Any]:
    """Return the query of the requests to all devices."""
    return select(DeviceRequestsRow.id, *_REQUESTS_COLUMNS.values())


def read_event(row: Row[Any]) -> EventRecord:
    """Return the record of an event. Raises RegistryError where the row is damaged."""
    return build(EventRecord, row._asdict())


def read_requests(row: Row[Any]) -> DeviceRequests:
    """Return the record of requests. Raises RegistryError where the row is damaged."""
    values = row._asdict()
    del values["id"]
    return build(DeviceRequests, values)


def read_placement(row: Row[Any]) -> PlacementRecord:
    """Return the record of a placement. Raises RegistryError where the row is damaged."""
    return build(PlacementRecord, row._asdict())


def find_full_us(log: Iterable[NewPlacement]) -> int | None:
    """Return when a device was first full: an artifact was rejected or evicted. None for never.

    In microseconds of the virtual clock.
    """
    full = (line.at_us for line in log if line.action in ("rejected", "evicted"))
    return min(full, default=None)
