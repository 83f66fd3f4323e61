"""The figures of docs/benchmarks.md are those of the files that the benchmarks wrote."""

from __future__ import annotations

from types import ModuleType

import pytest
from script_samples import load_script


@pytest.fixture(scope="module")
def record() -> ModuleType:
    return load_script("benchmarks/record.py")


def test_the_page_holds_what_was_recorded(record: ModuleType) -> None:
    assert record.page(record.read_results()) == record.PAGE.read_text("utf-8")


def test_a_figure_is_shown_with_its_goal_and_a_benchmark_without_figures_is_said_to_lack(
    record: ModuleType,
) -> None:
    figures = {"container_bytes": 187, "decode_over_reload": 0.1234, "base_unchanged": True}
    found = {"command": "python x.py", "date": "2026-01-01", "machine": "M", "figures": figures}

    page = record.page({"codec": found, "switch": None})

    assert "| container bytes | 187 | at most 200 |" in page
    assert "| decode relative to reload | 0.123 | at most 0.15 |" in page
    assert "| base unchanged | yes |  |" in page
    assert "`benchmarks/switch.py` was not recorded yet." in page
