"""Nobody is served before arriving, and waits are theory's and those of the virtual clock."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab.arrivals.arrival_processes import Burst, Gamma, Periodic, Poisson, Steady
from streamlab.arrivals.clock import Began, Ended, events
from streamlab.errors import UsageError
from streamlab.planning.queueing import DAY, Queue, serve

SECONDS = [30.0, 40.0, 55.0, 200.0]


def served(n_tasks: int, n_slots: int, *, rate: float = 1200.0, seed: int = 3) -> Queue:
    process = Poisson(rate_per_day=rate)
    return serve(n_tasks, process=process, n_slots=n_slots, service_seconds=SECONDS, seed=seed)


def by_hand(queue: Queue, n_slots: int) -> list[float]:
    """Serve the same tasks one by one, trying every place: return the waits."""
    services = np.random.default_rng(np.random.SeedSequence(3).spawn(2)[1])
    takes = np.asarray(SECONDS)[services.integers(4, size=len(queue.arrived))]
    free = [0.0] * n_slots
    waits = []
    for at, seconds in zip(queue.arrived, takes, strict=True):
        place = free.index(min(free))
        start = max(at, free[place])
        free[place] = start + seconds
        waits.append(start - at)
    return waits


@pytest.mark.parametrize("n_slots", [1, 2, 5, 400])
def test_waits_are_those_of_serving_one_by_one(n_slots: int) -> None:
    queue = served(300, n_slots)

    assert queue.waited == pytest.approx(by_hand(queue, n_slots), abs=1e-6)
    assert queue.waited.max() > 0 or n_slots >= 5


@pytest.mark.parametrize("n_slots", [1, 3])
def test_a_longer_stream_begins_with_the_shorter_one(n_slots: int) -> None:
    short, long = served(50, n_slots), served(500, n_slots)

    for name in ("arrived", "waited", "all_done"):
        assert np.array_equal(getattr(long, name)[:50], getattr(short, name))


def test_the_same_seed_gives_the_same_stream_and_another_seed_another() -> None:
    assert np.array_equal(served(50, 2).arrived, served(50, 2).arrived)
    assert not np.array_equal(served(50, 2).arrived, served(50, 2, seed=4).arrived)


def test_tasks_arrive_at_the_rate() -> None:
    queue = served(100_000, 100, rate=500.0)

    assert 100_000 / (queue.arrived[-1] / DAY) == pytest.approx(500, rel=0.01)


def test_the_mean_wait_at_one_slot_is_pollaczek_and_khinchins() -> None:
    rate = 500.0
    queue = served(400_000, 1, rate=rate)

    mean, square = np.mean(SECONDS), np.mean(np.square(SECONDS))
    load = rate / DAY * mean
    assert queue.load == pytest.approx(load)
    assert queue.waited.mean() == pytest.approx(rate / DAY * square / (2 * (1 - load)), rel=0.03)


def test_more_slots_never_wait_longer() -> None:
    waits = [served(2000, n_slots).waited.mean() for n_slots in (1, 2, 4)]

    assert waits == sorted(waits, reverse=True)


def test_the_last_is_done_when_all_are() -> None:
    queue = served(200, 3)

    assert (np.diff(queue.all_done) >= 0).all()
    assert (queue.all_done >= queue.arrived + queue.waited + min(SECONDS) - 1e-6).all()


@given(
    process=st.sampled_from(
        [
            Poisson(rate_per_day=1500),
            Gamma(rate_per_day=1500, cv=3),
            Periodic(rate_per_day=1500),
            Burst(rate_per_day=1500, size=5),
        ]
    ),
    n_tasks=st.integers(1, 60),
    n_slots=st.integers(1, 5),
    service=st.lists(st.floats(0, 300), min_size=1, max_size=4),
    seed=st.integers(0, 2**32),
)
def test_all_is_done_when_the_virtual_clock_says(
    process: Steady, n_tasks: int, n_slots: int, service: list[float], seed: int
) -> None:
    queue = serve(n_tasks, process=process, n_slots=n_slots, service_seconds=service, seed=seed)
    drawn = np.random.default_rng(np.random.SeedSequence(seed).spawn(2)[1])
    takes = np.rint(1e6 * np.asarray(service))[drawn.integers(len(service), size=n_tasks)]
    arrived = np.rint(1e6 * queue.arrived).astype(np.int64).tolist()

    found = list(events(arrived, lambda number: int(takes[number]), n_slots=n_slots))

    began = {event.number: event.at for event in found if isinstance(event, Began)}
    ended = {event.number: event.at for event in found if isinstance(event, Ended)}
    waited = [began[number] - arrived[number] for number in range(n_tasks)]
    assert np.rint(1e6 * queue.waited).tolist() == waited
    last = np.maximum.accumulate([ended[number] for number in range(n_tasks)])
    assert np.rint(1e6 * queue.all_done).tolist() == last.tolist()


def test_the_more_unevenly_tasks_come_the_longer_they_wait() -> None:
    def wait(process: Steady) -> float:
        found = serve(40_000, process=process, n_slots=1, service_seconds=SECONDS, seed=1)
        return float(found.waited.mean())

    rate = 700.0
    processes: list[Steady] = [
        Periodic(rate_per_day=rate),
        Gamma(rate_per_day=rate, cv=0.5),
        Poisson(rate_per_day=rate),
        Gamma(rate_per_day=rate, cv=2),
        Burst(rate_per_day=rate, size=10),
    ]

    assert [wait(p) for p in processes] == sorted(wait(p) for p in processes)


def test_what_takes_longer_than_can_be_counted_is_refused() -> None:
    with pytest.raises(UsageError, match="10 such tasks may take more than 290,000 years"):
        serve(10, process=Poisson(rate_per_day=1), n_slots=1, service_seconds=[1e12], seed=0)
