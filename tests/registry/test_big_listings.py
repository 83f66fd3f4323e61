"""Of many records the first that match are found as among all of them."""

from __future__ import annotations

import pytest
from registry_samples import Clock, finished_arrival, new_base, new_run

from streamlab.registry.registry import Registry
from streamlab.views.listings import Subject, list_records

N_ARRIVALS = 1200


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name a registry of one run with many arrivals of three tasks."""
    url = f"sqlite:///{tmp_path_factory.mktemp('big')}/registry.db"
    with Registry.open(url, clock=Clock()) as registry:
        registry.bases.add(new_base())
        run = registry.runs.start(new_run()).id
        places = range(N_ARRIVALS)
        registry.arrivals.add_all([finished_arrival(run, n, task=f"t{n % 3}") for n in places])
    return url


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
