from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from registry_samples import Clock, new_base
from sqlalchemy import Connection, Select, text
from sqlalchemy.dialects.sqlite import dialect
from sqlalchemy.engine import make_url

from streamlab.errors import RegistryError
from streamlab.files import find_disk_kind
from streamlab.registry import arrivals, artifacts, scores, totals
from streamlab.registry.backends.sqlite import SQLite
from streamlab.registry.database import Database
from streamlab.registry.records import Grouping
from streamlab.registry.registry import Registry
from streamlab.registry.tables import ScoreRow


def path_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


@pytest.fixture
def raw(file_url: str) -> Iterator[sqlite3.Connection]:
    """Connect to the registry's file past the registry."""
    with closing(sqlite3.connect(path_of(file_url), isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        yield connection


def pragma(database: Database, name: str) -> object:
    return database.read(lambda c: c.execute(text(f"PRAGMA {name}")).scalar())


def test_a_file_is_set_up_for_many_processes(file_url: str) -> None:
    database = Database(file_url)

    assert pragma(database, "journal_mode") == "wal"
    assert pragma(database, "foreign_keys") == 1
    assert pragma(database, "busy_timeout") == 30_000
    assert pragma(database, "synchronous") == 2  # FULL: a committed row survives a power cut
    database.close()


def test_a_write_holds_the_lock_from_its_first_read_on(file_url: str) -> None:
    database = Database(file_url)

    def work(connection: Connection) -> None:
        connection.execute(text("SELECT count(*) FROM runs"))
        with (
            closing(sqlite3.connect(path_of(file_url), timeout=0)) as other,
            pytest.raises(sqlite3.OperationalError, match="locked"),
        ):
            other.execute("BEGIN IMMEDIATE")

    database.write(work)
    database.close()


def test_a_read_does_not_wait_for_a_writer(file_url: str, raw: sqlite3.Connection) -> None:
    raw.execute("BEGIN IMMEDIATE")
    raw.execute("INSERT INTO tasks (name) VALUES ('unfinished')")

    with Registry.open(file_url, clock=Clock()) as registry:
        assert registry.totals.tasks() == ()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamlab.registry.backends.sqlite.BUSY_SECONDS", 0.01)


@pytest.mark.usefixtures("impatient")
def test_a_lock_that_stays_is_explained(file_url: str, raw: sqlite3.Connection) -> None:
    pauses: list[float] = []
    database = Database(file_url, pause=pauses.append)
    raw.execute("BEGIN IMMEDIATE")

    with pytest.raises(RegistryError, match=r"database is locked.*Another process") as caught:
        database.write(lambda connection: connection.execute(text("DELETE FROM tasks")))

    assert len(pauses) == 2
    assert "\n" not in str(caught.value)
    database.close()


@pytest.mark.usefixtures("impatient")
def test_a_lock_that_goes_is_waited_for(file_url: str, raw: sqlite3.Connection) -> None:
    def release(_: float) -> None:
        raw.execute("COMMIT")

    database = Database(file_url, pause=release)
    raw.execute("BEGIN IMMEDIATE")

    assert database.write(lambda _: "written") == "written"
    database.close()


def test_a_transaction_that_breaks_off_leaves_nothing(file_url: str) -> None:
    database = Database(file_url)

    def work(connection: Connection) -> None:
        connection.execute(text("INSERT INTO tasks (name) VALUES ('half')"))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        database.write(work)
    assert database.read(lambda c: c.execute(text("SELECT count(*) FROM tasks")).scalar()) == 0
    database.close()


FILTERS: dict[str, Any] = {
    "run_id": 1,
    "task": "t",
    "provider": "p",
    "method": "m",
    "status": "failed",
}


def plan_of(raw: sqlite3.Connection, query: Select[Any]) -> str:
    sql = str(query.compile(dialect=dialect(), compile_kwargs={"literal_binds": True}))
    return "\n".join(row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {sql}"))


def test_every_listing_of_arrivals_walks_an_index_in_order(raw: sqlite3.Connection) -> None:
    every_choice = [c for n in range(len(FILTERS) + 1) for c in combinations(FILTERS.items(), n)]

    for choice in every_choice:
        plan = plan_of(raw, arrivals.arrivals_of(**dict(choice)))
        first, _, rest = plan.partition("\n")
        # By a filter straight to its rows; without one along the rows in order.
        verb = "SEARCH" if choice else "SCAN"
        assert first.startswith(f"{verb} arrivals USING INDEX"), choice
        assert "SCAN" not in rest, choice
        # Nothing is sorted as a whole; the few rows of one place in the stream may be.
        assert "TEMP B-TREE FOR ORDER BY" not in rest, choice


def test_the_arrivals_that_share_an_artifact_are_searched_for_by_it(
    raw: sqlite3.Connection,
) -> None:
    plan = plan_of(raw, arrivals.arrivals_of(digest="a" * 64))

    assert plan.startswith("SEARCH arrivals USING INDEX ix_arrivals_diff (diff_id=?)")
    assert "SCAN" not in plan


def test_the_scores_of_a_few_arrivals_are_searched_for_by_these(raw: sqlite3.Connection) -> None:
    plan = plan_of(raw, scores.every_score().where(ScoreRow.arrival_id.in_([1, 2, 3])))

    assert "SEARCH scores USING INDEX sqlite_autoindex_scores_1 (arrival_id=?" in plan
    assert "SEARCH arrivals USING INTEGER PRIMARY KEY" in plan
    assert "SCAN" not in plan


def test_totals_are_looked_up_and_nothing_is_added_up(raw: sqlite3.Connection) -> None:
    groupings: tuple[Grouping, ...] = ("all", "run", "task", "provider", "method")

    for by in groupings:
        plan = plan_of(raw, totals.totals_by(by))
        assert "SEARCH totals USING INDEX sqlite_autoindex_totals_1 (grouping=?" in plan
        assert "arrivals" not in plan


def test_what_a_run_comes_to_is_searched_for_by_the_run(raw: sqlite3.Connection) -> None:
    rows = plan_of(raw, arrivals.examples_of(1))
    assert rows.startswith("SEARCH arrivals USING INDEX ix_arrivals_run (run_id=?)")
    assert "TEMP B-TREE" not in rows

    for plan in (rows, plan_of(raw, totals.storage_by_method(1))):
        assert "SEARCH arrivals USING INDEX" in plan
        assert "SCAN" not in plan


def test_failed_arrivals_are_searched_for_and_finished_ones_are_not(
    raw: sqlite3.Connection,
) -> None:
    def index(**choice: Any) -> str:
        plan = plan_of(raw, arrivals.arrivals_of(**choice))
        return plan.partition("INDEX ")[2].split()[0]

    # Few fail, and going through all of a method or a task would take long.
    assert index(status="failed", method="m", task="t") == "ix_arrivals_status"
    assert index(status="quarantined", method="m", task="t") == "ix_arrivals_status"
    assert index(status="finished", method="m", task="t") == "ix_arrivals_task"
    assert index(status="finished") == "ix_arrivals_run"
    assert index(method="m", task="t") == "ix_arrivals_task"
    assert index(method="m", run_id=1) == "ix_arrivals_method"


def test_every_listing_of_scores_walks_an_index_in_order(raw: sqlite3.Connection) -> None:
    choices: list[dict[str, Any]] = [{}, {"run_id": 1}, {"arrival_id": 1}, {"task": "t"}]

    for choice in choices:
        first, _, rest = plan_of(raw, scores.scores_of(**choice)).partition("\n")
        assert " arrivals USING I" in first, choice
        assert "SCAN" not in rest, choice
        assert "TEMP B-TREE" not in rest, choice


def test_every_listing_of_artifacts_walks_an_index_in_order(raw: sqlite3.Connection) -> None:
    assert "TEMP B-TREE" not in plan_of(raw, artifacts.artifacts_of(None))
    plan = plan_of(raw, artifacts.artifacts_of(1))
    assert "TEMP B-TREE" not in plan
    assert "SCAN" not in plan


def test_the_twins_of_new_arrivals_are_searched_for_in_the_index_of_finished_ones(
    file_url: str,
) -> None:
    """Asked as the program asks, values handed over: written out, another index would do."""
    database = Database(file_url)
    seen: list[str] = []

    def work(connection: Connection) -> None:
        raw = connection.connection.driver_connection
        assert raw is not None
        raw.set_trace_callback(seen.append)
        connection.execute(arrivals.finished_with((1, 1, 1, 1, 1, "m")))
        raw.set_trace_callback(None)

    database.read(work)
    (sql,) = [line for line in seen if line.startswith("SELECT")]
    plan = database.read(
        lambda c: [row[3] for row in c.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}")]
    )
    database.close()

    assert plan[0].startswith("SEARCH arrivals USING INDEX uq_arrivals_finished")


def test_a_registry_opened_to_read_cannot_be_written_to(file_url: str) -> None:
    with Registry.open(file_url, clock=Clock()) as registry:
        registry.bases.add(new_base())

    with Registry.open(file_url, clock=Clock(), read_only=True) as registry:
        assert len(registry.bases.list()) == 1
        with pytest.raises(RegistryError, match="for reading only"):
            registry.events.add("note", "me", "x")
    database = Database(file_url, read_only=True)
    with pytest.raises(RegistryError, match="readonly database"):
        database.read(lambda c: c.execute(text("INSERT INTO tasks (name) VALUES ('x')")))
    database.close()


def test_a_reader_sees_what_a_writer_adds(file_url: str) -> None:
    with (
        Registry.open(file_url, clock=Clock()) as writer,
        Registry.open(file_url, clock=Clock(), read_only=True) as reader,
    ):
        assert reader.bases.list() == ()
        writer.bases.add(new_base())
        assert len(reader.bases.list()) == 1


def test_another_programs_file_keeps_its_journal(new_url: str) -> None:
    with closing(sqlite3.connect(path_of(new_url))) as raw, raw:
        raw.execute("CREATE TABLE runs (id INTEGER)")

    with pytest.raises(RegistryError, match="belongs to another program"):
        Registry.open(new_url, clock=Clock())
    with closing(sqlite3.connect(path_of(new_url))) as raw:
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_a_missing_registry_is_not_made_by_reading(new_url: str) -> None:
    with pytest.raises(RegistryError, match="There is no registry at"):
        Registry.open(new_url, clock=Clock(), read_only=True)
    assert not path_of(new_url).exists()


def test_an_empty_file_is_not_made_a_registry_by_reading(new_url: str) -> None:
    path_of(new_url).touch()

    with pytest.raises(RegistryError, match="holds no registry yet"):
        Registry.open(new_url, clock=Clock(), read_only=True)
    assert path_of(new_url).stat().st_size == 0


READS_AS_ANOTHER_USER = """
import os, sys
from streamlab.registry.registry import Registry

Registry.open("sqlite://", clock=lambda: 0.0).close()  # loads what another user may not read
if os.geteuid() == 0:
    os.setuid(65534)
with Registry.open(sys.argv[1], clock=lambda: 0.0, read_only=True) as registry:
    print(len(registry.bases.list()))
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Give a folder below which every user may look, unlike pytest's own."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


def test_a_registry_in_a_folder_that_cannot_be_written_to_is_read(open_folder: Path) -> None:
    url = f"sqlite:///{open_folder}/registry.db"
    with Registry.open(url, clock=Clock()) as registry:
        registry.bases.add(new_base())
    open_folder.chmod(0o555)

    ran = subprocess.run(
        [sys.executable, "-c", READS_AS_ANOTHER_USER, url],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ran.stdout, ran.stderr) == ("1\n", "")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("registry.db", "is not a database URL"),
        ("postgresql+psycopg2://me:secret@host/db", "is not supported"),
        ("postgresql//me:secret@host/db", r"'\*\*\*host/db' is not a database URL"),
        ("sqlite+aiosqlite:///x.db", "is not supported"),
        ("sqlite:////no/such/folder/registry.db", "unable to open database file.*Make its folder"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused(url: str, message: str) -> None:
    with pytest.raises(RegistryError, match=message) as caught:
        Registry.open(url, clock=Clock())
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_refused_and_left_alone(new_url: str) -> None:
    path_of(new_url).write_text("my notes, and more of them than a header is long\n" * 50)
    before = path_of(new_url).read_bytes()

    with pytest.raises(RegistryError, match="not a database"):
        Registry.open(new_url, clock=Clock())
    assert path_of(new_url).read_bytes() == before


def test_a_damaged_file_is_explained(file_url: str) -> None:
    whole = path_of(file_url).read_bytes()
    path_of(file_url).write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))

    with pytest.raises(RegistryError, match=r"malformed.*restore"):
        Registry.open(file_url, clock=Clock(), read_only=True).runs.get(1)


def test_a_full_database_keeps_what_it_had(file_url: str) -> None:
    database = Database(file_url)

    def fill(connection: Connection) -> None:
        n_pages = connection.execute(text("PRAGMA page_count")).scalar()
        connection.execute(text(f"PRAGMA max_page_count = {n_pages}"))
        for number in range(1000):
            connection.execute(
                text("INSERT INTO tasks (name) VALUES (:n)"), {"n": f"{number}" * 99}
            )

    with pytest.raises(RegistryError, match=r"is full.*free some space"):
        database.write(fill)
    assert database.read(lambda c: c.execute(text("SELECT count(*) FROM tasks")).scalar()) == 0
    database.close()


MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:25 / /home rw,relatime - nfs4 server:/home rw
31 30 0:26 / /home/me/local rw shared:3 master:1 - xfs /dev/vdb rw
32 22 0:27 / /with\\040space rw - fuse.sshfs me@host:/ rw
33 22 0:28 / /twice rw - ext4 /dev/vdc rw
34 22 0:29 / /twice rw - cifs //server/share rw
"""


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTS)
    return path


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/var", "ext4"),
        ("/home", "nfs4"),
        ("/home/me", "nfs4"),
        ("/homework", "ext4"),
        ("/home/me/local/x", "xfs"),
        ("/with space/x", "fuse.sshfs"),
        ("/twice", "cifs"),
    ],
)
def test_the_disk_of_a_folder_is_the_deepest_mount(mounts: Path, folder: str, kind: str) -> None:
    assert find_disk_kind(Path(folder), mounts=mounts) == kind


def test_where_mounts_are_not_told_nothing_is_known(tmp_path: Path) -> None:
    assert find_disk_kind(Path("/"), mounts=tmp_path / "missing") is None


def test_a_registry_on_a_network_disk_is_refused(file_url: str, tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"22 1 0:1 / {tmp_path.resolve()} rw - nfs4 server:/ rw\n")
    url = make_url(file_url)

    with pytest.raises(RegistryError, match=r"network disk \(nfs4\).*local disk"):
        SQLite(url, read_only=False, mounts=mounts)
    # At rest it may be read; beside a log it may not.
    SQLite(url, read_only=True, mounts=mounts).engine.dispose()
    (tmp_path / "registry.db-wal").touch()
    with pytest.raises(RegistryError, match="network disk"):
        SQLite(url, read_only=True, mounts=mounts)


def test_a_database_in_memory_is_shared_by_every_thread() -> None:
    with Registry.open("sqlite://", clock=Clock()) as registry:
        thread = threading.Thread(target=registry.bases.add, args=(new_base(),))
        thread.start()
        thread.join()

        assert len(registry.bases.list()) == 1


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_every_spelling_of_memory_is_one(url: str) -> None:
    with Registry.open(url, clock=Clock()) as registry:
        assert registry.bases.add(new_base()) == registry.bases.get(new_base().fingerprint)
