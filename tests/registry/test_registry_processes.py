from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import Callable

import pytest
from registry_samples import Clock, write_arrivals, write_batches

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
    [(4, 50), pytest.param(8, 1000, marks=pytest.mark.slow)],
)
def test_processes_that_write_at_once_lose_nothing(
    new_url: str, n_writers: int, n_arrivals: int
) -> None:
    # The file is not there yet: they race for making the tables too.
    assert start(new_url, n_writers, n_arrivals) == [0] * n_writers

    with Registry.open(new_url, clock=Clock(), read_only=True) as registry:
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
        assert len(registry.bases.list()) == 1
        assert len(registry.events.list()) == 1 + n_writers * (n_arrivals + 2)


def test_processes_that_write_batches_at_once_lose_nothing(new_url: str) -> None:
    assert start(new_url, 3, 300, work=write_batches) == [0] * 3

    with Registry.open(new_url, clock=Clock(), read_only=True) as registry:
        (total,) = registry.totals.list("all")
        assert (total.n_arrivals, total.n_files) == (900, 300)
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
