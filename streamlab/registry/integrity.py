"""Integrity: what a check of a whole home asks of the tables, whatever state they are in."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import ColumnElement, Row, exists, select

from streamlab.errors import RegistryError
from streamlab.registry.artifacts import unpack_counts
from streamlab.registry.database import Repository, reads
from streamlab.registry.tables import ArrivalRow, BaseRow, DiffRow


@dataclass(frozen=True, kw_only=True)
class Damage:
    """What is wrong with the database itself."""

    pages: tuple[str, ...]  # of the file, its indices and constraints
    links: tuple[tuple[str, int, str], ...]  # table, row, and the table that lacks the other row
    lost: tuple[tuple[int, int], ...]  # arrivals without their artifact's row, and its id


@dataclass(frozen=True, kw_only=True)
class RecordedArtifact:
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
        # A baseline's checkpoint may have no counts.
        return sum(self.counts) if self.counts else self.n_entries


_OTHER: dict[str, ColumnElement[Any]] = {
    "base": BaseRow.fingerprint,
    "counts": DiffRow.tensor_counts,
    "used": exists().where(ArrivalRow.diff_id == DiffRow.id),
}
_SELECTED = [
    (_OTHER[f.name] if f.name in _OTHER else getattr(DiffRow, f.name)).label(f.name)
    for f in fields(RecordedArtifact)
]


class Integrity(Repository):
    """Checks that read everything."""

    @reads
    def find_damage(self) -> Damage:
        """Look for damage of the database itself."""
        lost = (
            select(ArrivalRow.id, ArrivalRow.diff_id)
            .join(DiffRow, DiffRow.id == ArrivalRow.diff_id, isouter=True)
            .where(ArrivalRow.diff_id.is_not(None), DiffRow.id.is_(None))
            .order_by(ArrivalRow.id)
        )
        links = self._backend.find_broken_links(self._connection)
        return Damage(
            pages=tuple(self._backend.find_damage(self._connection)),
            # The lost artifacts of arrivals have an entry of their own.
            links=tuple(link for link in links if (link[0], link[2]) != ("arrivals", "diffs")),
            lost=tuple((row.id, row.diff_id) for row in self._connection.execute(lost)),
        )

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
        return tuple(_recorded(row) for row in self._connection.execute(query))


def _recorded(row: Row[Any]) -> RecordedArtifact:
    values = row._asdict()
    try:
        values["counts"] = tuple(unpack_counts(values["counts"]))
    except RegistryError:
        values["counts"] = None
    return RecordedArtifact(**values)
