"""What is wrong with a real home is found, and nothing else."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing

import pytest
from click.testing import CliRunner, Result
from damage_samples import DAMAGES, NOW, execute, first_diff, opened, path_of, work_on

from streamlab.cli import cli
from streamlab.home.folder import Home
from streamlab.home.gc import GRACE_SECONDS
from streamlab.home.store import FolderStore
from streamlab.home.verify import Finding, verify
from streamlab.registry.artifacts import pack_counts


def findings(home: Home, *, now: float = NOW) -> list[Finding]:
    with opened(home, read_only=True) as registry:
        return list(verify(registry, FolderStore(home.store), now=now))


def call(home: Home, *arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments, "--home", str(home.path)])


def test_a_whole_home_is_found_well(home: Home) -> None:
    result = call(home, "verify")

    assert findings(home) == []
    assert result.exit_code == 0
    assert result.stdout == ""
    assert result.stderr == "Checked 4 artifacts and the registry: no problem found.\n"


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found_and_nothing_is_changed_by_looking(name: str, home: Home) -> None:
    DAMAGES[name].do(home)
    before = {path: path.read_bytes() for path in home.store.rglob("*") if path.is_file()}

    result = call(home, "verify", "--format", "json")

    assert [row["finding"] for row in json.loads(result.stdout)] == list(DAMAGES[name].found)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert before == {path: path.read_bytes() for path in home.store.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ("value_type = 'fp32'", "`value_type` is 'fp32', the file has '"),
        ("n_gated = n_gated + 1", "`n_gated` is"),
        ("n_head_entries = 0", "`n_head_entries` is 0, the file has"),
        ("values_bytes = values_bytes - 1, head_bytes = head_bytes + 1", "`values_bytes` is"),
        ("file_bytes = file_bytes + 1, head_bytes = head_bytes + 1", "`file_bytes` is"),
        ("kind = 'checkpoint'", "`kind` is 'checkpoint', the file is a diff"),
        ("tensor_counts = x'00'", "the counts per tensor are damaged"),
        ("digest = 'none'", "`digest` is 'none'"),
    ],
)
def test_every_fact_that_the_file_knows_is_compared(change: str, detail: str, home: Home) -> None:
    execute(home, f"UPDATE diffs SET {change} WHERE id = 1")  # noqa: S608 - of the table above

    first = findings(home)[0]

    assert first.problem == "row"
    assert detail in first.detail


def test_a_checkpoint_that_is_called_a_diff_is_found(home: Home) -> None:
    execute(home, "UPDATE diffs SET kind = 'diff' WHERE kind = 'checkpoint'")

    assert [f.detail for f in findings(home)] == ["`kind` is 'diff', the file is not a diff"] * 2


def test_totals_that_are_wrong_are_found(home: Home) -> None:
    execute(home, "UPDATE totals SET head_bytes = head_bytes + 1 WHERE grouping = 'all'")

    found = findings(home)

    assert [finding.problem for finding in found] == ["database"] * 2  # diffs, and checkpoints
    assert all(f.detail.startswith("The totals, ") and "`head_bytes`" in f.detail for f in found)
    assert call(home, "verify").exit_code == 1


def test_a_base_that_was_swapped_is_found(home: Home) -> None:
    execute(
        home,
        "INSERT INTO bases SELECT 99, hex(zeroblob(32)), model, revision, layers, n_tensors,"
        " n_parameters, weights_bytes, file_bytes, layout, initialised, added_at FROM bases",
        "UPDATE diffs SET base_id = 99 WHERE id = 1",
    )

    assert f"`base` is '{'0' * 64}', the file has" in findings(home)[0].detail


def test_a_row_that_leads_nowhere_is_found(home: Home) -> None:
    execute(home, "DELETE FROM providers")

    found = findings(home)

    assert {f.problem for f in found} == {"database"}
    assert found[0].detail == "Row 1 of arrivals refers to a missing row of providers."


def test_a_value_that_breaks_a_constraint_is_found(home: Home) -> None:
    execute(home, "PRAGMA ignore_check_constraints = ON", "UPDATE scores SET n_examples = 0")

    assert [f.detail for f in findings(home)] == ["CHECK constraint failed in scores"]


def test_a_damaged_index_is_found(home: Home) -> None:
    with closing(sqlite3.connect(home.path / "registry.db")) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        page = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'ix_arrivals_diff'"
        ).fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    with (home.path / "registry.db").open("r+b") as file:
        file.seek(page * size - 16)
        file.write(b"\xff" * 16)

    assert {f.problem for f in findings(home)} == {"database"}


def test_something_else_in_the_store_is_found(home: Home) -> None:
    (home.store / "notes.txt").write_text("mine")

    assert [(f.problem, f.detail) for f in findings(home)] == [
        ("stray", "'notes.txt' has 4 bytes.")
    ]


def test_a_file_that_cannot_be_read_is_found(home: Home) -> None:
    path = path_of(home)
    path.unlink()
    path.mkdir()

    assert findings(home)[0].problem == "unreadable"


def test_a_file_that_a_run_has_just_written_is_no_orphan(home: Home) -> None:
    DAMAGES["an orphan"].do(home)
    written = max(path.stat().st_mtime for path in home.store.rglob("*") if path.is_file())

    work_on(home)

    assert findings(home, now=written + GRACE_SECONDS - 1) == []
    assert [f.problem for f in findings(home, now=written + GRACE_SECONDS + 1)] == ["orphan"]


def test_a_finding_names_the_whole_digest_and_the_file(home: Home) -> None:
    digest, path = first_diff(home).digest, path_of(home)
    os.truncate(path, 10)

    table = call(home, "verify").stdout
    row = json.loads(call(home, "verify", "--format", "json").stdout)[0]

    assert (row["digest"], row["what_to_do"]) == (digest, "Restore the file from a copy.")
    assert row["file"] == str(path)
    assert table.splitlines()[1].startswith(f"truncated {digest[:12]} The file has 10 bytes of")
    assert max(map(len, table.splitlines())) <= 80


def test_every_kind_of_finding_is_explained_in_the_help() -> None:
    shown = CliRunner().invoke(cli, ["verify", "--help"]).stdout

    for harm in DAMAGES.values():
        assert all(f"\n  {kind} " in shown for kind in harm.found)


def test_counts_that_are_not_those_of_the_positions_are_found(home: Home) -> None:
    counts = first_diff(home).tensor_counts
    moved = pack_counts((sum(counts), *(0 for _ in counts[1:])))
    with closing(sqlite3.connect(home.path / "registry.db")) as connection, connection:
        connection.execute("UPDATE diffs SET tensor_counts = ? WHERE id = 1", (moved,))

    (finding,) = findings(home)

    assert (finding.problem, finding.digest) == ("row", first_diff(home).digest)
    assert finding.detail == "the counts per tensor differ from those of the file's positions"
