"""Tags are names on runs, arrivals and artifacts, over every kind of database."""

from __future__ import annotations

import pytest
from registry_samples import Clock, digest_of, new_arrival, new_base, new_diff, new_run

from streamlab.errors import NotInRegistryError, RegistryError, UsageError
from streamlab.registry.registry import Registry


@pytest.fixture(autouse=True)
def _filled(registry: Registry) -> None:
    """One run with one arrival."""
    registry.bases.add(new_base())
    run = registry.runs.start(new_run())
    registry.arrivals.add(new_arrival(run.id), new_diff(), [])


def test_a_tag_comes_back_with_what_it_is_on(registry: Registry, clock: Clock) -> None:
    clock.now = 7.0
    run = registry.tags.add("paper", "run", "latest")
    arrival = registry.tags.add("best", "arrival", 1)
    diff = registry.tags.add("best", "diff", digest_of("a")[:8])

    assert registry.tags.list() == (arrival, diff, run)
    assert registry.tags.list("best") == (arrival, diff)
    assert [
        (t.kind, t.run, t.arrival_id, t.digest, t.target, t.added_at) for t in registry.tags.list()
    ] == [
        ("arrival", None, 1, digest_of("a"), "1", 7.0),
        ("diff", None, None, digest_of("a"), digest_of("a"), 7.0),
        ("run", "glue-1", None, None, "glue-1", 7.0),
    ]


def test_a_name_is_on_one_thing_of_a_kind(registry: Registry) -> None:
    registry.tags.add("best", "arrival", 1)

    with pytest.raises(RegistryError, match=r"is on the arrival 1 already.*--remove arrival:best"):
        registry.tags.add("best", "arrival", 1)
    registry.tags.add("best", "run", 1)
    assert [tag.kind for tag in registry.tags.list()] == ["arrival", "run"]


@pytest.mark.parametrize(
    "name",
    ["", "7", "1best", "-x", "a b", "run:x", "latest", "abc123", "f" * 64, "x" * 65, "glue-1"],
)
def test_a_name_that_could_be_taken_for_something_else_is_refused(
    name: str, registry: Registry
) -> None:
    with pytest.raises(UsageError, match=r"another name|begin with a letter"):
        registry.tags.add(name, "arrival", 1)
    assert registry.tags.list() == ()


def test_a_tag_on_nothing_is_refused(registry: Registry) -> None:
    for kind, thing in (("run", "none"), ("arrival", 99), ("diff", "0" * 64)):
        with pytest.raises(NotInRegistryError):
            registry.tags.add("best", kind, thing)  # type: ignore[arg-type]
    assert registry.tags.list() == ()


def test_a_tag_is_taken_off(registry: Registry) -> None:
    registry.tags.add("best", "arrival", 1)
    registry.tags.add("best", "run", 1)

    with pytest.raises(NotInRegistryError, match="`arrival:best` or `run:best`"):
        registry.tags.remove("best")
    assert registry.tags.remove("best", "run").target == "glue-1"
    assert registry.tags.remove("best").target == "1"
    with pytest.raises(NotInRegistryError, match="holds no tag yet"):
        registry.tags.remove("best")


def test_tags_are_logged(registry: Registry) -> None:
    registry.tags.add("best", "arrival", 1)
    registry.tags.remove("best")

    assert [(e.kind, e.subject, e.message, e.digest) for e in registry.events.list(2)] == [
        ("tag-added", "best", "arrival 1", digest_of("a")),
        ("tag-removed", "best", "arrival 1", digest_of("a")),
    ]
