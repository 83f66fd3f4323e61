"""What fits is the most that does; a density that goes in comes out of the inverse."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planning_samples import BASE, made_up, model_of, nine

from streamlab.errors import UsageError
from streamlab.planning.capacity import fit, fit_density
from streamlab.planning.what_if import WhatIf, suppose

MB = 10**6


@given(st.integers(91_100_000, 10**12))
@settings(max_examples=50)
def test_one_task_more_would_not_fit(budget: int) -> None:
    model = nine().model()

    found = fit(model, budget)

    assert found.storage.total <= budget < model.at(found.n_tasks + 1).total
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.n_tasks <= found.high


def test_the_ends_are_where_the_interval_meets_the_budget() -> None:
    model = nine().model()

    found = fit(model, 200 * MB)

    assert found.low is not None
    assert found.high is not None
    for n_tasks, end in ((found.low, "high"), (found.high, "low")):
        ends = [getattr(model.interval(n), end) for n in (n_tasks, n_tasks + 1)]
        assert ends[0] <= 200 * MB < ends[1]


def test_a_budget_inside_the_data_is_known_without_a_width() -> None:
    model = nine().model()

    found = fit(model, model.at(4).total)

    assert (found.low, found.n_tasks, found.high) == (4, 4, 4)
    assert found.storage.basis == "measured"


def test_diffs_that_differ_too_much_give_no_upper_end() -> None:
    model = model_of(made_up(1), made_up(2, positions_bytes=500_000))

    found = fit(model, 10 * MB)

    assert found.high is None
    assert found.low is not None


def test_one_task_gives_a_number_without_ends() -> None:
    found = fit(model_of(made_up(1)), 10 * MB)

    assert (found.low, found.high) == (None, None)
    assert found.n_tasks > 0


def test_a_budget_below_the_base_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"alone take 91,013,120 bytes, more than the budget of 64,000"
    ):
        fit(nine().model(), 64 * MB)


@given(st.floats(1e-4, 0.4), st.integers(1, 2000))
@settings(max_examples=30, deadline=None)
def test_the_inverse_gives_the_density_back(density: float, n_tasks: int) -> None:
    model = nine().model(block_bytes=1)
    there = suppose(model, BASE, WhatIf(density=density))

    back = fit_density(model, n_tasks, there.at(n_tasks).total)

    # To an entry or a few: parts are whole bytes, and a byte holds some bits of the next entry.
    assert back.n_entries == pytest.approx(there.tasks[0].n_entries, abs=8)
    assert back.n_entries >= there.tasks[0].n_entries
    assert back.density == back.n_entries / there.tasks[0].n_gated
    assert back.storage.total == there.at(n_tasks).total


def test_the_measured_density_fits_what_was_measured() -> None:
    model = nine().model()

    found = fit_density(model, 9, model.at(9).total)

    assert found.density == pytest.approx(0.005, rel=0.01)


def test_more_tasks_leave_less_density_each() -> None:
    model = nine().model()

    found = [fit_density(model, n, 100 * MB).density for n in (20, 50, 200, 1000)]

    assert found == sorted(found, reverse=True)
    assert found[0] > 2 * found[1]


def test_a_budget_for_everything_says_that_more_would_fit() -> None:
    found = fit_density(nine().model(), 1, 10**12)

    assert found.is_most
    assert found.density == 0.5


def test_heads_and_headers_that_fill_the_budget_leave_no_density() -> None:
    with pytest.raises(UsageError, match="fit 92,000,000 bytes at no density: with one entry"):
        fit_density(nine().model(), 1000, 92 * MB)
