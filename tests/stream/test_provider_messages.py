"""What a provider's process may send, start and take, and for how long."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import pytest
from stream_samples import Lab, only

from streamlab.base import load_base
from streamlab.errors import ProviderError
from streamlab.methods.api import Progress
from streamlab.stream.executors import provider_host
from streamlab.stream.executors.channel import Channel
from streamlab.stream.executors.process_tree import supervise, tree_of
from streamlab.stream.executors.provider_host import Bounds, without_credentials
from streamlab.stream.providers.provider import Answer, Order
from streamlab.stream.run_context import RunContext
from streamlab.stream.scenario import load_scenario
from streamlab.stream.schedule import Arrival, arrivals
from streamlab.tasks.examples import TaskData

PROGRESS = {"progress": asdict(Progress("gated", 1, 2, 0.5, None))}
EFFORT = {"n_steps": 1, "training_seconds": 1.0, "peak_memory_bytes": 1, "details": {}}
FAILED = {"failed": {"kind": "training", "reason": "a"}}
ANSWER: dict[str, Any] = {
    "kind": "diff",
    "declared_score": 0.5,
    "signature": None,
    "effort": EFFORT,
    "behaviour": "honest",
}


def with_details(details: dict[str, Any]) -> dict[str, Any]:
    return ANSWER | {"effort": EFFORT | {"details": details}}


@pytest.fixture(scope="module")
def asked(lab: Lab) -> tuple[Arrival, TaskData]:
    loaded = load_scenario(lab.scenario(name="said", **only("mood")))
    (arrival,) = arrivals(loaded.scenario)
    context = RunContext(loaded.scenario, load_base(loaded.base, seed=1), loaded.folder)
    return arrival, context.loaded(arrival)


class Started:
    """A fork of this process that does nothing but `act`, supervised as a provider's is."""

    def __init__(self, act: Callable[[Channel], None], theirs: socket.socket) -> None:
        def run() -> None:
            supervise()
            act(Channel(theirs))

        self._process = multiprocessing.get_context("fork").Process(target=run, daemon=False)
        self._process.start()
        self.pid, self.exited = self._process.pid, self._process.sentinel

    def exit_code(self, seconds: float) -> int | None:
        self._process.join(seconds)
        return self._process.exitcode


def ask(
    act: Callable[[Channel], None],
    asked: tuple[Arrival, TaskData],
    seen: list[Progress] | None = None,
    **bounds: Any,
) -> tuple[Answer, float]:
    """Ask a real process that does nothing but `act`; return the answer, and the seconds."""
    ours, theirs = socket.socketpair()
    with theirs:
        started = Started(act, theirs)
    process = provider_host.ProviderProcess(
        started, ours, Bounds(**{"max_bytes": 1 << 20, **bounds})
    )
    began = time.monotonic()
    try:
        watch = (lambda _: None) if seen is None else seen.append
        given = process.answer(Order(asked[0]), asked[1], watch)
        assert len(tree_of(started.pid or 0)) == 2  # it and its supervisor are left as they are
        return given, time.monotonic() - began
    finally:
        process.end()
        assert tree_of(started.pid or 0) == []


def say(*messages: bytes) -> Callable[[Channel], None]:
    def act(channel: Channel) -> None:
        for message in messages:
            channel.send(message)
        time.sleep(600)

    return act


def text(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode()


def test_an_answer_follows_any_progress(asked: tuple[Arrival, TaskData]) -> None:
    seen: list[Progress] = []
    said = say(text(PROGRESS), text(PROGRESS), text({"answer": ANSWER}), b"content")

    given, _ = ask(said, asked, seen, timeout_seconds=60)

    assert given.submission.data == b"content"
    assert seen == [Progress("gated", 1, 2, 0.5, None)] * 2


@pytest.mark.parametrize(
    "message",
    [
        b"no JSON",
        b"3",
        b"{}",
        b'{"x": 1}',
        b'{"progress": 3}',
        b'{"progress": {"x": 1}}',
        b'{"answer": {}}',
        b'{"failed": "a"}',
        text({"failed": {"kind": "other", "reason": "a"}}),
        text({"failed": {"kind": "memory", "reason": "\ud800"}}),
        text({"failed": {"kind": "memory", "reason": "\0"}}),
        text(FAILED | PROGRESS),
        text(FAILED | {"answer": ANSWER}),
        text({"progress": PROGRESS["progress"] | {"loss": float("nan")}}),
        text({"progress": PROGRESS["progress"] | {"stage": "\x1b[2J"}}),
        text({"progress": PROGRESS["progress"] | {"stage": "x" * 65}}),
        text(PROGRESS).ljust(1025),
        text({"answer": ANSWER | {"effort": EFFORT | {"n_steps": -1}}}),
        text({"answer": ANSWER | {"signature": "xy"}}),
        text({"answer": with_details({"training": {"\ud800": 1}})}),
        text({"answer": with_details({"probe": 1})}),
        text({"answer": with_details({"training": {"deep": json.loads("[" * 40 + "]" * 40)}})}),
        b"[" * 60_000,
        b" " * 100_000,
    ],
)
def test_what_is_no_message_fails_the_provider_and_not_the_run(
    asked: tuple[Arrival, TaskData], message: bytes
) -> None:
    with pytest.raises(ProviderError, match="sent a message that cannot be read"):
        ask(say(message), asked, timeout_seconds=60)


def test_an_artifact_over_the_limit_is_not_read(asked: tuple[Arrival, TaskData]) -> None:
    with pytest.raises(ProviderError, match="sent what is not a submission: at most 9 bytes"):
        ask(say(text({"answer": ANSWER}), b"x" * 10), asked, max_bytes=9)


def talk_for_ever(channel: Channel) -> None:
    while True:
        channel.send(text(PROGRESS))


def stop_in_a_message(channel: Channel) -> None:
    channel._socket.send((100).to_bytes(8, "little") + b"half")
    time.sleep(600)


def stop_in_the_artifact(channel: Channel) -> None:
    channel.send(text({"answer": ANSWER}))
    stop_in_a_message(channel)


def trickle(channel: Channel) -> None:
    channel._socket.send((1000).to_bytes(8, "little"))
    while True:
        channel._socket.send(b" ")
        time.sleep(0.05)


def fork_and_hold_the_connection(_: Channel) -> None:
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(600)
            os._exit(0)
    time.sleep(600)


@pytest.mark.parametrize(
    "act",
    [
        talk_for_ever, stop_in_a_message, stop_in_the_artifact, trickle, say(),
        fork_and_hold_the_connection,
    ],
)  # fmt: skip
def test_a_provider_that_does_not_come_to_an_end_runs_out_of_time(
    asked: tuple[Arrival, TaskData], act: Callable[[Channel], None]
) -> None:
    with pytest.raises(ProviderError, match="did not answer in time"):
        ask(act, asked, timeout_seconds=0.5)


def end_in_a_message(channel: Channel) -> None:
    channel._socket.send((100).to_bytes(8, "little") + b"half")
    os._exit(3)


def leave_another_with_the_connection(_: Channel) -> None:
    if os.fork() == 0:
        os.setsid()
        time.sleep(600)
    os._exit(3)


@pytest.mark.parametrize("act", [end_in_a_message, leave_another_with_the_connection])
def test_a_process_that_ends_is_not_waited_for_whoever_holds_its_connection(
    asked: tuple[Arrival, TaskData], act: Callable[[Channel], None]
) -> None:
    with pytest.raises(ProviderError, match="ended with exit code 3 before it had answered"):
        ask(act, asked)


def test_progress_is_bounded_in_number_and_rate(asked: tuple[Arrival, TaskData]) -> None:
    seen: list[Progress] = []

    with pytest.raises(ProviderError, match="reported more than 11,000 steps"):
        ask(talk_for_ever, asked, seen, max_progress=11_000)

    assert len(seen) == 11_000
    began = time.monotonic()
    counted = provider_host.Asked(asked[0], Bounds(max_bytes=1))
    for _ in range(provider_host._PROGRESS_BURST + 1_000):
        counted.count_progress()
    assert time.monotonic() - began > 0.9 * 1_000 / provider_host._PROGRESS_PER_SECOND


def start_many(_: Channel) -> None:
    for _ in range(12):
        if os.fork() == 0:
            os.setsid()
            time.sleep(600)
    time.sleep(600)


def take_memory_together(_: Channel, *, n_mebibytes: int) -> None:
    for _ in range(4):
        if os.fork() == 0:
            taken = bytearray(os.urandom(1 << 20) * n_mebibytes)
            time.sleep(600 + len(taken))
    time.sleep(600)


def test_processes_of_one_provider_are_bounded_together(
    asked: tuple[Arrival, TaskData], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider_host, "_MAX_PROCESSES", 12)
    with pytest.raises(ProviderError, match=r"started \d+ processes, and may have 12"):
        ask(start_many, asked, timeout_seconds=60)
    here = provider_host.memory_of([os.getpid()]) >> 20  # more than a provider needs
    with pytest.raises(ProviderError, match=r"took more than .* bytes in 6 processes"):
        ask(
            partial(take_memory_together, n_mebibytes=here // 3 + 64),
            asked,
            max_memory=(here + 200) << 20,
            timeout_seconds=60,
        )


def test_a_provider_inherits_no_credentials_of_the_labs_servers() -> None:
    variables = {
        "PATH": "/bin",
        "OMP_NUM_THREADS": "1",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "PGPASSWORD": "secret",
        "RAY_AUTH_TOKEN": "secret",
        "HF_TOKEN": "secret",
        "STREAMLAB_REGISTRY": "postgresql+psycopg://lab:secret@server/lab",
    }

    assert without_credentials(variables) == {"PATH": "/bin", "OMP_NUM_THREADS": "1"}
