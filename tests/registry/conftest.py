from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before the samples are imported, and handed on to processes that tests spawn.
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "stream"))

from registry_samples import Clock

from streamlab.registry.home import Home
from streamlab.registry.registry import Registry


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the file of an empty registry once, for tests to copy."""
    path = tmp_path_factory.mktemp("made") / "registry.db"
    Registry.open(f"sqlite:///{path}", clock=Clock()).close()
    return path


@pytest.fixture
def new_url(tmp_path: Path) -> str:
    """Name a file that is not there yet."""
    return f"sqlite:///{tmp_path}/registry.db"


@pytest.fixture
def file_url(made: Path, tmp_path: Path) -> str:
    """Name the file of an empty registry."""
    shutil.copy(made, tmp_path / "registry.db")
    return f"sqlite:///{tmp_path}/registry.db"


@pytest.fixture(params=["file", "memory"])
def registry(request: pytest.FixtureRequest, clock: Clock) -> Iterator[Registry]:
    url = request.getfixturevalue("file_url") if request.param == "file" else "sqlite://"
    with Registry.open(url, clock=clock) as opened:
        yield opened


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run one scenario of two tasks and a rival twice, so that two runs share every file."""
    from stream_samples import carry_out, make_lab, only  # here, since it costs torch

    lab = make_lab(tmp_path_factory.mktemp("lab"))
    path = lab.scenario(name="pair", rivals=["full_finetuning"], **only("mood", "same"))
    folder = tmp_path_factory.mktemp("trained") / "home"
    for _ in range(2):
        carry_out(path, folder)
    return folder


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Home:
    """A real home of a test's own: two runs of two tasks by two methods, on four files."""
    return Home(shutil.copytree(trained, tmp_path / "home"))
