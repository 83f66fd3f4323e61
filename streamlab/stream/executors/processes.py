"""The executor of processes: each provider has its own, with the base and only its own examples."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from streamlab.errors import OutOfMemoryError, ProviderError, TrainingError
from streamlab.stream.executors.gate import Gate
from streamlab.stream.executors.provider_host import (
    Bounds,
    Host,
    ProviderProcess,
    common_of,
    for_provider,
)
from streamlab.stream.executors.resources import claim_of, n_at_once
from streamlab.stream.executors.sandbox import Sandbox
from streamlab.stream.executors.shared_base import base_image, share_image
from streamlab.stream.providers.provider import Answer, Order, Watch
from streamlab.stream.run_context import RunContext
from streamlab.tasks.examples import TaskData


class Processes:
    """Let every provider work in a process of its own; some providers at once.

    A process is started when its provider is needed, and ended when another needs its place. No
    process ever serves two providers.
    """

    def __init__(
        self,
        context: RunContext,
        bounds: Bounds,
        *,
        workers: int = 1,
        sandbox: Sandbox | None = None,
        gpus: Sequence[str] = (),
    ) -> None:
        """`context`: of the lab. `workers`: processes at once. `sandbox`: None for none.

        `gpus`: as CUDA calls those of this machine that providers share.
        """
        self._context, self._gpus = context, gpus
        self.workers: Final = n_at_once(context, workers=workers, n_gpus=len(gpus))
        self._file = share_image(base_image(context.base.tensors))
        self._host = Host(
            common_of(context), self._file, bounds, sandbox=sandbox, environment=os.environ
        )
        self._gate = Gate(len(gpus))
        self._threads = ThreadPoolExecutor(self.workers, thread_name_prefix="provider")
        self._lock = threading.Lock()  # of what follows
        self._processes: dict[str, ProviderProcess] = {}  # by provider; the latest used comes last
        self._busy: set[str] = set()
        self._closed = False

    def submit(self, order: Order, watch: Watch) -> Future[Answer]:
        """Have the provider's process answer; see `Executor`. One that fails to is ended."""
        task = for_provider(self._context.loaded(order.arrival))
        return self._threads.submit(self._answer, order, task, watch)

    def _answer(self, order: Order, task: TaskData, watch: Watch) -> Answer:
        provider = order.arrival.provider
        claim = claim_of(order, self._context)
        with self._gate.entered(claim) as gpu:
            # One that names its GPU by number sees all of them.
            visible = None if gpu is None or claim.gpu is not None else self._gpus[gpu]
            process = self._take(provider, visible, alone=order.alone)
            try:
                return process.answer(order, task, watch)
            except BaseException as error:
                reported = isinstance(error, TrainingError)
                if not reported or isinstance(error, OutOfMemoryError):
                    with self._lock:
                        self._processes.pop(provider, None)
                    process.end()
                raise
            finally:
                with self._lock:
                    self._busy.discard(provider)

    def _take(self, provider: str, visible: str | None, *, alone: bool) -> ProviderProcess:
        """Return a provider's process; where it must be started, another's may have to end."""
        with self._lock:
            if self._closed:
                raise ProviderError("The run was stopped before the provider could answer.")
            process = self._processes.pop(provider, None)
            if process is not None and process.visible_gpus != visible:
                process.end()
                process = None
            n_left = 0 if alone else self.workers - 1
            while len(self._processes) > n_left:
                # Each other thread has one at most, so that one is idle.
                idle = next(name for name in self._processes if name not in self._busy)
                self._processes.pop(idle).end()
            if process is None:
                process = self._host.start(provider, visible_gpus=visible)
            self._processes[provider] = process
            self._busy.add(provider)
        return process

    def close(self) -> None:
        """End every process, whatever it is doing."""
        self._gate.close()
        with self._lock:
            self._closed = True
            processes = list(self._processes.values())
        # First what waits: a thread whose process is killed would take up the next order.
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()  # which ends what its thread reads from it
        self._threads.shutdown()
        for process in processes:
            process.end()
        os.close(self._file)
