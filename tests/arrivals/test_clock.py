"""Slots are never idle while tasks wait, first come is first served, and time adds up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab.arrivals.clock import Arrived, Began, Ended, Event, events

# Few moments, so that many things come at once.
ARRIVALS = st.lists(st.integers(0, 12), max_size=25)
SLOTS = st.integers(1, 4)


def happened(arrived: Sequence[int], takes: Sequence[int], n_slots: int) -> list[Event]:
    return list(events(arrived, takes.__getitem__, n_slots=n_slots))


def at(kind: type[Event], found: Sequence[Event]) -> dict[int, int]:
    """Return when each task did what `kind` says."""
    return {event.number: event.at for event in found if type(event) is kind}


@st.composite
def streams(draw: st.DrawFn, shortest: int = 0) -> tuple[list[int], list[int]]:
    """Draw when tasks arrive, in any order, and how long each takes."""
    arrived = draw(ARRIVALS)
    n = len(arrived)
    return arrived, draw(st.lists(st.integers(shortest, 9), min_size=n, max_size=n))


@given(streams(), SLOTS)
def test_every_task_arrives_begins_and_ends_once_when_it_should(
    stream: tuple[list[int], list[int]], n_slots: int
) -> None:
    arrived, takes = stream

    found = happened(arrived, takes, n_slots)

    began, ended = at(Began, found), at(Ended, found)
    assert len(found) == 3 * len(arrived)
    assert at(Arrived, found) == dict(enumerate(arrived))
    assert ended == {number: began[number] + takes[number] for number in range(len(arrived))}
    assert all(began[number] >= arrived[number] for number in began)


@given(streams(shortest=1), SLOTS)
def test_time_goes_forward_and_what_comes_together_ends_arrives_or_begins_in_this_order(
    stream: tuple[list[int], list[int]], n_slots: int
) -> None:
    arrived, takes = stream

    found = happened(sorted(arrived), takes, n_slots)

    kinds = (Ended, Arrived, Began)
    keys = [(event.at, kinds.index(type(event)), event.number) for event in found]
    assert keys == sorted(keys)


@given(streams(), SLOTS)
def test_time_never_goes_back(stream: tuple[list[int], list[int]], n_slots: int) -> None:
    found = happened(*stream, n_slots)

    assert [event.at for event in found] == sorted(event.at for event in found)


@given(streams(), SLOTS)
def test_no_more_tasks_are_served_at_once_than_there_are_slots(
    stream: tuple[list[int], list[int]], n_slots: int
) -> None:
    busy = 0
    for event in happened(*stream, n_slots):
        busy += {Arrived: 0, Began: 1, Ended: -1}[type(event)]
        assert 0 <= busy <= n_slots


@given(streams(), SLOTS)
def test_no_slot_is_free_while_a_task_waits(
    stream: tuple[list[int], list[int]], n_slots: int
) -> None:
    found = happened(*stream, n_slots)
    waiting = busy = 0
    for event, following in zip(found, [*found, None][1:], strict=True):
        waiting += {Arrived: 1, Began: -1, Ended: 0}[type(event)]
        busy += {Arrived: 0, Began: 1, Ended: -1}[type(event)]
        if following is None or following.at > event.at:  # all that this moment holds is done
            assert not waiting or busy == n_slots


@given(streams(), SLOTS)
def test_first_come_is_first_served(stream: tuple[list[int], list[int]], n_slots: int) -> None:
    found = happened(*stream, n_slots)

    arrived = [event.number for event in found if isinstance(event, Arrived)]
    assert [event.number for event in found if isinstance(event, Began)] == arrived
    assert arrived == sorted(arrived, key=lambda number: (stream[0][number], number))


@given(streams())
def test_with_a_slot_for_everyone_nobody_waits(stream: tuple[list[int], list[int]]) -> None:
    found = happened(*stream, max(len(stream[0]), 1))

    assert at(Began, found) == at(Arrived, found)


def test_a_task_is_learnt_at_the_moment_it_begins() -> None:
    log: list[Event | str] = []

    def learn(number: int) -> int:
        log.append(f"learn {number}")
        return 10

    log.extend(events([0, 4, 10], learn, n_slots=1))  # one at a time, in turn with `learn`

    assert log == [
        *(Arrived(0, 0), Began(0, 0), "learn 0"),
        *(Arrived(4, 1), Ended(10, 0), Arrived(10, 2), Began(10, 1), "learn 1"),
        *(Ended(20, 1), Began(20, 2), "learn 2", Ended(30, 2)),
    ]


def test_a_task_that_takes_no_time_ends_before_the_next_begins() -> None:
    found = happened([3, 3], [0, 0], 1)

    assert found[2:] == [Began(3, 0), Ended(3, 0), Began(3, 1), Ended(3, 1)]


def test_kinds_of_events_are_never_equal() -> None:
    assert Arrived(1, 2) == Arrived(1, 2)
    assert len({Arrived(1, 2), Began(1, 2), Ended(1, 2)}) == 3


@pytest.mark.parametrize(
    ("arrived", "service", "n_slots", "told"),
    [
        ([0], lambda _: 1, 0, "at least one slot is needed, got 0"),
        ([3, -1], lambda _: 1, 1, "no task may arrive before time 0"),
        ([0], lambda _: -5, 1, "task 0 cannot take -5 microseconds"),
    ],
)
def test_what_cannot_be_is_refused(
    arrived: list[int], service: Callable[[int], int], n_slots: int, told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        list(events(arrived, service, n_slots=n_slots))
