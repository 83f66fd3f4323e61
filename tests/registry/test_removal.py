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
    registry.add_base(new_base())
    run = registry.start_run(new_run())
    for seed, name in ((1, "shared"), (2, "shared"), (3, "own")):
        registry.add_arrival(new_arrival(run.id, seed=seed), new_diff(name), [new_score()])
    registry.add_failure(new_arrival(run.id, task="mrpc"), "The loss became NaN.")
    return registry.finish_run(run.id, "finished")


def listed(registry: Registry) -> list[int]:
    return [arrival.id for arrival in registry.arrivals()]


@pytest.mark.usefixtures("run")
def test_a_removed_arrival_is_left_out_of_every_listing(registry: Registry, clock: Clock) -> None:
    clock.now = 2000.0

    removed = registry.remove_arrivals([3])

    assert [(a.id, a.removed_at) for a in removed] == [(3, 2000.0)]
    assert registry.arrival(3) == removed[0]
    assert listed(registry) == [1, 4, 2]
    assert registry.arrivals(removed=True) == removed
    assert [diff.digest for diff in registry.diffs()] == [digest_of("shared")]
    assert [diff.digest for diff in registry.diffs(run="latest")] == [digest_of("shared")]
    assert [score.arrival_id for score in registry.scores()] == [1, 2]
    assert [score.arrival_id for score in registry.scores(arrival_id=3)] == [3]
    assert {t.name: (t.n_arrivals, t.stored_bytes) for t in registry.tasks()} == {
        "mrpc": (0, 0),
        "sst2": (2, 100),
    }


@pytest.mark.usefixtures("run")
def test_an_artifact_is_listed_as_long_as_one_arrival_has_it(registry: Registry) -> None:
    registry.remove_arrivals([1])
    assert len(registry.diffs()) == 2
    registry.remove_arrivals([2])
    assert [diff.digest for diff in registry.diffs()] == [digest_of("own")]


@pytest.mark.usefixtures("run")
def test_restoring_gives_everything_back(registry: Registry) -> None:
    before = (registry.arrivals(), registry.diffs(), registry.scores(), registry.tasks())

    registry.remove_arrivals([1, 2, 3, 4])
    assert (registry.arrivals(), registry.diffs(), registry.scores()) == ((), (), ())
    registry.restore_arrivals([4, 3, 2, 1])

    assert (registry.arrivals(), registry.diffs(), registry.scores(), registry.tasks()) == before


@pytest.mark.usefixtures("run")
def test_removal_is_all_or_nothing(registry: Registry) -> None:
    registry.remove_arrivals([2])

    with pytest.raises(RegistryError, match=r"Arrival 2 is removed already"):
        registry.remove_arrivals([1, 2])
    with pytest.raises(NotInRegistryError, match="no arrival 99"):
        registry.remove_arrivals([1, 99])
    with pytest.raises(RegistryError, match="Arrival 3 is not removed"):
        registry.restore_arrivals([2, 3])
    assert listed(registry) == [1, 4, 3]


def test_a_removed_arrival_may_be_made_anew(registry: Registry, run: RunRecord) -> None:
    registry.remove_arrivals([3])

    again = registry.add_arrival(new_arrival(run.id, seed=3), new_diff("own"), [])

    with pytest.raises(RegistryError, match=f"made anew as arrival {again.id}"):
        registry.restore_arrivals([3])
    registry.remove_arrivals([again.id])
    assert [arrival.id for arrival in registry.restore_arrivals([3])] == [3]


def test_arrivals_of_a_run_at_work_stay(registry: Registry, clock: Clock) -> None:
    registry.add_base(new_base())
    run = registry.start_run(new_run())
    registry.add_arrival(new_arrival(run.id), new_diff(), [])

    with pytest.raises(RegistryError, match=r"which process .* works on"):
        registry.remove_arrivals([1])
    clock.now += 1000.0  # long silent
    assert registry.remove_arrivals([1])


@pytest.mark.usefixtures("run")
def test_an_artifact_is_forgotten_with_its_last_arrival(registry: Registry) -> None:
    registry.remove_arrivals([1])
    assert (registry.removed().arrivals, registry.removed().artifacts) == ((1,), ())
    assert registry.forget([1]) == ()
    assert registry.diff(digest_of("shared")).file_bytes == 100

    registry.remove_arrivals([2, 4])
    gone = registry.forget([2, 4])

    assert [(a.digest, a.file_bytes) for a in gone] == [(digest_of("shared"), 100)]
    assert registry.digests() == {digest_of("own")}
    with pytest.raises(NotInRegistryError):
        registry.arrival(2)
    assert listed(registry) == [3]


@pytest.mark.usefixtures("run")
def test_what_came_back_meanwhile_is_not_forgotten(registry: Registry) -> None:
    registry.remove_arrivals([1, 2, 3])
    planned = registry.removed()
    registry.restore_arrivals([1])

    gone = registry.forget(planned.arrivals)

    assert [artifact.digest for artifact in gone] == [digest_of("own")]
    assert listed(registry) == [1, 4]


@pytest.mark.usefixtures("run")
def test_an_artifact_left_out_keeps_its_arrivals(registry: Registry) -> None:
    registry.remove_arrivals([1, 2, 3])

    left = registry.removed(but=[digest_of("shared")])

    assert left.arrivals == (3,)
    assert [artifact.digest for artifact in left.artifacts] == [digest_of("own")]


@pytest.mark.usefixtures("run")
def test_a_file_that_has_a_row_is_not_let_go(registry: Registry) -> None:
    told: list[str] = []

    def delete(digest: str) -> str:
        told.append(digest)
        return "orphan, 5 bytes"

    registry.release([digest_of("own"), digest_of("nobody's")], delete)

    assert told == [digest_of("nobody's")]
    last = registry.events(1)[0]
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
    registry.remove_arrivals([1, 2, 3, 4])
    registry.add_tag("keep", kind, thing)

    assert registry.removed().arrivals == left
    registry.forget([1, 2, 3, 4])
    assert {arrival.id for arrival in registry.arrivals(removed=True)} == {1, 2, 3, 4} - {*left}
    registry.remove_tag("keep")
    registry.forget([1, 2, 3, 4])
    assert registry.digests() == frozenset()


@pytest.mark.usefixtures("run")
def test_every_change_is_logged(registry: Registry) -> None:
    registry.remove_arrivals([3])
    registry.restore_arrivals([3])
    registry.remove_arrivals([3])
    registry.forget([3])

    assert [(e.kind, e.subject, e.digest) for e in registry.events(4)] == [
        ("arrival-removed", "3", digest_of("own")),
        ("arrival-restored", "3", digest_of("own")),
        ("arrival-removed", "3", digest_of("own")),
        ("arrival-forgotten", "3", digest_of("own")),
    ]
