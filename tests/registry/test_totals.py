"""The totals are what adding up every arrival gives, however the arrivals came and went."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable
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
    diffs = {diff.digest: diff for diff in registry.artifacts.list()}
    groups: dict[tuple[str, Kind], list[ArrivalRecord]] = defaultdict(list)
    for arrival in registry.arrivals.list():
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
    registry.bases.add(new_base())
    runs = [registry.runs.start(new_run()).id for _ in range(2)]
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
            registry.arrivals.add_failed(arrival, "the loss is NaN")
        elif rng.random() < 0.1:
            registry.arrivals.add_failed(arrival, "too big", rule="size")
        else:
            diff = artifact(rng.randrange(6))
            batch.append(FinishedArrival(arrival=arrival, diff=diff, scores=(new_score(),)))
    registry.arrivals.add_all(batch[: len(batch) // 2])
    for one in batch[len(batch) // 2 :]:
        registry.arrivals.add(one.arrival, one.diff, one.scores)


def end_runs(registry: Registry) -> None:
    for run in registry.runs.list():
        registry.runs.finish(run.id, "finished")


@pytest.mark.parametrize("seed", range(3))
def test_totals_are_what_adding_up_every_arrival_gives(registry: Registry, seed: int) -> None:
    fill(registry, seed)
    end_runs(registry)
    ids = range(1, 41)
    removed = {n for n in ids if n % 3 == 0}
    deleted = {n for n in ids if n % 4 == 0 and n not in {12, 24, 36}}
    changes: tuple[Callable[[], object], ...] = (
        lambda: (),
        lambda: registry.removal.remove(sorted(removed)),
        lambda: registry.removal.restore([n for n in removed if n % 2 == 0]),
        lambda: registry.removal.remove(sorted(deleted)),
        lambda: registry.removal.delete(deleted),
        lambda: registry.removal.restore([n for n in removed if n % 2]),
    )

    for number, change in enumerate(changes):
        change()
        for by in GROUPINGS:
            assert list(registry.totals.list(by)) == added_up(registry, by), (number, by)
        assert registry.totals.verify() == ()


@pytest.mark.parametrize("seed", range(3))
def test_an_artifact_is_stored_once_in_a_group_whichever_batch_brings_it(
    registry: Registry, seed: int
) -> None:
    fill(registry, seed)
    rng = random.Random(seed)  # noqa: S311 - as above
    known = [artifact(number) for number in range(6)]
    own = [artifact(10 + number) for number in range(3)]
    end_runs(registry)
    first_digest = next(a.digest for a in registry.arrivals.list() if a.digest)
    gone = {a.id for a in registry.arrivals.list() if a.task == "rte" or a.digest == first_digest}
    registry.removal.remove(sorted(gone))
    for first in range(100, 130, 10):
        registry.arrivals.add_all(
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
            assert list(registry.totals.list(by)) == added_up(registry, by), by


def test_totals_that_are_wrong_are_told(registry: Registry) -> None:
    fill(registry)
    (before,) = [total for total in registry.totals.list("method") if total.name == "lora"][:1]

    change(registry, "UPDATE totals SET n_files = n_files + 1 WHERE grouping = 'all'")
    change(registry, "DELETE FROM totals WHERE grouping = 'method' AND key = 'lora'")
    change(registry, "UPDATE totals SET key = '99' WHERE grouping = 'task' AND key = '1'")
    told = registry.totals.verify()

    assert any(line.startswith("The totals, diff: `n_files` is ") for line in told)
    whose = f"The totals by method of 'lora', {before.kind}: `n_arrivals` is 0, counted "
    assert any(line.startswith(f"{whose}{before.n_arrivals}; ") for line in told)
    assert any("by task of '99'" in line and line.endswith("counted 0.") for line in told)
    assert len([line for line in told if "by run" in line or "by provider" in line]) == 0


def test_where_nothing_is_left_there_is_no_total(registry: Registry) -> None:
    fill(registry)

    end_runs(registry)
    registry.removal.remove([arrival.id for arrival in registry.arrivals.list()])

    assert [registry.totals.list(by) for by in GROUPINGS] == [()] * 5
    assert (registry.totals.tasks(), registry.totals.providers()) == ((), ())


def test_what_a_refused_batch_would_add_is_in_no_total(registry: Registry) -> None:
    fill(registry)
    before = [registry.totals.list(by) for by in GROUPINGS]
    batch = [
        FinishedArrival(arrival=new_arrival(1, version=99), diff=diff, scores=())
        for diff in (artifact(1), new_diff("new"))
    ]

    with pytest.raises(RegistryError, match="is given twice"):
        registry.arrivals.add_all(batch)

    assert [registry.totals.list(by) for by in GROUPINGS] == before
