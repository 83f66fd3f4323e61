"""What a check of the whole home asks of the tables, whatever state they are in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, exists, func, select

from streamlab.errors import RegistryError
from streamlab.registry import sqlite
from streamlab.registry.counts import unpack_counts
from streamlab.registry.pieces import in_pieces
from streamlab.registry.tables import ArrivalRow, BaseRow, DiffRow, ProviderRow, TaskRow


@dataclass(frozen=True, kw_only=True)
class Damage:
    """What is wrong with the database itself."""

    pages: tuple[str, ...]  # of the file, its indices and constraints
    links: tuple[tuple[str, int, str], ...]  # table, row, and the table where nothing is
    lost: tuple[tuple[int, int], ...]  # arrivals without their artifact's row, and its number


@dataclass(frozen=True, kw_only=True)
class StoredFacts:
    """What a row says of a stored file; nothing in it was checked."""

    id: int
    digest: str
    kind: str
    base: str | None  # the fingerprint; None where its row is missing
    value_type: str
    n_gated: int
    n_entries: int
    n_head_entries: int
    file_bytes: int
    positions_bytes: int
    values_bytes: int
    head_bytes: int
    metadata_bytes: int
    counts: tuple[int, ...] | None  # entries per tensor; None where these are damaged
    used: bool  # by an arrival, removed ones too

    @property
    def n_counted(self) -> int | None:
        """Return the entries by the counts per tensor, None where these are damaged."""
        if self.counts is None:
            return None
        # A baseline's checkpoint may keep no counts.
        return sum(self.counts) if self.counts else self.n_entries


_USED = exists().where(ArrivalRow.diff_id == DiffRow.id)
_OTHER: dict[str, ColumnElement[Any]] = {
    "base": BaseRow.fingerprint,
    "counts": DiffRow.tensor_counts,
    "used": _USED,
}
_COLUMNS = [
    _OTHER[field.name].label(field.name)
    if field.name in _OTHER
    else getattr(DiffRow, field.name).label(field.name)
    for field in fields(StoredFacts)
]


def damage(connection: Connection) -> Damage:
    """Look for damage of the database itself; all of it is read."""
    lost = (
        select(ArrivalRow.id, ArrivalRow.diff_id)
        .join(DiffRow, DiffRow.id == ArrivalRow.diff_id, isouter=True)
        .where(ArrivalRow.diff_id.is_not(None), DiffRow.id.is_(None))
        .order_by(ArrivalRow.id)
    )
    links = sqlite.broken_links(connection)
    return Damage(
        pages=tuple(sqlite.damage(connection)),
        # The lost artifacts of arrivals are told by themselves.
        links=tuple(link for link in links if (link[0], link[2]) != ("arrivals", "diffs")),
        lost=tuple((row.id, row.diff_id) for row in connection.execute(lost)),
    )


def stored(connection: Connection, *, after: int, limit: int) -> tuple[StoredFacts, ...]:
    """Return the next `limit` artifacts past the number `after`."""
    query = (
        select(*_COLUMNS)
        .join(BaseRow, BaseRow.id == DiffRow.base_id, isouter=True)
        .where(DiffRow.id > after)
        .order_by(DiffRow.id)
        .limit(limit)
    )
    return tuple(_facts(row) for row in connection.execute(query))


def known(connection: Connection, digests: Sequence[str]) -> set[str]:
    """Return those of some digests that have a row."""
    found: set[str] = set()
    for batch in in_pieces(digests):
        query = select(DiffRow.digest).where(DiffRow.digest.in_(batch))
        found.update(connection.execute(query).scalars())
    return found


def task_names(connection: Connection) -> tuple[str, ...]:
    """Return the name of every task, in the order they came."""
    return tuple(connection.execute(select(TaskRow.name).order_by(TaskRow.id)).scalars())


def provider_names(connection: Connection) -> tuple[str, ...]:
    """Return the name of every provider, in the order they came."""
    return tuple(connection.execute(select(ProviderRow.name).order_by(ProviderRow.id)).scalars())


def digests(connection: Connection) -> frozenset[str]:
    """Return the digest of every artifact that has a row."""
    return frozenset(connection.execute(select(DiffRow.digest)).scalars())


def n_artifacts(connection: Connection) -> int:
    """Return the number of stored artifacts."""
    return connection.execute(select(func.count()).select_from(DiffRow)).scalar_one()


def _facts(row: Row[Any]) -> StoredFacts:
    values = row._asdict()
    try:
        values["counts"] = tuple(unpack_counts(values["counts"]))
    except RegistryError:
        values["counts"] = None
    return StoredFacts(**values)
