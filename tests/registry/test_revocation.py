"""Revoking a provider takes its rows, and no other's, over every kind of database."""

from __future__ import annotations

import pytest
from registry_samples import Clock, digest_of, new_arrival, new_base, new_diff, new_run, new_score

from streamlab.errors import NotInRegistryError, RegistryError
from streamlab.registry.records import NewPlacement
from streamlab.registry.registry import Registry


@pytest.fixture
def filled(registry: Registry) -> Registry:
    """Two arrivals of `bad` (one shares its file with `good`), a failed and a quarantined one."""
    registry.bases.add(new_base())
    run = registry.runs.start(new_run())
    for provider, task, name in (
        ("good", "a", "shared"), ("bad", "b", "shared"), ("bad", "c", "own"), ("good", "d", "d"),
    ):  # fmt: skip
        arrival = new_arrival(run.id, provider=provider, task=task)
        registry.arrivals.add(arrival, new_diff(name), [new_score()])
    registry.arrivals.add_failed(new_arrival(run.id, provider="bad", task="e"), "no rows")
    registry.arrivals.add_failed(
        new_arrival(run.id, provider="bad", task="f"), "too big", rule="size"
    )
    registry.placements.add(
        [
            NewPlacement(at_us=1, arrival_id=number, action="stored", device_bytes=100 * number)
            for number in (1, 2, 3)
        ]
    )
    registry.runs.finish(run.id, "finished")
    return registry


@pytest.mark.usefixtures("filled")
def test_a_providers_rows_go_and_its_own_files_are_named(registry: Registry) -> None:
    registry.removal.remove([3])

    gone = registry.removal.revoke([2, 3, 5, 6], provider="bad")

    assert [artifact.digest for artifact in gone] == [digest_of("own")]
    assert [arrival.id for arrival in registry.arrivals.list()] == [1, 4]
    assert registry.arrivals.list(removed=True) == ()
    assert registry.artifacts.digests() == {digest_of("shared"), digest_of("d")}
    assert [score.arrival_id for score in registry.scores.list()] == [1, 4]
    assert [line.arrival_id for line in registry.placements.list("glue-1")] == [1]
    assert [(total.name, total.n_arrivals) for total in registry.totals.list("provider")] == [
        ("good", 2)
    ]
    assert registry.arrivals.provider_names() == ("good", "bad")
    assert registry.integrity.find_damage() == ()
    revoked = [e for e in registry.events.list() if e.kind == "arrival-revoked"]
    assert [(e.subject, e.digest, e.message) for e in revoked] == [
        ("2", digest_of("shared"), "from `bad`"),
        ("3", digest_of("own"), "from `bad`"),
        ("5", None, "from `bad`"),
        ("6", None, "from `bad`"),
    ]
    for number in (2, 3, 5, 6):
        with pytest.raises(NotInRegistryError):
            registry.arrivals.get(number)


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("numbers", [[2, 3, 5], [2, 3, 4, 5, 6], []])
def test_other_arrivals_than_were_listed_stop_it(numbers: list[int], registry: Registry) -> None:
    with pytest.raises(RegistryError, match="since they were listed; nothing was removed"):
        registry.removal.revoke(numbers, provider="bad")
    assert len(registry.arrivals.list()) == 6


@pytest.mark.usefixtures("filled")
def test_a_run_at_work_stops_it_also_another_ones(registry: Registry, clock: Clock) -> None:
    registry.runs.start(new_run(scenario_name="other"))

    with pytest.raises(RegistryError, match="run `other-1` is being worked on"):
        registry.removal.revoke([2, 3, 5, 6], provider="bad")
    assert len(registry.arrivals.list()) == 6
    clock.now += 1000.0  # long silent
    assert len(registry.removal.revoke([2, 3, 5, 6], provider="bad")) == 1


@pytest.mark.usefixtures("filled")
def test_tags_stop_it_and_all_are_named(registry: Registry) -> None:
    registry.tags.add("one", "arrival", 3)
    registry.tags.add("two", "diff", digest_of("shared"))
    registry.tags.add("elsewhere", "arrival", 4)

    with pytest.raises(RegistryError, match="kept by 2 tags: `arrival:one`, `diff:two`"):
        registry.removal.revoke([2, 3, 5, 6], provider="bad")
    assert len(registry.arrivals.list()) == 6


def test_a_run_goes_with_its_row_and_leaves_what_others_have(registry: Registry) -> None:
    registry.bases.add(new_base())
    first, second = (registry.runs.start(new_run()) for _ in range(2))
    for run, name in ((first, "own"), (first, "both"), (second, "both")):
        registry.arrivals.add(new_arrival(run.id, task=name), new_diff(name), [new_score()])
    for run in (first, second):
        registry.runs.finish(run.id, "finished")

    listed = registry.removal.check_revocable([1, 2], run=first.name)
    gone = registry.removal.revoke([arrival.id for arrival in listed], run=first.name)

    assert [artifact.digest for artifact in gone] == [digest_of("own")]
    assert [run.name for run in registry.runs.list()] == [second.name]
    assert [arrival.run for arrival in registry.arrivals.list()] == [second.name]
    assert registry.totals.verify() == ()
    found = registry.events.revoked_digests(None, first.name)
    assert set(found) == {digest_of("own"), digest_of("both")}
