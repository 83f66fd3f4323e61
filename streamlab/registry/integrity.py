"""Integrity: what a check of a whole home asks of the tables, whatever state they are in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from sqlalchemy import Row, Select, exists, func, select

from streamlab.errors import RegistryError
from streamlab.registry.arrivals import arrivals_of, read_arrival
from streamlab.registry.artifacts import unpack_counts
from streamlab.registry.database import Repository, describe_damage, reads
from streamlab.registry.logs import (
    query_events,
    query_placements,
    query_requests,
    read_event,
    read_placement,
    read_requests,
)
from streamlab.registry.records import DiffRecord
from streamlab.registry.runs import query_bases, query_runs, read_base, read_run
from streamlab.registry.scores import every_score, read_score
from streamlab.registry.tables import ArrivalRow, BaseRow, DiffRow, Tables, columns_of
from streamlab.registry.tags import query_tags, read_tag
from streamlab.registry.validation import check


@dataclass(frozen=True)
class Damage:
    """Damage of the database itself: an arrival that `lost` its artifact's row, or any other."""

    kind: Literal["database", "lost"]
    detail: str


@dataclass(frozen=True, kw_only=True)
class RecordedArtifact(DiffRecord):
    """What a row says of a stored file; nothing in it was checked.

    `base_fingerprint` is empty where the base's row is missing.
    """

    is_counted: bool = True  # whether the counts per tensor can be read; else there are none
    damage: str | None = None  # what the row holds that it cannot
    is_used: bool  # by an arrival, removed ones too


_SELECTED = (
    *columns_of(
        DiffRecord, DiffRow, base_fingerprint=func.coalesce(BaseRow.fingerprint, "")
    ).values(),
    exists().where(ArrivalRow.diff_id == DiffRow.id).label("is_used"),
)


_READ: tuple[tuple[str, Select[Any], Callable[[Row[Any]], object]], ...] = (
    ("bases", query_bases(), read_base),
    ("runs", query_runs(), read_run),
    # The digest is one of an artifact's row, which is looked at by itself.
    ("arrivals", arrivals_of(removed=None), partial(read_arrival, digest=None)),
    ("scores", every_score(), read_score),
    ("placements", query_placements(), read_placement),
    ("device_requests", query_requests(), read_requests),
    ("tags", query_tags(), read_tag),
    ("events", query_events(), read_event),
)
_AT_ONCE = 1000  # rows in memory


class Integrity(Repository):
    """Checks that read everything."""

    @reads
    def find_damage(self) -> tuple[Damage, ...]:
        """Look for damage of the database itself: its pages, indices, constraints and links."""
        lost = (
            select(ArrivalRow.id, ArrivalRow.diff_id)
            .join(DiffRow, DiffRow.id == ArrivalRow.diff_id, isouter=True)
            .where(ArrivalRow.diff_id.is_not(None), DiffRow.id.is_(None))
            .order_by(ArrivalRow.id)
        )
        links = self._backend.find_broken_links(self._connection, Tables.metadata)
        damage = self._backend.find_damage(self._connection, Tables.metadata)
        return (
            *(Damage("database", line) for line in damage),
            # A row that refers to a missing one is damaged in this way too.
            *(Damage("database", line) for line in (() if links else self._bad_rows())),
            *(
                Damage("database", f"Row {number} of {table} refers to a missing row of {target}.")
                for table, number, target in links
                # The lost artifacts of arrivals have an entry of their own.
                if (table, target) != ("arrivals", "diffs")
            ),
            *(
                Damage("lost", f"Arrival {number} refers to artifact {diff}, which has no row.")
                for number, diff in self._connection.execute(lost)
            ),
        )

    def _bad_rows(self) -> Iterator[str]:
        """Name every row that holds what it cannot, and say what that is; reads every row."""
        for table, query, read in _READ:
            rows = self._connection.execute(query.execution_options(yield_per=_AT_ONCE))
            for row in rows:
                try:
                    read(row)
                except RegistryError as error:
                    yield describe_damage(table, row, error)

    @reads
    def artifacts(self, *, after: int = 0, limit: int) -> tuple[RecordedArtifact, ...]:
        """Return what the next `limit` rows past the id `after` say of stored files."""
        query = (
            select(*_SELECTED)
            .join(BaseRow, BaseRow.id == DiffRow.base_id, isouter=True)
            .where(DiffRow.id > after)
            .order_by(DiffRow.id)
            .limit(limit)
        )
        found = []
        for row in self._connection.execute(query):
            values = row._asdict()
            try:
                values["tensor_counts"] = unpack_counts(values["tensor_counts"])
            except RegistryError:
                values |= {"tensor_counts": (), "is_counted": False}
            record = RecordedArtifact(**values)
            try:
                check(record)
            except RegistryError as error:
                record = replace(record, damage=describe_damage("diffs", row, error))
            found.append(record)
        return tuple(found)
