"""Paired differences over tasks and seeds: by definition, against scipy, and their coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from streamlab.stats.differences import examples_error, holm, mean_difference


def test_one_task_is_the_paired_t_test() -> None:
    this, other = [0.81, 0.84, 0.79, 0.86], [0.80, 0.80, 0.80, 0.81]

    found = mean_difference({"only": [a - b for a, b in zip(this, other, strict=True)]})

    wanted = stats.ttest_rel(this, other)
    assert found.p_value == pytest.approx(wanted.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(wanted.confidence_interval()))
    assert (found.n_wins, found.n_losses, found.n_ties) == (3, 1, 0)


def test_two_tasks_are_welchs_test_of_their_sum() -> None:
    one, other = [0.3, -0.1, 0.4], [0.2, 0.9, 0.1, -0.4, 0.6]

    found = mean_difference({"a": one, "b": other})

    welch = stats.ttest_ind(one, [-value for value in other], equal_var=False)
    assert found.degrees == pytest.approx(welch.df)
    assert found.p_value == pytest.approx(welch.pvalue)


@pytest.mark.parametrize(("n_seeds", "n_tasks"), [(2, 3), (2, 8), (3, 4), (3, 8), (5, 6)])
def test_intervals_catch_a_known_truth_as_often_as_they_say(n_seeds: int, n_tasks: int) -> None:
    generator = np.random.default_rng(n_seeds * 100 + n_tasks)
    truths = generator.normal(0.3, 1.0, n_tasks)  # tasks are fixed: each has a truth of its own
    spreads = generator.uniform(0.5, 1.5, n_tasks)

    caught = 0
    for _ in range(5_000):
        drawn = generator.normal(truths[:, None], spreads[:, None], (n_tasks, n_seeds))
        found = mean_difference({str(task): list(row) for task, row in enumerate(drawn)})
        caught += found.low <= truths.mean() <= found.high

    assert 0.93 <= caught / 5_000 <= 0.97


def test_a_task_with_one_seed_counts_and_borrows_a_variance() -> None:
    found = mean_difference({"a": [1.0, 3.0], "b": [5.0]})
    narrower = mean_difference({"a": [1.0, 3.0], "b": [5.0, 5.0]})

    assert found.mean == 3.5
    assert found.degrees == 1.0
    assert found.high - found.low > narrower.high - narrower.low


def test_single_seeds_give_no_interval() -> None:
    found = mean_difference({"a": [1.0], "b": [2.0]})

    assert (found.mean, found.degrees) == (1.5, 0.0)
    assert math.isnan(found.low)
    assert math.isnan(found.p_value)
    assert not found.excludes_zero


def test_equal_differences_give_an_interval_without_width() -> None:
    found = mean_difference({"a": [0.5, 0.5], "b": [0.5, 0.5]})

    assert (found.low, found.high, found.p_value) == (0.5, 0.5, 0.0)
    assert found.excludes_zero


def test_no_difference_at_all_is_an_error() -> None:
    with pytest.raises(ValueError, match="must have a difference"):
        mean_difference({"a": []})


def test_examples_error_is_what_sampling_examples_gives() -> None:
    generator = np.random.default_rng(0)
    tasks = [(0.8, 0.7, 400), (0.9, 0.85, 250)]

    drawn = [
        np.mean([generator.binomial(n, a) / n - generator.binomial(n, b) / n for a, b, n in tasks])
        for _ in range(20_000)
    ]

    scores = [("accuracy", *task) for task in tasks]
    assert examples_error(scores) == pytest.approx(np.std(drawn), rel=0.02)


def test_examples_error_of_correlations_is_what_sampling_examples_gives() -> None:
    generator = np.random.default_rng(0)
    n, r = 300, 0.6
    x = generator.standard_normal((8_000, n))
    y = r * x + np.sqrt(1 - r**2) * generator.standard_normal((8_000, n))
    pearson = [np.corrcoef(a, b)[0, 1] for a, b in zip(x, y, strict=True)]
    matthews = [np.corrcoef(a > 0, b > 0)[0, 1] for a, b in zip(x, y, strict=True)]

    for metric, sampled in (("pearson", pearson), ("matthews", matthews)):
        wanted = np.sqrt(2) * np.std(sampled)  # of a difference of two
        found = examples_error([(metric, np.mean(sampled), np.mean(sampled), n)])
        assert found == pytest.approx(wanted, rel=0.05)
    assert np.isnan(examples_error([("f1", 0.8, 0.8, n)]))


def test_holm_controls_the_chance_of_any_false_claim() -> None:
    generator = np.random.default_rng(1)

    false_claims = sum(min(holm(generator.uniform(size=10).tolist())) < 0.05 for _ in range(4_000))

    assert false_claims / 4_000 == pytest.approx(0.05, abs=0.012)


def test_holm_keeps_the_order_and_never_exceeds_one() -> None:
    adjusted = holm([0.5, 0.001, 0.9, 0.02])

    assert adjusted == pytest.approx([1.0, 0.004, 1.0, 0.06])
