"""Serve many tasks from one model: one diff at a time, swapped while no thread reads.

Requests are served first come, first served, so a busy task cannot starve another one.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import nn

from streamlab.diff.apply import Applied, plan
from streamlab.diff.vector import DiffVector
from streamlab.errors import DiffError


class Switcher:
    """A model and one matched diff per task, shared by the threads of one process.

    Raises DiffError where a diff does not fit the model.
    """

    def __init__(
        self, model: nn.Module, diffs: Mapping[str, DiffVector], *, expected: str | None = None
    ) -> None:
        self._model = model
        self._plans = {task: plan(model, diff, expected=expected) for task, diff in diffs.items()}
        self._turn = threading.Condition()
        self._queue: deque[object] = deque()
        self._readers: dict[int, int] = {}  # thread -> nesting depth of `serving`
        self._task: str | None = None
        self._applied: Applied | None = None

    @property
    def task(self) -> str | None:
        """Return the task whose diff is on the model; None for the base alone."""
        return self._task

    @contextmanager
    def serving(self, task: str) -> Iterator[nn.Module]:
        """Yield the model with `task`'s diff applied; threads may serve one task concurrently.

        Raises DiffError for an unknown task, and where this thread is serving another one.
        """
        if task not in self._plans:
            raise DiffError(
                f"There is no diff for {task!r}. Known tasks: {', '.join(sorted(self._plans))}."
            )
        self._enter(task)
        try:
            yield self._model
        finally:
            self._leave()

    def close(self) -> None:
        """Wait until no thread is served, and restore the base."""
        with self._turn:
            if threading.get_ident() in self._readers:
                raise DiffError(
                    "A thread cannot close the switcher inside its own `serving` block."
                )
            self._await_turn(None)
            self._take_off()
            self._turn.notify_all()

    def _enter(self, task: str) -> None:
        me = threading.get_ident()
        with self._turn:
            if me in self._readers and self._task != task:
                raise DiffError(
                    f"This thread is serving {self._task!r}; leave its `serving` block first."
                )
            if me not in self._readers:
                self._await_turn(task)
                if self._task != task:
                    self._take_off()
                    self._applied = self._plans[task].put_on()
                    self._task = task
            self._readers[me] = self._readers.get(me, 0) + 1
            self._turn.notify_all()

    def _await_turn(self, task: str | None) -> None:
        """Wait for this thread's turn, and for the model to be unused or to carry `task`."""
        ticket = object()
        self._queue.append(ticket)
        try:
            self._turn.wait_for(
                lambda: (
                    self._queue[0] is ticket
                    and (not self._readers or (task is not None and self._task == task))
                )
            )
        finally:
            self._queue.remove(ticket)
            self._turn.notify_all()

    def _leave(self) -> None:
        me = threading.get_ident()
        with self._turn:
            self._readers[me] -= 1
            if not self._readers[me]:
                del self._readers[me]
            self._turn.notify_all()

    def _take_off(self) -> None:
        if self._applied is not None:
            self._applied.revert()
        self._applied = self._task = None
