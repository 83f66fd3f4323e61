"""A real PostgreSQL server of one's own, for tests and benchmarks.

It runs as an ordinary user on a socket in a temporary folder, and is not made to survive a power
cut. `PostgresServer.find()` is None where the programs are missing.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg.sql import SQL, Identifier

from streamlab.registry.registry import Registry
from streamlab.registry.tables import Tables

PROGRAMS = Path("/usr/lib/postgresql")
GUARDED, PASSWORD = "guarded", "marked-p4ssw0rd"  # the one user that needs a password
_SECONDS = 60.0
_SETTINGS = ("listen_addresses=", "fsync=off", "full_page_writes=off", "max_connections=60")


class PostgresServer(AbstractContextManager["PostgresServer"]):
    """A server that is started at once, and stopped and deleted by `close`."""

    @staticmethod
    def find() -> Path | None:
        """Return the folder of the newest server's programs."""
        found = shutil.which("initdb")
        folders = [path.parent for path in PROGRAMS.glob("*/bin/initdb")]
        newest = max(folders, key=lambda folder: float(folder.parent.name), default=None)
        return newest or (Path(found).resolve().parent if found else None)

    def __init__(self, *, settings: tuple[str, ...] = ()) -> None:
        programs = self.find()
        assert programs is not None, "PostgreSQL is not installed: apt install postgresql"
        self._programs, self._settings = programs, (*_SETTINGS, *settings)
        self.folder = Path(tempfile.mkdtemp(prefix="streamlab-pg-"))
        self.data = self.folder / "data"
        self._log = self.folder / "server.log"
        self._numbers = count(1)
        self._idle: list[str] = []
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:  # the server refuses to run as root
            user = pwd.getpwnam("postgres")
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        self.folder.chmod(0o755)
        self._call("initdb", "-D", self.data, "-U", "streamlab", "-A", "trust", "-E", "UTF8", "-N")
        access = self.data / "pg_hba.conf"
        guarded = f"local all {GUARDED} scram-sha-256\n"
        access.write_text(guarded + access.read_text("utf-8"), "utf-8")
        self.start()
        self.execute(f"CREATE ROLE {GUARDED} LOGIN PASSWORD '{PASSWORD}'")

    def start(self) -> None:
        """Start the server, also again after `kill`, and wait until it answers."""
        ends_at = time.monotonic() + _SECONDS
        options = [part for setting in self._settings for part in ("-c", setting)]
        command = [self._programs / "postgres", "-D", self.data, "-k", self.folder, *options]
        while True:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    command,
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                    start_new_session=True,
                    **self._as,
                )
            while self._process.poll() is None:
                with suppress(psycopg.OperationalError):
                    self.execute("SELECT 1")
                    return
                time.sleep(0.02)
            # The processes of a server that was killed take a moment to end.
            assert time.monotonic() < ends_at, self._log.read_text("utf-8")
            time.sleep(0.1)

    def kill(self) -> None:
        """End the server by SIGKILL, as a crash would."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End the server in an orderly way; whoever is connected is cut off."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(_SECONDS)

    def close(self) -> None:
        """Stop the server and delete everything."""
        if self._process.poll() is None:
            self.stop()
        shutil.rmtree(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def url(self, database: str, *, user: str = "streamlab", password: str | None = None) -> str:
        """Return the registry URL of a database."""
        who = user if password is None else f"{user}:{password}"
        return f"postgresql+psycopg://{who}@/{database}?host={self.folder}"

    def create(self) -> str:
        """Create an empty database and return its name."""
        name = f"registry_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    def drop(self, database: str) -> None:
        """Delete a database, whoever is connected to it."""
        self.execute(f"DROP DATABASE {database} WITH (FORCE)")

    @contextmanager
    def registry(self) -> Iterator[str]:
        """Lend the database of an empty registry, which is emptied and lent again later.

        So leave its tables as they are; making a database for each test takes too long.
        """
        name = self._idle.pop() if self._idle else self.create()
        Registry.open(self.url(name), clock=time.time).close()
        yield name
        self._empty(name)
        self._idle.append(name)

    def _empty(self, database: str) -> None:
        tables = [*Tables.metadata.tables]
        numbers = [f"{table}_id_seq" for table in tables if table != "details"]
        with self.connect(database) as connection:
            connection.execute("SET session_replication_role = replica")  # past the triggers
            for table in tables:
                connection.execute(SQL("DELETE FROM {}").format(Identifier(table)))
            connection.execute(
                "SELECT setval(name, 1, false) FROM unnest(%s::text[]) AS name", [numbers]
            )

    @contextmanager
    def clock(self, database: str) -> Iterator[tuple[str, Callable[[float], object]]]:
        """Give a database a clock that a test sets; yield the URL that lives by it, and the setter.

        It hides the server's own for connections by that URL.
        """
        with self.connect(database) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS test_clock (now float8)")
            connection.execute(
                "CREATE OR REPLACE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql AS "
                "'SELECT to_timestamp(now) FROM test_clock'"
            )
            connection.execute("DELETE FROM test_clock; INSERT INTO test_clock VALUES (1000)")
            url = f"{self.url(database)}&options=-csearch_path%3Dpublic,pg_catalog"
            yield url, lambda now: connection.execute("UPDATE test_clock SET now = %s", [now])

    def execute(self, statement: str, *, database: str = "postgres") -> list[tuple[object, ...]]:
        """Carry out statements as the superuser; return the rows of a single one."""
        with self.connect(database) as connection:
            done = connection.execute(statement.encode())
            return [] if done.description is None else done.fetchall()

    def connect(self, database: str) -> psycopg.Connection[tuple[object, ...]]:
        """Connect as the superuser, past the registry; every statement is committed at once."""
        return psycopg.connect(
            host=str(self.folder), dbname=database, user="streamlab", autocommit=True
        )

    def _call(self, program: str, *arguments: str | Path) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments],
            capture_output=True,
            check=False,
            cwd=self.folder,
            **self._as,
        )
        assert done.returncode == 0, done.stderr.decode()
