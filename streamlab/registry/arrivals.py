"""Arrivals: a row says that the work is whole, why it failed, or which rule it broke."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from math import isfinite
from operator import attrgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, insert, select

from streamlab.errors import NotInRegistryError, RegistryError
from streamlab.registry import names, runs, tally
from streamlab.registry.details import ArrivalDetails
from streamlab.registry.records import (
    ArrivalRecord,
    ArrivalStatus,
    NewArrival,
)
from streamlab.registry.tables import ArrivalRow, DiffRow, ProviderRow, RunRow, TaskRow

_FOREIGN: dict[str, ColumnElement[Any]] = {
    "run": RunRow.name,
    "provider": ProviderRow.name,
    "task": TaskRow.name,
    "digest": DiffRow.digest,
}
_GIVEN = [f.name for f in fields(NewArrival) if f.name not in {*_FOREIGN, "details"}]
_values = attrgetter(*_GIVEN)
_COLUMNS = [
    *(getattr(ArrivalRow, f.name) for f in fields(ArrivalRecord) if f.name not in _FOREIGN),
    *(column.label(name) for name, column in _FOREIGN.items()),
]


def add_failed(connection: Connection, arrival: NewArrival, reason: str, *, at: float) -> int:
    """Add a failed attempt and return its number. Raises RegistryError."""
    return _add_lost(connection, arrival, {"status": "failed", "reason": reason}, at=at)


def add_quarantined(
    connection: Connection, arrival: NewArrival, *, rule: str, reason: str, at: float
) -> int:
    """Add a submission that admission stopped, and return its number. Raises RegistryError."""
    what = {"status": "quarantined", "rule": rule, "reason": reason}
    return _add_lost(connection, arrival, what, at=at)


def _add_lost(
    connection: Connection, arrival: NewArrival, what: dict[str, str], *, at: float
) -> int:
    """Add an arrival that left no artifact."""
    runs.get(connection, arrival.run_id, now=at)
    (values,) = rows_of(connection, [arrival])
    tally.add(connection, [values], {})
    added = insert(ArrivalRow).values(**values, **what)
    return connection.execute(added.returning(ArrivalRow.id)).scalar_one()


def rows_of(connection: Connection, new: Sequence[NewArrival]) -> list[dict[str, Any]]:
    """Return arrivals as they are stored, the names that are new to the registry added.

    Raises RegistryError for times that are out of order and a declared score that is no number.
    """
    for arrival in new:
        _check(arrival)
    providers = names.ids_of(connection, ProviderRow, [arrival.provider for arrival in new])
    tasks = names.ids_of(connection, TaskRow, [arrival.task for arrival in new])
    return [
        {
            **dict(zip(_GIVEN, _values(arrival), strict=True)),
            "provider_id": providers[arrival.provider],
            "task_id": tasks[arrival.task],
            "details": arrival.details.to_json(),
        }
        for arrival in new
    ]


def get(connection: Connection, number: int) -> ArrivalRecord:
    """Return the arrival of a number. Raises NotInRegistryError."""
    row = connection.execute(query(removed=None).where(ArrivalRow.id == number)).one_or_none()
    if row is None:
        raise NotInRegistryError(
            f"The registry holds no arrival {number}. List what there is with `streamlab ls`."
        )
    return _record(row._mapping)


def _record(row: RowMapping) -> ArrivalRecord:
    return ArrivalRecord(**{**row, "details": ArrivalDetails.from_json(row["details"])})


def get_finished(connection: Connection, number: int) -> ArrivalRecord:
    """Return a finished arrival. Raises RegistryError for any other: it left no artifact."""
    arrival = get(connection, number)
    if arrival.status != "finished":
        raise RegistryError(
            f"Arrival {number} is {arrival.status} and left no artifact, so that it cannot have "
            "scores."
        )
    return arrival


def listed(
    connection: Connection,
    *,
    run_id: int | None,
    task: str | None,
    provider: str | None,
    method: str | None,
    status: ArrivalStatus | None,
    seed: int | None = None,
    digest: str | None = None,
    limit: int | None,
    removed: bool = False,
) -> tuple[ArrivalRecord, ...]:
    """Return the first `limit` arrivals that match, in order of run, seed, sequence, method.

    Those that were removed are left out, or with `removed` they alone are returned.
    """
    found = filtered(
        query(removed=removed),
        run_id=run_id,
        task=task,
        provider=provider,
        method=method,
        status=status,
    )
    if seed is not None:
        found = found.where(ArrivalRow.seed == seed)
    if digest is not None:
        found = sharing(found, digest)
    rows = connection.execute(found.limit(limit))
    return tuple(_record(row._mapping) for row in rows)


def query(*, removed: bool | None = False) -> Select[Any]:
    """Return the query of every arrival in the order they are listed in.

    `removed`: those that were removed or those that were not; None for all.
    """
    arrival = ArrivalRow
    found = (
        select(*_COLUMNS)
        .select_from(arrival)
        # Outer joins leave the arrivals in front, so that an index gives the order.
        .join(RunRow, RunRow.id == arrival.run_id, isouter=True)
        .join(ProviderRow, ProviderRow.id == arrival.provider_id, isouter=True)
        .join(TaskRow, TaskRow.id == arrival.task_id, isouter=True)
        .join(DiffRow, DiffRow.id == arrival.diff_id, isouter=True)
        .order_by(arrival.run_id, arrival.seed, arrival.sequence, arrival.method, arrival.id)
    )
    if removed is None:
        return found
    gone = arrival.removed_at.is_not(None) if removed else arrival.removed_at.is_(None)
    return found.where(gone)


def sharing(found: Select[Any], digest: str) -> Select[Any]:
    """Narrow a query of arrivals to those with one artifact; there may be very many others."""
    diff_id = select(DiffRow.id).where(DiffRow.digest == digest).scalar_subquery()
    return found.where(ArrivalRow.diff_id == diff_id)


def filtered(
    found: Select[Any],
    *,
    run_id: int | None,
    task: str | None,
    provider: str | None,
    method: str | None,
    status: ArrivalStatus | None,
) -> Select[Any]:
    """Narrow a query of arrivals; a name that no row has leaves nothing."""
    # Names become numbers first, since the indices hold numbers.
    task_id = select(TaskRow.id).where(TaskRow.name == task).scalar_subquery()
    provider_id = select(ProviderRow.id).where(ProviderRow.name == provider).scalar_subquery()
    if run_id is not None:
        found = found.where(ArrivalRow.run_id == run_id)
    if task is not None:
        found = found.where(ArrivalRow.task_id == task_id)
    if provider is not None:
        found = found.where(ArrivalRow.provider_id == provider_id)
    if method is not None:
        found = found.where(ArrivalRow.method == method)
    if status is not None:
        # Few leave nothing, so an index leads to them; nearly all finish, so none is to be taken.
        found = found.where(
            ArrivalRow.status.not_in(("failed", "quarantined"))
            if status == "finished"
            else ArrivalRow.status == status
        )
    return found


def _check(arrival: NewArrival) -> None:
    times = (arrival.arrived_us, arrival.began_us, arrival.ended_us)
    given = [time for time in times if time is not None]
    if len(given) not in (0, 3) or [0, *given] != sorted([0, *given]):
        raise RegistryError(
            f"The arrival of `{arrival.task}` has the virtual times {times}; it must have all of "
            "`arrived_us`, `began_us` and `ended_us`, each no earlier than the one before, or none."
        )
    if arrival.declared_score is not None and not isfinite(arrival.declared_score):
        raise RegistryError(
            f"The declared score of `{arrival.task}` is {arrival.declared_score!r}; it must be a "
            "finite number, or be left out."
        )
