from __future__ import annotations

import subprocess
import sys

import pytest

import streamlab
from streamlab.library import run as library_run
from streamlab.stream import engine


def test_what_runs_a_scenario_stands_at_the_top_of_the_package() -> None:
    assert streamlab.run is library_run.run
    assert streamlab.outcomes is engine.run
    assert all(hasattr(streamlab, name) for name in streamlab.__all__)


def test_dir_lists_the_names_of_the_package() -> None:
    assert dir(streamlab) == sorted(streamlab.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'walk'"):
        getattr(streamlab, "walk")  # noqa: B009 - so that mypy lets it be asked for


def test_importing_the_package_imports_no_heavy_library() -> None:
    code = "import sys, streamlab; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    loaded = set(done.stdout.split())
    assert "streamlab" in loaded
    assert not {"torch", "transformers", "numpy", "sqlalchemy", "datasets", "pandas"} & loaded
