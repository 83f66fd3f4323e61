"""`streamlab plan`: what a run would do, and nothing done."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from stream_samples import Lab, make_lab

from streamlab.cli import cli
from streamlab.methods import DiffPruning

Plan = Callable[..., Result]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Call `streamlab plan` in an empty folder, in which it may leave nothing."""
    monkeypatch.chdir(tmp_path)

    def no_training(*_: object) -> None:
        raise AssertionError("a plan trains nothing")

    monkeypatch.setattr(DiffPruning, "train", no_training)

    def invoke(*arguments: object) -> Result:
        environment = {"STREAMLAB_HOME": None, "NO_COLOR": None, "FORCE_COLOR": None}
        result = CliRunner().invoke(cli, ["plan", *map(str, arguments)], env=environment)
        assert list(tmp_path.iterdir()) == []
        return result

    return invoke


def test_a_plan_lists_every_arrival_and_leaves_nothing_behind(plan: Plan, lab: Lab) -> None:
    result = plan(lab.scenario(), "--set", "baselines=[head_only]", "--set", "seeds=[1, 2]")

    assert result.exit_code == 0
    header, *rows = result.stdout.splitlines()
    assert header.split() == (
        ["seed", "task", "provider", "method", "source", "examples", "steps", "bytes", "seconds"]
    )
    assert [row.split()[:6] for row in rows] == [
        [seed, task, provider, method, "files", "28"]
        for seed in ("1", "2")
        for task, provider in (("mood", "press"), ("same", "school"), ("degree", "press"))
        for method in ("diff_pruning", "head_only")
    ]
    assert result.stderr.startswith("12 arrivals, about ")
    assert result.stderr.endswith(" of training. Nothing was trained.\n")


def test_json_and_csv_hold_raw_numbers_of_every_column(plan: Plan, lab: Lab) -> None:
    path = lab.scenario()

    records = json.loads(plan(path, "--format", "json").stdout)
    rows = list(csv.DictReader(io.StringIO(plan(path, "--format", "csv").stdout)))

    assert [record["entries"] for record in records] == [291, 291, 291]
    assert all(record["seconds"] > 0 for record in records)
    exact = ("seed", "task", "method", "examples", "steps", "entries", "bytes")
    assert [[row[name] for name in exact] for row in rows] == [
        [str(record[name]) for name in exact] for record in records
    ]


def test_a_source_that_an_unset_variable_leaves_out_is_named(
    plan: Plan, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STREAMLAB_DATA", raising=False)
    sources = '[{"files": "${STREAMLAB_DATA:-}"}, "synthetic"]'
    tasks = '{"mood": {"dataset": "glue/sst2"}}'

    result = plan(
        lab.scenario(), "--set", f"data.sources={sources}", "--set", f"tasks={tasks}",
        "--set", "providers={press: {tasks: [mood]}}",
    )  # fmt: skip

    assert result.exit_code == 0, result.stderr
    assert result.stderr.splitlines()[0] == (
        "Not from files (1 task): `STREAMLAB_DATA` is not set, so that no local data is read."
    )


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("evaluation=never", "evaluation: must be 'last' or 'full', got 'never'."),
        ("tasks.mood.files.folder=none", "none' does not exist. Check the path."),
        ("defaults.training.max_length=64", "takes at most 32. Lower it."),
    ],
)
def test_a_plan_refuses_what_a_run_would_refuse(
    plan: Plan, lab: Lab, override: str, told: str
) -> None:
    result = plan(lab.scenario(), "--set", override)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: ")
    assert result.stderr.rstrip("\n").endswith(told)
