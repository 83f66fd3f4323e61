"""Many finished arrivals at once are recorded as one after another would be, all or none."""

from __future__ import annotations

from typing import Any

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

from streamlab.errors import NotInRegistryError, RegistryError
from streamlab.registry.records import ArrivalDetails, FinishedArrival, ReportedDetails, RunRecord
from streamlab.registry.registry import Registry

ARRIVALS: tuple[dict[str, Any], ...] = (
    {},
    {"seed": 2},
    {"provider": "p"},
    {"task": "t"},
    {"version": 2},
    {"method": "m"},
)


def noted(place: int) -> ArrivalDetails:
    return ArrivalDetails(reported=ReportedDetails(training={"place": place}))


@pytest.fixture
def run(registry: Registry) -> RunRecord:
    registry.bases.add(new_base())
    return registry.runs.start(new_run())


def several(run_id: int) -> list[FinishedArrival]:
    """Return arrivals that differ, every second one with an artifact that they share."""
    return [
        FinishedArrival(
            arrival=new_arrival(run_id, sequence=number, **change),
            diff=new_diff("shared" if number % 2 else str(number)),
            scores=(new_score(), new_score(metric="f1", is_primary=False))[: number % 3],
        )
        for number, change in enumerate(ARRIVALS)
    ]


def everything(registry: Registry) -> list[Any]:
    return [
        *(
            registry.arrivals.list(),
            registry.artifacts.list(),
            registry.scores.list(),
            registry.events.list(),
        ),
        *(registry.totals.tasks(), registry.totals.providers()),
    ]


def test_many_at_once_leave_what_one_after_another_leaves(
    registry: Registry, run: RunRecord
) -> None:
    with Registry.open("sqlite://", clock=Clock()) as other:
        other.bases.add(new_base())
        new = several(other.runs.start(new_run()).id)
        one_by_one = [other.arrivals.add(n.arrival, n.diff, n.scores).id for n in new]

        numbers = registry.arrivals.add_all(several(run.id))

        assert list(numbers) == one_by_one
        for at_once, single in zip(everything(registry), everything(other), strict=True):
            assert sorted(map(repr, at_once)) == sorted(map(repr, single))


def test_a_big_batch_leaves_every_field_that_a_small_one_leaves(
    registry: Registry, run: RunRecord
) -> None:
    with Registry.open("sqlite://", clock=Clock()) as other:
        other.bases.add(new_base())
        other.runs.start(new_run())
        new = [finished_arrival(run.id, place, details=noted(place)) for place in range(30)]
        for one in new:
            other.arrivals.add_all([one])

        registry.arrivals.add_all(new)

        assert everything(registry) == everything(other)
        assert [a.details for a in registry.arrivals.list()] == [noted(n) for n in range(30)]


def test_numbers_come_in_the_order_given_however_many_there_are(
    registry: Registry, run: RunRecord
) -> None:
    places = [*range(1500, 0, -1)]

    numbers = registry.arrivals.add_all([finished_arrival(run.id, place) for place in places])

    recorded = {record.id: record.sequence for record in registry.arrivals.list()}
    assert [recorded[number] for number in numbers] == places
    assert len(registry.artifacts.list()) == len(registry.scores.list()) == 1500
    with pytest.raises(
        RegistryError, match=f"finished already in this run, as arrival {numbers[-1]}"
    ):
        registry.arrivals.add_all([finished_arrival(run.id, place) for place in range(1, 1501)])


def test_nothing_to_record_records_nothing(registry: Registry, run: RunRecord) -> None:
    before = registry.events.list()

    assert registry.arrivals.add_all([]) == ()
    assert (registry.arrivals.list(run=run.id), registry.events.list()) == ((), before)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"arrival": {"version": 7}}, "is given twice for this run"),
        ({"arrival": {"task": "recorded"}}, "is finished already in this run, as arrival 1"),
        ({"arrival": {"run_id": 99}}, "no run"),
        ({"arrival": {"sequence": -1}}, "`sequence` is -1, not a whole"),
        ({"diff": {"file_bytes": 101}}, "they must add up"),
        ({"diff": {"name": "7", "value_type": "fp32"}}, "with another `value_type`: 'bf16'"),
        ({"diff": {"base_fingerprint": "e" * 64}}, "stays on its run's base"),
        ({"score": {"value": float("nan")}}, "finite number"),
    ],
)
def test_one_wrong_arrival_among_many_and_none_is_recorded(
    registry: Registry, run: RunRecord, wrong: dict[str, dict[str, Any]], message: str
) -> None:
    registry.arrivals.add_all([finished_arrival(run.id, 0, task="recorded", version=1)])
    before = everything(registry)
    bad = FinishedArrival(
        arrival=new_arrival(**{"run_id": run.id, "version": 1} | wrong.get("arrival", {})),
        diff=new_diff(**{"name": "bad"} | wrong.get("diff", {})),
        scores=(new_score(**wrong.get("score", {})),),
    )

    with pytest.raises((RegistryError, NotInRegistryError), match=message):
        registry.arrivals.add_all([finished_arrival(run.id, 7), finished_arrival(run.id, 8), bad])

    assert everything(registry) == before
