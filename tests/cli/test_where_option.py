"""`--where` on every command that lists or chooses runs, arrivals or diffs; tags in conditions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Invoke = Callable[..., Result]


def test_a_condition_chooses_the_rows_of_an_exported_table(call: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "x.json"

    result = call("export", "arrivals", "--where", "seed = 1 and task = sst2", "-o", str(path))

    assert result.exit_code == 0, result.stderr
    assert [row["id"] for row in json.loads(path.read_text(encoding="utf-8"))] == [1, 3, 7]


def test_a_condition_chooses_the_runs_that_are_compared(call: Invoke) -> None:
    every = call("compare", "--where", "id > 0")
    some = call("compare", "--where", "done > 1")
    among = call("compare", "glue_stream-1", "tiny-1", "--where", "status = interrupted")

    assert every.stdout == call("compare", "glue_stream-1", "tiny-1").stdout
    assert "two or more" in some.stderr
    assert "two or more" in among.stderr
    assert (some.exit_code, among.exit_code) == (2, 2)


def test_a_condition_chooses_the_runs_of_a_sweep(call: Invoke) -> None:
    every = call("compare", "--sweep", "--where", "id > 0", "--format", "json")
    named = call("compare", "--sweep", "1", "2", "--where", "not run = tiny-1")
    nothing = call("compare", "--sweep", "--where", "run = none")

    assert [row["run"] for row in json.loads(every.stdout)["runs"]] == [
        "glue_stream-1", "glue_stream-1", "tiny-1",
    ]  # fmt: skip
    assert "one choice of settings only" in " ".join(named.stderr.split())
    assert (nothing.exit_code, "No run meets the condition" in nothing.stderr) == (2, True)


@pytest.mark.parametrize(
    ("subject", "thing", "condition", "expected"),
    [
        ("runs", "tiny-1", "tags = good", ["tiny-1"]),
        ("arrivals", "arrival:5", "tags = good", [5]),
        ("diffs", "31f65eaf", 'tags like "*good*"', ["31f65eaf"]),
    ],
)
def test_tags_are_a_column_that_conditions_know(
    subject: str, thing: str, condition: str, expected: list[object], call: Invoke
) -> None:
    assert call("tag", "good", thing).exit_code == 0

    found = json.loads(call("ls", subject, "--where", condition, "--format", "json").stdout)
    others = json.loads(call("ls", subject, "--where", "tags is null", "--format", "json").stdout)

    key = {"runs": "run", "arrivals": "id", "diffs": "digest"}[subject]
    assert [row["tags"] for row in found] == ["good"]
    assert str(found[0][key]).startswith(str(expected[0]))
    assert others
    assert all(row["tags"] is None for row in others)


def test_a_thing_shows_all_its_tags(call: Invoke) -> None:
    for name in ("second", "first"):
        call("tag", name, "arrival:5")

    found = json.loads(call("ls", "arrivals", "--where", "id = 5", "--format", "json").stdout)

    assert found[0]["tags"] == "first, second"


def test_a_stored_diff_is_no_table_to_choose_from(call: Invoke) -> None:
    result = call("export", "sst2", "-o", "x", "--where", "seed = 1")

    assert result.exit_code == 2
    assert "`--where` chooses rows of a table, and 'sst2' is none." in result.stderr
