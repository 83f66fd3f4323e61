"""Commands work on a home whose small artifacts are packed as on one of files."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from damage_samples import first_diff, opened

from streamlab.cli import cli
from streamlab.home.folder import Home
from streamlab.home.pack import PACK


def call(home: Home, *arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments, "--home", str(home.path)])


def usage(home: Home) -> dict[str, dict[str, int]]:
    return {row["what"]: row for row in json.loads(call(home, "du", "--format", "json").stdout)}


def execute(home: Home, line: str, *values: object) -> None:
    with closing(sqlite3.connect(home.store / PACK)) as database, database:
        database.execute(line, values)


@pytest.fixture
def packed(home: Home) -> Home:
    """A home that `gc` packed."""
    result = call(home, "gc", "--now")
    assert "Packed 4 small files into one." in result.stderr.splitlines()
    return home


def test_packing_waits_an_hour(home: Home) -> None:
    assert "Packed" not in call(home, "gc").stderr
    assert not (home.store / PACK).exists()


def test_a_packed_home_is_consistent(packed: Home) -> None:
    result = call(packed, "verify")

    assert (result.exit_code, result.stdout) == (0, "")


def taken(home: Home) -> int:
    """Return what the home's folders take of the disk."""
    folders = (home.store, home.curves, home.figures, home.reports)
    paths = (path for folder in folders for path in (folder, *folder.rglob("*")))
    return sum(path.stat().st_blocks * 512 for path in paths)


def test_the_bytes_of_a_home_are_those_it_takes_of_the_disk(home: Home) -> None:
    before = usage(home)
    assert before["total"]["physical_bytes"] - before["registry"]["physical_bytes"] == taken(home)
    call(home, "gc", "--now")

    after = usage(home)

    assert after["total"]["physical_bytes"] - after["registry"]["physical_bytes"] == taken(home)
    for what in ("diffs", "checkpoints", "other in store"):
        assert after[what] == before[what]


def test_an_artifact_is_exported_from_a_pack(packed: Home, tmp_path: Path) -> None:
    digest = first_diff(packed).digest

    result = call(packed, "export", f"diff:{digest}", "-o", str(tmp_path / "out"))

    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "out").stat().st_size == first_diff(packed).file_bytes


@pytest.mark.parametrize(
    ("line", "finding"),
    [
        ("UPDATE artifacts SET data = zeroblob(length(data)) WHERE digest = ?", "altered"),
        ("UPDATE artifacts SET data = substr(data, 1, 10) WHERE digest = ?", "truncated"),
        ("DELETE FROM artifacts WHERE digest = ?", "missing"),
        ("UPDATE artifacts SET digest = zeroblob(32) WHERE digest = ?", "missing"),
    ],
)
def test_damage_in_a_pack_is_found(line: str, finding: str, packed: Home) -> None:
    execute(packed, line, bytes.fromhex(first_diff(packed).digest))

    result = call(packed, "verify", "--format", "json")

    assert json.loads(result.stdout)[0]["finding"] == finding
    assert result.exit_code == 1


def test_an_artifact_that_nothing_needs_goes_from_the_pack(packed: Home) -> None:
    digest = first_diff(packed).digest
    with opened(packed) as registry:
        numbers = [a.id for a in registry.arrivals.list() if a.digest == digest]
    call(packed, "rm", *map(str, numbers))

    result = call(packed, "gc", "--format", "json")

    (row,) = json.loads(result.stdout)
    assert (row["reason"], row["file"]) == ("removed", f"{packed.store / PACK}#{digest}")
    assert call(packed, "verify").exit_code == 0
    with closing(sqlite3.connect(packed.store / PACK)) as database:
        query = "SELECT count(*) FROM artifacts WHERE digest = ?"
        assert database.execute(query, [bytes.fromhex(digest)]).fetchone() == (0,)


def test_a_purge_leaves_packed_artifacts_of_others_unchanged(packed: Home) -> None:
    provider = json.loads(call(packed, "ls", "arrivals", "--format", "json").stdout)[0]["provider"]

    result = call(packed, "purge", "--provider", provider, "--yes")

    assert result.exit_code == 0, result.stderr
    assert "other artifacts are unchanged." in result.stderr
    assert call(packed, "verify").exit_code == 0
