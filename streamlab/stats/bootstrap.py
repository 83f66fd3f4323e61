"""Paired bootstrap of the difference between two methods, over examples and seeds.

    d_s = m(this_s, sampled examples) - m(other_s, sampled examples)          for each seed s
    d*  = mean of d_s + sqrt(S / (S - 1)) (mean of d_s over the sampled seeds - mean of d_s)

Each replicate samples as many examples as a task has and as many seeds, both with replacement, and
recomputes the metric m. The interval lies between quantiles of the replicates (Efron and
Tibshirani, 1993: paired samples, section 9.5; percentile intervals, chapter 13). Both methods and
all seeds predict the same examples, so examples are crossed with seeds: one sample of examples
serves all of them (Owen, 2007, the pigeonhole bootstrap). Tasks are fixed and not sampled; a
replicate of a mean over tasks is the mean of one replicate of each.

S seeds sampled from S have (S - 1) / S of the variance they should have, a third less for three;
the root corrects that (Rao and Wu, 1988). The variances of examples and of seeds each count once,
and that of their interaction three times, so that the interval is conservative. With a single seed
the interval covers examples only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamlab.errors import UsageError

N_DRAWS: Final = 10_000
_BLOCK: Final = 500  # replicates at once: their counts of 1,000 examples take 4 MB

_Vector = NDArray[Any]
_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PairedPredictions:
    """Predictions of two methods for the examples of one task, under the same seeds in order.

    Class indices from 0, or numbers where the metric is `pearson`. Raises UsageError for a metric
    without a bootstrap, ValueError for shapes that do not match.
    """

    metric: str
    labels: _Vector  # (n_examples,)
    this: _Vector  # (n_seeds, n_examples)
    other: _Vector

    def __post_init__(self) -> None:
        if self.metric not in _MEASURES:
            raise UsageError(
                f"There is no bootstrap of the metric {self.metric!r}. "
                f"Choose one of: {', '.join(_MEASURES)}."
            )
        fits = self.this.shape == self.other.shape == (len(self.this), *self.labels.shape)
        if not fits or self.labels.ndim != 1 or not self.this.size:
            raise ValueError(
                "predictions must be (n_seeds, n_examples) by both methods, with a label for each, "
                f"got {self.this.shape}, {self.other.shape} and {self.labels.shape}"
            )


def mean_scores(predictions: PairedPredictions) -> tuple[float, float]:
    """Return both methods' scores on all examples, each the mean over seeds."""
    each_once = np.ones((1, len(predictions.labels)))
    this, other = (
        float(_scores(predictions.metric, predictions.labels, by_seed, each_once).mean())
        for by_seed in (predictions.this, predictions.other)
    )
    return this, other


def draw_differences(
    predictions: PairedPredictions, generator: np.random.Generator, *, n_draws: int = N_DRAWS
) -> _Floats:
    """Sample the difference of the two methods' mean scores, this minus other; (n_draws,).

    A score undefined on a sample is 0, as in `tasks.metrics`: Matthews' correlation where only one
    class is sampled or predicted, F1 where class 1 is neither, Pearson's correlation where all
    labels or predictions are equal.
    """
    n_seeds, n_examples = predictions.this.shape
    seeds = generator.integers(0, n_seeds, (n_draws, n_seeds))
    drawn = np.empty(n_draws)
    for first in range(0, n_draws, _BLOCK):
        here = slice(first, first + _BLOCK)
        counts = _example_counts(generator.integers(0, n_examples, (len(drawn[here]), n_examples)))
        by_seed = _scores(predictions.metric, predictions.labels, predictions.this, counts)
        by_seed -= _scores(predictions.metric, predictions.labels, predictions.other, counts)
        drawn[here] = mean_over_seeds(by_seed, seeds[here])
    return drawn


def mean_over_seeds(by_seed: _Floats, seeds: NDArray[np.int64]) -> _Floats:
    """Return d* of each replicate from differences and sampled seeds, both (n_draws, n_seeds).

    With one seed it is the difference itself.
    """
    n_seeds = by_seed.shape[1]
    stretch = math.sqrt(n_seeds / max(1, n_seeds - 1))
    centre: _Floats = by_seed.mean(axis=1)
    taken: _Floats = np.take_along_axis(by_seed, seeds, axis=1).mean(axis=1)
    return centre + stretch * (taken - centre)


def interval(drawn: _Floats, *, share: float = 0.95) -> tuple[float, float]:
    """Return the quantiles that enclose the central `share` of the replicates."""
    low, high = np.quantile(drawn, [(1.0 - share) / 2.0, (1.0 + share) / 2.0])
    return float(low), float(high)


def _example_counts(examples: NDArray[np.int64]) -> _Floats:
    """Count how often each example is in each sample; (n_draws, n_examples)."""
    n_draws, n_examples = examples.shape
    places = examples + n_examples * np.arange(n_draws)[:, None]
    counts = np.bincount(places.ravel(), minlength=n_draws * n_examples)
    return counts.reshape(n_draws, n_examples).astype(np.float64)


def _scores(metric: str, labels: _Vector, by_seed: _Vector, counts: _Floats) -> _Floats:
    """Score each seed's predictions on examples taken `counts` times; (n_draws, n_seeds)."""
    measure = _MEASURES[metric]
    columns = [
        measure.score(counts @ measure.terms(labels, predictions)) for predictions in by_seed
    ]
    return np.stack(columns, axis=1)


class _Measure(NamedTuple):
    """A metric as a function of sums over examples: one matrix product scores all samples."""

    terms: Callable[[_Vector, _Vector], _Floats]  # labels, predictions -> (n_examples, n_terms)
    score: Callable[[_Floats], _Floats]  # sums (n_draws, n_terms) -> (n_draws,)


def _hits(labels: _Vector, predictions: _Vector) -> _Floats:
    return np.stack([labels == predictions, np.ones(len(labels))], axis=1)


def _accuracy(sums: _Floats) -> _Floats:
    return sums[:, 0] / sums[:, 1]


def _confusions(labels: _Vector, predictions: _Vector) -> _Floats:
    """Return for each example a 1 at its label and prediction, among all pairs of classes."""
    n_classes = 1 + int(max(labels.max(), predictions.max()))
    pairs = labels.astype(np.int64) * n_classes + predictions.astype(np.int64)
    terms = np.zeros((len(labels), n_classes**2))
    terms[np.arange(len(labels)), pairs] = 1.0
    return terms


def _matthews(sums: _Floats) -> _Floats:
    """Return Matthews' correlation, for two classes or more (Gorodkin, 2004)."""
    n_classes = math.isqrt(sums.shape[1])
    confusion = sums.reshape(-1, n_classes, n_classes)
    labelled, predicted = confusion.sum(axis=2), confusion.sum(axis=1)
    n_examples = labelled.sum(axis=1)
    covariance = n_examples * np.trace(confusion, axis1=1, axis2=2) - (labelled * predicted).sum(
        axis=1
    )
    variances = (n_examples**2 - (labelled**2).sum(axis=1)) * (
        n_examples**2 - (predicted**2).sum(axis=1)
    )
    return _over_root(covariance, variances)


def _f1(sums: _Floats) -> _Floats:
    """Return F1 of class 1 for two classes, else the mean over the classes that occur."""
    n_classes = math.isqrt(sums.shape[1])
    confusion = sums.reshape(-1, n_classes, n_classes)
    involved = confusion.sum(axis=2) + confusion.sum(axis=1)
    by_class: _Floats = 2.0 * np.diagonal(confusion, axis1=1, axis2=2) / np.maximum(involved, 1.0)
    if n_classes == 1:
        return np.zeros(len(sums))
    if n_classes == 2:
        return by_class[:, 1]
    macro: _Floats = by_class.sum(axis=1) / (involved > 0.0).sum(axis=1)
    return macro


def _moments(labels: _Vector, predictions: _Vector) -> _Floats:
    x, y = _standardised(labels), _standardised(predictions)
    return np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y], axis=1)


def _standardised(values: _Vector) -> _Floats:
    """Return numbers with mean 0 and deviation 1, for precise sums of squares; 0 if all equal."""
    floats = values.astype(np.float64)
    if np.ptp(floats) <= 1e-12 * np.abs(floats).max():
        return np.zeros(len(floats))
    centred: _Floats = floats - floats.mean()
    return centred / float(centred.std())


def _pearson(sums: _Floats) -> _Floats:
    n, x, y, xx, yy, xy = sums.T
    # Far above the rounding error of a zero variance, and far below any other.
    spread_x, spread_y = (
        np.where(v > 1e-12 * n**2, v, 0.0) for v in (n * xx - x**2, n * yy - y**2)
    )
    return _over_root(n * xy - x * y, spread_x * spread_y)


def _over_root(covariance: _Floats, variances: _Floats) -> _Floats:
    """Return covariance / sqrt(variances), and 0 where a variance is 0."""
    defined = variances > 0.0
    return np.where(defined, covariance, 0.0) / np.sqrt(np.where(defined, variances, 1.0))


_MEASURES: Final[Mapping[str, _Measure]] = MappingProxyType(
    {
        "accuracy": _Measure(_hits, _accuracy),
        "f1": _Measure(_confusions, _f1),
        "matthews": _Measure(_confusions, _matthews),
        "pearson": _Measure(_moments, _pearson),
    }
)
