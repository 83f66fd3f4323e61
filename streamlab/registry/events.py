"""The log: one line for each thing that happened, only ever appended to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import ColumnElement, insert, select

from streamlab.registry.conditions import Condition, narrow
from streamlab.registry.database import Repository, reads, writes
from streamlab.registry.records import EventRecord
from streamlab.registry.tables import EventRow
from streamlab.version import __version__

_COLUMNS: dict[str, ColumnElement[Any]] = {
    field.name: getattr(EventRow, field.name) for field in fields(EventRecord)
}


class Events(Repository):
    """The log of events."""

    @reads
    def list(
        self, limit: int | None = None, *, where: Condition | None = None
    ) -> tuple[EventRecord, ...]:
        """Return the last `limit` lines, or all, oldest first."""
        query = select(*_COLUMNS.values()).order_by(EventRow.id.desc()).limit(limit)
        rows = self._connection.execute(narrow(query, where, _COLUMNS, self._backend.like)).all()
        return tuple(EventRecord(**row._asdict()) for row in reversed(rows))

    @writes
    def add(
        self, kind: str, subject: str, message: str, *, digest: str | None = None
    ) -> EventRecord:
        """Append one line; `digest` is that of the artifact it is about."""
        values: dict[str, Any] = {"kind": kind, "subject": subject, "message": message}
        values |= {"digest": digest, "at": self._now, "version": __version__}
        added = insert(EventRow).values(**values).returning(EventRow.id)
        number = self._connection.execute(added).scalar_one()
        return EventRecord(id=number, **values)

    @writes
    def add_all(self, kind: str, lines: Sequence[tuple[str, str, str | None]]) -> None:
        """Append a line for each subject, message and digest, in order."""
        shared = {"kind": kind, "at": self._now, "version": __version__}
        names = ("subject", "message", "digest")
        rows = [shared | dict(zip(names, line, strict=True)) for line in lines]
        self._backend.insert_rows(self._connection, EventRow.__table__, rows)
