"""The log: one line for each thing that happened, only ever appended to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from sqlalchemy import Connection, insert, select

from streamlab.registry.bulk import insert_rows
from streamlab.registry.records import EventRecord
from streamlab.registry.tables import EventRow
from streamlab.version import __version__

_COLUMNS = [getattr(EventRow, field.name) for field in fields(EventRecord)]


def append(
    connection: Connection,
    kind: str,
    subject: str,
    message: str,
    *,
    at: float,
    digest: str | None = None,
) -> int:
    """Append one line and return its number; `digest` is that of the artifact it is about."""
    values = {"kind": kind, "subject": subject, "message": message, "at": at, "digest": digest}
    added = insert(EventRow).values(**values, version=__version__)
    return connection.execute(added.returning(EventRow.id)).scalar_one()


def append_all(
    connection: Connection, kind: str, lines: Sequence[tuple[str, str, str | None]], *, at: float
) -> None:
    """Append a line for each subject, message and digest, in order."""
    own = {"kind": kind, "at": at, "version": __version__}
    names = ("subject", "message", "digest")
    rows = [own | dict(zip(names, line, strict=True)) for line in lines]
    insert_rows(connection, EventRow, rows)


def get(connection: Connection, number: int) -> EventRecord:
    """Return the line of a number."""
    row = connection.execute(select(*_COLUMNS).where(EventRow.id == number)).one()
    return EventRecord(**row._asdict())


def latest(connection: Connection, limit: int | None) -> tuple[EventRecord, ...]:
    """Return the last `limit` lines, oldest first; all of them where `limit` is None."""
    rows = connection.execute(select(*_COLUMNS).order_by(EventRow.id.desc()).limit(limit)).all()
    return tuple(EventRecord(**row._asdict()) for row in reversed(rows))
