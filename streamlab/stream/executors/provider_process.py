"""A provider's process: it maps the base, receives its own examples, and answers orders.

What it sends is JSON and plain bytes. Nothing of it is unpickled, so that a provider can send a
wrong answer, or none, but no code.

    lab      -> provider   the file of the base, its setup, then orders (pickled: the lab is
                           trusted), with their examples unless it has them already
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
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import torch

from streamlab.base import Base
from streamlab.errors import BaseMismatchError, OutOfMemoryError
from streamlab.stream.executors.channel import Channel
from streamlab.stream.executors.process_limits import bound_memory, offer_to_be_ended
from streamlab.stream.executors.process_tree import bound_processes, supervise
from streamlab.stream.executors.shared_base import map_base
from streamlab.stream.providers.provider import Answer, Order, answer
from streamlab.stream.run_context import RunContext
from streamlab.stream.scenario import Scenario
from streamlab.tasks.examples import TaskData

CRASHED = 70  # the exit code of a simulated crash
_BROKEN = (MemoryError, BaseMismatchError)  # leave a context half made, or its base written to


@dataclass(frozen=True, kw_only=True)
class Common:
    """What all providers of a run work with; of examples, each gets its own with its orders."""

    scenario: Scenario
    folder: Path  # relative paths of the scenario start here
    base: Base  # without its tensors


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a provider's process is told once."""

    common: bytes  # of a `Common`, pickled once for all
    provider: str
    max_memory: int | None  # in bytes
    environment: Mapping[str, str]


def work_supervised(end: socket.socket) -> None:
    """Answer orders in a child process of a fork of the fork server."""
    _be_quiet()
    _let_go_of_the_server()
    supervise()
    work(end)


def work(end: socket.socket) -> None:
    """Answer orders until the lab closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the lab, which ends this
    offer_to_be_ended()  # before the lab
    files = socket.recv_fds(end, 1, 1)[1]
    if not files:
        return  # the lab is gone
    channel = Channel(end)
    setup: Setup = pickle.loads(channel.receive())  # noqa: S301 - from the lab
    os.environ.clear()
    os.environ.update(setup.environment)
    # Before memory is bounded: a library that finds none fails in ways of its own.
    from transformers import AutoModelForSequenceClassification, AutoTokenizer  # noqa: F401

    common: Common = pickle.loads(setup.common)  # noqa: S301 - from the lab
    bound_processes()
    if setup.max_memory is not None:
        bound_memory(setup.max_memory)
    _answer_orders(channel, setup, lambda: _context(common, files[0]))


def _answer_orders(channel: Channel, setup: Setup, make: Callable[[], RunContext]) -> None:
    def send(message: Mapping[str, object]) -> None:
        channel.send(json.dumps(message).encode())

    context: RunContext | None = None
    while True:
        try:
            order, task = pickle.loads(channel.receive())  # noqa: S301 - from the lab
            _act_out(order)
            context = context or make()
            given = _answer(order, task, context, send)
        except (EOFError, ConnectionError):
            return
        except Exception as error:  # noqa: BLE001 - whatever breaks down is this arrival's failure
            context = None if isinstance(error, _BROKEN) else context
            send({"failed": _failure(error, setup)})
        else:
            send({"answer": answer_message(given)})
            channel.send(given.submission.data)
        torch.cuda.empty_cache()  # where a GPU was used: others share it


def _answer(
    order: Order, task: TaskData | None, context: RunContext, send: Callable[[Any], None]
) -> Answer:
    if task is not None:
        context.receive(order.arrival, task)
    return answer(order, context, lambda step: send({"progress": asdict(step)}))


def _be_quiet() -> None:
    """Detach from the lab's terminal: whatever a provider prints is dropped."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)


def _let_go_of_the_server() -> None:
    """Close what keeps the fork server alive, so that it ends with the lab, and this with it."""
    held = getattr(forkserver._forkserver, "_forkserver_alive_fd", None)
    if held is not None:
        os.close(held)


def _failure(error: Exception, setup: Setup) -> dict[str, str]:
    """Return the message of a failure; one for want of memory can be helped by being alone.

    Not where the process came to its own limit, which is the same then.
    """
    if not isinstance(error, MemoryError):
        kind = "memory" if isinstance(error, OutOfMemoryError) else "training"
        return {"kind": kind, "reason": str(error) or type(error).__name__}
    allowed = setup.max_memory
    how = "" if allowed is None else f" of {allowed:,} bytes (`execution.memory`)"
    reason = f"The process of the provider `{setup.provider}` ran out of memory{how}."
    return {"kind": "memory" if allowed is None else "training", "reason": reason}


def _act_out(order: Order) -> None:
    """Exit, or never answer, where the scenario has the provider do so."""
    if order.behaviour == "crash":
        os._exit(CRASHED)
    while order.behaviour == "hang":
        time.sleep(60)


def answer_message(given: Answer) -> dict[str, Any]:
    """Return an answer without its artifact, as JSON."""
    submission = given.submission
    return {
        "kind": submission.kind,
        "declared_score": submission.declared_score,
        "signature": submission.signature.hex() if submission.signature else None,
        "effort": asdict(given.effort),
        "behaviour": given.behaviour,
    }


def _context(common: Common, file: int) -> RunContext:
    return RunContext(common.scenario, map_base(file, common.base), common.folder)
