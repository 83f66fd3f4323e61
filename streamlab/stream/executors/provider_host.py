"""The processes of providers on one machine: start them, ask them, bound what they may take.

`provider_process` describes what passes between the two.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.context import ForkServerContext
from typing import Final, Protocol

from streamlab.errors import OutOfMemoryError, ProviderError, TrainingError
from streamlab.methods.api import Progress
from streamlab.stream.executors.channel import Channel
from streamlab.stream.executors.process_tree import kill_tree, memory_of, tree_of
from streamlab.stream.executors.provider_messages import (
    MAX_MESSAGE_BYTES,
    AnswerMessage,
    Message,
    parse_message,
)
from streamlab.stream.executors.provider_process import Common, Setup, work_supervised
from streamlab.stream.executors.sandbox import Sandbox, files_of, start_sandboxed
from streamlab.stream.executors.shared_base import without_tensors
from streamlab.stream.providers.provider import Answer, Order, Watch
from streamlab.stream.run_context import RunContext
from streamlab.stream.schedule import Arrival
from streamlab.stream.submission import Submission
from streamlab.tasks.examples import TaskData

_PROGRESS_PER_SECOND, _PROGRESS_BURST = 2_000, 10_000  # beyond, a provider has to wait
_MAX_PROCESSES = 128  # of one provider, compilers included
_MAX_REASON = 2_000  # characters
_EXIT_SECONDS = 5.0  # between the end of a connection and that of its process
_FAILURES: Final = {"training": TrainingError, "memory": OutOfMemoryError}


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a provider may take for one answer; None: no limit."""

    max_bytes: int  # of the artifact
    timeout_seconds: float | None = None  # including loading
    max_memory: int | None = None  # bytes, of all its processes together
    max_progress: int = 1_000_000  # messages


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

    def __init__(self, end: socket.socket, name: str, modules: Sequence[str]) -> None:
        server: ForkServerContext = multiprocessing.get_context("forkserver")
        server.set_forkserver_preload(["streamlab.stream.executors.fork_server", *modules])
        self._process = server.Process(target=work_supervised, args=(end,), name=name, daemon=True)
        with _FORKING:
            self._process.start()
        self.pid, self.exited = self._process.pid, self._process.sentinel

    def exit_code(self, seconds: float) -> int | None:
        """See `Started`."""
        multiprocessing.connection.wait([self.exited], seconds)
        with _FORKING:
            return self._process.exitcode


# Variables of servers and accounts that are the lab's alone.
_CREDENTIALS = ("AWS_", "PG", "RAY_", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "STREAMLAB_REGISTRY")


def without_credentials(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a provider outside a sandbox inherits."""
    return {name: text for name, text in variables.items() if not name.startswith(_CREDENTIALS)}


class Host:
    """Starts providers' processes, each with the base and only its own examples."""

    def __init__(
        self,
        common: Common,
        file: int,
        bounds: Bounds,
        *,
        sandbox: Sandbox | None,
        environment: Mapping[str, str],
    ) -> None:
        """`file`: of the base, which stays open; see `share_image`.

        `sandbox`: None for none; `environment` is that of providers outside one.
        """
        self._variables = environment
        self._common, self._file, self._bounds, self._sandbox = common, file, bounds, sandbox
        self._pickled = pickle.dumps(common)
        config, tokenizer = type(common.base.config), type(common.base.tokenizer)
        modeling = config.__module__.replace(".configuration_", ".modeling_")
        self._modules = (modeling, tokenizer.__module__)

    def start(self, provider: str, *, visible_gpus: str | None = None) -> ProviderProcess:
        """Start a provider's process. `visible_gpus`: for CUDA; None: as this process sees them."""
        setup = Setup(
            common=self._pickled,
            provider=provider,
            max_memory=self._bounds.max_memory,
            environment=self._environment(provider, visible_gpus),
        )
        ours, theirs = socket.socketpair()
        with theirs:  # so that the death of the process is seen as the connection's end
            started: Started
            if self._sandbox is None:
                started = _Forked(theirs, f"provider {provider}", self._modules)
            else:
                files = files_of(self._common, provider)
                started = start_sandboxed(theirs, self._sandbox, files, setup.environment)
            socket.send_fds(ours, [b"b"], [self._file])
        return ProviderProcess(
            started, ours, self._bounds, pickle.dumps(setup), visible_gpus=visible_gpus
        )

    def _environment(self, provider: str, visible_gpus: str | None) -> dict[str, str]:
        scenario = self._common.scenario
        own = scenario.providers[provider].tasks
        n_threads = str(max(scenario.tasks[task].training.threads for task in own))
        box = self._sandbox
        inherited = without_credentials(self._variables) if box is None else box.environment()
        threads = {"OMP_NUM_THREADS": n_threads, "MKL_NUM_THREADS": n_threads}
        seen = {} if visible_gpus is None else {"CUDA_VISIBLE_DEVICES": visible_gpus}
        return inherited | threads | seen


class ProviderProcess:
    """One provider's process, the connection to it, and what it may take."""

    def __init__(
        self,
        started: Started,
        end: socket.socket,
        bounds: Bounds,
        setup: bytes | None = None,
        *,
        visible_gpus: str | None = None,
    ) -> None:
        self._started, self._bounds = started, bounds
        self.visible_gpus: Final = visible_gpus
        self._channel = Channel(end, exited=started.exited)
        self._setup = setup
        self._told: object = None  # whose examples the process has

    def answer(self, order: Order, task: TaskData, watch: Watch) -> Answer:
        """Ask, and read until there is an answer, or the process has taken more than it may."""
        asked = Asked(order.arrival, self._bounds)
        with self._explained(order.arrival):
            self._ask(order, task, asked)
            while True:
                message = self._receive_message(asked)
                if message.progress is not None:
                    asked.count_progress()
                    watch(Progress(**dict(message.progress)))
                elif message.answer is not None:
                    return self._receive(message.answer, asked)
                elif message.failed is not None:
                    self._told = None
                    failure = _FAILURES[message.failed.kind]
                    raise failure(message.failed.reason[:_MAX_REASON])

    def _ask(self, order: Order, task: TaskData, asked: Asked) -> None:
        """Send an order, with its examples unless they were the last that were sent."""
        told = order.arrival.seed, order.arrival.task, order.arrival.version
        question = pickle.dumps((order, None if told == self._told else task))
        for text in (self._setup, question):
            if text is not None:
                self._channel.send(text, deadline=asked.deadline)
        self._setup, self._told = None, told

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

    def _receive_message(self, asked: Asked) -> Message:
        try:
            text = self._channel.receive(
                MAX_MESSAGE_BYTES, deadline=asked.deadline, tick=lambda: self._check(asked)
            )
            return parse_message(text)
        except ValueError as error:
            raise asked.refused(f"sent a message that cannot be read: {error}") from error

    def _receive(self, answered: AnswerMessage, asked: Asked) -> Answer:
        arrival = asked.arrival
        try:
            data = self._channel.receive(
                asked.bounds.max_bytes, deadline=asked.deadline, tick=lambda: self._check(asked)
            )
        except ValueError as error:
            raise asked.refused(f"sent what is not a submission: {error}") from error
        return answer_of(answered, data, arrival)

    def _check(self, asked: Asked) -> None:
        """Raise ProviderError where the provider's processes are too many or too large."""
        pids = [] if self._started.pid is None else tree_of(self._started.pid)
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
        if self._started.pid is not None:  # or every process would be of its tree
            kill_tree(self._started.pid)

    def end(self) -> None:
        """Kill the process and all that it started, and close the connection."""
        self.kill()
        self._started.exit_code(_EXIT_SECONDS)
        self._channel.close()


@dataclass
class Asked:
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


def common_of(context: RunContext) -> Common:
    """Return what every provider of a run is told."""
    return Common(
        scenario=context.scenario,
        folder=context.folder.absolute(),
        base=without_tensors(context.base),
    )


def for_provider(task: TaskData) -> TaskData:
    """Return a task as its provider gets it: the examples to report on are the lab's."""
    return replace(task, dev=task.validation[:1])


def answer_of(message: AnswerMessage, data: bytes, arrival: Arrival) -> Answer:
    """Return the answer that a provider sent as a message and the bytes of an artifact."""
    submission = Submission(
        provider=arrival.provider,
        task=arrival.task,
        version=arrival.version,
        kind=message.kind,
        data=data,
        declared_score=message.declared_score,
        signature=None if message.signature is None else bytes.fromhex(message.signature),
    )
    return Answer(submission, message.effort, message.behaviour)
