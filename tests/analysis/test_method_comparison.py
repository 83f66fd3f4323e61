"""The study runs on real runs: seeds in one run or in several, paired by task and seed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from stream_samples import carry_out, make_lab, only

from streamlab.home.folder import Home

STUDY = Path(__file__).parents[2] / "analysis" / "method_comparison.py"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Two seeds of one scenario as two runs, and a third run without a baseline."""
    lab = make_lab(tmp_path_factory.mktemp("lab"))
    folder = tmp_path_factory.mktemp("compared") / "home"
    for seed in (1, 2):
        path = lab.scenario(name="both", seeds=[seed], baselines=["head_only"], **only("mood"))
        carry_out(path, folder)
    carry_out(lab.scenario(name="alone", seeds=[3], **only("mood")), folder)
    return Home(folder)


def study(home: Home, *runs: str) -> subprocess.CompletedProcess[str]:
    words = [word for run in runs for word in ("--run", run)]
    command = [sys.executable, str(STUDY), "--home", str(home.path), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_runs_of_other_seeds_are_put_together(home: Home) -> None:
    result = study(home, "both-1", "both-2")

    assert result.returncode == 0, result.stderr
    assert "| mood | accuracy | 2 |" in result.stdout
    assert "(2 pairs, " in result.stdout


def test_runs_that_do_not_go_together_are_refused(home: Home) -> None:
    twice = study(home, "both-1", "both-1")
    apart = study(home, "both-1", "alone-1")
    alone = study(home, "alone-1")

    assert (twice.returncode, apart.returncode, alone.returncode) == (2, 2, 2)
    assert "are in two of the runs" in twice.stderr
    assert "differ in more than their seeds" in apart.stderr
    assert "trained no baseline" in alone.stderr
