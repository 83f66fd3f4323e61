"""Arrivals: a row says that the work is whole, or why it failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, Select, insert, select

from streamlab.errors import NotInRegistryError, RegistryError
from streamlab.registry import diffs, names, runs, scores
from streamlab.registry.records import (
    ArrivalRecord,
    ArrivalStatus,
    NewArrival,
    NewDiff,
    NewScore,
)
from streamlab.registry.tables import ArrivalRow, DiffRow, ProviderRow, RunRow, TaskRow

_FOREIGN = {
    "run": RunRow.name,
    "provider": ProviderRow.name,
    "task": TaskRow.name,
    "digest": DiffRow.digest,
}
_COLUMNS = [
    *(getattr(ArrivalRow, f.name) for f in fields(ArrivalRecord) if f.name not in _FOREIGN),
    *(column.label(name) for name, column in _FOREIGN.items()),
]


def add_finished(
    connection: Connection,
    arrival: NewArrival,
    diff: NewDiff,
    new_scores: Sequence[NewScore],
    *,
    at: float,
) -> int:
    """Add a finished arrival with its artifact and scores, and return its number.

    Raises RegistryError where it is there already, or its diff is on another base than its run.
    """
    run = runs.get(connection, arrival.run_id, now=at)
    if diff.base_fingerprint != run.base_fingerprint:
        raise RegistryError(
            f"The artifact {diff.digest} is on the base {diff.base_fingerprint!r}, but the run "
            f"`{run.name}` is on {run.base_fingerprint!r}; an arrival stays on its run's base."
        )
    values = _values(connection, arrival)
    _refuse_twice(connection, arrival, values)
    diff_id = diffs.add(connection, diff, at=at)
    number = _insert(connection, values | {"status": "finished", "diff_id": diff_id})
    scores.add(connection, number, new_scores, at=at)
    return number


def add_failed(connection: Connection, arrival: NewArrival, reason: str, *, at: float) -> int:
    """Add a failed attempt and return its number. Raises RegistryError."""
    runs.get(connection, arrival.run_id, now=at)
    values = _values(connection, arrival)
    return _insert(connection, values | {"status": "failed", "reason": reason})


def get(connection: Connection, number: int) -> ArrivalRecord:
    """Return the arrival of a number. Raises NotInRegistryError."""
    row = connection.execute(query(removed=None).where(ArrivalRow.id == number)).one_or_none()
    if row is None:
        raise NotInRegistryError(
            f"The registry holds no arrival {number}. List what there is with `streamlab ls`."
        )
    return ArrivalRecord(**row._asdict())


def get_finished(connection: Connection, number: int) -> ArrivalRecord:
    """Return a finished arrival. Raises RegistryError for a failed one: it left no artifact."""
    arrival = get(connection, number)
    if arrival.status != "finished":
        raise RegistryError(
            f"Arrival {number} failed and left no artifact, so that it cannot have scores."
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
    rows = connection.execute(found.limit(limit))
    return tuple(ArrivalRecord(**row._asdict()) for row in rows)


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
        # Few fail, so an index leads to them; nearly all finish, so no index is to be taken.
        failed = status == "failed"
        found = found.where(
            ArrivalRow.status == "failed" if failed else ArrivalRow.status != "failed"
        )
    return found


def _values(connection: Connection, arrival: NewArrival) -> dict[str, Any]:
    values = {f.name: getattr(arrival, f.name) for f in fields(NewArrival)}
    values["provider_id"] = names.id_of(connection, ProviderRow, values.pop("provider"))
    values["task_id"] = names.id_of(connection, TaskRow, values.pop("task"))
    values["details"] = dict(arrival.details)
    return values


def _refuse_twice(connection: Connection, arrival: NewArrival, values: dict[str, Any]) -> None:
    same = ("run_id", "seed", "provider_id", "task_id", "version", "method")
    twin = select(ArrivalRow.id).where(
        ArrivalRow.status == "finished",
        ArrivalRow.removed_at.is_(None),
        *(getattr(ArrivalRow, name) == values[name] for name in same),
    )
    number = connection.execute(twin).scalar()
    if number is not None:
        raise RegistryError(
            f"Task `{arrival.task}` version {arrival.version} of provider `{arrival.provider}` by "
            f"`{arrival.method}` with seed {arrival.seed} is finished already in this run, as "
            f"arrival {number}; skip it, or start a new run."
        )


def _insert(connection: Connection, values: dict[str, Any]) -> int:
    added = insert(ArrivalRow).values(**values).returning(ArrivalRow.id)
    return connection.execute(added).scalar_one()
