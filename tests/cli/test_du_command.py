"""`du` adds up what the fixed registry holds, and agrees with every single row of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
from click.testing import Result

from streamlab.home.folder import Home
from streamlab.home.store import FolderStore
from streamlab.registry.records import NewArrival, NewDiff
from streamlab.registry.registry import Registry


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.stderr
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def share(home: Home) -> None:
    """Let every second artifact arrive once more, for a task of its own."""
    with Registry.open(home.registry_url, clock=lambda: 1e9) as registry:
        for arrival in registry.arrivals.list(status="finished")[::2]:
            diff = registry.artifacts.get(arrival.digest or "")
            again = {field.name: getattr(arrival, field.name) for field in fields(NewArrival)}
            known = {field.name: getattr(diff, field.name) for field in fields(NewDiff)}
            registry.arrivals.add(NewArrival(**again | {"task": "again"}), NewDiff(**known), [])


@pytest.mark.parametrize("by", ["task", "provider", "method", "run"])
def test_sums_are_those_of_every_row(by: str, home: Home, call: Callable[..., Result]) -> None:
    share(home)
    call("rm", "5")
    with Registry.open(home.registry_url, clock=lambda: 0.0, read_only=True) as registry:
        arrivals = registry.arrivals.list(status="finished")
        sizes = {diff.digest: diff.file_bytes for diff in registry.artifacts.list()}
    logical: Counter[str] = Counter()
    for arrival in arrivals:
        logical[getattr(arrival, by)] += sizes[arrival.digest or ""]
    pairs = {(getattr(arrival, by), arrival.digest or "") for arrival in arrivals}
    physical: Counter[str] = Counter()
    for name, digest in pairs:
        physical[name] += sizes[digest]

    found = rows(call("du", "--by", by, "--format", "json"))

    assert {row[by]: row["logical_bytes"] for row in found} == logical
    assert {row[by]: row["physical_bytes"] for row in found} == physical
    assert sum(row["arrivals"] for row in found) == len(arrivals)
    sorted_sizes = [row["physical_bytes"] for row in found]
    assert sorted_sizes == sorted(sorted_sizes, reverse=True)


def test_parts_add_up_to_the_files(home: Home, call: Callable[..., Result]) -> None:
    share(home)
    parts = rows(call("du", "--by", "part", "--format", "json"))
    places = rows(call("du", "--format", "json"))

    stored = {row["what"]: row for row in places}
    files = stored["diffs"]["physical_bytes"] + stored["checkpoints"]["physical_bytes"]
    assert {row["part"] for row in parts} == {"positions", "values", "head", "metadata"}
    assert sum(row["physical_bytes"] for row in parts) == files
    assert sum(row["logical_bytes"] for row in parts) == stored["total"]["logical_bytes"] > files
    assert sum(row["share"] for row in parts) == pytest.approx(1.0)


def test_a_removed_file_is_a_line_of_its_own(call: Callable[..., Result]) -> None:
    before = {row["what"]: row for row in rows(call("du", "--format", "json"))}
    call("rm", "3")
    after = {row["what"]: row for row in rows(call("du", "--format", "json"))}

    assert before["removed"]["physical_bytes"] == 0
    assert after["removed"]["physical_bytes"] == before["checkpoints"]["physical_bytes"]
    assert after["checkpoints"] == {**before["checkpoints"], "files": 0} | {
        "logical_bytes": 0,
        "physical_bytes": 0,
    }


def test_the_home_is_measured_as_it_lies_on_the_disk(
    home: Home, call: Callable[..., Result]
) -> None:
    curve = home.curves / "run" / "one.jsonl"
    curve.parent.mkdir()
    curve.write_bytes(b"x" * 1234)
    FolderStore(home.quarantine_of("press")).put(b"x" * 99)

    found = {row["what"]: row for row in rows(call("du", "--format", "json"))}

    assert (found["curves"]["files"], found["curves"]["physical_bytes"]) == (1, 1234)
    assert (found["quarantine"]["files"], found["quarantine"]["physical_bytes"]) == (1, 99)
    registry = sum(path.stat().st_size for path in home.path.glob("registry.db"))
    assert found["registry"]["physical_bytes"] >= registry > 0
    assert (found["figures"]["files"], found["other in store"]["files"]) == (0, 0)
    assert found["total"]["physical_bytes"] == sum(
        row["physical_bytes"] for what, row in found.items() if what != "total"
    )


def test_the_table_is_this_text(call: Callable[..., Result]) -> None:
    assert call("du", "--by", "task", "--limit", "1").stdout == (
        "task  arrivals  files  logical_bytes  physical_bytes   share\n"
        "sst2         4      4        90.9 MB         90.9 MB  99.99%\n"
    )


def test_a_limit_wants_something_to_keep_the_largest_of(call: Callable[..., Result]) -> None:
    result = call("du", "--limit", "3")

    assert result.exit_code == 2
    assert "give `--by` too" in result.stderr
