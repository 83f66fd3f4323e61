"""Transfer: a registry copied from one database to another, and compared row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Table, select

from streamlab.errors import RegistryError
from streamlab.registry import schema
from streamlab.registry.backends import Unreadable, owns_ids
from streamlab.registry.database import Database
from streamlab.registry.registry import Registry
from streamlab.registry.tables import Tables

_AT_ONCE = 2000  # rows in memory


@dataclass(frozen=True)
class Copied:
    """How many rows of a table were copied."""

    table: str
    rows: int


def copy_registry(source: str, target: str, *, clock: Callable[[], float]) -> tuple[Copied, ...]:
    """Copy every row of a registry into an empty one, in one transaction, and compare them.

    Ids go on where those of the source would. Raises RegistryError where the source is missing,
    out of date, damaged or worked on by a run, where the target has rows, and where a row comes
    back changed; the target then has no row.
    """
    with closing(Database(source, read_only=True, clock=clock)) as old:
        schema.prepare(old, read_only=True)
        schema.create(target, clock=clock)
        with closing(Database(target, clock=clock)) as new:
            schema.prepare(new, read_only=False)
            return old.read(lambda read: new.write(lambda write: _copy(old, read, new, write)))


def _copy(old: Database, read: Connection, new: Database, write: Connection) -> tuple[Copied, ...]:
    Registry(old).runs.refuse_running()
    tables = Tables.metadata.sorted_tables
    for table in tables:
        if write.execute(select(table).limit(1)).first() is not None:
            raise RegistryError(
                f"The registry {new.url} has rows in `{table.name}` already. Name an empty "
                "database; nothing was copied."
            )
    counts = []
    for table in tables:
        counts.append(Copied(table.name, _copy_rows(table, read, new, write)))
        if owns_ids(table):
            last = old.backend.last_id(read, table)
            new.backend.continue_ids(write, table, last)
    for table in tables:
        _compare(table, read, write)
    return tuple(counts)


def _copy_rows(table: Table, read: Connection, new: Database, write: Connection) -> int:
    n_rows = 0
    for rows in _chunks(table, read):
        for row in rows:
            _refuse_unreadable(table, row)
        new.backend.insert_rows(write, table, [row._asdict() for row in rows])
        n_rows += len(rows)
    return n_rows


def _compare(table: Table, read: Connection, write: Connection) -> None:
    """Read a table on both sides. Raises RegistryError for the first row that differs."""
    copies = _chunks(table, write)
    for rows in _chunks(table, read):
        for row, copy in zip(rows, next(copies, ()), strict=True):
            if tuple(row) != tuple(copy):
                raise RegistryError(
                    f"Row {row[0]} of `{table.name}` came back from the copy as another one, so "
                    "nothing was copied. See `streamlab verify`."
                )


def _chunks(table: Table, connection: Connection) -> Iterator[Sequence[Row[Any]]]:
    """Yield the rows of a table in the order of their ids, some at a time."""
    (key,) = table.primary_key.columns
    query = select(table).order_by(key).limit(_AT_ONCE)
    rows: Sequence[Row[Any]] = connection.execute(query).all()
    while rows:
        yield rows
        rows = connection.execute(query.where(key > getattr(rows[-1], key.name))).all()


def _refuse_unreadable(table: Table, row: Row[Any]) -> None:
    for name, value in row._mapping.items():
        if isinstance(value, Unreadable):
            raise RegistryError(
                f"Row {row[0]} of `{table.name}` is damaged: `{name}` is {value.why}. Nothing was "
                "copied; see `streamlab verify`."
            )
