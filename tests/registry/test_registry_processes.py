from __future__ import annotations

import multiprocessing
import subprocess
import sys

from registry_samples import Clock, write_arrivals

from streamlab.registry.registry import Registry


def start(url: str, n_writers: int, n_arrivals: int) -> list[int | None]:
    """Write from several processes at once; return their exit codes."""
    context = multiprocessing.get_context("spawn")
    writers = [
        context.Process(target=write_arrivals, args=(url, number, n_arrivals))
        for number in range(n_writers)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    return [writer.exitcode for writer in writers]


def test_processes_that_write_at_once_lose_nothing(new_url: str) -> None:
    # The file is not there yet: they race for making the tables too.
    assert start(new_url, n_writers=4, n_arrivals=50) == [0, 0, 0, 0]

    with Registry.open(new_url, clock=Clock(), read_only=True) as registry:
        assert [run.name for run in registry.runs()] == [f"glue-{n}" for n in range(1, 5)]
        assert {run.status for run in registry.runs()} == {"finished"}
        for run in registry.runs():
            arrivals = registry.arrivals(run=run.name)
            assert [arrival.sequence for arrival in arrivals] == list(range(50))
            assert len(registry.scores(run=run.name)) == 50
        assert len(registry.diffs()) == 4 * 25 + 25
        assert len(registry.tasks()) == 50
        assert len(registry.bases()) == 1
        assert len(registry.events()) == 1 + 4 * (50 + 2)


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
    registry.arrivals()
"""
    loaded = loaded_by(script, file_url)

    assert "sqlalchemy" in loaded
    assert not loaded & {"alembic", "torch", "transformers", "numpy", "datasets"}
    # A command is to answer at once, and these took half of its time.
    assert not loaded & {"pydantic", "yaml", "sqlalchemy.orm", "sqlalchemy.dialects.postgresql"}


def test_the_store_the_home_and_curves_need_no_database() -> None:
    script = "import streamlab.registry.curves, streamlab.registry.home, streamlab.registry.store"

    assert not loaded_by(script) & {"sqlalchemy", "alembic", "torch", "numpy"}
