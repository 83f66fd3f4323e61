"""One database and its transactions, and the repositories that work in them.

A public method of a repository is one transaction; called from another one, it is part of that.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, partial, wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, TypeVarTuple, cast

from sqlalchemy import ColumnElement, Connection, Result, Row, Select, Table
from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError

from streamlab.errors import RegistryError
from streamlab.registry.backends import MODE, Backend, Mode, backend_of
from streamlab.registry.conditions import Columns, Condition, compile_condition

if TYPE_CHECKING:
    from streamlab.registry.registry import Registry

_ATTEMPTS = 3  # each waits for the lock as long as the busy timeout says
_ATTEMPTS_TO_CONFIGURE = 50  # a database may not wait for this lock by itself
_PAUSE_SECONDS = 0.1
# While a server that was reached before is away, a transaction is tried again, after pauses that
# grow to the longest one, for as long as it takes to start again or to move.
AWAY_SECONDS = 120.0
_LONGEST_PAUSE = 5.0
_PAST = {"read": "read", "write": "written", "configure": "configured"}
_CHUNK = 500  # values of up to six columns in one statement: far below any database's limit
FILES_AT_ONCE = 100  # that are deleted in one transaction

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
Record = TypeVar("Record")
Own = TypeVar("Own", bound="Repository")
Given = ParamSpec("Given")
Values = TypeVarTuple("Values")


@dataclass(frozen=True)
class Transaction:
    """The transaction a thread is in."""

    connection: Connection
    mode: Mode
    clock: Callable[[Connection], float]

    @cached_property
    def now(self) -> float:
        """Return the time of the whole transaction, in seconds since the epoch."""
        return self.clock(self.connection)


class _UnsureError(Exception):
    """The connection was lost before the answer to a commit."""

    def __init__(self, number: str, outcome: Any) -> None:
        super().__init__()
        self.number = number
        self.outcome = outcome


class Database:
    """A backend's transactions: each call of `read` or `write` is one.

    A call within another one of the same thread joins it. `clock` gives seconds since the epoch
    where the database has no clock; `pause` waits between attempts.
    """

    def __init__(
        self,
        url: str,
        *,
        read_only: bool = False,
        clock: Callable[[], float] = time.time,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare to open the database of an SQLAlchemy URL. Raises RegistryError."""
        self.backend = backend_of(url, read_only=read_only)
        self.url = str(self.backend.url)  # a password hidden
        self._clock = clock
        self._read_only = read_only
        self._pause = pause
        self._was_reached = False
        self._turn = threading.RLock() if self.backend.shares_connection else nullcontext()
        self._local = threading.local()

    @property
    def current(self) -> Transaction:
        """Return the transaction that this thread is in."""
        found: Transaction | None = getattr(self._local, "transaction", None)
        if found is None:
            raise RuntimeError("outside any transaction")
        return found

    def read(self, work: Callable[[Connection], Outcome]) -> Outcome:
        """Run `work` on one unchanging view of the database. Raises RegistryError."""
        return self._run("read", work, _ATTEMPTS)

    def write(self, work: Callable[[Connection], Outcome]) -> Outcome:
        """Run `work` as one writing transaction, which is committed as a whole or rolled back.

        `work` may run several times and must not depend on what an earlier attempt did; it is
        committed once, also where the answer to that was lost. Raises RegistryError where the
        database is read-only, locked for too long, away for too long, full or damaged.
        """
        if self._read_only:
            raise RegistryError(
                f"The registry {self.url} was opened for reading only; open it for writing."
            )
        return self._run("write", work, _ATTEMPTS)

    def configure(self) -> None:
        """Set what the database remembers of its settings. Raises RegistryError."""
        self._run("configure", self.backend.configure, _ATTEMPTS_TO_CONFIGURE)

    def close(self) -> None:
        """Close every connection; a database in memory is lost."""
        self.backend.engine.dispose()

    def _run(self, mode: Mode, work: Callable[[Connection], Outcome], attempts: int) -> Outcome:
        outer: Transaction | None = getattr(self._local, "transaction", None)
        if outer is not None:
            if mode == "write" and outer.mode != "write":
                raise RuntimeError("a write within a read")
            return work(outer.connection)
        for attempt in range(1, attempts + 1):
            try:
                return self._surely(mode, work)
            except DBAPIError as error:
                if attempt == attempts or not self.backend.is_busy(error):
                    raise self._explained(error, mode) from error
            except (SQLAlchemyError, OverflowError, UnicodeError) as error:
                raise self._explained(error, mode) from error
            self._pause(_PAUSE_SECONDS)
        raise AssertionError("the last attempt returns or raises")

    def _surely(self, mode: Mode, work: Callable[[Connection], Outcome]) -> Outcome:
        """Run `work` as one transaction that takes place once, though the server may go away."""
        while True:
            try:
                return self._patiently(partial(self._once, mode, work))
            except _UnsureError as unsure:
                if self._patiently(partial(self._was_committed, unsure.number)):
                    return cast("Outcome", unsure.outcome)

    def _was_committed(self, number: str) -> bool:
        try:
            # A write, so that it waits for one that is still being committed.
            return self._once("write", lambda c: self.backend.is_committed(c, number))
        except _UnsureError as unsure:
            return bool(unsure.outcome)  # known before the connection was lost again

    def _patiently(self, attempt: Callable[[], Outcome]) -> Outcome:
        """Try again for as long as the server is away."""
        pause, ends_at = _PAUSE_SECONDS, None
        while True:
            try:
                return attempt()
            except DBAPIError as error:
                ends_at = ends_at or time.monotonic() + AWAY_SECONDS
                if not self._was_reached or not self.backend.is_lost(error):
                    raise
                if time.monotonic() > ends_at:
                    self._was_reached = False  # whoever ends the run need not wait again
                    raise
            self._pause(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _once(self, mode: Mode, work: Callable[[Connection], Outcome]) -> Outcome:
        engine = self.backend.engine.execution_options(**{MODE: mode})
        with self._turn, engine.connect() as connection, connection.begin() as begun:
            self._was_reached = True
            number = self.backend.number_of(connection) if mode == "write" else None
            self._local.transaction = Transaction(connection, mode, self._time)
            try:
                outcome = work(connection)
            finally:
                self._local.transaction = None
            try:
                begun.commit()
            except DBAPIError as error:
                if number is None or not self.backend.is_lost(error):
                    raise
                raise _UnsureError(number, outcome) from error
            return outcome

    def _time(self, connection: Connection) -> float:
        return self.backend.now(connection, self._clock)

    def _explained(self, error: Exception, mode: Mode) -> RegistryError:
        cause = error.orig if isinstance(error, StatementError) and error.orig else error
        advice = self.backend.advice(error) if isinstance(error, DBAPIError) else ""
        (said, *_) = str(cause).splitlines() or [type(cause).__name__]
        message = f"The registry {self.url} could not be {_PAST[mode]}: {said}. {advice}"
        return RegistryError(message.rstrip())


class Repository:
    """The records of one subject: what can be asked of them, and done to them.

    It may use the others of its registry, within the same transaction.
    """

    def __init__(self, registry: Registry, database: Database) -> None:
        self._registry = registry
        self._database = database

    @property
    def _connection(self) -> Connection:
        """Return the connection of the transaction that this thread is in."""
        return self._database.current.connection

    @property
    def _backend(self) -> Backend:
        return self._database.backend

    @property
    def _now(self) -> float:
        """Return the time of the transaction, in seconds since the epoch."""
        return self._database.current.now

    def _listed(
        self,
        query: Select[Any],
        where: Condition | None,
        columns: Columns,
        limit: int | None = None,
    ) -> Result[Any]:
        """Return the first `limit` rows of a query, or all, that a condition is true of."""
        if where is not None:
            query = query.where(compile_condition(where, columns, self._backend.like))
        return self._connection.execute(query.limit(limit))

    def _among(
        self, query: Select[*Values], column: ColumnElement[Any], values: Iterable[Any]
    ) -> Iterator[Row[*Values]]:
        """Yield the rows of a query in which a column has one of some values."""
        for chunk in in_chunks(sorted(set(values))):
            yield from self._connection.execute(query.where(column.in_(chunk)))

    def _records(
        self, table: str, rows: Iterable[Row[Any]], read: Callable[[Row[Any]], Record]
    ) -> tuple[Record, ...]:
        """Return what `read` makes of rows of a table; a damaged one is reported and left out."""
        found = []
        for row in rows:
            try:
                found.append(read(row))
            except RegistryError as error:
                self._registry.report_damage(describe_damage(table, row, error))
        return tuple(found)

    def _record(self, table: str, row: Row[Any], read: Callable[[Row[Any]], Record]) -> Record:
        """Return what `read` makes of one row. Raises RegistryError for a damaged one."""
        try:
            return read(row)
        except RegistryError as error:
            raise RegistryError(
                f"{describe_damage(table, row, error)} Restore the registry from a copy."
            ) from error

    def _insert(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        self._backend.insert_rows(self._connection, table, rows)


def describe_damage(table: str, row: Row[Any], error: RegistryError) -> str:
    """Name a row that holds what it cannot, and say what that is."""
    number = row._mapping.get("id", row[0])
    shown = number if isinstance(number, int) else ascii(str(number)[:40])
    return f"Row {shown} of `{table}` is damaged: {str(error).rstrip('.')}."


def reads(
    method: Callable[Concatenate[Own, Given], Outcome],
) -> Callable[Concatenate[Own, Given], Outcome]:
    """Make a repository's method one reading transaction, or part of the one it is called in."""

    @wraps(method)
    def run(self: Own, /, *args: Given.args, **kwargs: Given.kwargs) -> Outcome:
        return self._database.read(lambda _: method(self, *args, **kwargs))

    return run


def writes(
    method: Callable[Concatenate[Own, Given], Outcome],
) -> Callable[Concatenate[Own, Given], Outcome]:
    """Make a repository's method one writing transaction, or part of the one it is called in."""

    @wraps(method)
    def run(self: Own, /, *args: Given.args, **kwargs: Given.kwargs) -> Outcome:
        return self._database.write(lambda _: method(self, *args, **kwargs))

    return run


def in_chunks(items: Sequence[Item], most: int = _CHUNK) -> Iterator[Sequence[Item]]:
    """Yield the items in order, a few hundred at a time, as one statement takes them."""
    for start in range(0, len(items), most):
        yield items[start : start + most]
