"""Bases as records: one row per fingerprint."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from streamlab.registry.names import missing
from streamlab.registry.records import BaseRecord, NewBase
from streamlab.registry.tables import BaseRow

_COLUMNS = [getattr(BaseRow, field.name) for field in fields(BaseRecord)]


def add(connection: Connection, base: NewBase, *, at: float) -> bool:
    """Add a base; a fingerprint that is known stays as it is. Return whether it was new."""
    known = select(BaseRow.id).where(BaseRow.fingerprint == base.fingerprint)
    if connection.execute(known).scalar() is not None:
        return False
    values = {field.name: getattr(base, field.name) for field in fields(NewBase)}
    values["layout"] = [[name, list(shape)] for name, shape in base.layout]
    values["initialised"] = list(base.initialised)
    connection.execute(insert(BaseRow).values(**values, added_at=at))
    return True


def get(connection: Connection, fingerprint: str) -> BaseRecord:
    """Return the base of a fingerprint. Raises NotInRegistryError."""
    query = select(*_COLUMNS).where(BaseRow.id == id_of(connection, fingerprint))
    return _record(connection.execute(query).one())


def id_of(connection: Connection, fingerprint: str) -> int:
    """Return the number of a base. Raises NotInRegistryError."""
    query = select(BaseRow.id).where(BaseRow.fingerprint == fingerprint)
    found = connection.execute(query).scalar()
    if found is None:
        known = connection.execute(select(BaseRow.fingerprint).order_by(BaseRow.id)).scalars()
        raise missing("base", fingerprint, list(known))
    return found


def every(connection: Connection) -> tuple[BaseRecord, ...]:
    """Return every base in the order they were added."""
    rows = connection.execute(select(*_COLUMNS).order_by(BaseRow.id))
    return tuple(_record(row) for row in rows)


def _record(row: Row[Any]) -> BaseRecord:
    values = row._asdict()
    values["layout"] = tuple((name, tuple(shape)) for name, shape in values["layout"])
    values["initialised"] = tuple(values["initialised"])
    return BaseRecord(**values)
