"""The pages of studies: made from exported files alone, the same twice, and of what is in them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from script_samples import load_script

from streamlab.stats.study_comparison import compare_rows
from streamlab.study.records import CellArtifact, CellRecord, CellScore, read_cells, write_cells
from streamlab.study.results import Results
from streamlab.study.study import Cell, load_study

ROOT = Path(__file__).parents[2]
write_pages = load_script("analysis/results_page.py").write_pages

STUDY = """
version: 1
name: tiny
seeds: [1, 2]
reference: full
shared: {base: {model: anything}, data: {sources: [synthetic]}}
tasks: {sst2: {dataset: sst2, metric: accuracy}, stsb: {dataset: stsb, metric: pearson}}
methods:
  full: {method: full_finetuning, tune: {training.learning_rate: [1e-4, 2e-4, 5e-5]}}
  random:
    method: {name: fixed_mask, mask: random}
    sizes: {method.target_density: [0.01, 0.001]}
    tune: {method.learning_rate: [1e-2, 3e-2, 1e-1]}
note: Made in a hurry.
questions:
  - {ask: Do more entries help?, methods: [random-0.01], against: [random-0.001]}
"""


def record(cell: Cell, value: float, n_bytes: int, n_entries: int) -> CellRecord:
    """Return the record of a cell with one score on both splits."""
    metric = {"sst2": "accuracy", "stsb": "pearson"}[cell.task]
    scores = tuple(
        CellScore(metric=metric, split=split, value=value, n_examples=500, is_primary=True)
        for split in ("dev", "validation")
    )
    artifact = CellArtifact(
        digest="0" * 64, kind="diff", value_type="bf16", n_gated=100_000, n_entries=n_entries,
        n_head_entries=10, file_bytes=n_bytes, positions_bytes=0, values_bytes=n_bytes - 40,
        head_bytes=40, metadata_bytes=0,
    )  # fmt: skip
    return CellRecord(
        cell=cell.digest, row=cell.row.label, setting=dict(cell.chosen), task=cell.task,
        seed=cell.seed, status="finished", method={}, n_steps=10, training_seconds=36.0,
        evaluation_seconds=1.0, n_train_examples=100, examples="e", source="files", base="b",
        environment={"device": "cpu", "processor": "a processor", "precision": "fp32",
                     "torch": "2"}, artifact=artifact, scores=scores,
    )  # fmt: skip


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study whose cells have scores that are known: full 0.80, random 0.78 and 0.70 at best."""
    path = tmp_path / "tiny.yaml"
    path.write_text(STUDY, encoding="utf-8")
    loaded, records = load_study(path), {}
    results = Results(None, records)
    at_best = {None: (0.8, 90_000, 100_000), 0.01: (0.78, 4_000, 1_000), 0.001: (0.7, 900, 100)}
    best_rate = {None: 1e-4, 0.01: 1e-2, 0.001: 3e-2}
    for row in loaded.rows():
        value, n_bytes, n_entries = at_best[row.size]  # type: ignore[index]
        for setting in loaded.settings(row):
            away = abs(math.log10(float(setting[0][1]) / best_rate[row.size]))  # type: ignore[index]
            for number, task in enumerate(loaded.study.tasks):
                for seed in loaded.study.seeds if not away else (1,):
                    cell = loaded.cell(row, setting, task, seed)
                    score = value - 0.1 * away + 1e-5 * seed * (-1) ** number
                    records[cell.digest] = record(cell, round(score, 6), n_bytes, n_entries)
    write_cells(loaded.cells_file, results.records(loaded))
    return path


def test_the_page_is_the_same_twice_and_holds_what_was_recorded(
    study: Path, tmp_path: Path
) -> None:
    first = write_pages(study.parent, tmp_path / "one")
    again = write_pages(study.parent, tmp_path / "other")

    assert [page.read_bytes() for page in again] == [page.read_bytes() for page in first]
    summary, text = (page.read_text("utf-8") for page in first)
    assert "| 1 kB | random-0.001 | 900 | 70.0 | -10.0 " in summary
    assert "Made in a hurry." in summary
    assert "Made in a hurry." in text
    assert "**Do more entries help?**" in summary
    assert "| random-0.01 | random-0.001 | +8.0 [+8.0, +8.0] | " in summary
    assert " | 4, 0 | better |" in summary
    assert "![Mean score against the bytes of a task](studies/tiny/frontier.png)" in summary
    assert "24 cells of 24 are done" in text  # 18 trials and 6 repetitions
    assert "| random-0.01 | 78.0 | 78.0 | 78.0 | 2 | -2.0 " in text
    assert "| 5 kB | random-0.01 | 4,000 | 78.0 | -2.0 " in text
    assert "| 1 kB | random-0.001 | 900 | 70.0 | -10.0 " in text
    assert "fitted on sst2, and" in text  # then scored on the other task
    assert "| random | 7.1e-03 | 0.90 | 0.0 | 2.4 | 0.6 |" in text
    assert "Nothing: every row has every task and seed." in text
    pictures = sorted(path.name for path in (tmp_path / "one" / "studies" / "tiny").glob("*.png"))
    assert pictures == ["density.png", "frontier.png", "sensitivity.png"]


def test_what_was_not_run_is_listed_and_no_mean_is_given_for_it(
    study: Path, tmp_path: Path
) -> None:
    loaded = load_study(study)
    kept = [
        cell
        for cell in read_cells(loaded.cells_file).values()
        if (cell.row, cell.task) != ("random-0.001", "stsb") and cell.seed == 1
    ]
    write_cells(loaded.cells_file, kept)

    _, page = write_pages(study.parent, tmp_path / "pages")
    text = page.read_text("utf-8")

    assert "| random-0.001 | 0 | 0 of 4 |" in text
    assert "| full | 3 | 2 of 4 |" in text
    assert "| 1 kB | none |  |  |  |" in text


def test_the_p_values_of_a_table_are_adjusted_for_its_number_of_claims(study: Path) -> None:
    loaded = load_study(study)
    spread = {("random-0.01", 1): 0.01, ("random-0.001", 2): 0.06}  # by row and seed
    records = {}
    for digest, one in read_cells(loaded.cells_file).items():
        more = spread.get((one.row, one.seed), 0.0)
        scores = [s.model_copy(update={"value": s.value + more}) for s in one.scores]
        records[digest] = one.model_copy(update={"scores": tuple(scores)})

    rows = compare_rows(loaded, Results(None, records))

    claims = [(row.difference.p_value, row.adjusted_p) for row in rows if row.difference]
    smaller, larger = sorted(claims)
    assert 0.0 < smaller[0] < larger[0] < 0.5
    assert smaller[1] == 2 * smaller[0]
    assert larger[1] == max(larger[0], smaller[1])
    assert [math.isnan(row.adjusted_p) for row in rows] == [True, False, False]
