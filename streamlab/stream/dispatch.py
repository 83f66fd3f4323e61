"""The dispatcher: it has the places of a stream worked on, some of them ahead of their turn."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue

from streamlab.stream.providers.provider import Answer

_PLACES_AHEAD = 4  # for each worker; what they answered is held in memory until their turn

# The work at one place. It yields each future that it waits for, and None where it depends on
# everything before it, so that it cannot go on ahead of its turn.
Work = Generator[Future[Answer] | None, None, None]


class Dispatcher:
    """Carries out the work at a number of places, in the thread that it was made in.

    The executor's threads only finish futures and post calls. Work is started in order, but for
    places whose provider is busy, and as long as a worker is free.
    """

    def __init__(self, work: Sequence[Work], providers: Sequence[str], *, workers: int) -> None:
        """Take the work at each place and its provider. `workers`: see `Executor`."""
        self._work, self._providers, self._workers = work, providers, workers
        self._waiting: dict[int, str] = {}  # places that wait for a future, and their provider
        self._parked: set[int] = set()  # places that wait for their turn
        self._ended: set[int] = set()
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
        if place not in self._waiting and place not in self._ended:
            self._parked.discard(place)
            self._advance(place)
        while place not in self._ended:
            self._start_ahead()
            self._calls.get()()

    def poll(self) -> None:
        """Take note of what has been finished in the meantime, and keep the workers busy."""
        while not self._calls.empty():
            self._calls.get()()
        self._start_ahead()

    def close(self) -> None:
        """Abandon what has not ended."""
        for work in self._work:
            work.close()

    def _start_ahead(self) -> None:
        last = min(self._turn + 1 + _PLACES_AHEAD * self._workers, len(self._work))
        for place in range(self._turn + 1, last):
            if len(self._waiting) >= self._workers:
                return
            started = place in self._waiting or place in self._ended or place in self._parked
            if not started and self._providers[place] not in self._waiting.values():
                self._advance(place)

    def _done(self, place: int, _future: Future[Answer]) -> None:
        self._calls.put(partial(self._advance, place))

    def _advance(self, place: int) -> None:
        self._waiting.pop(place, None)
        for future in self._work[place]:
            if future is not None:
                self._waiting[place] = self._providers[place]
                future.add_done_callback(partial(self._done, place))
                return
            if place > self._turn:
                self._parked.add(place)
                return
        self._ended.add(place)
