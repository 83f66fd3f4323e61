"""A registry copied between databases of every kind: every row, and the ids that follow."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from registry_samples import (
    Clock,
    finished_arrival,
    new_arrival,
    new_base,
    new_diff,
    new_run,
    new_score,
)
from sqlalchemy import select

from streamlab.errors import RegistryError
from streamlab.registry.database import Database
from streamlab.registry.records import DeviceRequests, NewPlacement
from streamlab.registry.registry import Registry
from streamlab.registry.tables import Tables
from streamlab.registry.transfer import copy_registry

POSTGRES = pytest.mark.postgres


@pytest.fixture(autouse=True)
def _few_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamlab.registry.transfer._AT_ONCE", 50)


def every_row(url: str) -> dict[str, list[tuple[object, ...]]]:
    with closing(Database(url, read_only=True)) as database:
        return {
            table.name: database.read(
                lambda c, t=table: [
                    tuple(row) for row in c.execute(select(t).order_by(*t.primary_key))
                ]
            )
            for table in Tables.metadata.sorted_tables
        }


def fill(url: str) -> None:
    """Add something to every table, delete the newest arrivals for good, and end the run."""
    with Registry.open(url, clock=Clock()) as registry:
        registry.bases.add(new_base())
        run = registry.runs.start(new_run()).id
        registry.arrivals.add_all([finished_arrival(run, place) for place in range(110)])
        registry.arrivals.add_failed(new_arrival(run), "the loss is NaN")
        registry.placements.add(
            [NewPlacement(at_us=5, arrival_id=1, action="stored", device_bytes=100)]
        )
        registry.placements.set_requests(
            run, [DeviceRequests(seed=1, policy="reject", n_hits=3, n_misses=1)]
        )
        registry.tags.add("best", "arrival", 1)
        registry.runs.finish(run, "finished")
        registry.removal.remove([109, 110, 111])
        registry.removal.delete([109, 110, 111])


@pytest.fixture
def filled_url(file_url: str) -> str:
    fill(file_url)
    return file_url


@pytest.fixture
def other_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/other.db"


@pytest.mark.parametrize("way", ["other", pytest.param("postgres", marks=POSTGRES)])
def test_a_copy_has_every_row_and_goes_on_after_the_last_id(
    filled_url: str, way: str, request: pytest.FixtureRequest
) -> None:
    target = request.getfixturevalue(f"{way}_url")

    copied = copy_registry(filled_url, target, clock=Clock())

    rows = every_row(filled_url)
    assert every_row(target) == rows
    assert {one.table: one.rows for one in copied} == {
        name: len(all_) for name, all_ in rows.items()
    }
    assert all(rows.values())
    with Registry.open(target, clock=Clock()) as registry:
        assert registry.integrity.find_damage() == ()
        assert registry.totals.verify() == ()
        run = registry.runs.start(new_run(scenario_name="next")).id
        # The last three arrivals were deleted, and their ids are not given again.
        one = registry.arrivals.add(new_arrival(run), new_diff("new"), [new_score()])
        assert one.id == 112
        assert registry.arrivals.add_all([finished_arrival(run, 7)]) == (113,)
        registry.tags.add("next", "run", run)
        assert registry.totals.verify() == ()


@pytest.mark.postgres
def test_a_copy_of_a_copy_is_the_same(filled_url: str, postgres_url: str, other_url: str) -> None:
    copy_registry(filled_url, postgres_url, clock=Clock())
    copy_registry(postgres_url, other_url, clock=Clock())

    assert every_row(other_url) == every_row(filled_url)


@pytest.mark.parametrize("way", ["other", pytest.param("postgres", marks=POSTGRES)])
def test_a_target_that_has_rows_is_left_alone(
    filled_url: str, way: str, request: pytest.FixtureRequest
) -> None:
    target = request.getfixturevalue(f"{way}_url")
    with Registry.open(target, clock=Clock()) as registry:
        registry.bases.add(new_base(fingerprint="e" * 64))
    before = every_row(target)

    with pytest.raises(RegistryError, match=r"has rows in `bases` already.*nothing was copied"):
        copy_registry(filled_url, target, clock=Clock())
    assert every_row(target) == before


def test_a_registry_that_a_run_works_on_is_not_copied(file_url: str, other_url: str) -> None:
    with Registry.open(file_url, clock=Clock()) as registry:
        registry.bases.add(new_base())
        registry.runs.start(new_run())

    with pytest.raises(RegistryError, match="being worked on"):
        copy_registry(file_url, other_url, clock=Clock())
    assert not any(every_row(other_url).values())


def test_a_source_that_is_missing_is_not_made(tmp_path: Path, other_url: str) -> None:
    with pytest.raises(RegistryError, match="There is no registry at"):
        copy_registry(f"sqlite:///{tmp_path}/missing.db", other_url, clock=Clock())
    assert not (tmp_path / "other.db").exists()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE details SET details = '{' WHERE arrival_id = 100", "`details` is not JSON"),
        ("UPDATE arrivals SET method = x'00' WHERE id = 100", "could not be written"),
        ("UPDATE arrivals SET source = 'a' || char(0) WHERE id = 100", "NUL"),
    ],
)
@pytest.mark.postgres
def test_a_damaged_row_stops_it_and_leaves_nothing(
    filled_url: str, postgres_url: str, statement: str, message: str
) -> None:
    path = filled_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(statement)

    with pytest.raises(RegistryError, match=message):
        copy_registry(filled_url, postgres_url, clock=Clock())
    assert not any(every_row(postgres_url).values())
