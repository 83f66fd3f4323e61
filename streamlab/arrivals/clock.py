"""The virtual clock: tasks arrive, wait for one of a few slots, are trained, and leave.

First come, first served; simultaneous arrivals by number. Times are whole microseconds, which add
up without rounding on every machine. At one moment, ends precede arrivals, and both precede
starts, each by number.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

_ENDS, _ARRIVES = 0, 1  # in the order at one moment


@dataclass(frozen=True)
class Event:
    """An event of one task."""

    at: int  # microseconds from the start
    number: int  # of the task: its index in the given arrivals


class Arrived(Event):
    """The task has arrived and waits."""


class Began(Event):
    """The task has a slot."""


class Ended(Event):
    """The task has ended, and its slot is free."""


def events(
    arrived_us: Sequence[int], service: Callable[[int], int], *, n_slots: int
) -> Iterator[Event]:
    """Yield all events in order of time.

    `arrived_us`: arrival time of each task. `service`: returns a task's duration in microseconds;
    called by number after its `Began` was consumed, before any later event. Raises ValueError for
    less than one slot, and for a negative time.

    >>> [type(event).__name__ for event in events([0, 0], lambda number: 5, n_slots=1)]
    ['Arrived', 'Arrived', 'Began', 'Ended', 'Began', 'Ended']
    """
    if n_slots < 1 or min(arrived_us, default=0) < 0:
        raise ValueError(
            f"at least one slot is needed, got {n_slots}, and no task may arrive before time 0"
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
        # No task starts before the last end or arrival at the same moment.
        while waiting and n_slots and (not upcoming or upcoming[0][0] > now):
            number = waiting.popleft()
            n_slots -= 1
            yield Began(now, number)
            heapq.heappush(upcoming, (now + _checked(service(number), number), _ENDS, number))


def _checked(microseconds: int, number: int) -> int:
    if microseconds < 0:
        raise ValueError(f"task {number} cannot take {microseconds} microseconds")
    return microseconds
