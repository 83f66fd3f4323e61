"""An arrival that runs out of memory is tried again while nothing else runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stream_samples import Lab, Ran, arrivals_in, carry_out, only, stored

# It finds no memory where another is in training; the first time, it waits for one.
SOURCE = """
import json, os, time
from pathlib import Path
import torch
from streamlab.methods import DiffPruning

class Greedy(DiffPruning):
    name: str = "greedy"
    spoilt: tuple[str, ...] = ()  # tasks that never find any

    def train(self, job):
        folder = Path(os.environ["GREEDY"])
        mine, again = folder / f"{job.task}.training", folder / f"{job.task}.again"
        mine.touch()
        until = time.monotonic() + (0 if again.exists() else 120)
        while len(list(folder.glob("*.training"))) < 2 and time.monotonic() < until:
            time.sleep(0.01)
        seen = sorted(path.stem for path in folder.glob("*.training"))
        time.sleep(0.3)  # so that the other sees this one
        again.touch()
        with (folder / "seen").open("a") as log:
            log.write(json.dumps([job.task, seen]) + "\\n")
        try:
            if len(seen) > 1 or job.task in self.spoilt:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")
            return super().train(job)
        finally:
            mine.unlink()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Install the method, and name the folder where it leaves what it saw."""
    (tmp_path / "greedy_lab.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("GREEDY", str(tmp_path))
    yield tmp_path
    sys.modules.pop("greedy_lab", None)


def run_greedy(lab: Lab, home: Path, *, resume: bool = False, **settings: Any) -> Ran:
    spoilt, attempts = settings.get("spoilt", []), settings.get("attempts", 1)
    execution = {
        "executor": settings.get("executor", "processes"),
        "attempts": attempts,
        "timeout_seconds": 300,
    }
    if execution["executor"] == "processes":
        execution |= {"sandbox": "none", "workers": 2}
    queue = {"slots": 2, "service": "fixed", "seconds": 10}
    tree = lab.tree(name="greedy", execution=execution, queue=queue, **only("mood", "same"))
    tree["defaults"]["method"] |= {"name": "greedy_lab:Greedy", "spoilt": spoilt}
    return carry_out(lab.write(tree), home, resume=resume)


def test_two_that_find_no_memory_together_find_it_one_after_the_other(
    lab: Lab, folder: Path
) -> None:
    ran = run_greedy(lab, folder / "home")

    seen = [json.loads(line) for line in (folder / "seen").read_text().splitlines()]
    both = ["mood", "same"]
    assert sorted(seen[:2]) == [["mood", both], ["same", both]]
    assert sorted(seen[2:]) == [["mood", ["mood"]], ["same", ["same"]]]
    rows = arrivals_in(ran.home)
    assert sorted((row.task, row.attempt, row.status, row.details.alone) for row in rows) == [
        (task, *of) for task in both for of in [(1, "failed", None), (2, "finished", True)]
    ]
    failed = [row for row in rows if row.status == "failed"]
    assert all("ran out of memory: CUDA out of memory." in str(row.reason) for row in failed)
    assert len(stored(ran.home)) == 2


def test_one_that_never_finds_memory_fails_and_its_attempts_are_counted_when_the_run_goes_on(
    lab: Lab, folder: Path
) -> None:
    (folder / "mood.again").touch()
    (folder / "same.again").touch()
    how = {"executor": "serial", "spoilt": ["mood"], "attempts": 2}
    for _ in range(2):
        ran = run_greedy(lab, folder / "home", resume=(folder / "home").exists(), **how)

    rows = [row for row in arrivals_in(ran.home) if row.task == "mood"]
    assert [(row.attempt, row.status, row.details.alone) for row in rows] == [
        (number, "failed", None if number % 2 else True) for number in range(1, 9)
    ]
    times = [((row.began_us or 0) // 10**7, (row.ended_us or 0) // 10**7) for row in rows]
    assert times == [(n, n + 1) for n in (0, 1, 2, 3)] * 2
