"""Ray's tasks: where they find room, what outlives the death of a worker or node, what ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from stream_samples import Lab, only

from streamlab.base import load_base
from streamlab.errors import UsageError
from streamlab.methods.api import Progress
from streamlab.stream.executors.process_tree import tree_of
from streamlab.stream.executors.provider_host import Bounds
from streamlab.stream.executors.resources import Resources
from streamlab.stream.executors.serial import Serial
from streamlab.stream.providers.provider import Order
from streamlab.stream.run_context import RunContext
from streamlab.stream.scenario import load_scenario
from streamlab.stream.schedule import arrivals

pytestmark = pytest.mark.ray
ray: Any = pytest.importorskip("ray")
executors: Any = pytest.importorskip("streamlab.stream.executors.ray")


def node(**changes: Any) -> Any:
    given = {"name": "n", "cpus": 4.0, "gpus": 1.0, "memory": 1 << 30, "differs": ""}
    return executors.Node(**given | changes)


def test_as_many_arrivals_run_at_once_as_find_room() -> None:
    light = Resources(cpus=1, gpus=0, gpu=None, memory=None)
    on_gpu = Resources(cpus=1, gpus=0.25, gpu=None, memory=None)
    large = Resources(cpus=1, gpus=0, gpu=None, memory=600 << 20)

    assert executors._room([node(), node(cpus=3.0)], {"a": light}) == 7
    assert executors._room([node(), node(gpus=0.0)], {"a": on_gpu}) == 4
    assert executors._room([node(), node()], {"a": large}) == 2
    assert executors._room([node()], {"a": light, "b": large}) == 4


def test_what_no_machine_has_room_for_is_refused_before_anything_runs() -> None:
    wide = Resources(cpus=5, gpus=0, gpu=None, memory=None)

    with pytest.raises(UsageError, match="No machine of the Ray cluster has what `a` needs: 5 CPU"):
        executors._room([node(), node()], {"a": wide})
    with pytest.raises(UsageError, match="`n` of the Ray cluster has torch 1 instead of 2"):
        executors._room([node(), node(differs="torch 1 instead of 2")], {"a": wide})


def test_without_ray_an_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "streamlab.stream.executors.ray")

    with pytest.raises(UsageError, match=r"pip install 'streamlab\[ray\]'"):
        __import__("streamlab.stream.executors.ray")


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two machines, by processes on this one; the second has room for the orders alone."""
    from ray.cluster_utils import Cluster

    with executors._own_token():
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 0})
        try:
            yield made
        finally:
            made.shutdown()


def command_lines(pids: list[int]) -> dict[int, str]:
    found = {}
    for pid in pids:
        try:
            found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().decode().replace("\0", " ")
        except OSError:
            continue
    return found


def workers_at_work() -> list[int]:
    """Return the workers of Ray that have a provider's process: they have a fork server."""
    found = command_lines(tree_of(os.getpid()))
    parents = {}
    for pid, line in found.items():
        if "multiprocessing.forkserver" in line:
            parents[int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])] = pid
    return [pid for pid in parents if "ray::" in found.get(pid, "")]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["worker", "node"])
def test_what_was_at_work_on_a_dead_worker_or_node_is_done_again(
    lab: Lab, cluster: Any, what: str
) -> None:
    execution = {"executor": "ray", "resources": {"cpus": 2}}  # more than the first has
    tree = lab.tree(name="dies", execution=execution, **only("mood"))
    tree["defaults"]["training"]["min_steps"] = 1500  # some seconds
    loaded = load_scenario(lab.write(tree))
    context = RunContext(loaded.scenario, load_base(loaded.base, seed=1), loaded.folder)
    (arrival,) = arrivals(loaded.scenario)
    expected = Serial(context).submit(Order(arrival), lambda _: None).result()
    second = cluster.add_node(num_cpus=3, num_gpus=0)
    cluster.wait_for_nodes()
    seen: list[Progress] = []
    at_work = threading.Event()

    def watch(step: Progress) -> None:
        seen.append(step)
        at_work.set()

    made = executors.RayTasks(context, Bounds(max_bytes=1 << 20), address=cluster.address)
    with closing(made) as executor:
        assert executor.workers == 1
        future = executor.submit(Order(arrival), watch)
        assert at_work.wait(240)
        (pid,) = workers_at_work()
        if what == "worker":
            os.kill(pid, signal.SIGKILL)
        else:
            cluster.remove_node(second, allow_graceful=False)
            cluster.add_node(num_cpus=3, num_gpus=0)
        n_seen = len(seen)
        assert n_seen < 1500
        given = future.result(240)
        assert workers_at_work() != [pid]

    assert given.submission.data == expected.submission.data
    assert [step.step for step in seen] == list(range(1, 1501))
