"""The dispatcher: it has the places of a stream worked on, many of them ahead of their turn.

A worker is idle only where every place that is left belongs to a provider that is busy, waits for
its turn, or would have more answers held in memory than is allowed.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Final

from streamlab.stream.providers.provider import Answer

# What may have begun ahead of its turn: so many bytes of answers, or so many places a worker.
_MOST_BYTES_AHEAD: Final = 64 << 20
_MOST_PLACES_AHEAD: Final = 4
_ANSWER_BYTES: Final = 16 << 10  # of an answer beside its artifact

# The work at one place. It yields each future that it waits for, and is sent the time at which a
# worker became free for it, 0 where one was; it yields None where it depends on everything before
# it, so that it cannot go on ahead of its turn.
Work = Generator[Future[Answer] | None, float | None, None]


class Dispatcher:
    """Carries out the work at a number of places, in the thread that it was made in.

    The executor's threads only finish futures and post calls. Work is started in order, but for
    places whose provider is busy. While this thread does something else, a second order waits for
    each worker, so that it need not wait for this thread.
    """

    def __init__(
        self, work: Callable[[int], Work], providers: Sequence[str], *, workers: int
    ) -> None:
        """`work`: begins it at a place. `providers`: of each place. `workers`: see `Executor`."""
        self._begin, self._providers, self._workers = work, providers, workers
        self._upcoming: dict[str, deque[int]] = {}  # each provider's places that have not begun
        for place, provider in enumerate(providers):
            self._upcoming.setdefault(provider, deque()).append(place)
        self._ready = [places[0] for places in self._upcoming.values()]  # a heap
        heapq.heapify(self._ready)
        self._work: dict[int, Work] = {}  # that has begun and not ended
        self._held: dict[int, int] = {}  # bytes of the answers at each place that has begun
        self._held_bytes = 0
        # Places that wait for a future: since when a worker is free for each, and the others.
        self._free_at: dict[int, float] = {}
        self._queued: deque[int] = deque()
        self._busy: Counter[str] = Counter()  # providers, by the number of their orders
        self._turn = -1  # the last place whose turn has come; they come in order
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread = threading.get_ident()

    def post(self, call: Callable[[], None]) -> None:
        """Make a call in the dispatcher's thread: at once in that thread, else when it is free."""
        if threading.get_ident() == self._thread:
            call()
        else:
            self._calls.put(call)

    def finish(self, place: int) -> None:
        """Do all that is left of the work at the next place, whose turn has come.

        Raises what the work raises, and that of places ahead too.
        """
        self._turn = place
        if place not in self._held:
            self._start(place)
        elif place in self._work and not self._waits(place):
            self._advance(place)
        while place in self._work:
            self._start_ahead(self._workers)
            self._calls.get()()
        self._held_bytes -= self._held.pop(place)

    def poll(self) -> None:
        """Take note of what has been finished in the meantime, and keep the workers busy."""
        while not self._calls.empty():
            self._calls.get()()
        self._start_ahead(2 * self._workers)

    def close(self) -> None:
        """Abandon what has not ended."""
        for work in self._work.values():
            work.close()

    def _start_ahead(self, n_orders: int) -> None:
        while self._ready and self._may_start(n_orders):
            place = heapq.heappop(self._ready)
            provider = self._providers[place]
            upcoming = self._upcoming[provider]
            if upcoming and upcoming[0] == place and not self._busy[provider]:
                self._start(place)

    def _may_start(self, n_orders: int) -> bool:
        few = len(self._held) <= _MOST_PLACES_AHEAD * self._workers
        n_waiting = len(self._free_at) + len(self._queued)
        return n_waiting < n_orders and (few or self._held_bytes < _MOST_BYTES_AHEAD)

    def _waits(self, place: int) -> bool:
        return place in self._free_at or place in self._queued

    def _start(self, place: int) -> None:
        self._upcoming[self._providers[place]].popleft()
        self._work[place], self._held[place] = self._begin(place), 0
        self._advance(place)

    def _advance(self, place: int, free_at: float | None = None) -> None:
        """Go on with the work at a place until it waits, depends on what is before it, or ends."""
        work, provider = self._work[place], self._providers[place]
        try:
            future = work.send(free_at)
            while future is None and place <= self._turn:
                future = work.send(None)
        except StopIteration:
            del self._work[place]
        else:
            if future is not None:
                self._wait(place, future)
        if self._workers and self._upcoming[provider] and not self._busy[provider]:
            heapq.heappush(self._ready, self._upcoming[provider][0])

    def _wait(self, place: int, future: Future[Answer]) -> None:
        if len(self._free_at) < self._workers:
            self._free_at[place] = 0.0
        else:
            self._queued.append(place)
        self._busy[self._providers[place]] += 1
        future.add_done_callback(partial(self._done, place))

    def _done(self, place: int, future: Future[Answer]) -> None:
        self._calls.put(partial(self._take, place, future, time.perf_counter()))

    def _take(self, place: int, future: Future[Answer], at: float) -> None:
        """Note that a place has its answer since `at`, and go on with its work."""
        self._busy[self._providers[place]] -= 1
        free_at = self._free_at.pop(place, None)
        if free_at is None:
            self._queued.remove(place)
        elif self._queued:
            self._free_at[self._queued.popleft()] = at
        if not future.cancelled() and future.exception() is None:
            n_bytes = _ANSWER_BYTES + len(future.result().submission.data)
            self._held[place] += n_bytes
            self._held_bytes += n_bytes
        self._advance(place, free_at or 0.0)
