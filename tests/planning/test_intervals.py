"""The 95% interval covers what comes, and the first three of nine real tasks foretell the rest."""

from __future__ import annotations

import numpy as np
import pytest
from planning_samples import made_up, model_of, nine
from scipy.stats import t

from streamlab.planning.capacity import backtest
from streamlab.planning.storage_model import find_spread


@pytest.mark.parametrize(("n_measured", "n_future"), [(2, 5), (3, 6), (9, 1), (9, 1000)])
def test_an_interval_covers_95_of_100_sums(n_measured: int, n_future: int) -> None:
    draw = np.random.default_rng(7)
    n_trials = 4000
    measured = draw.normal(1e6, 2e5, (n_trials, n_measured)).round().astype(int)
    future = n_future * 1e6 + 2e5 * np.sqrt(n_future) * draw.normal(size=n_trials)

    covered = 0
    for sizes, total in zip(measured.tolist(), future.tolist(), strict=True):
        spread = find_spread(sizes)
        assert spread is not None
        covered += abs(total - n_future * np.mean(sizes)) <= spread.half_width(n_future)

    # Three standard errors of 4,000 trials.
    assert covered / n_trials == pytest.approx(0.95, abs=3 * (0.95 * 0.05 / n_trials) ** 0.5)


def test_the_width_is_the_formula() -> None:
    spread = find_spread([100, 120, 140])

    assert spread is not None
    expected = t.ppf(0.975, 2) * 20 * (6 + 36 / 3) ** 0.5
    assert spread.half_width(6) == pytest.approx(expected)


def test_files_that_end_in_the_same_block_still_differ() -> None:
    spread = find_spread([5000, 5000, 5000], 4096)

    assert spread is not None
    # The standard deviation of an even choice among 4,096 places.
    assert spread.deviation == pytest.approx(float(np.arange(4096).std()))


def test_the_first_three_of_nine_real_tasks_foretell_all_nine() -> None:
    measured = nine()

    check = backtest(measured.first(3).model(), measured.model())

    assert check.is_covered
    assert check.half_share is not None
    assert check.half_share <= 0.10
    assert check.measured == measured.model().at(9).total
    # Most of it is the base, which is known; of the nine diffs alone less is known.
    assert check.half_share_of_tasks is not None
    assert check.half_share_of_tasks == pytest.approx(0.37, abs=0.01)


def test_what_was_measured_has_no_width() -> None:
    model = nine().model()
    interval = model.interval(9)

    assert interval is not None
    assert (interval.low, interval.high) == (model.at(9).total, model.at(9).total)


def test_an_interval_holds_the_expected_size_and_never_goes_below_the_measured() -> None:
    model = model_of(made_up(1), made_up(2, positions_bytes=500_000))

    for n_tasks in (3, 10, 10_000):
        interval = model.interval(n_tasks)
        assert interval is not None
        assert model.at(n_tasks).total in interval
        assert interval.low >= model.at(2).total


def test_one_task_has_no_interval() -> None:
    assert model_of(made_up(1)).interval(5) is None
