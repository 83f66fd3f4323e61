"""The executor of this process: every provider works here, one after another."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Final

from streamlab.errors import OutOfMemoryError, ProviderError
from streamlab.stream.providers.provider import Answer, Order, Watch, answer
from streamlab.stream.run_context import RunContext


class Serial:
    """Let every provider work in this process, while `submit` is called."""

    workers: Final = 0

    def __init__(self, context: RunContext) -> None:
        """`context`: the base, and every provider's examples."""
        self._context = context

    def submit(self, order: Order, watch: Watch) -> Future[Answer]:
        """Train in this process; see `Executor`. A simulated crash or hang is an error at once."""
        future: Future[Answer] = Future()
        try:
            if order.behaviour in ("crash", "hang"):
                raise ProviderError(
                    f"The scenario has the provider `{order.arrival.provider}` {order.behaviour}. "
                    "With `execution.executor: processes` its process really does."
                )
            future.set_result(answer(order, self._context, watch))
        except MemoryError:
            future.set_exception(OutOfMemoryError(f"`{order.arrival.task}` ran out of memory."))
        except BaseException as error:  # noqa: BLE001 - raised by whoever asks for the result
            future.set_exception(error)
        return future

    def close(self) -> None:
        """Do nothing: nothing was started."""
