"""Nobody is served before arriving, no more than the slots at once, and waits are theory's."""

from __future__ import annotations

import numpy as np
import pytest

from streamlab.planning.queue import DAY, Queue, serve

SECONDS = [30.0, 40.0, 55.0, 200.0]


def served(n_tasks: int, n_slots: int, *, rate: float = 1200.0, seed: int = 3) -> Queue:
    return serve(n_tasks, rate_per_day=rate, n_slots=n_slots, service_seconds=SECONDS, seed=seed)


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
