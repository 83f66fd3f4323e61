"""Runs that ended elsewhere: taken in whole, known again, and never written over another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from registry_samples import (
    Clock,
    digest_of,
    new_arrival,
    new_base,
    new_diff,
    new_run,
    new_score,
)

from streamlab.errors import RegistryError
from streamlab.home.import_home import ImportedArrival, ImportedRun, add_imported, find_imported
from streamlab.registry.records import (
    DeviceRequests,
    NewArrival,
    NewDiff,
    NewPlacement,
    NewRun,
    NewScore,
    RunRecord,
    given_part,
)
from streamlab.registry.registry import Registry


def whole_run(**changes: Any) -> ImportedRun:
    """A run with a failed attempt, the arrival it became, and another one with two scores."""
    parts = (
        ImportedArrival(arrival=new_arrival(0), diff=None, reason="The loss became NaN."),
        ImportedArrival(
            arrival=new_arrival(0, behaviour="oversized", declared_score=0.99),
            diff=None,
            reason="9 bytes, 5 may be",
            rule="size",
        ),
        ImportedArrival(
            arrival=new_arrival(0, attempt=2, arrived_us=1, began_us=2, ended_us=3),
            diff=new_diff("a"),
        ),
        ImportedArrival(
            arrival=new_arrival(0, task="rte", sequence=1),
            diff=new_diff("b"),
            scores=(new_score(after_sequence=1), new_score(after_sequence=2, value=0.5)),
        ),
    )
    record = RunRecord(
        **vars(new_run()),
        id=9,
        name="glue-4",
        status="finished",
        reason=None,
        started_at=100.25,
        heartbeat_at=200.5,
        finished_at=200.5,
        host="elsewhere",
        pid=77,
    )
    of_record = {name: changes.pop(name) for name in [*changes] if name in vars(record)}
    run = ImportedRun(
        base=new_base(),
        run=replace(record, **of_record),
        arrivals=parts,
        origin="/other",
        placements=(
            NewPlacement(at_us=5, arrival_id=2, action="stored", device_bytes=100),
            NewPlacement(at_us=6, arrival_id=3, action="rejected", device_bytes=100, note="full"),
        ),
        requests=(DeviceRequests(seed=1, policy="reject", n_hits=3, n_misses=1),),
    )
    return replace(run, **changes)


def content(registry: Registry) -> list[Any]:
    """Return every record there is."""
    return [
        registry.bases.list(), registry.runs.list(), registry.arrivals.list(),
        registry.artifacts.list(), registry.scores.list(), registry.totals.tasks(),
        registry.totals.providers(), registry.events.list(),
    ]  # fmt: skip


def test_a_whole_run_comes_back_as_it_was_given(registry: Registry) -> None:
    whole = whole_run()

    taken = add_imported(registry, whole)

    assert taken.is_new
    assert registry.runs.list() == (taken.run,)
    assert given_part(taken.run, NewRun) == given_part(whole.run, NewRun)
    facts = (taken.run.name, taken.run.status, taken.run.host, taken.run.pid)
    assert facts == ("glue-4", "finished", "elsewhere", 77)
    assert (taken.run.started_at, taken.run.finished_at) == (100.25, 200.5)
    found = sorted(registry.arrivals.list(run="glue-4"), key=lambda arrival: arrival.id)
    for arrival, part in zip(found, whole.arrivals, strict=True):
        assert given_part(arrival, NewArrival, run_id=0) == part.arrival
        assert (arrival.reason, arrival.rule) == (part.reason, part.rule)
        if part.diff is not None:
            assert given_part(registry.artifacts.get(arrival.digest or ""), NewDiff) == part.diff
        scores = [given_part(s, NewScore) for s in registry.scores.list(arrival_id=arrival.id)]
        assert scores == list(part.scores)
    log = [
        given_part(line, NewPlacement, arrival_id=line.arrival_id - found[0].id)
        for line in registry.placements.list("glue-4")
    ]
    assert tuple(log) == whole.placements
    assert registry.placements.requests("glue-4") == whole.requests


def test_the_log_says_where_a_run_came_from_and_names_every_digest(registry: Registry) -> None:
    add_imported(registry, whole_run())

    lines = [(event.kind, event.message) for event in registry.events.list()]
    assert [kind for kind, _ in lines] == ["base-added", *["arrival-imported"] * 4, "run-imported"]
    assert registry.events.list()[3].digest == digest_of("a")
    assert lines[-1][1] == "`glue-4` of /other, 4 arrivals"


def test_taking_it_in_again_changes_nothing(registry: Registry, clock: Clock) -> None:
    first = add_imported(registry, whole_run())
    before = content(registry)
    clock.now += 1000

    again = add_imported(registry, whole_run(name="renamed-9"))

    assert (again.is_new, again.run) == (False, first.run)
    assert content(registry) == before


def test_a_name_that_is_taken_is_left_to_its_run(registry: Registry) -> None:
    registry.bases.add(new_base())
    names = [registry.runs.start(new_run()).name for _ in range(4)]

    other = add_imported(registry, whole_run())
    later = add_imported(registry, whole_run(started_at=101.0))

    assert names[-1] == "glue-4"
    assert (other.run.name, later.run.name) == ("glue-5", "glue-6")
    assert registry.runs.start(new_run()).name == "glue-7"


@pytest.mark.parametrize("change", ["other digest", "less", "other reason", "other rule"])
def test_the_same_run_with_other_content_is_refused(change: str, registry: Registry) -> None:
    whole = whole_run()
    add_imported(registry, whole)
    before = content(registry)
    failed, stopped, first, last = whole.arrivals
    other = {
        "other digest": (failed, stopped, first, replace(last, diff=new_diff("c"))),
        "less": (failed, stopped, first),
        "other reason": (replace(failed, reason="Another."), stopped, first, last),
        "other rule": (failed, replace(stopped, rule="norm"), first, last),
    }[change]

    with pytest.raises(RegistryError, match="here already as `glue-4`, with other content"):
        add_imported(registry, replace(whole, arrivals=other))
    assert content(registry) == before


@pytest.mark.parametrize("changes", [{"started_at": 1.0}, {"host": "third"}])
def test_a_run_of_another_start_or_host_is_another(
    changes: dict[str, Any], registry: Registry
) -> None:
    add_imported(registry, whole_run())

    taken = add_imported(registry, whole_run(**changes))

    assert (taken.is_new, taken.run.name) == (True, "glue-5")


def test_a_run_of_one_file_is_known_by_its_digest_alone(registry: Registry) -> None:
    first = add_imported(registry, whole_run(by_digest_alone=True))

    again = add_imported(registry, whole_run(by_digest_alone=True, started_at=9.0, host="third"))

    assert (again.is_new, again.run.id) == (False, first.run.id)


def test_whatever_is_wrong_with_one_part_leaves_nothing(registry: Registry) -> None:
    whole = whole_run()
    last = replace(whole.arrivals[-1], scores=(new_score(value=float("nan")),))

    with pytest.raises(RegistryError, match="finite"):
        add_imported(registry, replace(whole, arrivals=(*whole.arrivals[:3], last)))

    assert content(registry) == [()] * 8


def test_a_base_that_is_known_stays_as_it_is(registry: Registry) -> None:
    registry.bases.add(new_base())

    add_imported(registry, whole_run(base=new_base(model="somewhere/else")))

    assert [base.model for base in registry.bases.list()] == ["package:tiny"]


def test_a_run_is_found_before_anything_of_it_is_taken_in(registry: Registry) -> None:
    whole = whole_run()
    assert find_imported(registry, whole) is None

    taken = add_imported(registry, whole)

    assert find_imported(registry, whole) == replace(taken, is_new=False)
    with pytest.raises(RegistryError, match="with other content"):
        find_imported(registry, replace(whole, arrivals=whole.arrivals[:3]))


def test_a_run_that_lost_all_its_arrivals_comes_anew(registry: Registry) -> None:
    first = add_imported(registry, whole_run())
    numbers = [arrival.id for arrival in registry.arrivals.list()]
    registry.removal.remove(numbers)
    registry.removal.delete(numbers)

    again = add_imported(registry, whole_run())

    assert again.is_new
    assert again.run.name != first.run.name
    assert len(registry.arrivals.list()) == len(numbers)
