"""One database and its transactions: short, whole, and tried again while somebody else writes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError, StatementError

from streamlab.errors import RegistryError
from streamlab.registry import sqlite

_ATTEMPTS = 3  # each waits for the lock by itself as long as the busy timeout says

Result = TypeVar("Result")


class Database:
    """An engine behind two verbs, `read` and `write`; each call is one transaction.

    `pause` waits between attempts; it is an argument so that a test need not wait.
    """

    def __init__(
        self, engine: Engine, *, read_only: bool, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self._engine = engine
        self._writer = engine.execution_options(**{sqlite.WRITING: True})
        self._read_only = read_only
        self._pause = pause
        # Threads share the one connection of a database in memory, hence they take turns.
        self._turn = threading.RLock() if sqlite.in_memory(engine.url) else None

    @classmethod
    def open(
        cls,
        url: str,
        *,
        read_only: bool = False,
        busy_seconds: float = sqlite.BUSY_SECONDS,
        pause: Callable[[float], None] = time.sleep,
    ) -> Database:
        """Make a database of an SQLAlchemy URL. Raises RegistryError for one it cannot use."""
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise RegistryError(
                f"{url!r} is no database URL; write it as `sqlite:///path/to/registry.db`."
            ) from error
        if parsed.get_backend_name() != "sqlite" or parsed.get_driver_name() != "pysqlite":
            raise RegistryError(
                f"The registry {parsed} is kept by `{parsed.drivername}`, which is not supported; "
                "give a URL of the form `sqlite:///path/to/registry.db`."
            )
        engine = sqlite.make_engine(parsed, read_only=read_only, busy_seconds=busy_seconds)
        return cls(engine, read_only=read_only, pause=pause)

    @property
    def url(self) -> str:
        """Return the database's URL, a password hidden."""
        return str(self._engine.url)

    def read(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` on one unchanging view of the database. Raises RegistryError."""
        return self._patiently(self._engine, work, "read")

    def write(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` as one writing transaction: all of it is kept, or none.

        `work` may run several times and must depend on nothing an earlier try left. Raises
        RegistryError where the database is read-only, locked for too long, full or damaged.
        """
        if self._read_only:
            raise RegistryError(
                f"The registry {self.url} was opened for reading only; open it for writing."
            )
        return self._patiently(self._writer, work, "written")

    def use_write_ahead_log(self) -> None:
        """Let readers and a writer work side by side. Raises RegistryError."""
        try:
            sqlite.use_write_ahead_log(self._engine)
        except self._driver_errors() as error:
            raise self._explained(error, "opened") from error

    def close(self) -> None:
        """Close every connection; a database in memory is gone after that."""
        self._engine.dispose()
