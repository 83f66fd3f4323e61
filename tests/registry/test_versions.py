"""Rolling a task back to an earlier version, over every kind of database."""

from __future__ import annotations

import pytest
from registry_samples import new_arrival, new_base, new_diff, new_run

from streamlab.errors import NotInRegistryError, RegistryError
from streamlab.registry.records import RunRecord
from streamlab.registry.registry import Registry


@pytest.fixture
def run(registry: Registry) -> RunRecord:
    """Three versions of sst2, the last by a baseline too; rte once, and sst2 in another run."""
    registry.bases.add(new_base())
    run = registry.runs.start(new_run())
    for version in (1, 2, 3):
        registry.arrivals.add(new_arrival(run.id, version=version), new_diff(str(version)), [])
    registry.arrivals.add(new_arrival(run.id, version=3, method="lora"), new_diff("lora"), [])
    registry.arrivals.add(new_arrival(run.id, version=9, task="rte"), new_diff("rte"), [])
    registry.arrivals.add_failed(new_arrival(run.id, version=4), "no rows")
    other = registry.runs.start(new_run())
    registry.arrivals.add(new_arrival(other.id, version=5), new_diff("5"), [])
    for number in (run.id, other.id):
        registry.runs.finish(number, "finished")
    return run


def test_later_versions_of_the_task_in_the_run_are_left_out(
    registry: Registry, run: RunRecord
) -> None:
    gone = registry.removal.roll_back(run.name, "sst2", 1)

    assert sorted(arrival.id for arrival in gone) == [2, 3, 4]
    assert [arrival.id for arrival in registry.arrivals.list()] == [1, 5, 6, 7]
    assert {arrival.id for arrival in registry.arrivals.list(removed=True)} == {2, 3, 4}
    event = registry.events.list(1)[0]
    assert (event.kind, event.subject) == ("task-rolled-back", "sst2")
    assert event.message == "to version 1 in `glue-1`; removed: 2, 3, 4"


def test_what_was_rolled_back_is_restored(registry: Registry, run: RunRecord) -> None:
    before = registry.arrivals.list()

    gone = registry.removal.roll_back(run.id, "sst2", 2)
    registry.removal.restore([arrival.id for arrival in gone])

    assert registry.arrivals.list() == before


def test_the_highest_version_needs_no_rolling_back(registry: Registry, run: RunRecord) -> None:
    n_events = len(registry.events.list())

    assert registry.removal.roll_back(run.id, "sst2", 3) == ()
    assert len(registry.events.list()) == n_events


@pytest.mark.parametrize(
    ("task", "version", "hint"),
    [
        ("sst2", 7, "There is version 1, 2, 3."),
        ("sst2", 4, "There is version 1, 2, 3."),  # it failed
        ("cola", 1, "No arrival of it finished there"),
    ],
)
def test_a_version_that_is_not_there_changes_nothing(
    task: str, version: int, hint: str, registry: Registry, run: RunRecord
) -> None:
    with pytest.raises(NotInRegistryError) as caught:
        registry.removal.roll_back(run.id, task, version)

    assert f"has no version {version} of `{task}`. {hint}" in str(caught.value)
    assert registry.arrivals.list(removed=True) == ()


def test_a_version_that_was_rolled_back_tells_how_it_comes_back(
    registry: Registry, run: RunRecord
) -> None:
    registry.removal.roll_back(run.id, "sst2", 1)

    with pytest.raises(NotInRegistryError, match="first with `streamlab restore 2`"):
        registry.removal.roll_back(run.id, "sst2", 2)


def test_a_run_at_work_is_left_alone(registry: Registry) -> None:
    registry.bases.add(new_base())
    run = registry.runs.start(new_run())
    for version in (1, 2):
        registry.arrivals.add(new_arrival(run.id, version=version), new_diff(), [])

    with pytest.raises(RegistryError, match="is being worked on by process"):
        registry.removal.roll_back(run.id, "sst2", 1)
    assert len(registry.arrivals.list()) == 2
