"""One database and its transactions: short, whole, and tried again while somebody else writes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError, StatementError

from streamlab.errors import RegistryError
from streamlab.registry import sqlite

_ATTEMPTS = 3  # each waits for the lock by itself as long as the busy timeout says
_ATTEMPTS_AT_THE_LOG = 50  # SQLite does not wait for this lock by itself
_PAUSE_SECONDS = 0.1
_PAST = {"read": "read", "write": "written", "set up": "set up"}

Result = TypeVar("Result")


class Database:
    """An engine behind two verbs, `read` and `write`; each call is one transaction.

    `url`: as it was given, a password hidden; the engine's own has settings of the driver in it.
    `pause` waits between attempts; it is an argument so that a test need not wait.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        url: str,
        read_only: bool,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._engine = engine
        self.url = url
        self._read_only = read_only
        self._pause = pause
        # Threads share the one connection of a database in memory, hence they take turns.
        self._turn = threading.RLock() if sqlite.in_memory(engine.url) else nullcontext()

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
        except (ArgumentError, ValueError) as error:
            raise RegistryError(
                f"{url!r} is no database URL; write it as `sqlite:///path/to/registry.db`."
            ) from error
        if parsed.get_backend_name() != "sqlite" or parsed.get_driver_name() != "pysqlite":
            raise RegistryError(
                f"The registry {parsed} is kept by `{parsed.drivername}`, which is not supported; "
                "give a URL of the form `sqlite:///path/to/registry.db`."
            )
        engine = sqlite.make_engine(parsed, read_only=read_only, busy_seconds=busy_seconds)
        return cls(engine, url=str(parsed), read_only=read_only, pause=pause)

    @property
    def path(self) -> Path | None:
        """Return the file that a writable database is kept in; None for one in memory."""
        url = self._engine.url
        return None if sqlite.in_memory(url) else Path(str(url.database)).absolute()

    def read(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` on one unchanging view of the database. Raises RegistryError."""
        return self._patiently("read", work, _ATTEMPTS)

    def write(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` as one writing transaction: all of it is kept, or none.

        `work` may run several times and must depend on nothing an earlier try left. Raises
        RegistryError where the database is read-only, locked for too long, full or damaged.
        """
        if self._read_only:
            raise RegistryError(
                f"The registry {self.url} was opened for reading only; open it for writing."
            )
        return self._patiently("write", work, _ATTEMPTS)

    def use_write_ahead_log(self) -> None:
        """Let readers and a writer work side by side. Raises RegistryError."""
        self._patiently("set up", sqlite.use_write_ahead_log, _ATTEMPTS_AT_THE_LOG)

    def close(self) -> None:
        """Close every connection; a database in memory is gone after that."""
        self._engine.dispose()

    def _patiently(self, mode: str, work: Callable[[Connection], Result], attempts: int) -> Result:
        for attempt in range(1, attempts + 1):
            try:
                return self._once(mode, work)
            except DBAPIError as error:
                if attempt == attempts or not sqlite.is_busy(error):
                    raise self._explained(error, mode) from error
            except (SQLAlchemyError, OverflowError, UnicodeError) as error:
                raise self._explained(error, mode) from error
            self._pause(_PAUSE_SECONDS)
        raise AssertionError("the last attempt returns or raises")

    def _once(self, mode: str, work: Callable[[Connection], Result]) -> Result:
        engine = self._engine.execution_options(**{sqlite.MODE: mode})
        with self._turn, engine.begin() as connection:
            return work(connection)

    def _explained(self, error: Exception, mode: str) -> RegistryError:
        cause = error.orig if isinstance(error, StatementError) and error.orig else error
        advice = sqlite.advice(error) if isinstance(error, DBAPIError) else ""
        message = f"The registry {self.url} could not be {_PAST[mode]}: {cause}. {advice}"
        return RegistryError(message.rstrip())
