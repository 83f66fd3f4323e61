"""The simulated device: what fits, what gives way, and that its log tells all of it."""

from __future__ import annotations

from collections import Counter
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from streamlab.registry.logs import find_full_us
from streamlab.registry.records import EvictionPolicy, NewPlacement
from streamlab.stream.device import (
    Device,
    DeviceSettings,
    Item,
    UseSettings,
    requested_task,
    simulate_device,
    simulate_policies,
    simulated_uses,
)
from streamlab.units import DAY_US


def device(budget: int = 100, policy: EvictionPolicy = "reject") -> Device:
    return Device(budget, policy)


def item(number: int, n_bytes: int, *, task: str = "", score: float = 0.5) -> Item:
    return Item(arrival_id=number, task=task or f"t{number}", n_bytes=n_bytes, score=score)


def told(log: tuple[NewPlacement, ...]) -> list[tuple[int, str, int]]:
    return [(line.arrival_id, line.action, line.device_bytes) for line in log]


def tasks_on(one: Device) -> set[str]:
    return {item.task for item in one.items}


def test_a_budget_is_written_with_a_unit() -> None:
    assert DeviceSettings.model_validate({"budget": "64MB"}).budget == 64_000_000
    assert DeviceSettings.model_validate({"budget": "1.5MiB"}).budget == 1_572_864
    for wrong in ({"budget": 0}, {"budget": "-1"}, {"budget": 1, "policy": "fifo"}):
        with pytest.raises(ValidationError):
            DeviceSettings.model_validate(wrong)


def test_what_fits_to_the_last_byte_is_stored() -> None:
    one = device(100)

    assert told(one.place(item(1, 60), 5)) == [(1, "stored", 60)]
    assert told(one.place(item(2, 40), 5)) == [(2, "stored", 100)]
    assert told(one.place(item(3, 1), 6)) == [(3, "rejected", 100)]
    assert one.n_bytes == 100


@pytest.mark.parametrize("policy", get_args(EvictionPolicy))
def test_what_is_bigger_than_the_whole_budget_evicts_nothing(policy: str) -> None:
    one = device(100, policy)
    one.place(item(1, 90), 0)

    (line,) = one.place(item(2, 101), 1)

    assert (line.action, line.device_bytes) == ("rejected", 90)
    assert line.note == "101 bytes, more than the whole budget of 100"


def test_the_least_recently_used_goes_first() -> None:
    one = device(100, "evict_lru")
    for number in (1, 2, 3):
        one.place(item(number, 30), number)
    assert one.use("t1", 4)

    assert told(one.place(item(4, 50), 5)) == [
        (2, "evicted", 60),
        (3, "evicted", 30),
        (4, "stored", 80),
    ]
    assert tasks_on(one) == {"t1", "t4"}


def test_the_lowest_score_goes_first_and_of_equal_ones_the_oldest() -> None:
    one = device(100, "evict_worst")
    for number, score in ((1, 0.5), (2, 0.9), (3, 0.5)):
        one.place(item(number, 30, score=score), number)
    one.use("t1", 4)  # changes nothing

    assert told(one.place(item(4, 30, score=0.1), 5))[0] == (1, "evicted", 60)
    assert told(one.place(item(5, 30), 6))[0] == (4, "evicted", 60)
    assert tasks_on(one) == {"t2", "t3", "t5"}


def test_no_more_is_evicted_than_is_needed() -> None:
    one = device(100, "evict_lru")
    one.place(item(1, 50), 0)
    assert told(one.place(item(2, 50), 0)) == [(2, "stored", 100)]

    assert [action for _, action, _ in told(one.place(item(3, 50), 1))] == ["evicted", "stored"]


def test_a_new_version_lies_beside_the_old_one_until_it_is_there() -> None:
    one = device(100)
    one.place(item(1, 40, task="t"), 0)

    assert told(one.place(item(2, 60, task="t"), 1)) == [
        (2, "stored", 100),
        (1, "superseded", 60),
    ]
    assert [i.arrival_id for i in one.items] == [2]


@pytest.mark.parametrize("policy", get_args(EvictionPolicy))
def test_a_new_version_that_does_not_fit_leaves_the_old_one(policy: str) -> None:
    one = device(100, policy)
    one.place(item(1, 60, task="t"), 0)
    one.place(item(2, 20), 0)

    (line,) = one.place(item(3, 60, task="t"), 1)

    assert (line.action, line.device_bytes) == ("rejected", 80)
    assert [i.arrival_id for i in one.items] == [1, 2]


def test_others_give_way_to_a_new_version_and_the_old_one_last() -> None:
    one = device(100, "evict_worst")
    one.place(item(1, 40, task="t", score=0.1), 0)
    one.place(item(2, 40, score=0.9), 0)

    assert told(one.place(item(3, 50, task="t"), 1)) == [
        (2, "evicted", 40),
        (3, "stored", 90),
        (1, "superseded", 50),
    ]


def test_time_does_not_go_back() -> None:
    one = device()
    one.place(item(1, 1), 10)

    with pytest.raises(ValueError, match="already at 10 us, got 9 us"):
        one.place(item(2, 1), 9)
    assert tasks_on(one) == {"t1"}


def test_uses_are_hits_and_misses() -> None:
    one = device()
    one.place(item(1, 1), 0)

    assert [one.use(task, 1) for task in ("t1", "t2", "t1")] == [True, False, True]
    assert (one.n_hits, one.n_misses) == (2, 1)


def test_a_device_is_full_when_it_first_refuses_or_evicts() -> None:
    one = device(100)
    log = [*one.place(item(1, 100), 3), *one.place(item(2, 1), 7), *one.place(item(3, 1), 9)]

    assert find_full_us(log) == 7
    assert find_full_us(log[:1]) is None


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("place", "use")),
        st.sampled_from("abcde"),
        st.integers(0, 130),
        st.floats(0, 1),
        st.integers(0, 3),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, policy=st.sampled_from(get_args(EvictionPolicy)))
def test_the_log_alone_tells_what_is_on_the_device(
    steps: list[tuple[str, str, int, float, int]], policy: EvictionPolicy
) -> None:
    """Held against every step: the budget, the sum of bytes, and a log that lacks nothing."""
    one, now = device(100, policy), 0
    on: dict[int, Item] = {}  # by arrival, as the log tells
    given_items: dict[int, Item] = {}
    for number, (verb, task, n_bytes, score, later) in enumerate(steps):
        now += later
        new = item(number, n_bytes, task=task, score=score)
        given_items[number] = new
        before = one.items
        log: tuple[NewPlacement, ...] = ()
        if verb == "place":
            log = one.place(new, now)
        else:
            assert one.use(task, now) == (task in {i.task for i in before})
        for line in log:
            if line.action == "stored":
                on[line.arrival_id] = given_items[line.arrival_id]
            elif line.action != "rejected":
                del on[line.arrival_id]
            assert line.at_us == now
            assert line.device_bytes == sum(i.n_bytes for i in on.values()) <= 100
        assert sorted(on) == sorted(i.arrival_id for i in one.items)
        assert one.n_bytes == sum(i.n_bytes for i in one.items)
        if "rejected" in [line.action for line in log]:
            assert (len(log), one.items) == (1, before)


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 60), st.sampled_from("abcdef")), max_size=12),
    policy=st.sampled_from(get_args(EvictionPolicy)),
    seed=st.integers(0, 5),
)
def test_the_same_input_gives_the_same_history(
    sizes: list[tuple[int, str]], policy: EvictionPolicy, seed: int
) -> None:
    chosen = DeviceSettings.model_validate(
        {"budget": 100, "policy": policy, "uses": {"rate_per_day": 20}}
    )
    day = DAY_US // 4
    arrivals = [(n * day, item(n, size, task=task)) for n, (size, task) in enumerate(sizes)]
    until = len(arrivals) * day

    first = simulate_device(chosen, arrivals, seed=seed, until_us=until)
    again = simulate_device(chosen, iter(arrivals), seed=seed, until_us=until)
    shorter = simulate_device(chosen, arrivals[:5], seed=seed, until_us=until)

    assert first == again
    assert first.log[: len(shorter.log)] == shorter.log  # what is to come changes nothing


def test_requests_come_at_their_rate() -> None:
    chosen = UseSettings(rate_per_day=50)

    found = list(simulated_uses(chosen, 1, 400 * DAY_US))

    assert abs(len(found) - 20_000) < 4 * 20_000**0.5  # four standard errors
    assert [at for at, _ in found] == sorted(at for at, _ in found)
    assert found == list(simulated_uses(chosen, 1, 400 * DAY_US))
    assert found != list(simulated_uses(chosen, 2, 400 * DAY_US))


def test_tasks_are_requested_by_zipfs_law_whatever_order_they_came_in() -> None:
    tasks, n_draws = ["a", "b", "c"], 6000
    draws = [n / n_draws for n in range(n_draws)]

    met = Counter(requested_task(tasks, draw, skew=1.0, seed=3) for draw in draws)
    turned = Counter(requested_task(tasks[::-1], draw, skew=1.0, seed=3) for draw in draws)
    even = Counter(requested_task(tasks, draw, skew=0.0, seed=3) for draw in draws)

    weights = sorted(met.values(), reverse=True)
    assert [round(weight * 11 / n_draws) for weight in weights] == [6, 3, 2]  # 1 : 1/2 : 1/3
    assert met == turned
    assert max(even.values()) - min(even.values()) <= 1


def test_requests_miss_what_is_not_there_and_nothing_where_there_is_room_for_all() -> None:
    """Ten tasks, room for five or for all, and the same requests."""
    arrivals = [(n, item(n, 20, score=n / 10)) for n in range(10)]
    uses = {"rate_per_day": 100, "skew": 2.0}
    hits = {}
    for policy in get_args(EvictionPolicy):
        chosen = DeviceSettings.model_validate({"budget": 100, "policy": policy, "uses": uses})
        history = simulate_device(chosen, arrivals, seed=1, until_us=10 * DAY_US)
        hits[policy] = history.n_hits / (history.n_hits + history.n_misses)

    assert all(0 < share < 1 for share in hits.values())
    assert simulate_device(
        DeviceSettings.model_validate({"budget": 1000, "uses": uses}),
        arrivals, seed=1, until_us=10 * DAY_US,
    ).n_misses == 0  # fmt: skip


def test_every_policy_answers_the_same_requests() -> None:
    chosen = DeviceSettings.model_validate(
        {"budget": 100, "policy": "evict_worst", "uses": {"rate_per_day": 100, "skew": 2.0}}
    )
    arrivals = [(n, item(n, 20, score=n / 10)) for n in range(10)]

    counted = simulate_policies(chosen, arrivals, seed=4, until_us=10 * DAY_US)

    assert [(one.seed, one.policy) for one in counted] == [
        (4, policy) for policy in get_args(EvictionPolicy)
    ]
    assert len({one.n_requests for one in counted}) == 1
    for one in counted:
        alone = chosen.model_copy(update={"policy": one.policy})
        history = simulate_device(alone, arrivals, seed=4, until_us=10 * DAY_US)
        assert (one.n_hits, one.n_misses) == (history.n_hits, history.n_misses)


def test_without_requests_no_policy_has_a_hit_rate() -> None:
    chosen = DeviceSettings.model_validate({"budget": 100})

    assert simulate_policies(chosen, [(0, item(1, 20))], seed=1, until_us=DAY_US) == ()
