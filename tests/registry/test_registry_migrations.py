"""A registry of every released version is brought to the newest, and keeps every row."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import get_args

import pytest
from registry_samples import Clock, digest_of, new_arrival, new_diff, new_score

from streamlab.errors import RegistryError
from streamlab.registry import schema
from streamlab.registry.database import Database
from streamlab.registry.records import ArtifactKind
from streamlab.registry.registry import Registry

GOLDEN = Path(__file__).parent / "golden"
OLD = schema.REVISIONS[:-1]

Rows = dict[str, list[dict[str, object]]]


@pytest.fixture(params=OLD)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The file of a registry that an earlier version of the program wrote."""
    path = tmp_path / "registry.db"
    with closing(sqlite3.connect(path)) as connection:
        script = (GOLDEN / f"registry_{request.param}.sql").read_text(encoding="utf-8")
        connection.executescript(script)
    return path


def rows_of(path: Path) -> Rows:
    """Return the rows of every table that is the registry's own."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        every = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        names = {row["name"] for row in every} - {schema.VERSION_TABLE, "sqlite_stat1"}
        return {
            name: [dict(row) for row in connection.execute(f"SELECT * FROM {name} ORDER BY id")]  # noqa: S608
            for name in names
        }


def made_by(path: Path) -> dict[str, str]:
    """Return the SQL that made everything in a file, and SQLite's numbers of its indices."""
    with closing(sqlite3.connect(path)) as connection:
        made = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql <> ''"))
        numbers = dict(connection.execute("SELECT idx, stat FROM sqlite_stat1"))
    return {name: " ".join(text.split()) for name, text in (made | numbers).items()}


def test_every_released_version_has_its_golden_registry() -> None:
    assert sorted(path.stem for path in GOLDEN.glob("registry_*.sql")) == [
        f"registry_{version}" for version in OLD
    ]


def test_the_golden_registry_has_rows_in_every_table(old: Path) -> None:
    rows = rows_of(old)

    assert {"arrivals", "bases", "diffs", "events", "runs", "scores"} < rows.keys()
    assert [name for name, own in rows.items() if not own] == []


def test_migrating_keeps_every_row(old: Path) -> None:
    before = rows_of(old)

    Registry.open(f"sqlite:///{old}", clock=Clock()).close()

    after = rows_of(old)
    for name, rows in before.items():
        assert len(after[name]) == len(rows)
        for row, kept in zip(rows, after[name], strict=True):
            assert row.items() <= kept.items()
            assert {kept[column] for column in kept.keys() - row.keys()} <= {None}


def test_a_migrated_registry_is_like_a_new_one(old: Path, made: Path) -> None:
    Registry.open(f"sqlite:///{old}", clock=Clock()).close()

    assert made_by(old) == made_by(made)
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        version = connection.execute(f"SELECT * FROM {schema.VERSION_TABLE}").fetchall()  # noqa: S608
    assert version == [(schema.NEWEST,)]


def test_a_migrated_registry_is_read_and_written(old: Path) -> None:
    with Registry.open(f"sqlite:///{old}", clock=Clock()) as registry:
        assert [run.name for run in registry.runs()] == ["glue-1", "tiny-1"]
        assert [a.digest for a in registry.arrivals(task="sst2", method="diff_pruning")] == [
            digest_of("a"),
            digest_of("a"),
        ]
        new = new_arrival(1, seed=3)
        assert registry.add_arrival(new, new_diff(), [new_score()]).removed_at is None
        assert [event.digest for event in registry.events(1)] == [digest_of("a")]


def test_a_migrated_registry_takes_every_kind_of_artifact(old: Path) -> None:
    with Registry.open(f"sqlite:///{old}", clock=Clock()) as registry:
        for seed, kind in enumerate(get_args(ArtifactKind), start=10):
            new = new_arrival(1, seed=seed)
            registry.add_arrival(new, new_diff(kind, kind=kind), [])
        assert {diff.kind for diff in registry.diffs()} == set(get_args(ArtifactKind))
        assert {total.kind for total in registry.totals("all")} > set(get_args(ArtifactKind))


def test_an_old_registry_is_not_changed_by_reading(old: Path) -> None:
    before = old.read_bytes()

    with pytest.raises(RegistryError, match=r"Run `streamlab db upgrade`") as caught:
        Registry.open(f"sqlite:///{old}", clock=Clock(), read_only=True)
    assert repr(schema.NEWEST) in str(caught.value)
    assert old.read_bytes() == before


def test_upgrading_says_what_it_did(old: Path) -> None:
    database = Database.open(f"sqlite:///{old}")
    found = schema.current(database)

    steps = schema.upgrade(database, clock=Clock())
    database.close()

    assert found is not None
    assert [step.version for step in steps] == list(
        schema.REVISIONS[schema.REVISIONS.index(found) + 1 :]
    )
    assert all(step.change.endswith(".") for step in steps)


def work_on(path: Path, *, heartbeat_at: float) -> None:
    """Make the last run one that a process on another machine works on."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "UPDATE runs SET status = 'running', finished_at = NULL, heartbeat_at = ? "
            "WHERE name = 'tiny-1'",
            (heartbeat_at,),
        )


def test_upgrading_is_refused_while_a_run_is_worked_on(old: Path) -> None:
    work_on(old, heartbeat_at=990.0)
    before = rows_of(old)

    with pytest.raises(RegistryError, match="run `tiny-1` is worked on by process 4242"):
        Registry.open(f"sqlite:///{old}", clock=Clock(1000.0))
    assert rows_of(old) == before


def test_a_run_that_died_does_not_hold_an_upgrade_up(old: Path) -> None:
    work_on(old, heartbeat_at=990.0)

    with Registry.open(f"sqlite:///{old}", clock=Clock(2000.0)) as registry:
        assert registry.run("tiny-1").status == "stale"
