"""Numbers of rows that are about to be added, known before they are there."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from streamlab.registry.tables import ArrivalRow, DiffRow

Numbered = type[ArrivalRow] | type[DiffRow]


def following(connection: Connection, table: Numbered, n: int) -> range:
    """Return the numbers that the next `n` rows of a table are to get.

    They are the caller's own: while a transaction writes, no other one can. To read back which
    row got which number took as long as to add them.
    """
    first = (connection.execute(select(func.max(table.id))).scalar() or 0) + 1
    return range(first, first + n)
