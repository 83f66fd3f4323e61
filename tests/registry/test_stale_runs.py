from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest
from registry_samples import Clock, new_base, new_run
from sqlalchemy import text

from streamlab.errors import RegistryError
from streamlab.registry.database import Database
from streamlab.registry.records import RunRecord
from streamlab.registry.registry import Registry
from streamlab.registry.runs import STALE_SECONDS

STARTS_A_RUN = """
import sys, time
from registry_samples import new_run
from streamlab.registry.registry import Registry

with Registry.open(sys.argv[1], clock=lambda: 1000.0) as registry:
    print(registry.runs.start(new_run()).name, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def opened(shared_url: str, clock: Clock) -> Iterator[Registry]:
    with Registry.open(shared_url, clock=clock) as registry:
        registry.bases.add(new_base())
        yield registry


@pytest.fixture
def child(opened: Registry) -> Iterator[subprocess.Popen[str]]:
    """Start a process that works on a run for as long as it lives."""
    process = subprocess.Popen(
        [sys.executable, "-c", STARTS_A_RUN, opened.url],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "glue-1\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def give_away(opened: Registry, run: RunRecord) -> None:
    """Make a run that of a process on another machine."""
    given = f"UPDATE runs SET host = 'elsewhere', pid = 1 WHERE id = {run.id:d}"  # noqa: S608
    with closing(Database(opened.url)) as database:
        database.write(lambda c: c.execute(text(given)))


def test_a_run_that_is_silent_for_too_long_is_stale(opened: Registry, clock: Clock) -> None:
    run = opened.runs.start(new_run())

    clock.now = 1000.0 + STALE_SECONDS
    assert opened.runs.get(run.id).status == "running"
    clock.now += 0.001
    assert opened.runs.get(run.id).status == "stale"
    assert [r.status for r in opened.runs.list()] == ["stale"]
    found = opened.runs.find_unfinished(run.scenario_digest)
    assert found is not None
    assert found.status == "stale"


def test_a_late_heartbeat_brings_a_run_back(opened: Registry, clock: Clock) -> None:
    run = opened.runs.start(new_run())
    clock.now = 1000.0 + 2 * STALE_SECONDS

    opened.runs.heartbeat(run.id)

    assert opened.runs.get(run.id).status == "running"


def test_an_ended_run_is_never_stale(opened: Registry, clock: Clock) -> None:
    run = opened.runs.start(new_run())
    opened.runs.finish(run.id, "interrupted")
    clock.now += 10 * STALE_SECONDS

    assert opened.runs.get(run.id).status == "interrupted"


def test_a_killed_process_leaves_a_stale_run_at_once(
    opened: Registry, child: subprocess.Popen[str]
) -> None:
    alive = opened.runs.get("glue-1")
    assert (alive.status, alive.pid) == ("running", child.pid)

    child.send_signal(signal.SIGKILL)
    child.wait()

    assert opened.runs.get("glue-1").status == "stale"


def test_a_run_at_work_is_neither_resumed_nor_ended_by_another(
    opened: Registry, child: subprocess.Popen[str]
) -> None:
    run = opened.runs.get("glue-1")

    with pytest.raises(RegistryError, match=f"being worked on by process {child.pid}"):
        opened.runs.resume(run.id)
    with pytest.raises(RegistryError, match="taken over"):
        opened.runs.finish(run.id, "failed")
    with pytest.raises(RegistryError, match="taken over"):
        opened.runs.heartbeat(run.id)
    assert opened.runs.get("glue-1") == run


def test_a_dead_run_is_resumed_by_another_process(
    opened: Registry, child: subprocess.Popen[str], clock: Clock
) -> None:
    child.kill()
    child.wait()
    clock.now = 1010.0

    resumed = opened.runs.resume(opened.runs.get("glue-1").id)

    assert (resumed.status, resumed.pid, resumed.heartbeat_at) == ("running", os.getpid(), 1010.0)
    assert resumed.started_at == 1000.0


def test_a_dead_run_may_be_ended_by_whoever_finds_it(
    opened: Registry, child: subprocess.Popen[str]
) -> None:
    child.kill()
    child.wait()

    ended = opened.runs.finish(opened.runs.get("glue-1").id, "failed", "found dead")

    assert (ended.status, ended.reason) == ("failed", "found dead")


def test_a_process_elsewhere_is_judged_by_its_heartbeat_alone(
    opened: Registry, clock: Clock
) -> None:
    run = opened.runs.start(new_run())
    give_away(opened, run)

    assert opened.runs.get(run.id).status == "running"
    with pytest.raises(RegistryError, match="being worked on by process 1 on 'elsewhere'"):
        opened.runs.resume(run.id)
    clock.now += STALE_SECONDS + 1
    assert opened.runs.resume(run.id).pid == os.getpid()


def test_the_process_that_lost_its_run_is_told_to_stop(opened: Registry, clock: Clock) -> None:
    run = opened.runs.start(new_run())
    clock.now += STALE_SECONDS + 1  # as after a laptop's sleep
    give_away(opened, run)

    with pytest.raises(RegistryError, match="taken over by process 1 on 'elsewhere'"):
        opened.runs.heartbeat(run.id)
