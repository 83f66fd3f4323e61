from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest
from registry_samples import (
    Clock,
    finished_arrival,
    new_arrival,
    new_base,
    new_diff,
    new_run,
    write_arrivals,
    write_batches,
)

from streamlab.registry.artifacts import Artifacts
from streamlab.registry.registry import Registry


def start(
    url: str,
    n_writers: int,
    n_arrivals: int,
    *,
    work: Callable[[str, int, int], None] = write_arrivals,
) -> list[int | None]:
    """Write from several processes at once; return their exit codes."""
    context = multiprocessing.get_context("spawn")
    writers = [
        context.Process(target=work, args=(url, number, n_arrivals)) for number in range(n_writers)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    return [writer.exitcode for writer in writers]


@pytest.mark.parametrize(
    ("n_writers", "n_arrivals"),
    [(3, 20), pytest.param(8, 1000, marks=pytest.mark.slow)],
)
def test_processes_that_write_at_once_lose_nothing(
    new_shared_url: str, n_writers: int, n_arrivals: int
) -> None:
    # Nothing is there yet: they race for making the tables too.
    assert start(new_shared_url, n_writers, n_arrivals) == [0] * n_writers

    with Registry.open(new_shared_url, clock=Clock(), read_only=True) as registry:
        runs = registry.runs.list()
        assert [run.name for run in runs] == [f"glue-{n + 1}" for n in range(n_writers)]
        assert {run.status for run in runs} == {"finished"}
        for run in runs:
            arrivals = registry.arrivals.list(run=run.name)
            assert [arrival.sequence for arrival in arrivals] == list(range(n_arrivals))
            assert len(registry.scores.list(run=run.name)) == n_arrivals
        # Of every two artifacts one is its writer's own, and one they all share.
        n_files = n_writers * n_arrivals // 2 + n_arrivals // 2
        assert len(registry.artifacts.list()) == n_files
        assert [(t.n_arrivals, t.n_files) for t in registry.totals.list("all")] == [
            (n_writers * n_arrivals, n_files)
        ]
        assert len(registry.totals.tasks()) == n_arrivals
        assert registry.totals.verify() == ()
        assert len(registry.bases.list()) == 1
        assert len(registry.events.list()) == 1 + n_writers * (n_arrivals + 2)


def test_processes_that_write_batches_at_once_lose_nothing(new_shared_url: str) -> None:
    assert start(new_shared_url, 3, 300, work=write_batches) == [0] * 3

    with Registry.open(new_shared_url, clock=Clock(), read_only=True) as registry:
        (total,) = registry.totals.list("all")
        assert (total.n_arrivals, total.n_files) == (900, 300)
        assert registry.totals.verify() == ()
        assert len(registry.events.list()) == 1 + 3 * (300 + 2)


def loaded_by(script: str, *arguments: str) -> set[str]:
    """Run a script in a fresh process and return the modules it loaded."""
    ends = "\nimport sys; print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", script + ends, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(ran.stdout.split())


def test_reading_a_registry_that_is_up_to_date_loads_nothing_it_can_do_without(
    file_url: str,
) -> None:
    script = """
import sys
from streamlab.registry.registry import Registry
with Registry.open(sys.argv[1], clock=lambda: 0.0) as registry:
    registry.arrivals.list()
"""
    loaded = loaded_by(script, file_url)

    assert "sqlalchemy" in loaded
    assert not loaded & {"alembic", "torch", "transformers", "numpy", "datasets"}
    # A command is to answer at once, and these took half of its time.
    assert not loaded & {"pydantic", "yaml", "sqlalchemy.orm", "sqlalchemy.dialects.postgresql"}


def test_the_store_the_home_and_curves_need_no_database() -> None:
    script = "import streamlab.home.curves, streamlab.home.folder, streamlab.home.store"

    assert not loaded_by(script) & {"sqlalchemy", "alembic", "torch", "numpy"}


def test_threads_that_add_remove_and_delete_at_once_leave_right_totals(shared_url: str) -> None:
    with Registry.open(shared_url, clock=Clock()) as registry:
        registry.bases.add(new_base())
        ended = registry.runs.start(new_run()).id
        registry.arrivals.add_all([finished_arrival(ended, n) for n in range(20)])
        registry.runs.finish(ended, "finished")
        run = registry.runs.start(new_run()).id

        def add(first: int) -> None:
            for n in range(first, first + 20):
                # Every artifact is one that the run before has too.
                new = finished_arrival(run, n)
                registry.arrivals.add(new.arrival, new_diff(str(n % 20)), new.scores)

        def remove(first: int) -> None:
            for n in range(first, first + 10):
                registry.removal.remove([n])
                registry.removal.restore([n])
                registry.removal.remove([n])
                registry.removal.delete([n])

        work = [(add, 0), (add, 20), (remove, 1), (remove, 11)]
        threads = [threading.Thread(target=do, args=(first,)) for do, first in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        (total,) = registry.totals.list("all")
        assert (total.n_arrivals, total.n_files) == (40, 20)
        assert registry.totals.verify() == registry.integrity.find_damage() == ()


def test_an_artifact_that_was_added_meanwhile_is_used(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.bases.add(new_base())
    run = registry.runs.start(new_run()).id
    first = registry.arrivals.add(new_arrival(run), new_diff(), [])
    known = Artifacts._known

    def blind_at_first(*_: object) -> dict[str, int]:
        # As if another transaction had committed between the look-up and the insert.
        monkeypatch.setattr(Artifacts, "_known", known)
        return {}

    monkeypatch.setattr(Artifacts, "_known", blind_at_first)
    second = registry.arrivals.add(new_arrival(run, version=2), new_diff(), [])

    assert first.digest == second.digest
    assert len(registry.artifacts.list()) == 1
    assert registry.totals.verify() == ()
