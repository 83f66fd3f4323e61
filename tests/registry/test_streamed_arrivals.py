"""What is remembered of a stream: virtual time, quarantined submissions, and a device's log."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from registry_samples import new_arrival, new_base, new_diff, new_run, new_score

from streamlab.errors import NotInRegistryError, RegistryError
from streamlab.registry.records import DeviceRequests, NewPlacement, RunRecord
from streamlab.registry.registry import Registry


@pytest.fixture
def run(registry: Registry) -> RunRecord:
    registry.bases.add(new_base())
    return registry.runs.start(new_run())


def line(arrival: int, at_us: int = 0, **changes: Any) -> NewPlacement:
    placement = NewPlacement(at_us=at_us, arrival_id=arrival, action="stored", device_bytes=100)
    return replace(placement, **changes)


def test_a_quarantined_submission_has_a_rule_and_no_artifact(
    registry: Registry, run: RunRecord
) -> None:
    new = new_arrival(run.id, behaviour="oversized", declared_score=0.75)

    record = registry.arrivals.add_failed(new, "9 bytes, 5 may be", rule="size")

    assert (record.status, record.rule, record.reason) == (
        "quarantined",
        "size",
        "9 bytes, 5 may be",
    )
    assert (record.digest, record.behaviour, record.declared_score) == (None, "oversized", 0.75)
    assert registry.arrivals.list(status="quarantined") == (record,)
    assert (registry.arrivals.list(status="failed"), registry.arrivals.list(status="finished")) == (
        (),
        (),
    )
    event = registry.events.list(1)[0]
    assert (event.kind, event.subject) == ("arrival-quarantined", str(record.id))
    assert event.message == "size: 9 bytes, 5 may be"


def test_each_status_is_listed_by_itself(registry: Registry, run: RunRecord) -> None:
    registry.arrivals.add_failed(new_arrival(run.id), "no rows")
    registry.arrivals.add_failed(new_arrival(run.id, attempt=2), "too far", rule="norm")
    registry.arrivals.add(new_arrival(run.id, attempt=3), new_diff(), [])

    found = {
        s: len(registry.arrivals.list(status=s)) for s in ("finished", "failed", "quarantined")
    }
    assert found == {"finished": 1, "failed": 1, "quarantined": 1}
    with pytest.raises(RegistryError, match="Arrival 2 is quarantined and left no artifact"):
        registry.arrivals.add_scores(2, [new_score()])


def test_a_quarantined_submission_is_removed_restored_and_forgotten(
    registry: Registry, run: RunRecord
) -> None:
    registry.arrivals.add_failed(new_arrival(run.id), "too far", rule="norm")
    registry.runs.finish(run.id, "finished")

    registry.removal.remove([1])
    assert (registry.arrivals.list(), registry.totals.list("all")) == ((), ())
    registry.removal.restore([1])
    assert [(t.kind, t.n_arrivals) for t in registry.totals.list("all")] == [("quarantined", 1)]
    registry.removal.remove([1])
    assert registry.removal.delete([1]) == ()
    with pytest.raises(NotInRegistryError):
        registry.arrivals.get(1)


def test_virtual_times_come_back_as_they_were_given(registry: Registry, run: RunRecord) -> None:
    late = 2**40  # past 32 bits
    new = new_arrival(run.id, arrived_us=0, began_us=5, ended_us=late)

    record = registry.arrivals.add(new, new_diff(), [])

    assert (record.arrived_us, record.began_us, record.ended_us) == (0, 5, late)


@pytest.mark.parametrize("times", [(1, None, None), (None, 1, 2), (3, 2, 4), (1, 3, 2)])
def test_virtual_times_out_of_order_are_refused(
    times: tuple[int | None, ...], registry: Registry, run: RunRecord
) -> None:
    new = new_arrival(
        run.id, **dict(zip(("arrived_us", "began_us", "ended_us"), times, strict=True))
    )

    with pytest.raises(RegistryError, match="each no earlier than the one before, or none"):
        registry.arrivals.add(new, new_diff(), [])
    assert registry.arrivals.list() == ()


def test_a_declared_score_that_is_no_number_is_refused(registry: Registry, run: RunRecord) -> None:
    for wrong in (float("nan"), float("inf")):
        with pytest.raises(RegistryError, match=r"`declared_score` is .*, not a finite number"):
            registry.arrivals.add_failed(
                new_arrival(run.id, declared_score=wrong), "x", rule="score"
            )


def test_a_devices_log_comes_back_in_its_order(registry: Registry, run: RunRecord) -> None:
    for version in (1, 2):
        registry.arrivals.add(new_arrival(run.id, version=version), new_diff(str(version)), [])
    other = registry.runs.start(new_run(scenario_name="other"))

    registry.placements.add([line(1, 2**40)])
    registry.placements.add([])
    registry.placements.add(
        [line(2, 2**40 + 1, device_bytes=200), line(1, 2**40 + 1, action="superseded", note="by 2")]
    )

    log = registry.placements.list(run.id)
    assert [(x.arrival_id, x.version, x.action, x.note) for x in log] == [
        (1, 1, "stored", ""),
        (2, 2, "stored", ""),
        (1, 1, "superseded", "by 2"),
    ]
    assert {(x.run, x.seed, x.provider, x.task, x.method) for x in log} == {
        (run.name, 1, "reviews_inc", "sst2", "diff_pruning")
    }
    assert registry.placements.list(other.name) == ()


def test_only_what_finished_in_one_run_is_placed(registry: Registry, run: RunRecord) -> None:
    registry.arrivals.add(new_arrival(run.id), new_diff(), [])
    registry.arrivals.add_failed(new_arrival(run.id, task="rte"), "too far", rule="norm")
    other = registry.runs.start(new_run())
    registry.arrivals.add(new_arrival(other.id), new_diff(), [])

    for lines, message in (
        ([line(1), line(2)], "Arrival 2 is quarantined and left no artifact"),
        ([line(1), line(3)], "Placements of 2 runs"),
        ([line(1), line(99)], "no arrival 99"),
    ):
        with pytest.raises(RegistryError, match=message):
            registry.placements.add(lines)
    assert registry.placements.list(run.id) == ()


def test_requests_to_a_device_are_those_recorded_last_of_each_seed(
    registry: Registry, run: RunRecord
) -> None:
    def answered(seed: int, n_hits: int) -> DeviceRequests:
        return DeviceRequests(seed=seed, policy="evict_lru", n_hits=n_hits, n_misses=2**40)

    registry.placements.set_requests(run.id, [answered(1, 3), answered(2, 4)])
    registry.placements.set_requests(run.id, [answered(2, 5)])
    registry.placements.set_requests(run.id, [])

    assert registry.placements.requests(run.name) == (answered(1, 3), answered(2, 5))
    with pytest.raises(RegistryError, match="`n_hits` is -1"):
        registry.placements.set_requests(run.id, [answered(1, -1)])


def test_the_hit_rate_is_the_share_of_requests_that_were_hits() -> None:
    found = DeviceRequests(seed=1, policy="reject", n_hits=3, n_misses=1)

    assert (found.n_requests, found.hit_rate) == (4, 0.75)
    assert DeviceRequests(seed=1, policy="reject", n_hits=0, n_misses=0).hit_rate is None


def test_a_removed_arrivals_lines_stay_until_it_is_forgotten(
    registry: Registry, run: RunRecord
) -> None:
    for version in (1, 2):
        registry.arrivals.add(new_arrival(run.id, version=version), new_diff(), [])
    registry.placements.add([line(1), line(2)])
    registry.runs.finish(run.id, "finished")

    registry.removal.remove([2])
    assert [x.arrival_id for x in registry.placements.list(run.id)] == [1, 2]
    registry.removal.delete([2])
    assert [x.arrival_id for x in registry.placements.list(run.id)] == [1]
