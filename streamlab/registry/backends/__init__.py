"""Kinds of database: what the registry needs that differs between them, behind one interface.

Statements and names of a database's own dialect are written in this package only.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, ClassVar, Literal

from sqlalchemy import Column, ColumnElement, Connection, Engine, MetaData, Table, insert, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from streamlab.errors import RegistryError
from streamlab.hashing import MAX_JSON_DEPTH, parse_json

Mode = Literal["read", "write", "configure"]  # the last one begins no transaction
MODE = "streamlab_mode"  # the execution option that says how a transaction begins
WHERE = "where"  # in an index's `info`: the condition on the rows that it has
MAX_JSON_BYTES = 2**24
_FEW = 10  # rows; SQLAlchemy, which caches its statements, is faster up to here


@dataclass(frozen=True)
class Unreadable:
    """A value in the database that is not what its column holds."""

    why: str


def read_json(text: object) -> Any:
    """Parse a JSON value of the database; one that is damaged, deep or too long is `Unreadable`."""
    if not isinstance(text, str | bytes):
        return Unreadable("not JSON")
    if len(text) > MAX_JSON_BYTES:
        return Unreadable(f"longer than {MAX_JSON_BYTES:,} bytes")
    try:
        return parse_json(text, max_depth=2 * MAX_JSON_DEPTH)  # with room for what is around it
    except ValueError as error:
        return Unreadable(f"not JSON ({error})")


class Backend(ABC):
    """One database of one kind.

    A transaction that begins as `write` sees what others committed and excludes or detects every
    conflicting one. Correctness does not rest on a single writer: rows are kept unique by
    constraints and added by `insert_new` and `add_to`, and rows read to be changed are locked.
    """

    name: ClassVar[str]  # of SQLAlchemy's dialect
    driver: ClassVar[str]
    url_form: ClassVar[str]  # an example
    created_with_tables: ClassVar[Sequence[str]]  # statements: append-only logs, statistics

    url: URL
    engine: Engine
    path: Path | None = None  # of a database that is kept in a file
    shares_connection: bool = False  # threads take turns on the one connection there is

    @abstractmethod
    def __init__(self, url: URL, *, read_only: bool) -> None:
        """Create the engine; nothing is opened yet. Raises RegistryError."""

    @abstractmethod
    def configure(self, connection: Connection) -> None:
        """Set what the database remembers, in no transaction. Raises RegistryError."""

    @abstractmethod
    def reserve_ids(self, connection: Connection, table: Table, n: int) -> range:
        """Take the next `n` ids of a table; no other transaction gets them, even after a rollback.

        Reading back which row got which id would take as long as adding the rows.
        """

    @abstractmethod
    def upsert(self, table: Table) -> Any:
        """Return an INSERT with `on_conflict_do_nothing` and `on_conflict_do_update`."""

    @abstractmethod
    def like(self, column: ColumnElement[Any], pattern: str) -> ColumnElement[bool]:
        """Return whether a text is like a pattern of `*` and `?`; case counts."""

    @abstractmethod
    def disk_bytes(self, connection: Connection) -> int:
        """Return the bytes that the database takes on the disk; 0 in memory."""

    @abstractmethod
    def file_bytes(self) -> int | None:
        """Return the bytes of the database's files, unopened; None where it has none here."""

    @abstractmethod
    def is_busy(self, error: DBAPIError) -> bool:
        """Tell whether another transaction was in the way, so that a retry may succeed."""

    @abstractmethod
    def advice(self, error: DBAPIError) -> str:
        """Return what to do about an error of the database, empty where that is unknown."""

    @abstractmethod
    def find_strange(self, connection: Connection, metadata: MetaData) -> list[str]:
        """Return what these tables have beside what they are created with, or lack of it."""

    @abstractmethod
    def find_damage(self, connection: Connection) -> list[str]:
        """Return what is wrong with pages, indices and constraints; a full check."""

    @abstractmethod
    def find_broken_links(self, connection: Connection) -> list[tuple[str, int, str]]:
        """Return table, id and target table of every row that refers to a missing row."""

    def create_tables(self, connection: Connection, metadata: MetaData) -> None:
        """Create every table with its constraints, indices and triggers."""
        for table in metadata.tables.values():
            for index in table.indexes:
                if WHERE in index.info:
                    # As `sqlite_where=` at the index it would load every database's dialect.
                    index.dialect_options[self.name]["where"] = text(index.info[WHERE])
        metadata.create_all(connection, checkfirst=False)
        for statement in self.created_with_tables:
            connection.exec_driver_sql(statement)

    def insert_rows(
        self,
        connection: Connection,
        table: Table,
        rows: Sequence[Mapping[str, Any]],
        *,
        statement: Any = None,
    ) -> int:
        """Insert rows that all have the same columns, and return how many were inserted.

        Many are handed to the driver column by column: SQLAlchemy prepares each row's parameters
        by itself, which takes longer than storing them. `statement`: another INSERT.
        """
        if not rows:
            return 0
        adding = insert(table) if statement is None else statement
        if len(rows) <= _FEW or not connection.dialect.positional:
            return connection.execute(adding, list(rows)).rowcount
        compiled = adding.compile(dialect=connection.dialect, column_keys=list(rows[0]))
        names = compiled.positiontup or []  # such a dialect has an order
        columns = [tuple(map(itemgetter(name), rows)) for name in names]
        for place, name in enumerate(names):
            kind = table.c[name].type
            process = kind.dialect_impl(connection.dialect).bind_processor(connection.dialect)
            if process is not None:
                columns[place] = tuple(map(process, columns[place]))
        values = list(zip(*columns, strict=True))
        return connection.exec_driver_sql(str(compiled), values).rowcount

    def insert_new(
        self, connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], key: str
    ) -> int:
        """Insert rows whose unique `key` is not there yet, and return how many these were."""
        adding = self.upsert(table).on_conflict_do_nothing(index_elements=[table.c[key]])
        return self.insert_rows(connection, table, rows, statement=adding)

    def add_to(
        self,
        connection: Connection,
        table: Table,
        rows: Sequence[Mapping[str, Any]],
        *,
        key: Sequence[str],
        amounts: Sequence[str],
    ) -> None:
        """Insert rows, or add their `amounts` to the row that has the same unique `key`."""
        adding = self.upsert(table)
        sums: dict[str, ColumnElement[Any]] = {
            name: table.c[name] + adding.excluded[name] for name in amounts
        }
        index: list[Column[Any]] = [table.c[name] for name in key]
        adding = adding.on_conflict_do_update(index_elements=index, set_=sums)
        self.insert_rows(connection, table, rows, statement=adding)


def backend_of(url: str, *, read_only: bool = False) -> Backend:
    """Return the backend of an SQLAlchemy URL. Raises RegistryError for one it cannot use."""
    from streamlab.registry.backends.sqlite import SQLite

    known: tuple[type[Backend], ...] = (SQLite,)
    forms = " or ".join(f"`{kind.url_form}`" for kind in known)
    try:
        parsed = make_url(url)
        names = parsed.get_backend_name(), parsed.get_driver_name()
    except (ArgumentError, ValueError) as error:
        raise RegistryError(f"{url!r} is not a database URL; write it as {forms}.") from error
    for kind in known:
        if names == (kind.name, kind.driver):
            return kind(parsed, read_only=read_only)
    raise RegistryError(
        f"The registry {parsed} uses the database `{parsed.drivername}`, which is not supported. "
        f"Give a URL of the form {forms}."
    )


def default_url(path: Path) -> str:
    """Return the URL of a registry that a home keeps in a file of its own."""
    # Made absolute without following links.
    database = os.path.abspath(path)  # noqa: PTH100
    return URL.create("sqlite", database=database).render_as_string(hide_password=False)


def private_copy(path: Path, folder: Path) -> str:
    """Copy the registry of another's home into `folder`, and return the URL that reads it.

    Raises RegistryError where it cannot be copied safely.
    """
    from streamlab.registry.backends.sqlite_copy import copied

    return copied(path, folder)
