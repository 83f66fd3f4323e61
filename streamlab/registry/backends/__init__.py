"""Kinds of database: what the registry needs that differs between them, behind one interface.

Statements and names of a database's own dialect are written in this package only.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, ClassVar, Literal

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    insert,
    text,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from streamlab.errors import RegistryError
from streamlab.hashing import MAX_JSON_DEPTH, parse_json

Mode = Literal["read", "write", "configure"]  # the last one begins no transaction
MODE = "streamlab_mode"  # the execution option that says how a transaction begins
WHERE = "where"  # in an index's `info`: the condition on the rows that it has
# SQLite gives ids to its INTEGER alone; elsewhere that has 32 bits, and a registry more scores.
WHOLE = BigInteger().with_variant(Integer(), "sqlite")
MAX_JSON_BYTES = 2**24
_FORMS = ("sqlite:///path/to/registry.db", "postgresql+psycopg://user@host/database")
_SECRET = re.compile(r".*@|(?<=password=)[^&]*", re.DOTALL)  # in what cannot be taken apart
FEW = 10  # rows; SQLAlchemy, which caches its statements, is faster up to here


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
    def describe(self, connection: Connection) -> str:
        """Return the database's version. Raises RegistryError where it can hold no registry."""

    def find_obstacle(self, connection: Connection, *, exists: bool) -> str | None:  # noqa: ARG002
        """Return what keeps this user from making the tables, or from writing to those there."""
        return None

    def now(self, connection: Connection, clock: Callable[[], float]) -> float:  # noqa: ARG002
        """Return the time that all who write agree on, in seconds since the epoch.

        That of the server's clock, or where there is none of `clock`.
        """
        return clock()

    def number_of(self, connection: Connection) -> str | None:  # noqa: ARG002
        """Return what `is_committed` knows a writing transaction by.

        None where the answer to a commit cannot be lost.
        """
        return None

    def is_committed(self, connection: Connection, number: str) -> bool:
        """Tell whether a transaction whose connection was lost was committed.

        Asked in a writing transaction.
        """
        raise NotImplementedError

    @abstractmethod
    def reserve_ids(self, connection: Connection, table: Table, n: int) -> range:
        """Take the next `n` ids of a table; no other transaction gets them, even after a rollback.

        Reading back which row got which id would take as long as adding the rows.
        """

    @abstractmethod
    def last_id(self, connection: Connection, table: Table) -> int:
        """Return the last id that a table gave, whether its row is there or not; 0 for none."""

    @abstractmethod
    def continue_ids(self, connection: Connection, table: Table, last: int) -> None:
        """Let a table go on after an id, as where rows were added with ids of their own."""

    @abstractmethod
    def upsert(self, table: Table) -> Any:
        """Return an INSERT with `on_conflict_do_nothing` and `on_conflict_do_update`."""

    @abstractmethod
    def like(self, column: ColumnElement[Any], pattern: str) -> ColumnElement[bool]:
        """Return whether a text is like a pattern of `*` and `?`; case counts."""

    @abstractmethod
    def disk_bytes(self, connection: Connection, metadata: MetaData) -> int:
        """Return the bytes that these tables take on the disk; 0 in memory."""

    @abstractmethod
    def file_bytes(self) -> int | None:
        """Return the bytes of the database's files, unopened; None where it has none here."""

    @abstractmethod
    def is_busy(self, error: DBAPIError) -> bool:
        """Tell whether another transaction was in the way, so that a retry may succeed."""

    def is_lost(self, error: DBAPIError) -> bool:  # noqa: ARG002
        """Tell whether the server, or the way to it, failed and may be back."""
        return False

    @abstractmethod
    def advice(self, error: DBAPIError) -> str:
        """Return what to do about an error of the database, empty where that is unknown."""

    @abstractmethod
    def find_strange(self, connection: Connection, metadata: MetaData) -> list[str]:
        """Return what these tables have beside what they are created with, or lack of it."""

    @abstractmethod
    def find_damage(self, connection: Connection, metadata: MetaData) -> list[str]:
        """Return what is wrong with pages, indices and constraints; a full check."""

    @abstractmethod
    def find_broken_links(
        self, connection: Connection, metadata: MetaData
    ) -> list[tuple[str, int, str]]:
        """Return table, id and target table of every row that refers to a missing row."""

    def declared(self, metadata: MetaData) -> MetaData:
        """Return the tables as this database is to create them."""
        return metadata

    def create_tables(self, connection: Connection, metadata: MetaData) -> None:
        """Create every table with its constraints, indices and triggers."""
        for table in metadata.tables.values():
            for index in table.indexes:
                if WHERE in index.info:
                    # As `sqlite_where=` at the index it would load every database's dialect.
                    index.dialect_options[self.name]["where"] = text(index.info[WHERE])
        self.declared(metadata).create_all(connection, checkfirst=False)
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
        if len(rows) <= FEW or not connection.dialect.positional:
            adding = adding.inline().execution_options(preserve_rowcount=True)
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


def owns_ids(table: Table) -> bool:
    """Tell whether a table gives its rows their ids; else they are those of another table."""
    return not any(column.foreign_keys for column in table.primary_key)


def backend_of(url: str, *, read_only: bool = False) -> Backend:
    """Return the backend of an SQLAlchemy URL. Raises RegistryError for one it cannot use."""
    forms = " or ".join(f"`{form}`" for form in _FORMS)
    try:
        parsed = make_url(url)
        if parsed.drivername == "postgresql":  # else the driver depends on SQLAlchemy's version
            parsed = parsed.set(drivername="postgresql+psycopg")
        names = parsed.get_backend_name(), parsed.get_driver_name()
    except (ArgumentError, ValueError):
        shown = _SECRET.sub("***", url)
        raise RegistryError(f"{shown!r} is not a database URL; write it as {forms}.") from None
    if names == ("sqlite", "pysqlite"):
        from streamlab.registry.backends.sqlite import SQLite

        return SQLite(parsed, read_only=read_only)
    if names == ("postgresql", "psycopg"):
        return _postgresql(parsed, read_only=read_only)
    raise RegistryError(
        f"The registry {parsed} uses the database `{parsed.drivername}`, which is not supported. "
        f"Give a URL of the form {forms}."
    )


def _postgresql(url: URL, *, read_only: bool) -> Backend:
    try:
        from streamlab.registry.backends.postgresql import PostgreSQL
    except ImportError as error:  # also where its C library is missing
        raise RegistryError(
            f"The registry {url} wants psycopg ({error}): pip install 'streamlab[postgres]'."
        ) from error
    return PostgreSQL(url, read_only=read_only)


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
