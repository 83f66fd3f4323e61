"""What a provider's process may say, and how long it may take over it."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

import pytest
from stream_samples import Lab, only

from streamlab.errors import ProviderError
from streamlab.methods.api import Progress
from streamlab.stream.executors import processes
from streamlab.stream.providers.provider import Answer, Order
from streamlab.stream.scenario import load_scenario
from streamlab.stream.schedule import Arrival, arrivals

PROGRESS = {"progress": asdict(Progress("gated", 1, 2, 0.5, None))}
EFFORT = {"n_steps": 1, "training_seconds": 1.0, "peak_memory_bytes": 1, "details": {}}
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
def arrival(lab: Lab) -> Arrival:
    (made,) = arrivals(load_scenario(lab.scenario(name="said", **only("mood"))).scenario)
    return made


def note_from(connection: Connection, arrival: Arrival) -> Any:
    return processes._receive_message(connection, arrival)


@pytest.mark.parametrize("message", [PROGRESS, {"answer": ANSWER}, {"failed": "no rows"}])
def test_a_message_is_one_of_three_things(arrival: Arrival, message: dict[str, Any]) -> None:
    ours, theirs = multiprocessing.Pipe()
    theirs.send_bytes(json.dumps(message).encode())

    note = note_from(ours, arrival)

    (name,) = message
    assert getattr(note, name) is not None


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
        b'{"failed": "\\ud800"}',
        json.dumps({"failed": "a"} | PROGRESS).encode(),
        json.dumps({"failed": "a", "answer": ANSWER}).encode(),
        json.dumps({"answer": ANSWER | {"effort": EFFORT | {"n_steps": -1}}}).encode(),
        json.dumps({"answer": with_details({"training": {"\ud800": 1}})}).encode(),
        json.dumps({"answer": with_details({"probe": 1})}).encode(),
        b"[" * 100_000,
    ],
)
def test_what_is_no_message_fails_the_provider_and_not_the_run(
    arrival: Arrival, message: bytes
) -> None:
    ours, theirs = multiprocessing.Pipe()
    theirs.send_bytes(message)

    with pytest.raises(ProviderError, match="sent a message that cannot be read"):
        note_from(ours, arrival)


def talk_for_ever(connection: Connection) -> None:
    while True:
        connection.send_bytes(json.dumps(PROGRESS).encode())


def end_in_a_message(connection: Connection) -> None:
    connection._send(b"\0\0\0\x64half")  # type: ignore[attr-defined] - the length says 100


def stop_in_a_message(connection: Connection) -> None:
    end_in_a_message(connection)
    time.sleep(600)


def stop_in_the_artifact(connection: Connection) -> None:
    connection.send_bytes(json.dumps({"answer": ANSWER}).encode())
    stop_in_a_message(connection)


def never_say_a_word(_connection: Connection) -> None:
    time.sleep(600)


@pytest.mark.parametrize(
    "act", [talk_for_ever, stop_in_a_message, stop_in_the_artifact, never_say_a_word]
)
def test_a_provider_that_does_not_come_to_an_end_runs_out_of_time(
    arrival: Arrival, act: Callable[[Connection], None]
) -> None:
    with pytest.raises(ProviderError, match="did not answer in time"):
        ask(act, arrival, seconds=0.3)


def answer_and_rest(connection: Connection) -> None:
    connection.send_bytes(json.dumps(PROGRESS).encode())
    connection.send_bytes(json.dumps({"answer": ANSWER}).encode())
    connection.send_bytes(b"content")
    time.sleep(600)


def test_an_answer_in_time_leaves_the_process_as_it_is(arrival: Arrival) -> None:
    given, process = ask(answer_and_rest, arrival, seconds=60)

    assert given.submission.data == b"content"
    assert process.is_alive()
    process.kill()


def test_a_process_that_ends_within_a_message_is_not_waited_for(arrival: Arrival) -> None:
    with pytest.raises(ProviderError, match="ended with exit code 0 before it had answered"):
        ask(end_in_a_message, arrival, seconds=60)


def ask(
    act: Callable[[Connection], None], arrival: Arrival, *, seconds: float
) -> tuple[Answer, Any]:
    """Ask a real process that does nothing but `act`."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    worker = object.__new__(processes._Process)
    worker._connection = ours
    worker._process = context.Process(target=act, args=(theirs,), daemon=True)
    worker._process.start()
    theirs.close()
    given = worker.answer(Order(arrival), lambda _progress: None, seconds, 1 << 20)
    return given, worker._process
