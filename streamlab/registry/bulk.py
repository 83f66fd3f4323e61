"""Many rows at once: handed to the database's driver column by column.

SQLAlchemy lays out every row's parameters by itself, which takes longer than to store them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, insert

from streamlab.registry.declared import Tables

_FEW = 10  # up to here SQLAlchemy is the quicker one: it remembers its statements


def insert_rows(
    connection: Connection, table: type[Tables], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Insert rows that all give the same columns; nothing for none."""
    if not rows:
        return
    adding = insert(table.__table__)
    if len(rows) <= _FEW or not connection.dialect.positional:
        connection.execute(adding, list(rows))
        return
    compiled = adding.compile(dialect=connection.dialect, column_keys=list(rows[0]))
    names = compiled.positiontup or []  # such a dialect has an order
    columns = list(zip(*map(itemgetter(*names), rows), strict=True))
    for place, name in enumerate(names):
        kind = table.__table__.c[name].type
        process = kind.dialect_impl(connection.dialect).bind_processor(connection.dialect)
        if process is not None:
            columns[place] = tuple(map(process, columns[place]))
    connection.exec_driver_sql(str(compiled), list(zip(*columns, strict=True)))
