"""The log of the simulated device: what became of each artifact there, in virtual time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, insert, select

from streamlab.errors import NotInRegistryError, RegistryError
from streamlab.registry.device_log import NewPlacement, PlacementRecord
from streamlab.registry.pieces import in_pieces
from streamlab.registry.tables import ArrivalRow, PlacementRow, ProviderRow, RunRow, TaskRow

_FOREIGN: dict[str, ColumnElement[Any]] = {
    "run": RunRow.name,
    "seed": ArrivalRow.seed,
    "provider": ProviderRow.name,
    "task": TaskRow.name,
    "version": ArrivalRow.version,
    "method": ArrivalRow.method,
}
_COLUMNS = [
    *(getattr(PlacementRow, f.name) for f in fields(PlacementRecord) if f.name not in _FOREIGN),
    *(column.label(name) for name, column in _FOREIGN.items()),
]


def add(connection: Connection, new: Sequence[NewPlacement]) -> None:
    """Append lines to the log of the run that their arrivals are of. Raises RegistryError."""
    if not new:
        return
    known = _arrivals(connection, [line.arrival_id for line in new])
    for line in new:
        if line.arrival_id not in known:
            raise NotInRegistryError(f"The registry holds no arrival {line.arrival_id}.")
        if known[line.arrival_id].status != "finished":
            raise RegistryError(
                f"Arrival {line.arrival_id} is {known[line.arrival_id].status} and left no "
                "artifact that could be placed on a device."
            )
    runs = {row.run_id for row in known.values()}
    if len(runs) > 1:
        raise RegistryError(
            f"Placements of {len(runs)} runs were given at once; each run has a device of its own."
        )
    (run_id,) = runs
    rows = [asdict(line) | {"run_id": run_id} for line in new]
    connection.execute(insert(PlacementRow), rows)


def listed(connection: Connection, run_id: int) -> tuple[PlacementRecord, ...]:
    """Return the log of one run in the order it was written."""
    query = (
        select(*_COLUMNS)
        .select_from(PlacementRow)
        .join(ArrivalRow, ArrivalRow.id == PlacementRow.arrival_id)
        .join(RunRow, RunRow.id == PlacementRow.run_id)
        .join(ProviderRow, ProviderRow.id == ArrivalRow.provider_id)
        .join(TaskRow, TaskRow.id == ArrivalRow.task_id)
        .where(PlacementRow.run_id == run_id)
        .order_by(PlacementRow.id)
    )
    return tuple(PlacementRecord(**row._mapping) for row in connection.execute(query))


def _arrivals(connection: Connection, numbers: Sequence[int]) -> dict[int, Row[int, int, str]]:
    columns = (ArrivalRow.id, ArrivalRow.run_id, ArrivalRow.status)
    return {
        row.id: row
        for piece in in_pieces(sorted(set(numbers)))
        for row in connection.execute(select(*columns).where(ArrivalRow.id.in_(piece)))
    }
