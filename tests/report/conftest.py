"""The run that the figures' tests share."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# Before the samples are imported.
sys.path.insert(0, str(Path(__file__).parent))

from figure_samples import ran_in

from streamlab.registry.registry import Registry

if TYPE_CHECKING:
    from stream_samples import Ran


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A finished run, to be read only."""
    return ran_in(tmp_path_factory.mktemp("many"))


@pytest.fixture
def many_registry(many: Ran) -> Iterator[Registry]:
    """The registry of that run."""
    with Registry.open(many.home.registry_url, clock=time.time, read_only=True) as opened:
        yield opened
