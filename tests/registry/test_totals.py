"""The totals are what adding up every arrival gives, however the arrivals came and went."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable
from typing import Literal

import pytest
from registry_samples import new_arrival, new_base, new_diff, new_run, new_score
from sqlalchemy import text

from streamlab.errors import RegistryError
from streamlab.registry.records import (
    ArrivalRecord,
    ArtifactKind,
    DiffRecord,
    FinishedArrival,
    Grouping,
    NewDiff,
    Parts,
    Total,
)
from streamlab.registry.registry import Registry

Kind = ArtifactKind | Literal["failed", "quarantined"]

GROUPINGS: tuple[Grouping, ...] = ("all", "run", "task", "provider", "method")


def parts(diffs: Iterable[DiffRecord]) -> Parts:
    listed = list(diffs)
    return Parts(
        positions_bytes=sum(diff.positions_bytes for diff in listed),
        values_bytes=sum(diff.values_bytes for diff in listed),
        head_bytes=sum(diff.head_bytes for diff in listed),
        metadata_bytes=sum(diff.metadata_bytes for diff in listed),
    )


def added_up(registry: Registry, by: Grouping) -> list[Total]:
    """Add up what is there, one arrival after another."""
    diffs = {diff.digest: diff for diff in registry.diffs()}
    groups: dict[tuple[str, Kind], list[ArrivalRecord]] = defaultdict(list)
    for arrival in registry.arrivals():
        if arrival.removed_at is None:
            name = "" if by == "all" else getattr(arrival, by)
            left_nothing: Kind = "quarantined" if arrival.status == "quarantined" else "failed"
            kind = diffs[arrival.digest].kind if arrival.digest else left_nothing
            groups[name, kind].append(arrival)
    found = []
    for (name, kind), own in sorted(groups.items()):
        files = [arrival.digest for arrival in own if arrival.digest]
        found.append(
            Total(
                name=name,
                kind=kind,
                n_arrivals=len(own),
                n_files=len(set(files)),
                logical=parts(diffs[digest] for digest in files),
                stored=parts(diffs[digest] for digest in set(files)),
            )
        )
    return found


def artifact(number: int) -> NewDiff:
    """Return one of few artifacts, each with bytes of its own; every third is a checkpoint."""
    own = {"positions_bytes": 30 + number, "file_bytes": 100 + number}
    baseline = (
        {"kind": "checkpoint", "n_entries": 128, "tensor_counts": ()} if number % 3 == 0 else {}
    )
    return new_diff(f"artifact {number}", **own, **baseline)


def change(registry: Registry, statement: str) -> None:
    registry._database.write(lambda connection: connection.execute(text(statement)))


def fill(registry: Registry, seed: int = 0) -> None:
    rng = random.Random(seed)  # noqa: S311 - a choice of arrivals need not be secret
    registry.add_base(new_base())
    runs = [registry.start_run(new_run()).id for _ in range(2)]
    batch = []
    for version in range(40):
        arrival = new_arrival(
            rng.choice(runs),
            version=version,
            task=rng.choice(("sst2", "rte")),
            provider=rng.choice(("reviews_inc", "newswire")),
            method=rng.choice(("diff_pruning", "lora")),
        )
        if rng.random() < 0.2:
            registry.add_failure(arrival, "the loss is NaN")
        elif rng.random() < 0.1:
            registry.add_quarantined(arrival, "size", "too big")
        else:
            diff = artifact(rng.randrange(6))
            batch.append(FinishedArrival(arrival=arrival, diff=diff, scores=(new_score(),)))
    registry.add_arrivals(batch[: len(batch) // 2])
    for one in batch[len(batch) // 2 :]:
        registry.add_arrival(one.arrival, one.diff, one.scores)


@pytest.mark.parametrize("seed", range(3))
def test_totals_are_what_adding_up_every_arrival_gives(registry: Registry, seed: int) -> None:
    fill(registry, seed)
    changes = (
        "UPDATE arrivals SET removed_at = 1 WHERE id % 3 = 0",
        "UPDATE arrivals SET removed_at = 2 WHERE id % 3 = 0",
        "UPDATE arrivals SET removed_at = NULL WHERE id % 2 = 0",
        "UPDATE arrivals SET task_id = 1 WHERE id % 5 = 0",
        "DELETE FROM scores WHERE arrival_id % 4 = 0",
        "DELETE FROM arrivals WHERE id % 4 = 0",
        "UPDATE arrivals SET removed_at = NULL",
    )

    for statement in ("SELECT 1", *changes):
        change(registry, statement)
        for by in GROUPINGS:
            assert list(registry.totals(by)) == added_up(registry, by), (statement, by)
        assert registry.miscounted() == ()


@pytest.mark.parametrize("seed", range(3))
def test_an_artifact_is_stored_once_in_a_group_whichever_batch_brings_it(
    registry: Registry, seed: int
) -> None:
    fill(registry, seed)
    rng = random.Random(seed)  # noqa: S311 - as above
    known = [artifact(number) for number in range(6)]
    own = [artifact(10 + number) for number in range(3)]
    change(registry, "UPDATE arrivals SET removed_at = 1 WHERE diff_id = 1 OR task_id = 1")
    for first in range(100, 130, 10):
        registry.add_arrivals(
            [
                FinishedArrival(
                    arrival=new_arrival(1 + version % 2, version=version, task=rng.choice("ab")),
                    diff=rng.choice(known + own),
                    scores=(),
                )
                for version in range(first, first + 10)
            ]
        )

        for by in GROUPINGS:
            assert list(registry.totals(by)) == added_up(registry, by), by


def test_totals_that_are_wrong_are_told(registry: Registry) -> None:
    fill(registry)
    (before,) = [total for total in registry.totals("method") if total.name == "lora"][:1]

    change(registry, "UPDATE totals SET n_files = n_files + 1 WHERE grouping = 'all'")
    change(registry, "DELETE FROM totals WHERE grouping = 'method' AND key = 'lora'")
    change(registry, "UPDATE totals SET key = '99' WHERE grouping = 'task' AND key = '1'")
    told = registry.miscounted()

    assert any(line.startswith("The totals, diff: `n_files` is ") for line in told)
    whose = f"The totals by method of 'lora', {before.kind}: `n_arrivals` is 0, counted "
    assert any(line.startswith(f"{whose}{before.n_arrivals}; ") for line in told)
    assert any("by task of '99'" in line and line.endswith("counted 0.") for line in told)
    assert len([line for line in told if "by run" in line or "by provider" in line]) == 0


def test_where_nothing_is_left_there_is_no_total(registry: Registry) -> None:
    fill(registry)

    change(registry, "UPDATE arrivals SET removed_at = 1")

    assert [registry.totals(by) for by in GROUPINGS] == [()] * 5
    assert (registry.tasks(), registry.providers()) == ((), ())


def test_what_a_refused_batch_would_add_is_in_no_total(registry: Registry) -> None:
    fill(registry)
    before = [registry.totals(by) for by in GROUPINGS]
    batch = [
        FinishedArrival(arrival=new_arrival(1, version=99), diff=diff, scores=())
        for diff in (artifact(1), new_diff("new"))
    ]

    with pytest.raises(RegistryError, match="is given twice"):
        registry.add_arrivals(batch)

    assert [registry.totals(by) for by in GROUPINGS] == before
