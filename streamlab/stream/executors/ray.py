"""The executor of Ray: one Ray task per arrival, on whichever machine of a cluster has room.

A Ray task is ours. It has the provider's own process beside it answer, as `provider_host` starts
and bounds it, so that nothing of a provider's is ever unpickled. What a task returns is a record
of plain fields; failures are records too. Ray runs the task of a dead worker or node again.
"""

from __future__ import annotations

import logging
import math
import os
import pickle
import platform
import secrets
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from streamlab.errors import (
    OutOfMemoryError,
    ProviderError,
    StreamlabError,
    TrainingError,
    UsageError,
)
from streamlab.methods.api import Progress
from streamlab.stream.executors.gate import Claim, Gate
from streamlab.stream.executors.provider_host import (
    Bounds,
    Host,
    ProviderProcess,
    answer_of,
    common_of,
    for_provider,
)
from streamlab.stream.executors.provider_messages import AnswerMessage
from streamlab.stream.executors.provider_process import Common, answer_message
from streamlab.stream.executors.resources import Resources, resources_of
from streamlab.stream.executors.sandbox import Sandbox, find_sandbox
from streamlab.stream.executors.shared_base import base_image, share_image
from streamlab.stream.providers.provider import Answer, Order, Watch
from streamlab.stream.run_context import RunContext
from streamlab.tasks.examples import TaskData
from streamlab.version import __version__

try:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise UsageError(
        "The executor `ray` needs Ray, which is not installed. Install it by "
        "`pip install 'streamlab[ray]'`, or use the executor `processes`."
    ) from error

_RETRIES: Final = 3  # of a task whose worker or node dies
_LOCAL_STORE_BYTES: Final = 256 << 20  # of a local cluster's objects, beside the base
_MOST_WORKERS: Final = 1024
_STEPS_EACH_SECONDS: Final = 0.25  # how often a worker sends its progress, and the lab asks for it
_MOST_STEPS: Final = 100_000  # of progress that wait to be asked for; older ones are lost
_CHECK_SECONDS: Final = 120.0  # until every node must have answered
_REACH_SECONDS: Final = 10.0
_FAILURES: Final = {
    "memory": OutOfMemoryError, "training": TrainingError, "provider": ProviderError,
}  # fmt: skip
# Of every local cluster of this process: Ray reads it once, and keeps it for the next one.
_SECRET: Final = secrets.token_hex(32)
_TOKENS: Final = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE")
_COMPARED: Final = ("torch", "transformers", "numpy")
_Steps = list[dict[str, Any]]
_remote: Any = ray.remote  # its types fit few calls of it
_nodes: Any = ray.nodes


# ---- on a worker


@dataclass(frozen=True)
class _Place:
    """What every worker of a run needs, beside the base's tensors."""

    run: str  # a name of this run alone
    common: bytes  # a pickled `Common`
    modules: tuple[str, ...]  # where the lab finds modules, plug-ins among them
    bounds: Bounds
    sandboxed: bool
    hidden: tuple[Path, ...]  # from providers


@dataclass
class _Worker:
    """A Ray worker's host, and the process of the provider that it served last."""

    run: str
    host: Host
    provider: str = ""
    process: ProviderProcess | None = None

    def take(self, provider: str, visible_gpus: str) -> ProviderProcess:
        process = self.process
        if process and (self.provider, process.visible_gpus) != (provider, visible_gpus):
            self.end()
        if self.process is None:
            self.process = self.host.start(provider, visible_gpus=visible_gpus)
            self.provider = provider
        return self.process

    def end(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.end()


_worker: _Worker | None = None  # of this process, where Ray started it


def _worker_of(place: Any, image: Any) -> _Worker:
    """Return this process's worker. `place` and `image` are references to objects of Ray."""
    global _worker  # Ray keeps the process, and nothing else, between tasks
    told: _Place = ray.get(place)
    if _worker is not None and _worker.run == told.run:
        return _worker
    if _worker is not None:
        _worker.end()
    # Or every fork of the fork server would run Ray's own main module.
    vars(sys.modules["__main__"]).pop("__file__", None)
    sys.path += [path for path in told.modules if path not in sys.path and Path(path).exists()]
    common: Common = pickle.loads(told.common)  # noqa: S301 - from the lab
    sandbox: Sandbox | None = None
    if told.sandboxed:
        sandbox = find_sandbox("bwrap", hidden=told.hidden, on_gpu=False)
    file = share_image([memoryview(ray.get(image)).cast("B")])
    host = Host(common, file, told.bounds, sandbox=sandbox, environment=os.environ)
    _worker = _Worker(told.run, host)
    return _worker


class _Reporter:
    """Sends progress to the lab now and then; what is left goes with the answer."""

    def __init__(self, steps: Any, token: str) -> None:
        self._steps, self._token = steps, token
        self._first, self._sent_at = 0, time.monotonic()
        self._waiting: _Steps = []

    def add(self, progress: Progress) -> None:
        self._waiting.append(asdict(progress))
        if time.monotonic() - self._sent_at > _STEPS_EACH_SECONDS:
            self._steps.add.remote(self._token, self._first, self._waiting)
            self._first, self._waiting = self._first + len(self._waiting), []
            self._sent_at = time.monotonic()

    def rest(self) -> tuple[int, _Steps]:
        """Return what was not sent, and how much came before it."""
        return self._first, self._waiting


def _answer_order(refs: Sequence[Any], token: str, question: bytes) -> dict[str, Any]:
    """Have an order answered beside this worker; the task of Ray.

    `question`: an order and its examples, pickled, as their classes may be a plug-in's.
    """
    place, image, steps = refs
    reporter = _Reporter(steps, token)
    record: dict[str, Any] = {}
    try:
        worker = _worker_of(place, image)
        order, task = pickle.loads(question)  # noqa: S301 - from the lab
        gpus = ray.get_runtime_context().get_accelerator_ids().get("GPU", [])
        process = worker.take(order.arrival.provider, ",".join(gpus))
        try:
            given = process.answer(order, task, reporter.add)
        except BaseException as error:
            if not isinstance(error, TrainingError) or isinstance(error, OutOfMemoryError):
                worker.end()
            raise
        record = {"answer": answer_message(given), "data": given.submission.data}
    except StreamlabError as error:
        kind = next((k for k, of in _FAILURES.items() if isinstance(error, of)), "provider")
        record = {"failed": kind, "reason": str(error)}
    except Exception as error:  # noqa: BLE001 - never raised, as Ray would pickle it
        reason = f"A worker of Ray failed: {type(error).__name__}: {error}"
        record = {"failed": "provider", "reason": reason}
    return record | {"steps": reporter.rest()}


class _StepsOfAll:
    """Progress of every worker, until the lab asks for it; an actor of Ray."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[str, int, dict[str, Any]]] = deque(maxlen=_MOST_STEPS)

    def add(self, token: str, first: int, steps: _Steps) -> None:
        self._waiting.extend((token, first + n, step) for n, step in enumerate(steps))

    def take(self) -> list[tuple[str, int, dict[str, Any]]]:
        taken = list(self._waiting)
        self._waiting.clear()
        return taken


# ---- in the lab


@dataclass
class _Call:
    """An order that a task of Ray answers."""

    watch: Watch
    ref: Any = None
    n_seen: int = 0
    error: BaseException | None = None  # of `watch`
    lock: threading.Lock = field(default_factory=threading.Lock)

    def see(self, number: int, step: Mapping[str, Any]) -> None:
        """Pass a step on, unless it was seen before the worker died and the task began again."""
        with self.lock:
            if number < self.n_seen or self.error is not None:
                return
            self.n_seen = number + 1
            try:
                self.watch(Progress(**step))
            except BaseException as error:  # noqa: BLE001 - raised by whoever asks for the result
                self.error = error
                if self.ref is not None:
                    ray.cancel(self.ref, force=True)


class RayTasks:
    """Let every provider work in a process of its own, beside the Ray task of its arrival."""

    def __init__(
        self,
        context: RunContext,
        bounds: Bounds,
        *,
        workers: int | None = None,
        address: str | None = None,
        sandbox: Sandbox | None = None,
    ) -> None:
        """`context`: of the lab. `workers`: tasks at once; None: what the cluster has room for.

        `address`: of a cluster; None: one on this machine, which ends with this executor. Raises
        UsageError where the cluster cannot be used.
        """
        self._context = context
        self._needed = {task: _needed(task, context) for task in context.scenario.tasks}
        n_cpus = math.ceil(max(one.cpus for one in self._needed.values()) * (workers or 1))
        n_bytes = sum(tensor.nbytes for tensor in context.base.tensors.values())
        with ExitStack() as stack:
            nodes = stack.enter_context(
                connected(address, n_cpus=max(n_cpus, os.cpu_count() or 1), n_bytes=n_bytes)
            )
            room = _room(nodes, self._needed)
            self.workers: Final = min(workers or room, _MOST_WORKERS)
            self._put(context, bounds, sandbox)
            self._connection = stack.pop_all()
        self._gate = Gate()
        self._threads = ThreadPoolExecutor(self.workers, thread_name_prefix="ray")
        self._lock = threading.Lock()  # of what follows
        self._calls: dict[str, _Call] = {}
        self._closed = threading.Event()
        self._asking = threading.Thread(target=self._ask_for_steps, name="progress", daemon=True)
        self._asking.start()

    def _put(self, context: RunContext, bounds: Bounds, sandbox: Sandbox | None) -> None:
        """Put what every worker needs where Ray keeps its objects, once."""
        place = _Place(
            run=secrets.token_hex(8),
            common=pickle.dumps(common_of(context)),
            modules=tuple(os.path.abspath(path) for path in sys.path),  # noqa: PTH100 - links stay
            bounds=bounds,
            sandboxed=sandbox is not None,
            hidden=() if sandbox is None else sandbox.hidden,
        )
        parts = [np.frombuffer(part, dtype=np.uint8) for part in base_image(context.base.tensors)]
        # On the machine of this process, so that it does not end with another.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        steps = _remote(num_cpus=0, scheduling_strategy=here)(_StepsOfAll)
        self._steps = steps.remote()
        self._refs = [ray.put(place), ray.put(np.concatenate(parts)), self._steps]
        self._task = _remote(max_retries=_RETRIES, max_calls=0)(_answer_order)

    def submit(self, order: Order, watch: Watch) -> Future[Answer]:
        """Have a task of Ray answer; see `Executor`."""
        task = for_provider(self._context.loaded(order.arrival))
        return self._threads.submit(self._answer, order, task, watch)

    def _answer(self, order: Order, task: TaskData, watch: Watch) -> Answer:
        token, call = secrets.token_hex(8), _Call(watch)
        with self._gate.entered(Claim(order.arrival.provider, order.alone)):
            with self._lock:
                if self._closed.is_set():
                    raise ProviderError("The run was stopped before the provider could answer.")
                needed = self._needed[order.arrival.task]
                started = self._task.options(
                    num_cpus=needed.cpus, num_gpus=needed.gpus, memory=needed.memory
                )
                call.ref = started.remote(self._refs, token, pickle.dumps((order, task)))
                self._calls[token] = call
            try:
                with _explained(order, call):
                    record = ray.get(call.ref)
                self._see_rest(call, *record["steps"])
            finally:
                with self._lock:
                    self._calls.pop(token)
        return _answer_in(record, order)

    def _see_rest(self, call: _Call, first: int, steps: _Steps) -> None:
        """Pass on all progress that is left of a call. Raises what its watcher raises."""
        if call.n_seen < first:
            self._take_steps()
        for number, step in enumerate(steps, first):
            call.see(number, step)
        if call.error is not None:
            raise call.error

    def _ask_for_steps(self) -> None:
        while not self._closed.wait(_STEPS_EACH_SECONDS):
            if self._calls:
                self._take_steps()

    def _take_steps(self) -> None:
        """Pass on what workers have sent; where Ray has lost it, that is all that is lost."""
        with suppress(ray.exceptions.RayError):
            for token, number, step in ray.get(self._steps.take.remote()):
                call = self._calls.get(token)
                if call is not None:
                    call.see(number, step)

    def close(self) -> None:
        """End every task and all that it started, whatever it is doing."""
        self._gate.close()
        with self._lock:
            self._closed.set()
            calls = list(self._calls.values())
        # First what waits: a thread whose task is cancelled would take up the next order.
        self._threads.shutdown(wait=False, cancel_futures=True)
        for call in calls:
            ray.cancel(call.ref, force=True)
        self._threads.shutdown()
        self._asking.join()
        self._connection.close()


def _answer_in(record: Mapping[str, Any], order: Order) -> Answer:
    """Return the answer in a task's record, or raise its failure."""
    if "failed" in record:
        raise _FAILURES[record["failed"]](record["reason"])
    return answer_of(AnswerMessage.model_validate(record["answer"]), record["data"], order.arrival)


@contextmanager
def _explained(order: Order, call: _Call) -> Iterator[None]:
    """Turn what Ray raises about a task into what an executor raises."""
    try:
        yield
    except ray.exceptions.OutOfMemoryError as error:
        raise OutOfMemoryError(
            f"Ray ended the worker that had `{order.arrival.task}`, as memory ran out."
        ) from error
    except ray.exceptions.RayError as error:
        if call.error is not None:
            raise call.error from error
        raise ProviderError(
            f"Ray could not have `{order.arrival.task}` answered ({type(error).__name__}): its "
            f"worker or node was lost {_RETRIES + 1} times, or the run was stopped."
        ) from error


def _needed(task: str, context: RunContext) -> Resources:
    needed = resources_of(task, context)
    if needed.gpu is not None:
        raise UsageError(
            f"`training.device` of `{task}` is {context.training(task).device!r}, and Ray chooses "
            "the GPU. Set it to `cuda`."
        )
    return needed


# ---- the cluster


@dataclass(frozen=True)
class Node:
    """A machine of a cluster, what Ray counts there, and what differs from this machine."""

    name: str
    cpus: float
    gpus: float
    memory: int
    differs: str  # "" for nothing


@contextmanager
def connected(
    address: str | None, *, n_cpus: int | None = None, n_bytes: int = 0
) -> Iterator[tuple[Node, ...]]:
    """Connect to a cluster, and yield its machines; without an address, start one on this machine.

    `n_cpus` is what a local one is told to have, `n_bytes` what is put into it. It ends with the
    block. Raises UsageError where there is no such cluster.
    """
    if ray.is_initialized():
        raise UsageError("This process is connected to Ray already. Call `ray.shutdown()` first.")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    logging.getLogger("ray").setLevel(logging.ERROR)
    silent: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    local: dict[str, Any] = {
        "num_cpus": n_cpus,
        "include_dashboard": False,
        "object_store_memory": 2 * n_bytes + _LOCAL_STORE_BYTES,
        "_node_ip_address": "127.0.0.1",
        # What Ray ends for want of memory is tried again alone. The only machine is not
        # given up, however busy it is: this process would end with it.
        "_system_config": {"task_oom_retries": 0, "health_check_failure_threshold": 1000},
    }
    with ExitStack() as stack:
        if address is None:
            stack.enter_context(_own_token())
        stack.callback(ray.shutdown)
        with _refused(address):
            _reach(address)
            ray.init(address=address or "local", **({} if address else local), **silent)
            nodes = tuple(_describe(node, here=address is None) for node in _alive())
        yield nodes


def _reach(address: str | None) -> None:
    """Raise OSError where nothing listens at `HOST:PORT`: Ray itself asks for four minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_SECONDS).close()


@contextmanager
def _refused(address: str | None) -> Iterator[None]:
    """Turn what Ray raises where it finds no cluster into a UsageError."""
    try:
        yield
    except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise UsageError(
            f"The Ray cluster {address or 'on this machine'!r} cannot be used: {reason}. Give the "
            "address of its head (`HOST:6379`, or `auto` on one of its machines)."
        ) from error


@contextmanager
def _own_token() -> Iterator[None]:
    """Have a local cluster use a secret of its own; Ray writes one into the user's home folder."""
    if any(name in os.environ for name in _TOKENS):
        yield
        return
    os.environ["RAY_AUTH_TOKEN"] = _SECRET
    try:
        yield
    finally:
        for name in _TOKENS:
            os.environ.pop(name, None)


def _alive() -> list[dict[str, Any]]:
    return [node for node in _nodes() if node["Alive"]]


def _versions() -> dict[str, str]:
    found = {name: version(name) for name in _COMPARED}
    return found | {"python": platform.python_version(), "streamlab": __version__}


def _describe(node: Mapping[str, Any], *, here: bool) -> Node:
    """Describe a machine, asking it for its versions unless it is this one."""
    resources = node["Resources"]
    return Node(
        name=node["NodeManagerHostname"],
        cpus=resources.get("CPU", 0.0),
        gpus=resources.get("GPU", 0.0),
        memory=int(resources.get("memory", 0)),
        differs="" if here else _differences(node["NodeID"]),
    )


def _differences(node: str) -> str:
    """Return in which versions a machine differs from this one."""
    placed = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
    ask = _remote(num_cpus=0, max_retries=0, scheduling_strategy=placed)(_versions)
    try:
        theirs = ray.get(ask.remote(), timeout=_CHECK_SECONDS)
    except ray.exceptions.RayError as error:
        last = str(error).strip().splitlines()[-1]
        return f"streamlab cannot be used there ({last[:200]})"
    return ", ".join(
        f"{name} {theirs.get(name)} instead of {ours}"
        for name, ours in _versions().items()
        if theirs.get(name) != ours
    )


def _room(nodes: Sequence[Node], needed: Mapping[str, Resources]) -> int:
    """Return how many arrivals find room at once. Raises UsageError for one that never does."""
    for node in nodes:
        if node.differs:
            raise UsageError(
                f"The machine `{node.name}` of the Ray cluster has {node.differs}. Install there "
                "what is installed here; `streamlab doctor --ray-address` compares all of them."
            )
    for task, one in needed.items():
        if not any(_n_fitting(node, one) for node in nodes):
            raise UsageError(
                f"No machine of the Ray cluster has what `{task}` needs: {one.cpus:g} CPUs, "
                f"{one.gpus:g} GPUs, {one.memory or 0:,} bytes of memory. Lower its `resources`, "
                "or give the cluster larger machines."
            )
    return max(sum(_n_fitting(node, one) for node in nodes) for one in needed.values())


def _n_fitting(node: Node, one: Resources) -> int:
    """Return how many of a kind of arrival fit on a machine."""
    pairs = [(node.cpus, one.cpus), (node.gpus, one.gpus), (node.memory, one.memory or 0)]
    return min(int(there / each + 1e-9) for there, each in pairs if each)
