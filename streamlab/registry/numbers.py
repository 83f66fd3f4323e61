"""Numbers of rows: as somebody wrote them, and of those that are about to be added."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from streamlab.errors import UsageError
from streamlab.registry.tables import ArrivalRow, DiffRow

_MOST_DIGITS = 18  # what a database counts to has one more

Numbered = type[ArrivalRow] | type[DiffRow]


def read_number(word: str) -> int | None:
    """Read the number of a row, None for what is none: other signs, or more than any row has."""
    return int(word) if word.isascii() and word.isdigit() and len(word) <= _MOST_DIGITS else None


def read_arrival_number(word: str) -> int:
    """Read the number of an arrival. Raises UsageError for what is none."""
    number = read_number(word)
    if number is None:
        raise UsageError(f"An arrival is known by its number, got {word[:40]!r}. Try `arrival:1`.")
    return number


def following(connection: Connection, table: Numbered, n: int) -> range:
    """Return the numbers that the next `n` rows of a table are to get.

    They are the caller's own: while a transaction writes, no other one can. To read back which
    row got which number took as long as to add them.
    """
    first = (connection.execute(select(func.max(table.id))).scalar() or 0) + 1
    return range(first, first + n)
