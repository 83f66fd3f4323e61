"""The paired bootstrap: what it must be by its definition, and how often it catches the truth."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streamlab.errors import UsageError
from streamlab.stats.bootstrap import (
    PairedPredictions,
    draw_differences,
    interval,
    mean_scores,
)
from streamlab.tasks.metrics import find_metric, score
from streamlab.tasks.types import task_type

METRICS: tuple[str, ...] = ("accuracy", "f1", "matthews", "pearson")

each_metric = pytest.mark.parametrize("metric", METRICS)


def predictions(
    metric: str, generator: np.random.Generator, *, n_examples: int = 40
) -> PairedPredictions:
    """Answer at random, so that a good half is right; three classes where there are classes."""
    shape = (3, n_examples)
    if metric == "pearson":
        labels = generator.normal(size=n_examples)
        this, other = (labels + generator.normal(size=shape) for _ in range(2))
        return PairedPredictions(metric, labels, this, other)
    classes = generator.integers(0, 3, n_examples)
    this, other = (
        np.where(generator.random(shape) < 0.4, classes, generator.integers(0, 3, shape))
        for _ in range(2)
    )
    return PairedPredictions(metric, classes, this, other)


def scored(metric: str, labels: NDArray[Any], predictions: NDArray[Any]) -> float:
    """Score predictions as a run scores outputs."""
    asked = [find_metric(metric)]
    if metric == "pearson":
        return score(task_type("regression"), asked, predictions[:, None], labels)[metric]
    n_classes = 1 + int(max(labels.max(), predictions.max(), 1))
    outputs = np.eye(n_classes)[predictions]
    return score(task_type("classification"), asked, outputs, labels)[metric]


@each_metric
def test_scores_on_all_examples_are_those_of_a_run(metric: str) -> None:
    drawn = predictions(metric, np.random.default_rng(1))

    this, other = mean_scores(drawn)

    expected = [
        np.mean([scored(metric, drawn.labels, seed) for seed in method])
        for method in (drawn.this, drawn.other)
    ]
    assert [this, other] == pytest.approx(expected, abs=1e-12)


def by_hand(metric: str, labels: Sequence[float], predicted: Sequence[float]) -> float:
    """Write the metrics out, one row after the other."""
    pairs = list(zip(labels, predicted, strict=True))
    if metric == "accuracy":
        return sum(label == answer for label, answer in pairs) / len(pairs)
    if metric == "pearson":
        return correlation([(label, answer) for label, answer in pairs])
    if metric == "f1":
        there = sorted({c for pair in pairs for c in pair})
        return sum(
            2 * sum(a == b == c for a, b in pairs) / sum((a == c) + (b == c) for a, b in pairs)
            for c in there
        ) / len(there)
    # Matthews' of many classes is the correlation of all indicators of a class, taken together.
    return correlation(*([(float(a == c), float(b == c)) for a, b in pairs] for c in range(3)))


def correlation(*lots: list[tuple[float, float]]) -> float:
    """Correlate the pairs, each lot about its own means; 0 where one side does not vary."""
    xx = yy = xy = 0.0
    for pairs in lots:
        mean_x = sum(x for x, _ in pairs) / len(pairs)
        mean_y = sum(y for _, y in pairs) / len(pairs)
        xx += sum((x - mean_x) ** 2 for x, _ in pairs)
        yy += sum((y - mean_y) ** 2 for _, y in pairs)
        xy += sum((x - mean_x) * (y - mean_y) for x, y in pairs)
    return xy / math.sqrt(xx * yy) if min(xx, yy) > 1e-20 else 0.0


def one_draw(
    metric: str, drawn: PairedPredictions, rows: Sequence[int], seeds: Sequence[int]
) -> float:
    """Write the definition out for one draw."""
    picked = list(rows)
    by_seed = [
        by_hand(metric, drawn.labels[picked].tolist(), this[picked].tolist())
        - by_hand(metric, drawn.labels[picked].tolist(), other[picked].tolist())
        for this, other in zip(drawn.this, drawn.other, strict=True)
    ]
    n_seeds = len(by_seed)
    centre = sum(by_seed) / n_seeds
    taken = sum(by_seed[seed] for seed in seeds) / n_seeds
    return centre + math.sqrt(n_seeds / (n_seeds - 1)) * (taken - centre)


@each_metric
@pytest.mark.parametrize("n_examples", [3, 12])
def test_every_draw_is_what_the_definition_says(metric: str, n_examples: int) -> None:
    # With three examples many draws leave a score undefined; 700 draws exceed one block.
    drawn = predictions(metric, np.random.default_rng(2), n_examples=n_examples)
    n_draws = 700

    found = draw_differences(drawn, np.random.default_rng(3), n_draws=n_draws)

    generator = np.random.default_rng(3)
    seeds = generator.integers(0, 3, (n_draws, 3))
    rows = generator.integers(0, n_examples, (n_draws, n_examples))
    expected = [one_draw(metric, drawn, *pair) for pair in zip(rows, seeds, strict=True)]
    assert found == pytest.approx(expected, abs=1e-9)


@each_metric
def test_exchanging_the_methods_turns_every_sign(metric: str) -> None:
    drawn = predictions(metric, np.random.default_rng(4))
    exchanged = dataclasses.replace(drawn, this=drawn.other, other=drawn.this)

    there = draw_differences(drawn, np.random.default_rng(5), n_draws=600)
    back = draw_differences(exchanged, np.random.default_rng(5), n_draws=600)

    assert np.ptp(there) > 0
    assert np.array_equal(there, -back)
    assert mean_scores(drawn) == mean_scores(exchanged)[::-1]


@each_metric
def test_equal_predictions_differ_by_exactly_nothing(metric: str) -> None:
    drawn = predictions(metric, np.random.default_rng(6))
    equal = dataclasses.replace(drawn, other=drawn.this.copy())

    differences = draw_differences(equal, np.random.default_rng(7), n_draws=600)

    assert not differences.any()
    assert interval(differences) == (0.0, 0.0)


@each_metric
def test_a_score_that_is_undefined_is_zero(metric: str) -> None:
    # Of two rows every other draw holds one of them twice; `other` predictions both alike.
    labels = np.array([0, 1])
    drawn = PairedPredictions(metric, labels, np.array([[0, 1]]), np.array([[1, 1]]))

    differences = draw_differences(drawn, np.random.default_rng(8), n_draws=400)

    # Answering 1 to both has one row right, and an F1 of 2/3.
    expected = {"accuracy": {0.0, 0.5, 1.0}, "f1": {0.0, 0.333333333333}}.get(metric, {0.0, 1.0})
    assert set(np.round(differences, 12)) == expected
    found = {"accuracy": 0.5, "f1": 2 / 3}.get(metric, 0.0)
    assert mean_scores(drawn) == pytest.approx((1.0, found))


@pytest.mark.parametrize("value", [0.1, 1e9, 0.0])
def test_numbers_that_are_all_alike_correlate_with_nothing(value: float) -> None:
    labels = np.array([0.1, 0.7, 0.3])
    drawn = PairedPredictions("pearson", labels, labels[None] * 3 + 1e6, np.full((1, 3), value))

    assert mean_scores(drawn) == pytest.approx((1.0, 0.0))


def test_one_seed_covers_examples_only() -> None:
    drawn = predictions("accuracy", np.random.default_rng(9))
    single = dataclasses.replace(drawn, this=drawn.this[:1], other=drawn.other[:1])
    repeated = dataclasses.replace(drawn, this=drawn.this[[0, 0, 0]], other=drawn.other[[0, 0, 0]])

    spreads = [
        draw_differences(one, np.random.default_rng(10), n_draws=4000).std()
        for one in (single, repeated)
    ]

    assert spreads[0] == pytest.approx(spreads[1], rel=0.05)


def learnt(generator: np.random.Generator, *, by_example: bool, by_seed: bool) -> PairedPredictions:
    """Learn a task under three seeds by two methods, of which this is right 20% more often.

    The other is always right on 40% of the examples; this one on 60% of the examples
    (by example), of the seeds (by seed), or of the examples anew for each seed (neither).
    """
    n_seeds, n_examples = 3, 60
    other = np.tile(generator.random(n_examples) < 0.4, (n_seeds, 1))
    shape = (n_seeds if by_seed or not by_example else 1, 1 if by_seed else n_examples)
    this = np.broadcast_to(generator.random(shape) < 0.6, other.shape)
    right = np.ones(n_examples, np.int64)
    return PairedPredictions("accuracy", right, this.astype(np.int64), other.astype(np.int64))


@pytest.mark.parametrize(
    ("by_example", "by_seed", "least", "most"),
    [
        pytest.param(True, False, 0.91, 0.98, id="examples differ"),
        pytest.param(False, True, 0.91, 0.98, id="seeds differ"),
        pytest.param(False, False, 0.95, 1.0, id="examples differ by seed"),
    ],
)
def test_the_interval_of_a_mean_of_eight_tasks_holds_the_truth_as_often_as_it_says(
    by_example: bool, by_seed: bool, least: float, most: float
) -> None:
    generator = np.random.default_rng(11)
    n_trials, n_held = 200, 0

    for _ in range(n_trials):
        tasks = [learnt(generator, by_example=by_example, by_seed=by_seed) for _ in range(8)]
        drawn = [draw_differences(task, generator, n_draws=300) for task in tasks]
        low, high = interval(np.mean(drawn, axis=0))
        n_held += low <= 0.2 <= high

    assert least <= n_held / n_trials <= most


def test_a_metric_without_sums_is_refused_and_so_are_predictions_for_other_examples() -> None:
    labels, predicted = np.zeros(4, np.int64), np.zeros((2, 4), np.int64)

    with pytest.raises(UsageError, match="no bootstrap of the metric 'spearman'"):
        PairedPredictions("spearman", labels, predicted, predicted)
    for this, other in ((predicted, predicted[:1]), (predicted[:, :3], predicted[:, :3])):
        with pytest.raises(ValueError, match="predictions must be"):
            PairedPredictions("accuracy", labels, this, other)
