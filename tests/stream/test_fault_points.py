"""A process that dies at any point of an arrival leaves a home that is whole and goes on."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from stream_points import KILLED
from stream_samples import Ran, arrivals_in, reading, runs_in, scores_in, stored

from streamlab.home.folder import Home
from streamlab.home.store import FolderStore
from streamlab.home.verify import Finding, verify
from streamlab.stream.engine import run
from streamlab.stream.lab import POINTS


@pytest.fixture(scope="module")
def killed(plain: Ran, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one home for each point, left by a process that died there."""
    folder = tmp_path_factory.mktemp("points")
    child = Path(__file__).parents[1] / "samples" / "stream_points.py"
    done = subprocess.run(
        [sys.executable, str(child), str(plain.path), str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.stdout.split("\n")[:-1] == [f"{point} {KILLED}" for point in POINTS], done.stderr
    return folder


def findings(home: Home) -> list[Finding]:
    with reading(home) as registry:
        return list(verify(registry, FolderStore(home.store), now=time.time()))


@pytest.mark.parametrize("point", POINTS)
def test_a_process_killed_at_a_point_leaves_a_whole_home_that_goes_on(
    killed: Path, plain: Ran, point: str
) -> None:
    home = Home(killed / point)

    # A file is stored before its row: it is what the next attempt stores again.
    assert {finding.problem for finding in findings(home)} <= {"orphan"}
    assert [record.status for record in runs_in(home)] == ["stale"]
    n_recorded = len(arrivals_in(home))
    assert n_recorded == (2 if point == "recorded" else 1)

    n_served = len(list(run(plain.path, home.path, resume=True)))

    assert n_served == 3 - n_recorded
    assert findings(home) == []
    assert stored(home) == stored(plain.home)
    scores = {(s.task, s.metric, s.split, s.after_sequence, s.value) for s in scores_in(home)}
    assert scores == {
        (s.task, s.metric, s.split, s.after_sequence, s.value) for s in scores_in(plain.home)
    }
    assert [record.status for record in runs_in(home)] == ["finished"]
