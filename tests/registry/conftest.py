from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before the samples are imported, and handed on to processes that tests spawn.
sys.path.insert(0, str(Path(__file__).parent))

from registry_samples import Clock

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
