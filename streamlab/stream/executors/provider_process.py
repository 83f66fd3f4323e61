"""A provider's process: it receives its base's name and its own examples, and answers orders.

What it sends is JSON and plain bytes. Nothing of it is unpickled, so that a provider can send a
wrong answer, or none, but no code.

    lab      -> provider   its setup, then orders (pickled: the lab is trusted)
    provider -> lab        any number of {"progress": ...}, then
                           {"answer": ...} and the artifact's bytes, or {"failed": ...}
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from streamlab.base import BaseSettings, load_base
from streamlab.errors import ProviderError
from streamlab.stream.executors.channel import Channel
from streamlab.stream.executors.process_limits import bound_memory, offer_to_be_ended
from streamlab.stream.executors.process_tree import bound_processes, supervise
from streamlab.stream.providers.provider import Answer, Order, answer
from streamlab.stream.run_context import RunContext
from streamlab.stream.scenario import Scenario

CRASHED = 70  # the exit code of a simulated crash


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a provider's process is told once; of examples, it gets its own with each order."""

    scenario: Scenario
    folder: Path  # relative paths of the scenario start here
    base: BaseSettings
    fingerprint: str  # of the base that it must load
    model_module: str  # of the library, to be imported before
    provider: str
    max_memory: int | None  # in bytes
    environment: Mapping[str, str]


def work_supervised(end: socket.socket) -> None:
    """Answer orders in a child process of a fork of the fork server."""
    _be_quiet()
    supervise()
    work(end)


def work(end: socket.socket) -> None:
    """Answer orders until the lab closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the lab, which ends this
    offer_to_be_ended()  # before the lab
    channel = Channel(end)
    setup: Setup = pickle.loads(channel.receive())  # noqa: S301 - from the lab
    os.environ.clear()
    os.environ.update(setup.environment)
    bound_processes()
    if setup.max_memory is not None:
        # Loaded before: a library that finds no memory fails in ways of its own.
        from transformers import AutoModelForSequenceClassification, AutoTokenizer  # noqa: F401

        bound_memory(setup.max_memory)

    def send(message: Mapping[str, object]) -> None:
        channel.send(json.dumps(message).encode())

    context: RunContext | None = None
    while True:
        try:
            order, task = pickle.loads(channel.receive())  # noqa: S301 - from the lab
            _act_out(order)
            context = context or _context(setup)
            context.receive(order.arrival, task)
            given = answer(order, context, lambda step: send({"progress": asdict(step)}))
        except (EOFError, ConnectionError):
            return
        except MemoryError:
            context = None  # which may be half made
            send({"failed": _out_of_memory(setup)})
        except Exception as error:  # noqa: BLE001 - whatever breaks down is this arrival's failure
            send({"failed": str(error) or type(error).__name__})
        else:
            send({"answer": _answer_message(given)})
            channel.send(given.submission.data)


def _be_quiet() -> None:
    """Detach from the lab's terminal: whatever a provider prints is dropped."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)


def _out_of_memory(setup: Setup) -> str:
    allowed = setup.max_memory
    how = "" if allowed is None else f" of {allowed:,} bytes (`execution.memory`)"
    return f"The process of the provider `{setup.provider}` ran out of memory{how}."


def _act_out(order: Order) -> None:
    """Exit, or never answer, where the scenario has the provider do so."""
    if order.behaviour == "crash":
        os._exit(CRASHED)
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


def _context(setup: Setup) -> RunContext:
    base = load_base(setup.base, seed=setup.scenario.seeds[0])
    if base.fingerprint != setup.fingerprint:
        raise ProviderError(
            f"The provider `{setup.provider}` loaded the base {base.fingerprint[:12]}, and the run "
            f"is on {setup.fingerprint[:12]}. The files of the base were changed during the run."
        )
    return RunContext(setup.scenario, base, setup.folder)
