"""The log of each run's simulated device: what became of artifacts there, in virtual time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import ColumnElement, Row, insert, select

from streamlab.errors import NotInRegistryError, RegistryError
from streamlab.registry.conditions import Columns, Condition, Joined, narrow
from streamlab.registry.database import Repository, in_chunks, reads, writes
from streamlab.registry.records import NewPlacement, PlacementRecord
from streamlab.registry.tables import ArrivalRow, PlacementRow, ProviderRow, RunRow, TaskRow

_FOREIGN: dict[str, ColumnElement[Any]] = {
    "run": RunRow.name,
    "seed": ArrivalRow.seed,
    "provider": ProviderRow.name,
    "task": TaskRow.name,
    "version": ArrivalRow.version,
    "method": ArrivalRow.method,
}
_SELECTED = {
    f.name: _FOREIGN[f.name] if f.name in _FOREIGN else getattr(PlacementRow, f.name)
    for f in fields(PlacementRecord)
}
_COLUMNS: Columns = {**_SELECTED, "run": Joined(PlacementRow.run_id, RunRow.id, RunRow.name)}


class Placements(Repository):
    """The device logs, which are only ever appended to."""

    @writes
    def add(self, new: Sequence[NewPlacement]) -> None:
        """Append lines to the log of the run that their arrivals are of, in order.

        Raises RegistryError for an arrival that did not finish and for arrivals of several runs.
        """
        if not new:
            return
        known = self._arrivals([line.arrival_id for line in new])
        for line in new:
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
        rows = [asdict(line) | {"run_id": run_id} for line in new]
        self._connection.execute(insert(PlacementRow), rows)

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
        query = (
            select(*(column.label(name) for name, column in _SELECTED.items()))
            .select_from(PlacementRow)
            .join(ArrivalRow, ArrivalRow.id == PlacementRow.arrival_id)
            .join(RunRow, RunRow.id == PlacementRow.run_id)
            .join(ProviderRow, ProviderRow.id == ArrivalRow.provider_id)
            .join(TaskRow, TaskRow.id == ArrivalRow.task_id)
            .order_by(PlacementRow.run_id, PlacementRow.id)
        )
        if run is not None:
            query = query.where(PlacementRow.run_id == self._registry.runs.id_of(run))
        query = narrow(query, where, _COLUMNS, self._backend.like).limit(limit)
        return tuple(PlacementRecord(**row._mapping) for row in self._connection.execute(query))

    def _arrivals(self, ids: Sequence[int]) -> dict[int, Row[int, int, str]]:
        columns = (ArrivalRow.id, ArrivalRow.run_id, ArrivalRow.status)
        return {
            row.id: row
            for chunk in in_chunks(sorted(set(ids)))
            for row in self._connection.execute(select(*columns).where(ArrivalRow.id.in_(chunk)))
        }


def find_full_us(log: Iterable[NewPlacement]) -> int | None:
    """Return when a device was first full: an artifact was rejected or evicted. None for never.

    In microseconds of the virtual clock.
    """
    full = (line.at_us for line in log if line.action in ("rejected", "evicted"))
    return min(full, default=None)
