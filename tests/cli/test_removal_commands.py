"""`rm`, `restore` and `gc` on the fixed registry: whose arrivals a word means, and what is said."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import Result


def ids(result: Result) -> list[int]:
    assert result.exit_code == 0, result.stderr
    return [row["id"] for row in json.loads(result.stdout)]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["2"], [2]),
        (["arrival:2", "2", "3"], [2, 3]),
        (["sst2"], [1, 3, 2, 7]),
        (["task:mrpc"], [5, 4, 6]),
        (["sst2", "--run", "latest"], [7]),
        (["glue_stream-1"], [1, 3, 5, 2, 4, 6]),
        (["run:latest"], [7]),
        (["latest", "2"], [7, 2]),
        (["--where", "task = mrpc"], [5, 4, 6]),
        (["--where", "seed = 1", "--run", "1"], [1, 3, 5]),
        (["sst2", "--where", "seed = 1", "--where", "not run = tiny-1"], [1, 3]),
    ],
)
def test_a_word_means_arrivals(
    words: list[str], expected: list[int], call: Callable[..., Result]
) -> None:
    removed = call("rm", *words, "--format", "json")
    restored = call("restore", *words, "--format", "json")

    assert ids(removed) == expected
    assert sorted(ids(restored)) == sorted(expected)
    assert call("ls", "arrivals", "--removed").stderr == "No arrival is removed.\n"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["sst"], 2, "The registry holds no run, task, digest or tag 'sst'. Did you mean `sst2`?"),
        (["tsk:sst2"], 2, "There is no kind `tsk`. Did you mean `task`?"),
        (["arrival:x"], 2, "An arrival is known by its number, got 'x'."),
        (["99"], 2, "The registry holds no arrival 99."),
        (["run:none"], 2, "The registry holds no run 'none'."),
        (
            ["mrpc", "--run", "tiny-1"],
            2,
            "`task:mrpc` has no arrival that is not removed in",
        ),
        ([], 2, "Say which arrivals, as in `arrival:3`"),
        (["--where", "scor < 1"], 2, "`--where`: there is no column `scor`. Did you mean `score`"),
        (["--where", "score > 99%"], 2, "No arrival meets the condition. `streamlab ls arrivals"),
        (
            ["sst2", "--where", "task = mrpc"],
            2,
            "No arrival of those named meets the condition.",
        ),
    ],
)
def test_a_word_that_means_nothing_removes_nothing(
    words: list[str], code: int, message: str, call: Callable[..., Result]
) -> None:
    result = call("rm", *words)

    assert result.exit_code == code
    assert message in result.stderr
    assert result.stdout == ""
    assert call("ls", "arrivals", "--removed").stdout == ""


def test_removing_twice_is_refused_with_the_way_back(call: Callable[..., Result]) -> None:
    call("rm", "3")

    again = call("rm", "3")

    assert again.exit_code == 1
    assert "Arrival 3 is removed already; `streamlab restore 3` brings it back" in again.stderr


def test_removed_arrivals_are_listed_alone(call: Callable[..., Result]) -> None:
    call("rm", "3")

    rows = json.loads(call("ls", "arrivals", "--removed", "--format", "json").stdout)

    assert [(row["id"], row["method"]) for row in rows] == [(3, "full_finetuning")]
    assert rows[0]["removed_at"] > 0
    assert 3 not in ids(call("ls", "arrivals", "--format", "json"))
    assert "removed" in call("show", "arrival:3").stdout


def test_only_arrivals_can_be_listed_as_removed(call: Callable[..., Result]) -> None:
    result = call("ls", "runs", "--removed")

    assert result.exit_code == 2
    assert "`--removed` is for arrivals" in result.stderr


def test_pages_and_plots_leave_removed_arrivals_out(call: Callable[..., Result]) -> None:
    call("rm", "sst2", "--run", "glue_stream-1")

    page = json.loads(call("show", "glue_stream-1", "--format", "json").stdout)
    series = call("plot", "storage", "--run", "glue_stream-1")
    nothing = call("show", "task:sst2", "--run", "glue_stream-1")

    assert [row["task"] for row in page["scores_diff_pruning"]] == ["mrpc"]
    assert series.exit_code == 0
    assert nothing.exit_code == 2


def test_files_that_are_missing_already_are_no_obstacle(call: Callable[..., Result]) -> None:
    """The fixed registry has rows, and a store without a file."""
    call("rm", "2", "4")

    result = call("gc", "--format", "json")

    assert result.exit_code == 0
    assert [(row["reason"], row["bytes"]) for row in json.loads(result.stdout)] == [("removed", 0)]
    assert result.stderr == "Deleted 1 file, 0 B, and 2 removed arrivals for good.\n"
    assert call("restore", "2").exit_code == 2


def test_no_registry_is_made_by_removing(call: Callable[..., Result]) -> None:
    for arguments in (["rm", "1"], ["restore", "1"], ["gc"]):
        result = call(*arguments, "--registry", "sqlite:////tmp/no/such/registry.db")

        assert result.exit_code == 1
        assert "There is no registry at" in result.stderr
