"""What holds for every executor, and what a provider's own process keeps away from the stream."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import groupby
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from stream_samples import Lab, Ran, carry_out, runs_in, stored, task

from streamlab.base import load_base
from streamlab.errors import ProviderError, TrainingError
from streamlab.methods.api import Progress
from streamlab.stream.engine import run
from streamlab.stream.executors import Executor
from streamlab.stream.executors.process_tree import tree_of
from streamlab.stream.executors.processes import Processes
from streamlab.stream.executors.provider_host import Bounds
from streamlab.stream.executors.serial import Serial
from streamlab.stream.providers.provider import Answer, Order, Watch
from streamlab.stream.run_context import RunContext
from streamlab.stream.scenario import LoadedScenario, load_scenario
from streamlab.stream.schedule import Arrival, arrivals

OPEN = {"executor": "processes", "sandbox": "none"}
Make = Callable[[LoadedScenario], Executor]


def context(loaded: LoadedScenario) -> RunContext:
    return RunContext(loaded.scenario, load_base(loaded.base, seed=1), loaded.folder)


def serial(loaded: LoadedScenario) -> Executor:
    return Serial(context(loaded))


def processes(loaded: LoadedScenario, workers: int = 1, **bounds: Any) -> Processes:
    return Processes(context(loaded), Bounds(**{"max_bytes": 1 << 20, **bounds}), workers=workers)


def two_processes(loaded: LoadedScenario) -> Processes:
    return processes(loaded, workers=2)


def ray_tasks(loaded: LoadedScenario) -> Executor:
    pytest.importorskip("ray")
    from streamlab.stream.executors.ray import RayTasks

    return RayTasks(context(loaded), Bounds(max_bytes=1 << 20), workers=2)


def ask(executor: Executor, arrival: Arrival, watch: Watch = lambda _: None) -> Answer:
    return executor.submit(Order(arrival), watch).result()


@pytest.fixture(scope="module")
def loaded(lab: Lab) -> LoadedScenario:
    """Two tasks of one provider and one of another, one of which breaks down."""
    tree = lab.tree(name="executors")
    tree["tasks"]["degree"] = task("degree", training={"learning_rate": 1e30})
    return load_scenario(lab.write(tree))


EVERY = [serial, processes, two_processes, pytest.param(ray_tasks, marks=pytest.mark.ray)]


@pytest.fixture(scope="module", params=EVERY)
def executor(request: pytest.FixtureRequest, loaded: LoadedScenario) -> Iterator[Executor]:
    """Every executor there is."""
    with closing(request.param(loaded)) as made:
        yield made


def by_task(loaded: LoadedScenario) -> dict[str, Arrival]:
    return {arrival.task: arrival for arrival in arrivals(loaded.scenario)}


def test_an_answer_is_the_same_bytes_wherever_it_was_made(
    executor: Executor, loaded: LoadedScenario, plain: Ran
) -> None:
    seen: list[Progress] = []

    given = ask(executor, by_task(loaded)["mood"], seen.append)

    assert given.submission.data in stored(plain.home).values()
    assert (given.submission.provider, given.submission.task) == ("press", "mood")
    assert 0 <= (given.submission.declared_score or -1) <= 1
    assert [step.step for step in seen] == list(range(1, given.effort.n_steps + 1))
    assert given.effort.training_seconds > 0
    assert given.effort.details.quantization is not None
    assert given.effort.details.quantization["values"]


def test_a_training_that_breaks_down_is_told_and_the_provider_goes_on(
    executor: Executor, loaded: LoadedScenario
) -> None:
    mine = by_task(loaded)

    with pytest.raises(TrainingError, match="The loss of `degree` became nan at step"):
        ask(executor, mine["degree"])

    assert ask(executor, mine["mood"]).submission.task == "mood"


def test_a_watcher_that_raises_is_heard(executor: Executor, loaded: LoadedScenario) -> None:
    def interrupt(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask(executor, by_task(loaded)["mood"], interrupt)

    assert ask(executor, by_task(loaded)["mood"]).submission.data


def test_one_provider_answers_one_order_at_a_time(
    executor: Executor, loaded: LoadedScenario
) -> None:
    mine, seen = by_task(loaded), list[int]()
    tasks = ("mood", "mood", "degree")  # of one provider; the last breaks down

    futures = [
        executor.submit(Order(mine[task]), lambda _, number=number: seen.append(number))
        for number, task in enumerate(tasks)
    ]

    failed = [type(future.exception(240)) for future in futures]
    assert failed == [type(None), type(None), TrainingError]
    assert sorted(number for number, _ in groupby(seen)) == [0, 1, 2]


def children() -> set[int]:
    """Return the numbers of the processes that this one has started and that still live."""
    return {child.pid for child in multiprocessing.active_children() if child.pid is not None}


def alive(pids: set[int]) -> list[BaseProcess]:
    return [child for child in multiprocessing.active_children() if child.pid in pids]


@pytest.fixture
def others() -> set[int]:
    """Those that were there before the test: of the executor that other tests share."""
    return children()


def test_a_provider_whose_process_is_killed_is_reported_and_started_anew(
    loaded: LoadedScenario, others: set[int]
) -> None:
    def kill(_: Progress) -> None:
        for child in children() - others:  # gone where a second step was on its way already
            os.kill(child, signal.SIGKILL)

    with closing(processes(loaded)) as executor:
        with pytest.raises(ProviderError, match="`press` ended by signal 9, as the system does"):
            ask(executor, by_task(loaded)["mood"], kill)

        assert ask(executor, by_task(loaded)["mood"]).submission.data


def test_a_provider_that_hangs_is_ended_when_its_time_is_up(
    loaded: LoadedScenario, others: set[int]
) -> None:
    def stop(_: Progress) -> None:
        for child in children() - others:
            for process in tree_of(child):
                os.kill(process, signal.SIGSTOP)

    with closing(processes(loaded, timeout_seconds=60)) as executor:
        ask(executor, by_task(loaded)["mood"])  # loaded by now
        executor._processes["press"]._bounds = Bounds(max_bytes=1 << 20, timeout_seconds=1)
        with pytest.raises(ProviderError, match="`press` did not answer in time for `mood`"):
            ask(executor, by_task(loaded)["mood"], stop)

        assert children() == others


def test_an_artifact_larger_than_the_limit_is_never_read(loaded: LoadedScenario) -> None:
    with (
        closing(processes(loaded, max_bytes=100)) as executor,
        pytest.raises(ProviderError, match="what is not a submission"),
    ):
        ask(executor, by_task(loaded)["mood"])


def test_closing_ends_every_process(loaded: LoadedScenario, others: set[int]) -> None:
    executor = processes(loaded, workers=2)
    answers = [ask(executor, by_task(loaded)[name]) for name in ("mood", "same")]
    assert len(children() - others) == len({answer.submission.provider for answer in answers}) == 2

    executor.close()

    deadline = time.monotonic() + 10
    while children() != others and time.monotonic() < deadline:
        time.sleep(0.05)
    assert children() == others


def test_no_more_providers_have_a_process_than_there_are_workers(
    loaded: LoadedScenario, others: set[int]
) -> None:
    mine = by_task(loaded)
    with closing(processes(loaded, workers=1)) as executor:
        futures = [executor.submit(Order(mine[name]), lambda _: None) for name in ("mood", "same")]
        answers = [future.result() for future in futures]

        assert [answer.submission.provider for answer in answers] == ["press", "school"]
        assert [child.name for child in alive(children() - others)] == ["provider school"]


def test_closing_stops_orders_that_are_still_worked_on(
    loaded: LoadedScenario, others: set[int]
) -> None:
    started = threading.Event()
    executor = processes(loaded, workers=1)
    futures = [
        executor.submit(Order(by_task(loaded)[name]), lambda _: started.set())
        for name in ("mood", "same")
    ]
    assert started.wait(60)

    executor.close()

    assert isinstance(futures[0].exception(), ProviderError)
    assert futures[1].cancelled()
    assert children() == others


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stream_of_processes_leaves_the_same_files(
    lab: Lab, plain: Ran, tmp_path: Path, others: set[int], workers: int
) -> None:
    execution = {
        "executor": "processes",
        "sandbox": "none",
        "workers": workers,
        "timeout_seconds": 300,
    }
    path = lab.scenario(name="apart", evaluation="full", execution=execution)

    ran = carry_out(path, tmp_path / "home")

    assert stored(ran.home) == stored(plain.home)
    assert [record.status for record in runs_in(ran.home)] == ["finished"]
    assert children() == others


def test_a_provider_that_dies_fails_its_arrival_and_no_other_and_is_tried_again(
    lab: Lab, plain: Ran, tmp_path: Path
) -> None:
    died: list[str] = []

    def kill(arrival: Arrival, _: Progress) -> None:
        if arrival.task == "same" and not died:
            died.append(arrival.task)
            for child in multiprocessing.active_children():
                if child.name == "provider school":
                    child.kill()

    execution = {**OPEN, "attempts": 2}
    path = lab.scenario(name="apart", evaluation="full", execution=execution)

    outcomes = list(run(path, tmp_path / "home", watch=kill))

    assert died == ["same"]
    assert [(o.record.task, o.record.attempt) for o in outcomes if o.diff is not None] == [
        ("mood", 1),
        ("same", 2),
        ("degree", 1),
    ]
    ran = Ran(path, type(plain.home)(tmp_path / "home"), tuple(outcomes))
    assert stored(ran.home) == stored(plain.home)
    assert [record.status for record in runs_in(ran.home)] == ["finished"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to its memory")
def test_a_provider_that_needs_more_memory_than_it_may_have_fails_its_arrivals_alone(
    lab: Lab, plain: Ran, tmp_path: Path, others: set[int]
) -> None:
    execution = {**OPEN, "memory": "1MB"}
    short = carry_out(lab.scenario(name="short", execution=execution), tmp_path / "short")
    execution = {**OPEN, "memory": "64GB"}
    path = lab.scenario(name="ample", evaluation="full", execution=execution)
    ample = carry_out(path, tmp_path / "ample")

    assert [outcome.record.status for outcome in short.outcomes] == ["failed"] * 3
    for outcome in short.outcomes:
        assert "ran out of memory of 1,000,000 bytes" in str(outcome.record.reason)
    assert stored(ample.home) == stored(plain.home)
    assert children() == others
