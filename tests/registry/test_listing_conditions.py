"""Conditions on listings: what the database finds is what plain Python finds among all rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from operator import eq, ne

import pytest
from registry_samples import (
    Clock,
    finished_arrival,
    new_arrival,
    new_base,
    new_diff,
    new_run,
    new_score,
)

from streamlab.registry.records import NewPlacement
from streamlab.registry.registry import Registry
from streamlab.views.listings import SUBJECTS, Subject, list_records
from streamlab.views.table import Cell, Table

N_ARRIVALS = 1200


@pytest.fixture(
    scope="module",
    params=["file", pytest.param("postgres", marks=[pytest.mark.postgres, pytest.mark.slow])],
)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name a registry of one run with many arrivals of three tasks."""
    url = f"sqlite:///{tmp_path_factory.mktemp('big')}/registry.db"
    if request.param == "postgres":
        server = request.getfixturevalue("postgres")
        url = server.url(server.create())
    with Registry.open(url, clock=Clock()) as registry:
        registry.bases.add(new_base())
        run = registry.runs.start(new_run()).id
        places = range(N_ARRIVALS)
        registry.arrivals.add_all([finished_arrival(run, n, task=f"t{n % 3}") for n in places])
    return url


@pytest.fixture
def full_registry(registry: Registry) -> Registry:
    """Fill a registry with two runs, and something of every kind."""
    registry.bases.add(new_base())
    first = registry.runs.start(new_run()).id
    registry.runs.finish(first, "failed", "the disk is full")
    run = registry.runs.start(new_run(scenario_name="tiny")).id
    streamed = {"arrived_us": 0, "began_us": 1, "ended_us": 60_000_000}
    dev = [new_score(), new_score(metric="f1", is_primary=False)]
    later = [new_score(after_sequence=2, value=0.1), new_score(split="validation", value=0.2)]
    one = registry.arrivals.add(new_arrival(run, **streamed), new_diff(), [*later, *dev])
    registry.arrivals.add(
        new_arrival(first, task="rte", seed=2),
        new_diff(n_gated=0, n_entries=0, name="none", tensor_counts=()),
        [new_score(value=0.5)],
    )
    checkpoint = new_diff("whole", kind="checkpoint", n_entries=128, tensor_counts=())
    registry.arrivals.add(new_arrival(run, method="full_finetuning"), checkpoint, [])
    registry.arrivals.add_failed(new_arrival(run, provider="newswire"), "the loss is NaN")
    registry.arrivals.add_failed(new_arrival(run, behaviour="oversized"), "too big", rule="size")
    registry.placements.add(
        [NewPlacement(at_us=5, arrival_id=one.id, action="stored", device_bytes=100)]
    )
    for kind, thing in (("run", run), ("arrival", one.id), ("diff", one.digest)):
        registry.tags.add(f"the-{kind}", kind, thing)
    return registry


@pytest.mark.parametrize("limit", [1, 3, 50, 5000])
@pytest.mark.parametrize(
    ("subject", "where"),
    [
        ("arrivals", "task = t1"),
        ("arrivals", "sequence = 3"),
        ("arrivals", "sequence >= 1190 and task = t2"),
        ("arrivals", "task = nothing"),
        ("scores", "task = t0"),
        ("events", "subject like '*7'"),
        ("events", "kind = run-started"),
        ("tasks", "name like 't*'"),
    ],
)
def test_the_first_that_match_are_those_of_all_that_match(
    url: str, subject: Subject, where: str, limit: int
) -> None:
    with Registry.open(url, clock=Clock(), read_only=True) as registry:
        every = list_records(registry, subject, where=where).rows
        found = list_records(registry, subject, where=where, limit=limit).rows

    assert found == (every[-limit:] if subject == "events" else every[:limit])
    assert (every == ()) == ("nothing" in where)


def conditions(table: Table) -> Iterator[tuple[str, Callable[[Cell], bool]]]:
    """Yield conditions on every column, and what plain Python says of its cells."""
    for place, column in enumerate(table.columns):
        yield f"{column.name} is null", lambda cell: cell is None
        yield f"{column.name} is not null", lambda cell: cell is not None
        for cell in dict.fromkeys(row[place] for row in table.rows):
            if cell is None:
                continue
            # As exactly as it is held, under any kind of column.
            text = ("yes" if cell else "no") if column.kind == "flag" else f'"{cell!s}"'
            yield f"{column.name} = {text}", partial(eq, cell)
            yield f"not {column.name} = {text}", partial(ne, cell)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_column_of_a_listing_means_the_same_in_sql(
    full_registry: Registry, subject: Subject
) -> None:
    table = list_records(full_registry, subject)
    assert table.rows

    for condition, is_kept in conditions(table):
        place = [c.name for c in table.columns].index(condition.removeprefix("not ").split()[0])
        found = list_records(full_registry, subject, where=condition)
        assert found.rows == tuple(row for row in table.rows if is_kept(row[place])), condition
