"""Removed arrivals are left out and come back, over every kind of database."""

from __future__ import annotations

import pytest
from registry_samples import (
    Clock,
    digest_of,
    new_arrival,
    new_base,
    new_diff,
    new_run,
    new_score,
)

from streamlab.errors import NotInRegistryError, RegistryError
from streamlab.registry.records import RunRecord, TagKind
from streamlab.registry.registry import Registry


@pytest.fixture
def run(registry: Registry) -> RunRecord:
    """Two arrivals that share an artifact, one with its own, and a failed one."""
    registry.bases.add(new_base())
    run = registry.runs.start(new_run())
    for seed, name in ((1, "shared"), (2, "shared"), (3, "own")):
        registry.arrivals.add(new_arrival(run.id, seed=seed), new_diff(name), [new_score()])
    registry.arrivals.add_failed(new_arrival(run.id, task="mrpc"), "The loss became NaN.")
    return registry.runs.finish(run.id, "finished")


def listed(registry: Registry) -> list[int]:
    return [arrival.id for arrival in registry.arrivals.list()]


@pytest.mark.usefixtures("run")
def test_a_removed_arrival_is_left_out_of_every_listing(registry: Registry, clock: Clock) -> None:
    clock.now = 2000.0

    removed = registry.removal.remove([3])

    assert [(a.id, a.removed_at) for a in removed] == [(3, 2000.0)]
    assert registry.arrivals.get(3) == removed[0]
    assert listed(registry) == [1, 4, 2]
    assert registry.arrivals.list(removed=True) == removed
    assert [diff.digest for diff in registry.artifacts.list()] == [digest_of("shared")]
    assert [diff.digest for diff in registry.artifacts.list(run="latest")] == [digest_of("shared")]
    assert [score.arrival_id for score in registry.scores.list()] == [1, 2]
    assert [score.arrival_id for score in registry.scores.list(arrival_id=3)] == [3]
    assert {t.name: (t.n_arrivals, t.stored_bytes) for t in registry.totals.tasks()} == {
        "mrpc": (0, 0),
        "sst2": (2, 100),
    }


@pytest.mark.usefixtures("run")
def test_an_artifact_is_listed_as_long_as_one_arrival_has_it(registry: Registry) -> None:
    registry.removal.remove([1])
    assert len(registry.artifacts.list()) == 2
    registry.removal.remove([2])
    assert [diff.digest for diff in registry.artifacts.list()] == [digest_of("own")]


@pytest.mark.usefixtures("run")
def test_restoring_gives_everything_back(registry: Registry) -> None:
    before = (
        registry.arrivals.list(),
        registry.artifacts.list(),
        registry.scores.list(),
        registry.totals.tasks(),
    )

    registry.removal.remove([1, 2, 3, 4])
    assert (registry.arrivals.list(), registry.artifacts.list(), registry.scores.list()) == (
        (),
        (),
        (),
    )
    registry.removal.restore([4, 3, 2, 1])

    assert (
        registry.arrivals.list(),
        registry.artifacts.list(),
        registry.scores.list(),
        registry.totals.tasks(),
    ) == before


@pytest.mark.usefixtures("run")
def test_removal_is_all_or_nothing(registry: Registry) -> None:
    registry.removal.remove([2])

    with pytest.raises(RegistryError, match=r"Arrival 2 is removed already"):
        registry.removal.remove([1, 2])
    with pytest.raises(NotInRegistryError, match="no arrival 99"):
        registry.removal.remove([1, 99])
    with pytest.raises(RegistryError, match="Arrival 3 is not removed"):
        registry.removal.restore([2, 3])
    assert listed(registry) == [1, 4, 3]


def test_a_removed_arrival_may_be_made_anew(registry: Registry, run: RunRecord) -> None:
    registry.removal.remove([3])

    again = registry.arrivals.add(new_arrival(run.id, seed=3), new_diff("own"), [])

    with pytest.raises(RegistryError, match=f"made anew as arrival {again.id}"):
        registry.removal.restore([3])
    registry.removal.remove([again.id])
    assert [arrival.id for arrival in registry.removal.restore([3])] == [3]


def test_arrivals_of_a_run_at_work_stay(registry: Registry, clock: Clock) -> None:
    registry.bases.add(new_base())
    run = registry.runs.start(new_run())
    registry.arrivals.add(new_arrival(run.id), new_diff(), [])

    with pytest.raises(RegistryError, match="is being worked on by process"):
        registry.removal.remove([1])
    clock.now += 1000.0  # long silent
    assert registry.removal.remove([1])


@pytest.mark.usefixtures("run")
def test_an_artifact_is_forgotten_with_its_last_arrival(registry: Registry) -> None:
    registry.removal.remove([1])
    assert (registry.removal.list().arrivals, registry.removal.list().artifacts) == ((1,), ())
    assert registry.removal.delete([1]) == ()
    assert registry.artifacts.get(digest_of("shared")).file_bytes == 100

    registry.removal.remove([2, 4])
    gone = registry.removal.delete([2, 4])

    assert [(a.digest, a.file_bytes) for a in gone] == [(digest_of("shared"), 100)]
    assert registry.artifacts.digests() == {digest_of("own")}
    with pytest.raises(NotInRegistryError):
        registry.arrivals.get(2)
    assert listed(registry) == [3]


@pytest.mark.usefixtures("run")
def test_what_came_back_meanwhile_is_not_forgotten(registry: Registry) -> None:
    registry.removal.remove([1, 2, 3])
    planned = registry.removal.list()
    registry.removal.restore([1])

    gone = registry.removal.delete(planned.arrivals)

    assert [artifact.digest for artifact in gone] == [digest_of("own")]
    assert listed(registry) == [1, 4]


@pytest.mark.usefixtures("run")
def test_an_artifact_left_out_keeps_its_arrivals(registry: Registry) -> None:
    registry.removal.remove([1, 2, 3])

    left = registry.removal.list(but=[digest_of("shared")])

    assert left.arrivals == (3,)
    assert [artifact.digest for artifact in left.artifacts] == [digest_of("own")]


@pytest.mark.usefixtures("run")
def test_a_file_that_has_a_row_is_not_let_go(registry: Registry) -> None:
    told: list[str] = []

    def delete(digest: str) -> str:
        told.append(digest)
        return "orphan, 5 bytes"

    registry.removal.release([digest_of("own"), digest_of("nobody's")], delete)

    assert told == [digest_of("nobody's")]
    last = registry.events.list(1)[0]
    assert (last.kind, last.subject, last.digest, last.message) == (
        "file-deleted",
        digest_of("nobody's"),
        digest_of("nobody's"),
        "orphan, 5 bytes",
    )


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    ("kind", "thing", "left"),
    [("arrival", 3, (1, 2, 4)), ("diff", digest_of("shared"), (3, 4)), ("run", "glue-1", ())],
)
def test_what_has_a_tag_is_not_forgotten(
    kind: TagKind, thing: str | int, left: tuple[int, ...], registry: Registry
) -> None:
    registry.removal.remove([1, 2, 3, 4])
    registry.tags.add("keep", kind, thing)

    assert registry.removal.list().arrivals == left
    registry.removal.delete([1, 2, 3, 4])
    assert {arrival.id for arrival in registry.arrivals.list(removed=True)} == {1, 2, 3, 4} - {
        *left
    }
    registry.tags.remove("keep")
    registry.removal.delete([1, 2, 3, 4])
    assert registry.artifacts.digests() == frozenset()


@pytest.mark.usefixtures("run")
def test_every_change_is_logged(registry: Registry) -> None:
    registry.removal.remove([3])
    registry.removal.restore([3])
    registry.removal.remove([3])
    registry.removal.delete([3])

    assert [(e.kind, e.subject, e.digest) for e in registry.events.list(4)] == [
        ("arrival-removed", "3", digest_of("own")),
        ("arrival-restored", "3", digest_of("own")),
        ("arrival-removed", "3", digest_of("own")),
        ("arrival-forgotten", "3", digest_of("own")),
    ]
