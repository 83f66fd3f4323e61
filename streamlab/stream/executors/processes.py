"""The executor of processes: each provider has its own, with the base and only its own examples.

`provider_process` describes what passes between the two.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.context import ForkServerContext
from typing import Annotated, Final, Protocol, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from streamlab.config import Settings
from streamlab.errors import ProviderError, TrainingError
from streamlab.hashing import parse_json
from streamlab.methods.api import Progress
from streamlab.registry.records import ArtifactKind
from streamlab.stream.executors.channel import Channel
from streamlab.stream.executors.process_tree import kill_tree, memory_of, tree_of
from streamlab.stream.executors.provider_process import Setup, work_supervised
from streamlab.stream.executors.sandbox import Sandbox, start_sandboxed
from streamlab.stream.providers.behaviours import Behaviour
from streamlab.stream.providers.provider import Answer, Effort, Order, Watch
from streamlab.stream.run_context import RunContext
from streamlab.stream.schedule import Arrival
from streamlab.stream.submission import Submission
from streamlab.tasks.examples import TaskData

_MAX_MESSAGE_BYTES = 64 << 10  # the longest message beside an artifact
_MAX_PROGRESS_BYTES = 1 << 10
_PROGRESS_PER_SECOND, _PROGRESS_BURST = 2_000, 10_000  # beyond, a provider has to wait
_MAX_PROCESSES = 128  # of one provider, compilers included
_MAX_REASON = 2_000  # characters
_EXIT_SECONDS = 5.0  # between the end of a connection and that of its process
_LARGEST = 1 << 53  # of steps, seconds or bytes: what every number format holds


class _AnswerMessage(Settings):
    """An answer without its artifact, as a provider sends it: of the right types, no more."""

    kind: ArtifactKind
    declared_score: float | None
    signature: Annotated[str, StringConstraints(pattern=r"^(?:[0-9a-f]{2}){1,64}$")] | None
    effort: Effort
    behaviour: Behaviour

    @field_validator("effort")
    @classmethod
    def _can_be_recorded(cls, effort: Effort) -> Effort:
        numbers = (effort.n_steps, effort.training_seconds, effort.peak_memory_bytes)
        if not all(0 <= number <= _LARGEST for number in numbers):
            raise ValueError(f"must take from 0 to {_LARGEST} of everything, got {numbers}")
        return effort


class _ProgressMessage(Settings):
    """A step of training, short enough to be one of very many."""

    stage: Annotated[str, StringConstraints(max_length=64, pattern=r"^[ -~]*$")]
    step: Annotated[int, Field(ge=1, le=_LARGEST)]
    n_steps: Annotated[int, Field(ge=1, le=_LARGEST)]
    loss: float
    density: float | None


class _Message(Settings):
    """A message from a provider: exactly one of these."""

    progress: _ProgressMessage | None = None
    answer: _AnswerMessage | None = None
    failed: str | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if [self.progress, self.answer, self.failed].count(None) != 2:
            raise ValueError("must be one of `progress`, `answer` and `failed`")
        return self


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a provider may take for one answer; None: no limit."""

    max_bytes: int  # of the artifact
    timeout_seconds: float | None = None  # including loading
    max_memory: int | None = None  # bytes, of all its processes together
    max_progress: int = 1_000_000  # messages


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
    ) -> None:
        """`context`: of the lab. `workers`: processes at once. `sandbox`: None for none."""
        self.workers: Final = workers
        self._context, self._bounds, self._sandbox = context, bounds, sandbox
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="provider")
        self._lock = threading.Lock()  # of what follows
        self._turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._processes: dict[str, _Process] = {}  # by provider; the latest used comes last
        self._busy: set[str] = set()
        self._closed = False

    def submit(self, order: Order, watch: Watch) -> Future[Answer]:
        """Have the provider's process answer; see `Executor`. One that fails to is ended."""
        task = _for_provider(self._context.loaded(order.arrival))
        return self._threads.submit(self._answer, order, task, watch)

    def _answer(self, order: Order, task: TaskData, watch: Watch) -> Answer:
        provider = order.arrival.provider
        with self._lock:
            turn = self._turns[provider]
        with turn:
            process = self._take(provider)
            try:
                return process.answer(order, task, watch)
            except TrainingError:
                raise  # the provider reported it, and can go on
            except BaseException:
                with self._lock:
                    self._processes.pop(provider, None)
                process.end()
                raise
            finally:
                with self._lock:
                    self._busy.discard(provider)

    def _take(self, provider: str) -> _Process:
        """Return a provider's process; where it must be started, another's may have to end."""
        with self._lock:
            if self._closed:
                raise ProviderError("The run was stopped before the provider could answer.")
            process = self._processes.pop(provider, None)
            if process is None:
                if len(self._processes) >= self.workers:
                    # Each other thread has one at most, so that one is idle.
                    idle = next(name for name in self._processes if name not in self._busy)
                    self._processes.pop(idle).end()
                process = _start(self._setup(provider), self._bounds, self._sandbox)
            self._processes[provider] = process
            self._busy.add(provider)
        return process

    def _setup(self, provider: str) -> Setup:
        return Setup(
            scenario=self._context.scenario,
            folder=self._context.folder.absolute(),
            base=self._context.base.settings,
            fingerprint=self._context.base.fingerprint,
            model_module=type(self._context.base.config).__module__.replace(
                ".configuration_", ".modeling_"
            ),
            provider=provider,
            max_memory=self._bounds.max_memory,
            environment=dict(os.environ) if self._sandbox is None else self._sandbox.environment(),
        )

    def close(self) -> None:
        """End every process, whatever it is doing."""
        with self._lock:
            self._closed = True
            processes = list(self._processes.values())
        for process in processes:
            process.kill()  # which ends what its thread reads from it
        self._threads.shutdown(cancel_futures=True)
        for process in processes:
            process.end()


def _for_provider(task: TaskData) -> TaskData:
    """Return a task as its provider gets it: the examples to report on are the lab's."""
    return replace(task, dev=task.validation[:1])


class Started(Protocol):
    """A provider's process as it was started: a fork of the fork server, or in a sandbox."""

    @property
    def pid(self) -> int | None:
        """Return its number."""
        ...

    @property
    def exited(self) -> int:
        """Return a file descriptor that becomes readable when it has ended."""
        ...

    def exit_code(self, seconds: float) -> int | None:
        """Wait for it to end, and return the exit code, negative for a signal; None: it lives."""
        ...


_FORKING = threading.Lock()  # the library's own lists of processes are not made for threads


class _Forked:
    """A fork of the fork server, which has imported every library and seen no provider's data.

    Never of this process: a fork of a process that has used torch's threads may hang.
    """

    def __init__(self, end: socket.socket, name: str, model_module: str) -> None:
        server: ForkServerContext = multiprocessing.get_context("forkserver")
        server.set_forkserver_preload(["streamlab.stream.executors.fork_server", model_module])
        self._process = server.Process(target=work_supervised, args=(end,), name=name, daemon=True)
        with _FORKING:
            self._process.start()
        self.pid, self.exited = self._process.pid, self._process.sentinel

    def exit_code(self, seconds: float) -> int | None:
        """See `Started`."""
        multiprocessing.connection.wait([self.exited], seconds)
        with _FORKING:
            return self._process.exitcode


def _start(setup: Setup, bounds: Bounds, sandbox: Sandbox | None) -> _Process:
    ours, theirs = socket.socketpair()
    with theirs:  # so that the death of the process is seen as the connection's end
        if sandbox is not None:
            return _Process(start_sandboxed(theirs, setup, sandbox), ours, bounds, setup)
        started = _Forked(theirs, f"provider {setup.provider}", setup.model_module)
        return _Process(started, ours, bounds, setup)


class _Process:
    """One provider's process, the connection to it, and what it may take."""

    def __init__(
        self, started: Started, end: socket.socket, bounds: Bounds, setup: Setup | None = None
    ) -> None:
        self._started, self._bounds = started, bounds
        self._channel = Channel(end, exited=started.exited)
        self._setup = None if setup is None else pickle.dumps(setup)

    def answer(self, order: Order, task: TaskData, watch: Watch) -> Answer:
        """Ask, and read until there is an answer, or the process has taken more than it may."""
        asked = _Asked(order.arrival, self._bounds)
        with self._explained(order.arrival):
            for text in (self._setup, pickle.dumps((order, task))):
                if text is not None:
                    self._channel.send(text, deadline=asked.deadline)
            self._setup = None
            while True:
                message = self._receive_message(asked)
                if message.progress is not None:
                    asked.count_progress()
                    watch(Progress(**dict(message.progress)))
                elif message.answer is not None:
                    return self._receive(message.answer, asked)
                else:
                    raise TrainingError(str(message.failed)[:_MAX_REASON])

    @contextmanager
    def _explained(self, arrival: Arrival) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise ProviderError(
                f"The provider `{arrival.provider}` did not answer in time for `{arrival.task}`, "
                "and its process was killed. Raise `execution.timeout_seconds` if it still worked."
            ) from error
        except (EOFError, ConnectionError) as error:
            raise self._died(arrival) from error

    def _receive_message(self, asked: _Asked) -> _Message:
        try:
            text = self._channel.receive(
                _MAX_MESSAGE_BYTES, deadline=asked.deadline, tick=lambda: self._check(asked)
            )
            tree = parse_json(text)
            if b"\\u0000" in text:
                raise ValueError("it holds the character NUL")
            message = _Message.model_validate(tree)
            if message.progress is not None and len(text) > _MAX_PROGRESS_BYTES:
                raise ValueError(f"progress takes at most {_MAX_PROGRESS_BYTES} bytes")
            return message
        except ValueError as error:
            raise asked.refused(f"sent a message that cannot be read: {error}") from error

    def _receive(self, answered: _AnswerMessage, asked: _Asked) -> Answer:
        arrival = asked.arrival
        try:
            data = self._channel.receive(
                asked.bounds.max_bytes, deadline=asked.deadline, tick=lambda: self._check(asked)
            )
        except ValueError as error:
            raise asked.refused(f"sent what is not a submission: {error}") from error
        submission = Submission(
            provider=arrival.provider,
            task=arrival.task,
            version=arrival.version,
            kind=answered.kind,
            data=data,
            declared_score=answered.declared_score,
            signature=None if answered.signature is None else bytes.fromhex(answered.signature),
        )
        return Answer(submission, answered.effort, answered.behaviour)

    def _check(self, asked: _Asked) -> None:
        """Raise ProviderError where the provider's processes are too many or too large."""
        pids = tree_of(self._started.pid or 0)
        if len(pids) > _MAX_PROCESSES:
            raise asked.refused(f"started {len(pids)} processes, and may have {_MAX_PROCESSES}")
        allowed = asked.bounds.max_memory
        if allowed is not None and len(pids) > 2 and memory_of(pids) > allowed:
            raise asked.refused(f"took more than {allowed:,} bytes in {len(pids)} processes")

    def _died(self, arrival: Arrival) -> ProviderError:
        code = self._started.exit_code(_EXIT_SECONDS)
        how = f"with exit code {code}" if code is None or code >= 0 else f"by signal {-code}"
        memory = ", as the system does when memory runs out" if code == -signal.SIGKILL else ""
        return ProviderError(
            f"The process of the provider `{arrival.provider}` ended {how}{memory} before it "
            f"had answered for `{arrival.task}`. The run continues without it."
        )

    def kill(self) -> None:
        """Kill the process and all that it started, and wake whoever reads from it."""
        self._channel.shut()
        kill_tree(self._started.pid or 0)

    def end(self) -> None:
        """Kill the process and all that it started, and close the connection."""
        self.kill()
        self._started.exit_code(_EXIT_SECONDS)
        self._channel.close()


@dataclass
class _Asked:
    """An order that is being answered, and what the provider has taken for it."""

    arrival: Arrival
    bounds: Bounds
    began: float = field(default_factory=time.monotonic)
    n_progress: int = 0

    @property
    def deadline(self) -> float | None:
        """Return when the answer must be complete, by `time.monotonic`."""
        seconds = self.bounds.timeout_seconds
        return None if seconds is None else self.began + seconds

    def refused(self, what: str) -> ProviderError:
        """Return the error for something that the provider may not do."""
        return ProviderError(f"The provider `{self.arrival.provider}` {what}.")

    def count_progress(self) -> None:
        """Hold a provider back that reports too fast. Raises ProviderError for too many reports."""
        self.n_progress += 1
        if self.n_progress > self.bounds.max_progress:
            raise self.refused(
                f"reported more than {self.bounds.max_progress:,} steps (`execution.max_progress`)"
            )
        ahead = (self.n_progress - _PROGRESS_BURST) / _PROGRESS_PER_SECOND
        late = self.began + ahead - time.monotonic()
        if late > 0:
            time.sleep(late)
