"""The executor of processes: each provider has its own, with the base and only its own examples.

What comes back is JSON and plain bytes. Nothing of it is unpickled, so that a provider can send
a wrong answer, or none, but no code.

    lab      -> provider   an order (pickled: the lab is trusted)
    provider -> lab        any number of {"progress": ...}, then
                           {"answer": ...} and the artifact's bytes, or {"failed": ...}
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Final, Self

from pydantic import field_validator, model_validator

from streamlab.base import load_base
from streamlab.config import Settings
from streamlab.errors import ProviderError, StreamlabError, TrainingError
from streamlab.methods.api import Progress
from streamlab.registry.records import ArtifactKind
from streamlab.stream.context import RunContext
from streamlab.stream.executors.process_limits import bound_memory, offer_to_be_ended
from streamlab.stream.providers.behaviours import Behaviour
from streamlab.stream.providers.provider import Answer, Effort, Order, Watch, answer
from streamlab.stream.scenario import LoadedScenario
from streamlab.stream.schedule import Arrival
from streamlab.stream.submission import Submission

_MAX_MESSAGE_BYTES = 1 << 20  # the longest message beside an artifact
_LARGEST = 1 << 53  # of steps, seconds or bytes: what every number format holds
_CRASHED = 70  # the exit code of a simulated crash


class _AnswerMessage(Settings):
    """An answer without its artifact, as a provider sends it: of the right types, no more."""

    kind: ArtifactKind
    declared_score: float | None
    signature: str | None
    effort: Effort
    behaviour: Behaviour

    @field_validator("effort")
    @classmethod
    def _can_be_recorded(cls, effort: Effort) -> Effort:
        numbers = (effort.n_steps, effort.training_seconds, effort.peak_memory_bytes)
        if not all(0 <= number <= _LARGEST for number in numbers):
            raise ValueError(f"must take from 0 to {_LARGEST} of everything, got {numbers}")
        return effort


class _Message(Settings):
    """A message from a provider: exactly one of these."""

    progress: Progress | None = None
    answer: _AnswerMessage | None = None
    failed: str | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if [self.progress, self.answer, self.failed].count(None) != 2:
            raise ValueError("must be one of `progress`, `answer` and `failed`")
        return self


class Processes:
    """Let every provider work in a process of its own; some providers at once.

    A process is started when its provider is needed, and ended when another needs its place. No
    process ever serves two providers.
    """

    def __init__(
        self,
        loaded: LoadedScenario,
        *,
        fingerprint: str,
        max_bytes: int,
        timeout_seconds: float | None,
        max_memory: int | None = None,
        workers: int = 1,
    ) -> None:
        """`fingerprint`: of the base that they must load. `max_bytes`: of an artifact.

        `max_memory`: in bytes, that each process may allocate. `workers`: processes at once.
        """
        self.workers: Final = workers
        self._start = partial(_Process, loaded, fingerprint, max_memory)
        self._max_bytes, self._timeout = max_bytes, timeout_seconds
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="provider")
        self._lock = threading.Lock()  # of what follows
        self._turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._processes: dict[str, _Process] = {}  # by provider; the latest used comes last
        self._busy: set[str] = set()
        self._closed = False

    def submit(self, order: Order, watch: Watch) -> Future[Answer]:
        """Have the provider's process answer; see `Executor`. One that fails to is ended."""
        return self._threads.submit(self._answer, order, watch)

    def _answer(self, order: Order, watch: Watch) -> Answer:
        provider = order.arrival.provider
        with self._lock:
            turn = self._turns[provider]
        with turn:
            process = self._take(provider)
            try:
                return process.answer(order, watch, self._timeout, self._max_bytes)
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
                process = self._start(provider)
            self._processes[provider] = process
            self._busy.add(provider)
        return process

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


class _Process:
    """One provider's process and the connection to it."""

    def __init__(
        self, loaded: LoadedScenario, fingerprint: str, max_memory: int | None, provider: str
    ) -> None:
        # Spawned, not forked: a fork of a process that has used torch's threads may hang.
        spawning = multiprocessing.get_context("spawn")
        self._connection, theirs = spawning.Pipe()
        self._process: BaseProcess = spawning.Process(
            target=_work,
            args=(theirs, loaded, provider, fingerprint, max_memory),
            name=f"provider {provider}",
            daemon=True,
        )
        self._process.start()
        theirs.close()  # so that the death of the process is seen as the connection's end

    def answer(self, order: Order, watch: Watch, timeout: float | None, max_bytes: int) -> Answer:
        """Ask, and read until there is an answer; the process is ended when its time is up."""
        arrival = order.arrival
        with self._in_time(timeout, arrival):
            try:
                self._connection.send(order)
                while True:
                    message = _receive_message(self._connection, arrival)
                    if message.progress is not None:
                        watch(message.progress)
                    elif message.answer is not None:
                        return self._receive(message.answer, arrival, max_bytes)
                    else:
                        raise TrainingError(str(message.failed))
            except (EOFError, ConnectionError, BrokenPipeError) as error:
                raise self._died(arrival) from error

    @contextmanager
    def _in_time(self, seconds: float | None, arrival: Arrival) -> Iterator[None]:
        """Kill the process when time is up, which ends whatever is being read from it.

        A deadline for each message would not do: one can stop half-way, or be one of very many.
        """
        if seconds is None:
            yield
            return
        late = threading.Event()

        def end() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        problem: ProviderError | TrainingError | None = None
        try:
            yield
        except (ProviderError, TrainingError) as error:
            problem = error
        finally:
            timer.cancel()
            timer.join()
        if late.is_set():
            raise ProviderError(
                f"The provider `{arrival.provider}` did not answer in time for `{arrival.task}`, "
                "and its process was killed. Raise `execution.timeout_seconds` if it still worked."
            ) from problem
        if problem is not None:
            raise problem

    def _receive(self, answered: _AnswerMessage, arrival: Arrival, max_bytes: int) -> Answer:
        try:
            submission = Submission(
                provider=arrival.provider,
                task=arrival.task,
                version=arrival.version,
                kind=answered.kind,
                data=self._connection.recv_bytes(max_bytes),
                declared_score=answered.declared_score,
                signature=None if answered.signature is None else bytes.fromhex(answered.signature),
            )
            return Answer(submission, answered.effort, answered.behaviour)
        except EOFError:
            raise
        except (OSError, ValueError) as error:
            raise ProviderError(
                f"The provider `{arrival.provider}` sent what is not a submission: {error}."
            ) from error

    def _died(self, arrival: Arrival) -> ProviderError:
        self._process.join(timeout=10)
        code = self._process.exitcode
        how = f"with exit code {code}" if code is None or code >= 0 else f"by signal {-code}"
        memory = ", as the system does when memory runs out" if code == -signal.SIGKILL else ""
        return ProviderError(
            f"The process of the provider `{arrival.provider}` ended {how}{memory} before it "
            f"had answered for `{arrival.task}`. The run continues without it."
        )

    def kill(self) -> None:
        """Kill the process, and leave the connection to whoever reads from it."""
        self._process.kill()

    def end(self) -> None:
        """Kill the process, and close the connection."""
        self._connection.close()
        self._process.kill()
        self._process.join()


def _receive_message(connection: Connection, arrival: Arrival) -> _Message:
    try:
        message = json.loads(connection.recv_bytes(_MAX_MESSAGE_BYTES))
        json.dumps(message, ensure_ascii=False).encode()  # half a character cannot be recorded
        return _Message.model_validate(message)
    except (ValueError, OSError, RecursionError) as error:
        if isinstance(error, (EOFError, ConnectionError)):
            raise
        raise ProviderError(
            f"The provider `{arrival.provider}` sent a message that cannot be read: {error}."
        ) from error


def _work(
    connection: Connection,
    loaded: LoadedScenario,
    provider: str,
    fingerprint: str,
    max_memory: int | None,
) -> None:
    """Answer orders until the lab closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the lab, which ends this
    offer_to_be_ended()  # before the lab
    if max_memory is not None:
        # Loaded before: a library that finds no memory fails in ways of its own.
        from transformers import AutoModelForSequenceClassification, AutoTokenizer  # noqa: F401

        bound_memory(max_memory)

    def send(message: Mapping[str, object]) -> None:
        connection.send_bytes(json.dumps(message).encode())

    context: RunContext | None = None
    while True:
        try:
            order = connection.recv()
        except EOFError:
            return
        _act_out(order)
        try:
            context = context or _context(loaded, provider, fingerprint)
            given = answer(order, context, lambda step: send({"progress": asdict(step)}))
        except MemoryError:
            context = None  # which may be half made
            send({"failed": _out_of_memory(provider, max_memory)})
            continue
        except (StreamlabError, RuntimeError) as error:
            send({"failed": str(error) or type(error).__name__})
            continue
        send({"answer": _answer_message(given)})
        connection.send_bytes(given.submission.data)


def _out_of_memory(provider: str, allowed: int | None) -> str:
    how = "" if allowed is None else f" of {allowed:,} bytes (`execution.memory`)"
    return f"The process of the provider `{provider}` ran out of memory{how}."


def _act_out(order: Order) -> None:
    """Exit, or never answer, where the scenario has the provider do so."""
    if order.behaviour == "crash":
        os._exit(_CRASHED)
    while order.behaviour == "hang":
        time.sleep(60)


def _answer_message(given: Answer) -> dict[str, Any]:
    """Return an answer without its artifact, as JSON."""
    submission = given.submission
    return {
        "kind": submission.kind,
        "declared_score": submission.declared_score,
        "signature": submission.signature.hex() if submission.signature else None,
        "effort": asdict(given.effort),
        "behaviour": given.behaviour,
    }


def _context(loaded: LoadedScenario, provider: str, fingerprint: str) -> RunContext:
    base = load_base(loaded.base, seed=loaded.scenario.seeds[0])
    if base.fingerprint != fingerprint:
        raise ProviderError(
            f"The provider `{provider}` loaded the base {base.fingerprint[:12]}, and the run is on "
            f"{fingerprint[:12]}. The files of the base were changed during the run."
        )
    return RunContext(loaded.scenario, base, loaded.folder, provider=provider)
