"""Whole outputs of every command that reads, on the fixed registry, held against stored text.

Write them anew with STREAMLAB_WRITE_EXPECTED=1 and read the difference before keeping it. What
help prints is held whole by docs/reference/commands.md.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from stream_samples import Lab, make_lab

from streamlab.cli import cli
from streamlab.home.folder import Home
from streamlab.registry.registry import Registry
from streamlab.views.listings import SUBJECTS, Subject

EXPECTED = Path(__file__).parent / "golden"
CALLS = {
    "ls_runs": ["ls"],
    "ls_runs_csv": ["ls", "runs", "--format", "csv"],
    "ls_arrivals": ["ls", "arrivals"],
    "ls_arrivals_of_a_run": ["ls", "arrivals", "--run", "glue_stream-1", "--sort", "-file_bytes"],
    "ls_arrivals_csv": ["ls", "arrivals", "--limit", "3", "--format", "csv"],
    "ls_diffs": ["ls", "diffs"],
    "ls_diffs_json": ["ls", "diffs", "--limit", "1", "--format", "json"],
    "ls_scores": ["ls", "scores"],
    "ls_scores_md": ["ls", "scores", "--run", "tiny-1", "--format", "md"],
    "ls_scores_where": ["ls", "scores", "--where", "task = sst2 and value > 80%"],
    "ls_placements": ["ls", "placements"],
    "ls_placements_json": ["ls", "placements", "--run", "tiny-1", "--format", "json"],
    "ls_tasks": ["ls", "tasks"],
    "ls_tasks_json": ["ls", "tasks", "--format", "json"],
    "ls_providers": ["ls", "providers", "--columns", "name,n_failures", "--sort", "name"],
    "ls_providers_csv": ["ls", "providers", "--format", "csv"],
    "ls_bases": ["ls", "bases"],
    "ls_bases_json": ["ls", "bases", "--format", "json"],
    "ls_events": ["ls", "events"],
    "du_by_part": ["du", "--by", "part"],
    "show_run": ["show", "glue_stream-1"],
    "show_run_json": ["show", "tiny-1", "--format", "json"],
    "show_interrupted_run": ["show"],
    "show_arrival": ["show", "arrival:5"],
    "show_arrival_json": ["show", "arrival:5", "--format", "json"],
    "show_failed_arrival": ["show", "arrival:4"],
    "show_diff": ["show", "31f65eaf"],
    "show_diff_json": ["show", "diff:31f6", "--format", "json"],
    "show_task": ["show", "task:mrpc", "--run", "1"],
    "show_task_json": ["show", "sst2", "--run", "1", "--format", "json"],
    "show_base": ["show", "base:cae662"],
    "show_base_json": ["show", "base:cae662", "--format", "json"],
    "compare_runs": ["compare", "glue_stream-1", "tiny-1"],
    "compare_runs_csv": ["compare", "tiny-1", "1", "--format", "csv"],
    "compare_arrivals": ["compare", "arrival:1", "arrival:2", "arrival:3"],
    "compare_arrivals_md": ["compare", "arrival:5", "arrival:6", "--format", "md"],
    "compare_diffs": ["compare", "31f65eaf", "diff:c26a", "--all"],
    "compare_diffs_json": ["compare", "diff:31f6", "diff:b37b", "--format", "json"],
    "plot_storage": ["plot", "storage", "--run", "1"],
}
# On a tiny base, and with the seconds of two timed batches left out.
PLANS = {"plan": [], "plan_csv": ["--format", "csv"]}
MACHINES = ("--format", "plot")  # of these outputs lines may be as long as they like


def held(name: str, found: str) -> None:
    """Hold an output against the stored text, or store it where that is asked for."""
    path = EXPECTED / f"{name}.txt"
    if os.environ.get("STREAMLAB_WRITE_EXPECTED"):
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CALLS)
def test_output_is_the_stored_text(name: str, home: Home, call: Callable[..., Result]) -> None:
    result = call(*CALLS[name])

    assert result.exit_code == 0
    if name == "plot_storage":  # the caption
        assert result.stderr.startswith("Run glue_stream-1, seed 1: diff_pruning at density")
    else:
        assert result.stderr == ""
    found = result.stdout.replace(str(home.path), "HOME")
    # Of a page, of JSON and of CSV.
    found = re.sub(r"(  host +)\S+(\n  process +)\S+", r"\1HOST\2PID", found)
    found = re.sub(r'("host": ")[^"]+(",\s+"(?:pid|process)": )\d+', r"\1HOST\2PID", found)
    found = found.replace(f",{socket.gethostname()},{os.getpid()},", ",HOST,PID,")
    held(name, found)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("lab"))


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_is_the_stored_text(name: str, lab: Lab) -> None:
    path = lab.scenario(seeds=[1, 2], baselines=["full_finetuning"])

    result = CliRunner().invoke(cli, ["plan", str(path), *PLANS[name]], env={"NO_COLOR": None})

    assert result.exit_code == 0
    held(name, re.sub(r" *\d+\.\d+(e-\d+)?( s)?$", " SECONDS", result.stdout, flags=re.MULTILINE))


def test_every_stored_text_belongs_to_a_call() -> None:
    assert {path.stem for path in EXPECTED.iterdir()} == {*CALLS, *PLANS}


@pytest.mark.parametrize(
    "name", [name for name, call in CALLS.items() if not {*MACHINES} & {*call}]
)
def test_stored_tables_are_at_most_80_columns_wide(name: str) -> None:
    lines = (EXPECTED / f"{name}.txt").read_text(encoding="utf-8").splitlines()

    assert max(map(len, lines)) <= 80


def test_csv_and_json_hold_the_registrys_own_numbers(
    home: Home, call: Callable[..., Result]
) -> None:
    rows = list(csv.DictReader(io.StringIO(call("ls", "diffs", "--format", "csv").stdout)))
    tree = json.loads(call("ls", "diffs", "--format", "json").stdout)

    with Registry.open(home.registry_url, clock=lambda: 0.0, read_only=True) as registry:
        expected = [
            (diff.digest, diff.file_bytes, diff.density) for diff in registry.artifacts.list()
        ]
    read = [(row["digest"], int(row["file_bytes"]), float(row["density"])) for row in rows]
    assert read == expected
    assert [(row["digest"], row["file_bytes"], row["density"]) for row in tree] == expected


@pytest.mark.parametrize(
    ("limit", "expected"), [("1", ["tiny-1"]), ("2", ["glue_stream-1", "tiny-1"])]
)
def test_limit_keeps_the_last_runs(
    limit: str, expected: list[str], call: Callable[..., Result]
) -> None:
    rows = json.loads(call("ls", "--limit", limit, "--format", "json").stdout)

    assert [row["run"] for row in rows] == expected


def test_limit_counts_after_sorting(call: Callable[..., Result]) -> None:
    out = call("ls", "scores", "--sort", "-value", "--limit", "2", "--format", "json").stdout

    assert [row["value"] for row in json.loads(out)] == [0.9, 0.890625]


def test_limited_arrivals_are_the_first_of_all_arrivals(call: Callable[..., Result]) -> None:
    few = json.loads(call("ls", "arrivals", "--limit", "4", "--format", "json").stdout)
    every = json.loads(call("ls", "arrivals", "--format", "json").stdout)

    assert few == every[:4]


def test_show_json_holds_the_record_as_it_is(call: Callable[..., Result]) -> None:
    tree = json.loads(call("show", "run:1", "--format", "json").stdout)

    assert tree["record"]["scenario"]["defaults"]["method"]["target_density"] == 0.005
    assert tree["totals"]["base + diff_pruning"] == 90_868_376 + 5500 + 5600


def test_a_wide_choice_of_columns_is_not_folded_in_a_pipe(call: Callable[..., Result]) -> None:
    lines = call("ls", "arrivals", "--columns", "all").stdout.splitlines()

    assert len(lines) == 1 + 7
    assert "The loss became NaN at step 7." in "\n".join(lines)


def test_where_chooses_then_sort_orders_then_limit_counts(call: Callable[..., Result]) -> None:
    rows = ["ls", "scores", "--format", "json", "--where", "task = mrpc and is_primary"]

    few = json.loads(call(*rows, "--sort", "value", "--limit", "1").stdout)
    every = json.loads(call(*rows).stdout)
    first = json.loads(call(*rows, "--limit", "1").stdout)

    assert [row["value"] for row in every] == [0.8125, 0.75]
    assert [row["value"] for row in few] == [0.75]
    assert first == every[:1]


def test_of_several_conditions_all_hold(call: Callable[..., Result]) -> None:
    def rows(*conditions: str) -> list[object]:
        options = [word for condition in conditions for word in ("--where", condition)]
        found: list[object] = json.loads(call("ls", "scores", "--format", "json", *options).stdout)
        return found

    either, primary = rows("task = mrpc or task = absent"), rows("is_primary")

    both = rows("task = mrpc or task = absent", "is_primary")

    assert both == [row for row in either if row in primary]
    assert 0 < len(both) < min(len(either), len(primary))


def test_where_with_a_limit_keeps_the_last_runs(call: Callable[..., Result]) -> None:
    rows = ["ls", "--format", "json", "--limit", "1"]

    both = json.loads(call(*rows, "--where", "failed < 2").stdout)
    one = json.loads(call(*rows, "--where", "status = finished").stdout)

    assert [row["run"] for row in both + one] == ["tiny-1", "glue_stream-1"]


def test_where_with_no_row_left_says_so_and_is_no_failure(call: Callable[..., Result]) -> None:
    result = call("ls", "diffs", "--where", "file_bytes > 1TB")

    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "No diffs meet the condition: file_bytes > 1TB\n"


def test_a_comparison_with_nothing_to_compare_says_so(call: Callable[..., Result]) -> None:
    apart = call("compare", "arrival:1", "arrival:5", "--format", "json")
    alike = call("compare", "arrival:1", "arrival:2", "--format", "json")

    assert (apart.exit_code, alike.exit_code, alike.stderr) == (0, 0, "")
    assert apart.stderr.startswith("No scores can be paired")


def test_a_condition_that_cannot_be_is_one_paragraph_with_its_place(
    call: Callable[..., Result],
) -> None:
    result = call("ls", "scores", "--where", "value > high")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "Error: `--where`: `value` holds numbers, got 'high'. Write one as 0.9 or 90%.\n"
        "  value > high\n"
        "          ^\n"
    )


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_column_of_every_listing_can_be_asked(
    subject: Subject, call: Callable[..., Result]
) -> None:
    call("tag", "best", "arrival:1")  # so that there is one
    every = json.loads(call("ls", subject, "--format", "json").stdout)

    for name in every[0]:
        empty = call("ls", subject, "--format", "json", "--where", f"{name} is null")
        assert json.loads(empty.stdout) == [row for row in every if row[name] is None]
