from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from stream_samples import Elsewhere, Lab, Ran, carry_out, make_lab, only

from streamlab.home.folder import Home


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A tiny base, three tasks in files and their scenario."""
    return make_lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="session")
def plain(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The three tasks learnt once, undisturbed; to be read only."""
    path = lab.scenario(name="plain", evaluation="full")
    return carry_out(path, tmp_path_factory.mktemp("plain") / "home")


@pytest.fixture(scope="session")
def many(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Two seeds and two baselines, scored again after every arrival; to be read only."""
    path = lab.scenario(
        name="many", seeds=[1, 2], baselines=["full_finetuning", "head_only"], evaluation="full"
    )
    return carry_out(path, tmp_path_factory.mktemp("many") / "home")


@pytest.fixture(scope="session")
def elsewhere(lab: Lab, plain: Ran, tmp_path_factory: pytest.TempPathFactory) -> Elsewhere:
    """Run in another process, which has another seed of hashes and other threads."""
    folder = tmp_path_factory.mktemp("elsewhere")
    homes = Elsewhere(*(Home(folder / name) for name in ("same", "shuffled", "killed")))
    shuffled = lab.scenario(name="shuffled", **only("degree", "mood", "same"))
    pairs = ((plain.path, homes.same), (shuffled, homes.shuffled), (plain.path, homes.killed))
    child = Path(__file__).with_name("stream_child.py")
    arguments = [str(part) for path, home in pairs for part in (path, home.path)]
    done = subprocess.run(
        [sys.executable, str(child), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONHASHSEED": "4242", "OMP_NUM_THREADS": "2"},
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "")
    return homes
