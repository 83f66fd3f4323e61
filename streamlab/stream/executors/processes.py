"""Providers in processes of their own: each has its own copy of the base, and its own rows only.

What comes back is JSON and plain bytes. Nothing of it is unpickled, so that a provider can hand
back a wrong answer, or none, but no code.

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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Self

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

_NOTE_BYTES = 1 << 20  # the longest message beside an artifact
_MOST = 1 << 53  # of steps, seconds or bytes: what every number format holds
_CRASHED = 70  # the exit code of a simulated crash


class _Said(Settings):
    """An answer but for its artifact, as it comes from a provider: of the right types, no more."""

    kind: ArtifactKind
    declared_score: float | None
    signature: str | None
    effort: Effort
    behaviour: Behaviour

    @field_validator("effort")
    @classmethod
    def _can_be_recorded(cls, effort: Effort) -> Effort:
        numbers = (effort.n_steps, effort.training_seconds, effort.peak_memory_bytes)
        if not all(0 <= number <= _MOST for number in numbers):
            raise ValueError(f"must take from 0 to {_MOST} of everything, got {numbers}")
        return effort


class _Note(Settings):
    """A message from a provider: one of these."""

    progress: Progress | None = None
    answer: _Said | None = None
    failed: str | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if [self.progress, self.answer, self.failed].count(None) != 2:
            raise ValueError("must be one of `progress`, `answer` and `failed`")
        return self


class Processes:
    """Let every provider work in a process of its own, which is started when it is first needed."""

    def __init__(
        self,
        loaded: LoadedScenario,
        *,
        fingerprint: str,
        max_bytes: int,
        timeout_seconds: float | None,
        max_memory: int | None = None,
    ) -> None:
        """`fingerprint`: of the base that they must have. `max_bytes`: of an artifact.

        `max_memory`: in bytes, that each process may allocate.
        """
        self._loaded, self._fingerprint, self._max_memory = loaded, fingerprint, max_memory
        self._max_bytes, self._timeout = max_bytes, timeout_seconds
        self._workers: dict[str, _Worker] = {}

    def answer(self, order: Order, watch: Watch) -> Answer:
        """Ask the provider's process; see `Executor`. One that fails to answer is ended."""
        arrival = order.arrival
        worker = self._workers.get(arrival.provider)
        if worker is None:
            worker = _Worker(self._loaded, arrival.provider, self._fingerprint, self._max_memory)
            self._workers[arrival.provider] = worker
        try:
            return worker.answer(order, watch, self._timeout, self._max_bytes)
        except TrainingError:
            raise  # the provider said so, and can go on
        except BaseException:
            self._workers.pop(arrival.provider).end()
            raise

    def close(self) -> None:
        """End every process, whatever it is doing."""
        while self._workers:
            self._workers.popitem()[1].end()


class _Worker:
    """One provider's process, and the connection to it."""

    def __init__(
        self, loaded: LoadedScenario, provider: str, fingerprint: str, max_memory: int | None
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
                    note = _note(self._connection, arrival)
                    if note.progress is not None:
                        watch(note.progress)
                    elif note.answer is not None:
                        return self._receive(note.answer, arrival, max_bytes)
                    else:
                        raise TrainingError(str(note.failed))
            except (EOFError, ConnectionError, BrokenPipeError) as error:
                raise self._died(arrival) from error

    @contextmanager
    def _in_time(self, seconds: float | None, arrival: Arrival) -> Iterator[None]:
        """End the process when time is up: then whatever is read of it comes to an end as well.

        A deadline on each message would not do: one can stop half-way, or be one of very many.
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
                "and its process was ended. Raise `execution.timeout_seconds`, if it was at work."
            ) from problem
        if problem is not None:
            raise problem

    def _receive(self, said: _Said, arrival: Arrival, max_bytes: int) -> Answer:
        try:
            submission = Submission(
                provider=arrival.provider,
                task=arrival.task,
                version=arrival.version,
                kind=said.kind,
                data=self._connection.recv_bytes(max_bytes),
                declared_score=said.declared_score,
                signature=None if said.signature is None else bytes.fromhex(said.signature),
            )
            return Answer(submission, said.effort, said.behaviour)
        except EOFError:
            raise
        except (OSError, ValueError) as error:
            raise ProviderError(
                f"The provider `{arrival.provider}` answered with what is no submission: {error}."
            ) from error

    def _died(self, arrival: Arrival) -> ProviderError:
        self._process.join(timeout=10)
        code = self._process.exitcode
        how = f"with exit code {code}" if code is None or code >= 0 else f"by signal {-code}"
        memory = ", as the system does when memory runs out" if code == -signal.SIGKILL else ""
        return ProviderError(
            f"The process of the provider `{arrival.provider}` ended {how}{memory} before it "
            f"had answered for `{arrival.task}`. The run goes on without it."
        )

    def end(self) -> None:
        self._connection.close()
        self._process.kill()
        self._process.join()


def _note(connection: Connection, arrival: Arrival) -> _Note:
    try:
        said = json.loads(connection.recv_bytes(_NOTE_BYTES))
        json.dumps(said, ensure_ascii=False).encode()  # half a character cannot be recorded
        return _Note.model_validate(said)
    except (ValueError, OSError, RecursionError) as error:
        if isinstance(error, (EOFError, ConnectionError)):
            raise
        raise ProviderError(
            f"The provider `{arrival.provider}` sent what is no message: {error}."
        ) from error


def _work(
    connection: Connection,
    loaded: LoadedScenario,
    provider: str,
    fingerprint: str,
    max_memory: int | None,
) -> None:
    """Answer arrivals until the lab hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the lab's affair, which ends this
    offer_to_be_ended()  # before the lab is
    if max_memory is not None:
        bound_memory(max_memory)

    def send(note: Mapping[str, object]) -> None:
        connection.send_bytes(json.dumps(note).encode())

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
            context = None  # what it holds may be half made
            send({"failed": _out_of_memory(provider, max_memory)})
            continue
        except (StreamlabError, RuntimeError) as error:
            send({"failed": str(error) or type(error).__name__})
            continue
        send({"answer": _said(given)})
        connection.send_bytes(given.submission.data)


def _out_of_memory(provider: str, allowed: int | None) -> str:
    how = "" if allowed is None else f" of {allowed:,} bytes (`execution.memory`)"
    return f"The process of the provider `{provider}` ran out of memory{how}."


def _act_out(order: Order) -> None:
    """Die, or never answer, where the scenario has the provider do so."""
    if order.behaviour == "crash":
        os._exit(_CRASHED)
    while order.behaviour == "hang":
        time.sleep(60)


def _said(given: Answer) -> dict[str, Any]:
    """Return an answer but for its artifact, as JSON."""
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
            f"{fingerprint[:12]}. The files of the base were changed while it ran."
        )
    return RunContext(loaded.scenario, base, loaded.folder, provider=provider)
