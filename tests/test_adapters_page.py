"""The tables of docs/guides/adapters.md are those of the benchmark and of the list of types."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
from script_samples import load_script

from streamlab.methods.peft_types import TYPES

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "adapter_sizes.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("benchmarks/adapter_sizes.py")


def test_the_page_holds_what_was_measured(script: ModuleType) -> None:
    page = script.PAGE.read_text("utf-8")
    found = json.loads(script.RESULTS.read_text("utf-8"))

    assert script.filled(page, found) == page
    found["adapters"][0]["file_bytes"] += 1_000_000
    assert script.filled(page, found) != page


def test_every_type_was_measured_and_its_parts_add_up(script: ModuleType) -> None:
    found = json.loads(script.RESULTS.read_text("utf-8"))["adapters"]

    assert {row["settings"]["type"] for row in found if row["settings"]} == set(TYPES)
    for row in found:
        parts = ("values_bytes", "positions_bytes", "head_bytes", "metadata_bytes")
        assert sum(row[part] for part in parts) == row["file_bytes"]
        assert row["metadata_bytes"] > row["settings_bytes"]
