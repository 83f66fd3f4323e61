"""Executors: where providers work. In this process, or each in one that may die without harm."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from streamlab.stream.providers.provider import Answer, Order, Watch


class Executor(Protocol):
    """Have orders answered by their providers.

    The answer to an order does not depend on the executor, on its number of workers, or on the
    other orders. One provider answers its orders one at a time.
    """

    @property
    def workers(self) -> int:
        """Return how many orders are worked on at once; 0: `submit` itself does the work."""
        ...

    def submit(self, order: Order, watch: Watch) -> Future[Answer]:
        """Return the future answer to an order.

        `watch` is called with every training step, perhaps from another thread; what it raises
        becomes the future's exception. Others are TrainingError or DiffError where the training
        breaks down, ProviderError where the provider does, and BaseMismatchError where the base
        was changed.
        """
        ...

    def close(self) -> None:
        """End everything that was started, whatever it is doing."""
        ...
