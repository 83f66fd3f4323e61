"""The virtual clock: tasks arrive, wait for one of a few slots, are learnt there, and leave.

First come, first served; of those that come together, the lowest number. Time is in whole
microseconds, so that it adds up without rounding and is the same everywhere. What happens at one
moment has an order: first what ends, by number, then what arrives, by number, then what begins.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

_ENDS, _ARRIVES = 0, 1  # in the order in which they come at one moment


@dataclass(frozen=True)
class Event:
    """Something that happens to one task."""

    at: int  # microseconds from the start
    number: int  # of the task: its place among the arrivals given


class Arrived(Event):
    """The task has come, and waits."""


class Began(Event):
    """The task has a slot."""


class Ended(Event):
    """The task is done, and its slot is free."""


def events(
    arrived_us: Sequence[int], service: Callable[[int], int], *, n_slots: int
) -> Iterator[Event]:
    """Yield what happens, in order of time.

    `arrived_us`: when each task arrives. `service`: called with a task's number once its `Began`
    was taken, before anything that comes after; says how many microseconds the task takes.
    Raises ValueError for less than one slot, and for a time below 0.

    >>> [type(event).__name__ for event in events([0, 0], lambda number: 5, n_slots=1)]
    ['Arrived', 'Arrived', 'Began', 'Ended', 'Began', 'Ended']
    """
    if n_slots < 1 or min(arrived_us, default=0) < 0:
        raise ValueError(
            f"one slot at least is needed, got {n_slots}, and no task may arrive before time 0"
        )
    upcoming = [(int(at), _ARRIVES, number) for number, at in enumerate(arrived_us)]
    heapq.heapify(upcoming)
    waiting: deque[int] = deque()
    while upcoming:
        now, kind, number = heapq.heappop(upcoming)
        if kind == _ENDS:
            n_slots += 1
            yield Ended(now, number)
        else:
            waiting.append(number)
            yield Arrived(now, number)
        # No task begins while others still end or arrive at the same moment.
        while waiting and n_slots and (not upcoming or upcoming[0][0] > now):
            number = waiting.popleft()
            n_slots -= 1
            yield Began(now, number)
            heapq.heappush(upcoming, (now + _checked(service(number), number), _ENDS, number))


def _checked(microseconds: int, number: int) -> int:
    if microseconds < 0:
        raise ValueError(f"task {number} cannot take {microseconds} microseconds")
    return microseconds
