"""The committed pages of the studies are those that the committed exports give."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from script_samples import load_script

from streamlab.study.overlap import read_overlaps
from streamlab.study.records import MAX_BYTES, read_cells

ROOT = Path(__file__).parents[2]
write_pages = load_script("analysis/results_page.py").write_pages


def test_the_results_are_generated_byte_for_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMLAB_DATA", "data")

    pages = write_pages(ROOT / "studies", tmp_path)

    for page in pages:
        committed = ROOT / "docs" / page.relative_to(tmp_path)
        assert page.read_bytes() == committed.read_bytes(), "run analysis/results_page.py"
    for numbers in (tmp_path / "studies").rglob("*.csv"):
        assert numbers.read_bytes() == (ROOT / "docs" / numbers.relative_to(tmp_path)).read_bytes()


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*/*.jsonl")), ids=str)
def test_an_export_is_small_and_names_no_path_of_a_machine(path: Path) -> None:
    text = path.read_text("utf-8")

    assert len(text.encode()) <= MAX_BYTES
    assert re.search(r"""["'\s=:]/\w""", text) is None


@pytest.mark.parametrize("folder", sorted((ROOT / "studies").glob("*/")), ids=str)
def test_an_exports_overlaps_are_of_its_cells(folder: Path) -> None:
    overlaps = read_overlaps(folder / "overlaps.jsonl")

    assert {cell for one in overlaps for cell in (one.first, one.second)} <= set(
        read_cells(folder / "cells.jsonl")
    )
