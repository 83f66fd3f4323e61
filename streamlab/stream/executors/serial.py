"""Where providers work: in this process, or each in one of its own that may die without harm."""

from __future__ import annotations

from typing import Protocol

from streamlab.errors import ProviderError
from streamlab.stream.context import RunContext
from streamlab.stream.providers.provider import Answer, Order, Watch, answer


class Executor(Protocol):
    """Have arrivals learnt by their providers."""

    def answer(self, order: Order, watch: Watch) -> Answer:
        """Return a provider's answer to one arrival; `watch` is told of every training step.

        Raises TrainingError or DiffError where the training broke down, ProviderError where the
        provider did, BaseMismatchError where this process's base is not what it was.
        """
        ...

    def close(self) -> None:
        """End whatever was started."""
        ...


class Serial:
    """Let every provider work in this process, one after another."""

    def __init__(self, context: RunContext) -> None:
        """`context`: the base, and every provider's rows."""
        self._context = context

    def answer(self, order: Order, watch: Watch) -> Answer:
        """Train in this process; see `Executor`. A crash and a hang are told, not acted out."""
        if order.behaviour in ("crash", "hang"):
            raise ProviderError(
                f"The provider `{order.arrival.provider}` was to {order.behaviour}, by the "
                "scenario; with `execution.executor: processes` its process does."
            )
        return answer(order, self._context, watch)

    def close(self) -> None:
        """Nothing was started."""
