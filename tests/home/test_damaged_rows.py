"""A damaged row is named, the rest is shown, and no command ends in a traceback."""

from __future__ import annotations

import pytest
from click.testing import CliRunner, Result
from hostile_samples import DEEP, HOSTILE, columns, damage

from streamlab.cli import cli
from streamlab.home.folder import Home

COMMANDS = (
    ["ls", "runs"], ["ls", "arrivals"], ["ls", "diffs"], ["ls", "scores"], ["ls", "placements"],
    ["ls", "tasks"], ["ls", "providers"], ["ls", "bases"], ["ls", "tags"], ["ls", "events"],
    ["show"], ["verify"], ["du"], ["compare", "pair-1", "pair-2"], ["gc", "--dry-run"],
)  # fmt: skip
LISTED = {"diffs": ["diffs"], "details": ["arrivals"], "scores": ["scores", "--rescored"]}


def call(home: Home, *words: str) -> Result:
    result = CliRunner().invoke(cli, [*words, "--home", str(home.path)])
    assert result.exit_code in (0, 1, 2), words
    assert result.exception is None or isinstance(result.exception, SystemExit), (
        words, result.exception,
    )  # fmt: skip
    return result


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("runs", "scenario", DEEP),
        ("runs", "scenario", "{}"),
        ("runs", "environment", "[1]"),
        ("runs", "started_at", 9e999),
        ("bases", "layout", '[["w", [-1]]]'),
        ("bases", "layout", "{"),
        ("details", "details", "{"),
        ("arrivals", "n_steps", b"\xff"),
        ("arrivals", "training_seconds", "long"),
        ("arrivals", "started_at", 1e308),
        ("diffs", "tensor_counts", 10**12),
        ("diffs", "file_bytes", -1),
        ("scores", "value", 9e999),
        ("scores", "value", "good"),
        ("events", "at", -1e300),
    ],
)
def test_a_damaged_row_is_named_and_the_rest_is_shown(
    table: str, column: str, value: object, home: Home
) -> None:
    subject, *options = LISTED.get(table, [table])
    n_rows = call(home, "ls", subject, *options, "--format", "csv").stdout.count("\n")
    assert damage(home, table, column, value)

    listed, found = (
        call(home, "ls", subject, *options, "--format", "csv"),
        call(home, "verify", "--format", "json"),
    )

    assert listed.exit_code == 0
    assert f"of `{subject}` is damaged: " in listed.stderr
    assert listed.stdout.count("\n") == n_rows - 1 or table == "bases"
    assert found.exit_code == 1
    assert "damaged" in found.stdout
    for command in (["show"], ["du"], ["gc", "--dry-run"]):
        call(home, *command)


@pytest.mark.slow
@pytest.mark.parametrize(("table", "column"), list(columns()))
def test_no_value_of_any_column_breaks_a_command(table: str, column: str, home: Home) -> None:
    whole = (home.path / "registry.db").read_bytes()
    for value in HOSTILE:
        (home.path / "registry.db").write_bytes(whole)
        if damage(home, table, column, value):
            for command in COMMANDS:
                call(home, *command)
