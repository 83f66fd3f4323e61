"""A provider whose process runs code of its own fails its arrival alone, whatever it does."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stream_samples import Lab, arrivals_in, carry_out, only, runs_in

from streamlab.stream.executors.process_tree import tree_of

SOURCE = r"""
import os, signal, stat, time
from streamlab.methods import DiffPruning

def sockets():
    numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    there = [n for n in numbers if os.path.exists(f"/proc/self/fd/{n}")]
    return [n for n in there if stat.S_ISSOCK(os.fstat(n).st_mode)]

def send(*messages):
    for message in messages:
        for number in sockets():
            os.set_blocking(number, True)
            os.write(number, len(message).to_bytes(8, "little") + message)

class Hostile(DiffPruning):
    name: str = "hostile"
    how: str = "raises"

    def train(self, job):
        self.__dict__["job"] = job
        if job.task == "same":
            getattr(self, self.how)()
        return super().train(job)

    def raises(self):
        raise ValueError("All examples must have the same number of <eos> tokens.")

    def forks(self):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                open(os.environ["HOSTILE_PID"], "w").write(str(os.getpid()))
            time.sleep(600)
        while not os.path.exists(os.environ["HOSTILE_PID"]):
            time.sleep(0.01)
        os._exit(9)

    def floods(self):
        while True:
            send(b'{"progress": {"stage": "x", "step": 1, "n_steps": 1, "loss": 1, "density": 1}}')

    def nests(self):
        send(b"[" * 60_000)
        time.sleep(600)

    def sleeps(self):
        open(os.environ["HOSTILE_PID"], "w").write(str(os.getpid()))
        time.sleep(600)

    def writes(self):
        for tensor in self.job.base.values():
            tensor.add_(1.0)

    def stops(self):
        os.kill(os.getppid(), signal.SIGSTOP)
        time.sleep(600)
"""


@pytest.fixture
def own_pid(tmp_path: Path) -> Iterator[Path]:
    """Install the method, and name the file that a process that gets away writes."""
    (tmp_path / "hostile_lab.py").write_text(SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        patch.setenv("HOSTILE_PID", str(tmp_path / "pid"))
        yield tmp_path / "pid"
    sys.modules.pop("hostile_lab", None)


@pytest.mark.parametrize(
    ("executor", "how", "reason"),
    [
        ("serial", "raises", "broke down: ValueError: All examples must have the same number"),
        ("processes", "raises", "broke down: ValueError: All examples must have the same number"),
        ("processes", "forks", "ended with exit code 9"),
        ("processes", "floods", "reported more than 2,000 steps"),
        ("processes", "nests", "more than 32 levels deep"),
        ("processes", "stops", "did not answer in time"),
        ("processes", "writes", "was changed in memory"),
    ],
)
def test_whatever_a_provider_does_its_arrival_fails_alone(
    lab: Lab, tmp_path: Path, own_pid: Path, executor: str, how: str, reason: str
) -> None:
    execution = {"executor": executor, "max_progress": 2_000}
    if executor == "processes":
        execution |= {"sandbox": "none", "timeout_seconds": 5 if how == "stops" else 120}
    tree = lab.tree(name="attacked", execution=execution, **only("same", "mood"))
    tree["defaults"]["method"] |= {"name": "hostile_lab:Hostile", "how": how}

    ran = carry_out(lab.write(tree), tmp_path / "home")

    found = {row.task: row for row in arrivals_in(ran.home)}
    assert (found["same"].status, found["mood"].status) == ("failed", "finished")
    assert reason in str(found["same"].reason)
    assert [record.status for record in runs_in(ran.home)] == ["failed"]
    if how == "forks":
        assert tree_of(int(own_pid.read_text())) == []


def test_a_provider_that_reports_nothing_ends_with_a_lab_that_is_killed(
    lab: Lab, tmp_path: Path, own_pid: Path
) -> None:
    execution = {"executor": "processes", "sandbox": "none"}
    tree = lab.tree(name="orphaned", execution=execution, **only("same"))
    tree["defaults"]["method"] |= {"name": "hostile_lab:Hostile", "how": "sleeps"}
    cli = Path(__file__).parents[2] / "cli.py"
    command = [str(cli), "run", str(lab.write(tree)), "--home", str(tmp_path / "home")]
    paths = os.pathsep.join([str(own_pid.parent), *sys.path])
    started = subprocess.Popen(
        [sys.executable, *command],
        env=os.environ | {"PYTHONPATH": paths},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        provider = int(_wait_for(lambda: own_pid.exists() and own_pid.read_text()))
        assert tree_of(provider) == [provider]
    finally:
        started.kill()
        started.wait()

    assert _wait_for(lambda: tree_of(provider) == [])


def _wait_for(condition: Callable[[], Any], seconds: float = 120.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found
