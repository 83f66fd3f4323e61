"""What only a server can do to a registry: go away, lose an answer, refuse, have its own clock."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from registry_samples import finished_arrival, new_arrival, new_base, new_diff, new_run
from sqlalchemy import Connection, text

from streamlab.errors import RegistryError
from streamlab.registry import schema
from streamlab.registry.database import Database
from streamlab.registry.registry import Registry

if TYPE_CHECKING:
    from postgres_proxy import PostgresProxy
    from postgres_server import PostgresServer

pytestmark = pytest.mark.postgres


@pytest.fixture
def url(postgres: PostgresServer, postgres_database: str) -> str:
    """Name the database of an empty registry, by the server's real clock."""
    return postgres.url(postgres_database)


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[PostgresProxy]:
    from postgres_proxy import PostgresProxy

    with PostgresProxy(postgres.folder) as opened:
        yield opened


def name_of(url: str) -> str:
    return url.rpartition("@/")[2].partition("?")[0]


def started(url: str) -> int:
    """Start a run, and return its id."""
    with Registry.open(url, clock=time.time) as registry:
        registry.bases.add(new_base())
        return registry.runs.start(new_run()).id


# Connections that are lost


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("statement", [b"COMMIT", b"BEGIN ISOLATION", b"INSERT INTO scores"])
def test_what_is_cut_off_is_done_once(
    url: str, postgres: PostgresServer, proxy: PostgresProxy, statement: bytes, when: str
) -> None:
    run = started(url)
    through = url.replace(str(postgres.folder), str(proxy.folder))
    with Registry.open(through, clock=time.time) as registry:
        proxy.cut = (statement, when)
        registry.arrivals.add_all([finished_arrival(run, 1)])
        registry.events.add("note", "me", "once")

        assert proxy.n_cut == 1
        assert [arrival.sequence for arrival in registry.arrivals.list()] == [1]
        assert [event.kind for event in registry.events.list()][2:] == ["arrival-finished", "note"]
        assert registry.totals.verify() == ()


def test_an_event_whose_commit_was_not_answered_is_there_once(
    url: str, postgres: PostgresServer, proxy: PostgresProxy
) -> None:
    through = url.replace(str(postgres.folder), str(proxy.folder))
    with Registry.open(through, clock=time.time) as registry:
        for when in ("after", "before"):
            proxy.cut = (b"COMMIT", when)
            registry.events.add("note", "me", when)

        assert [event.message for event in registry.events.list()] == ["after", "before"]


def test_a_file_is_deleted_once_though_its_line_of_the_log_is_written_again(
    url: str, postgres: PostgresServer, proxy: PostgresProxy
) -> None:
    deleted = []

    def delete(digest: str) -> str | None:
        deleted.append(digest)
        return "orphan"

    through = url.replace(str(postgres.folder), str(proxy.folder))
    with Registry.open(through, clock=time.time) as registry:
        proxy.cut = (b"COMMIT", "before")
        registry.removal.release(["a" * 64], delete)

        assert deleted == ["a" * 64]
        assert [event.kind for event in registry.events.list()] == ["file-deleted"]


def test_a_server_that_is_killed_in_a_transaction_and_started_again_loses_nothing() -> None:
    from postgres_server import PostgresServer

    with PostgresServer() as server:
        url = server.url(server.create())
        run = started(url)
        attempts = []

        def work() -> None:
            registry.arrivals.add(new_arrival(run), new_diff(), [])
            attempts.append(len(attempts))
            if len(attempts) == 1:
                server.kill()
                threading.Timer(0.5, server.start).start()

        with Registry.open(url, clock=time.time) as registry:
            registry.events.add("note", "me", "before")
            registry.transaction(work)
            registry.runs.heartbeat(run)

            assert attempts == [0, 1]
            assert len(registry.arrivals.list()) == 1
            assert registry.events.list()[-2].message == "before"
            assert registry.totals.verify() == ()


def test_a_server_that_stays_away_is_an_error_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from postgres_server import PostgresServer

    monkeypatch.setattr("streamlab.registry.database.AWAY_SECONDS", 0.5)
    with (
        PostgresServer() as server,
        Registry.open(server.url(server.create()), clock=time.time) as registry,
    ):
        server.stop()
        began = time.monotonic()
        with pytest.raises(RegistryError, match=r"could not be read: .*server is running"):
            registry.runs.list()
        assert 0.5 < time.monotonic() - began < 5
        began = time.monotonic()
        with pytest.raises(RegistryError, match="server is running"):
            registry.events.add("note", "me", "the run failed")  # does not wait again
        assert time.monotonic() - began < 0.5


def test_a_server_that_was_never_reached_is_an_error_at_once(url: str) -> None:
    began = time.monotonic()

    with pytest.raises(RegistryError, match=r"No such file.*Check that the server is running"):
        Registry.open(url.replace("host=/", "host=/missing/"), clock=time.time)
    assert time.monotonic() - began < 5


# Transactions


def test_a_writer_waits_for_another_and_gives_up_after_a_while(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import streamlab.registry.backends.postgresql as backend

    begin = backend._BEGIN["write"].replace("'30s'", "'50ms'")
    monkeypatch.setitem(backend._BEGIN, "write", begin)
    with (
        Registry.open(url, clock=time.time) as one,
        Registry.open(url, clock=time.time) as other,
    ):

        def work() -> None:
            one.events.add("note", "me", "first")
            with pytest.raises(RegistryError, match="locked it for too long"):
                other.events.add("note", "me", "second")
            assert other.events.list() == ()  # a reader does not wait

        one.transaction(work)
        assert [event.message for event in other.events.list()] == ["first"]


def test_a_writer_that_says_nothing_loses_its_lock(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import streamlab.registry.backends.postgresql as backend

    begin = backend._BEGIN["write"].replace("'120s'", "'100ms'")
    monkeypatch.setitem(backend._BEGIN, "write", begin)
    attempts = []

    def work() -> None:
        registry.events.add("note", "me", "x")
        attempts.append(1)
        if len(attempts) == 1:
            time.sleep(1)  # as a machine that died

    with Registry.open(url, clock=time.time) as registry:
        registry.transaction(work)

        assert (len(attempts), len(registry.events.list())) == (2, 1)


def test_a_read_has_one_view_of_the_database(url: str) -> None:
    with Registry.open(url, clock=time.time) as registry, closing(Database(url)) as database:

        def work(connection: Connection) -> list[int]:
            counted = text("SELECT count(*) FROM events")
            before = connection.execute(counted).scalar_one()
            adding = threading.Thread(target=registry.events.add, args=("note", "me", "x"))
            adding.start()
            adding.join()
            return [before, connection.execute(counted).scalar_one()]

        assert database.read(work) == [0, 0]
        assert len(registry.events.list()) == 1
        with pytest.raises(RegistryError, match="read-only transaction"):
            database.read(lambda c: c.execute(text("INSERT INTO tasks (name) VALUES ('x')")))


def test_numbers_of_a_transaction_that_failed_are_not_given_again(url: str) -> None:
    run = started(url)
    with Registry.open(url, clock=time.time) as registry:
        registry.arrivals.add(new_arrival(run), new_diff(), [])
        with pytest.raises(RegistryError, match="finished already"):
            registry.arrivals.add(new_arrival(run), new_diff(), [])

        assert registry.arrivals.add(new_arrival(run, version=2), new_diff(), []).id == 3


# The clock


def test_hosts_whose_clocks_differ_do_not_declare_each_other_dead(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        Registry.open(url, clock=lambda: time.time() - 3600) as slow,
        Registry.open(url, clock=lambda: time.time() + 3600) as fast,
    ):
        slow.bases.add(new_base())
        run = slow.runs.start(new_run())
        monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")

        assert abs(run.started_at - time.time()) < 60
        assert [one.status for one in fast.runs.list()] == ["running"]
        with pytest.raises(RegistryError, match=r"being worked on.*last heartbeat was 0 s ago"):
            fast.runs.resume(run.id)


# What is refused


def test_no_password_is_shown(url: str, postgres: PostgresServer) -> None:
    from postgres_server import GUARDED, PASSWORD

    right = postgres.url(name_of(url), user=GUARDED, password=PASSWORD)
    wrong = postgres.url(name_of(url), user=GUARDED, password=f"no-{PASSWORD}")
    for given, message in (
        (wrong, "password authentication failed.*Check the user, and the password in PGPASSWORD"),
        (f"{url}&password={PASSWORD}", "has the option `password`, which would be shown"),
        (right.replace("://", "//"), "is not a database URL"),
        (right.replace("+psycopg", "+asyncpg"), "is not supported"),
        (right, "permission denied.*`GRANT` this user"),
    ):
        with pytest.raises(RegistryError, match=message) as caught:
            Registry.open(given, clock=time.time)
        shown = repr(caught.value) + repr(caught.value.__cause__) + repr(caught.value.__context__)
        assert PASSWORD not in str(caught.value) + shown
    with closing(Database(right)) as opened:
        assert PASSWORD not in opened.url + repr(opened.backend.engine)


def test_a_user_who_may_not_make_tables_is_told_before(new_postgres_url: str) -> None:
    from postgres_server import GUARDED, PASSWORD

    given = new_postgres_url.replace("streamlab@", f"{GUARDED}:{PASSWORD}@")
    with (
        closing(Database(given)) as database,
        pytest.raises(RegistryError, match=r"'guarded' may not make tables in its schema 'public'"),
    ):
        schema.check_server(database)


def test_a_user_who_may_only_read_reads_and_is_told_before_writing(
    new_postgres_url: str, postgres: PostgresServer
) -> None:
    from postgres_server import GUARDED, PASSWORD

    run = started(new_postgres_url)
    granted = f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {GUARDED}"
    postgres.execute(granted, database=name_of(new_postgres_url))
    given = new_postgres_url.replace("streamlab@", f"{GUARDED}:{PASSWORD}@")

    with Registry.open(given, clock=time.time, read_only=True) as registry:
        assert [one.id for one in registry.runs.list()] == [run]
        assert registry.disk_bytes() > 0
    with (
        closing(Database(given)) as database,
        pytest.raises(RegistryError, match=r"'guarded' may not write to its tables; .*`GRANT`"),
    ):
        schema.check_server(database)
    with (
        Registry.open(given, clock=time.time) as registry,
        pytest.raises(RegistryError, match=r"permission denied.*`GRANT` this user"),
    ):
        registry.events.add("note", "me", "x")


def test_a_database_that_is_missing_is_told(postgres: PostgresServer) -> None:
    with pytest.raises(RegistryError, match=r'"nope" does not exist.*Make the database first'):
        Registry.open(postgres.url("nope"), clock=time.time)


def test_a_database_that_cannot_hold_every_text_is_refused(postgres: PostgresServer) -> None:
    postgres.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")

    with pytest.raises(RegistryError, match="has the encoding SQL_ASCII"):
        Registry.open(postgres.url("ascii"), clock=time.time)
    postgres.drop("ascii")


def test_a_full_disk_is_told(url: str) -> None:
    full = "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '53100', MESSAGE = 'no space left'; END $$"
    with (
        closing(Database(url)) as database,
        pytest.raises(RegistryError, match=r"no space left.*disk is full.*free some space"),
    ):
        database.write(lambda c: c.execute(text(full)))


WITHOUT = """
import sys
sys.modules["psycopg"] = None
from streamlab.registry.database import Database
try:
    Database("postgresql://me:secret@host/db")
except Exception as error:
    print(error)
"""


def test_a_missing_driver_is_named_with_its_extra() -> None:
    told = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True).stdout

    assert "pip install 'streamlab[postgres]'" in told
    assert "secret" not in told


@pytest.mark.parametrize(
    ("statement", "strange"),
    [
        ("ALTER TABLE runs ADD extra int", "columns of 'runs'"),
        ("DROP INDEX ix_arrivals_task", "index 'ix_arrivals_task'"),
        ("CREATE INDEX mine ON runs (pid)", "index 'mine'"),
        ("DROP TRIGGER events_no_change ON events", "trigger 'events'"),
        (
            "CREATE TRIGGER mine BEFORE DELETE ON runs EXECUTE FUNCTION streamlab_append_only()",
            "trigger 'runs'",
        ),
        ("CREATE RULE mine AS ON DELETE TO runs DO INSTEAD NOTHING", "no table 'runs'"),
        ("ALTER TABLE runs ENABLE ROW LEVEL SECURITY", "no table 'runs'"),
        ("DROP TABLE details; CREATE VIEW details AS SELECT 1 AS n", "no table 'details'"),
    ],
)
def test_a_registry_that_was_altered_is_refused(
    new_postgres_url: str, postgres: PostgresServer, statement: str, strange: str
) -> None:
    Registry.open(new_postgres_url, clock=time.time).close()
    postgres.execute(statement, database=name_of(new_postgres_url))

    with pytest.raises(RegistryError, match=strange):
        Registry.open(new_postgres_url, clock=time.time, read_only=True)


def test_what_is_not_enforced_or_points_nowhere_is_found(
    new_postgres_url: str, postgres: PostgresServer
) -> None:
    run = started(new_postgres_url)
    with Registry.open(new_postgres_url, clock=time.time) as registry:
        registry.arrivals.add_all([finished_arrival(run, 1)])
        postgres.execute(
            "SET session_replication_role = replica; DELETE FROM diffs; DELETE FROM tasks; "
            "ALTER TABLE events DISABLE TRIGGER ALL; "
            "ALTER TABLE runs DROP CONSTRAINT ck_runs_counts; UPDATE runs SET n_expected = -1; "
            "ALTER TABLE runs ADD CONSTRAINT ck_runs_counts CHECK (number > 0) NOT VALID",
            database=name_of(new_postgres_url),
        )
        found = [damage.detail for damage in registry.integrity.find_damage()]

    assert found == [
        "The constraint ck_runs_counts was never checked.",
        "A trigger of events is disabled.",
        "1 row of runs break the check 'ck_runs_counts'.",
        "Row 1 of arrivals refers to a missing row of tasks.",
        "Arrival 1 refers to artifact 1, which has no row.",
    ]
