"""By how much two methods differ on the same rows: a paired bootstrap over rows and seeds.

    d_s = m(this_s, rows drawn) - m(other_s, rows drawn)          of every seed s
    d*  = mean of d_s + sqrt(S / (S - 1)) (mean of d_s over the seeds drawn - mean of d_s)

A draw takes as many rows as a task has, and as many seeds, each with replacement, and computes
the metric m anew; the interval lies between quantiles of the draws (Efron and Tibshirani, 1993:
pairs are drawn as pairs, section 9.5; percentile intervals, chapter 13). Both methods and every
seed answer the same rows, so a row drawn is drawn for all of them: rows cross seeds, and are not
drawn anew within each (Owen, 2007, the pigeonhole bootstrap). Tasks are not drawn, as a mean is
of the very tasks it names; a draw of that mean is the mean of one draw of each.

S seeds drawn from S vary (S - 1) / S as much as they should, a third less for three; the root
makes up for that (Rao and Wu, 1988). So the variance of rows counts once, that of seeds once, and
what is of one row under one seed alone three times: where the interval is not right it is wide.
With a single seed nothing is known of seeds, and it tells of rows alone.
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
_BLOCK: Final = 500  # draws at once: their counts of 1,000 rows take 4 MB

_Vector = NDArray[Any]
_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PairedAnswers:
    """What two methods answered to the rows of one task, under the same seeds in the same order.

    Class numbers from 0, or numbers where the metric is `pearson`. Raises UsageError for a metric
    that cannot be drawn, ValueError for shapes that do not fit.
    """

    metric: str
    labels: _Vector  # (n_rows,)
    this: _Vector  # (n_seeds, n_rows)
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
                "answers must be (n_seeds, n_rows) for both methods, with a label a row, got "
                f"{self.this.shape}, {self.other.shape} and {self.labels.shape}"
            )


def mean_scores(answers: PairedAnswers) -> tuple[float, float]:
    """Return both methods' scores on all rows, each the mean over seeds."""
    every_row = np.ones((1, len(answers.labels)))
    this, other = (
        float(_scores(answers.metric, answers.labels, by_seed, every_row).mean())
        for by_seed in (answers.this, answers.other)
    )
    return this, other


def draw_differences(
    answers: PairedAnswers, generator: np.random.Generator, *, n_draws: int = N_DRAWS
) -> _Floats:
    """Draw the difference of the two methods' mean scores, this minus other; (n_draws,).

    A score that a draw leaves undefined is 0, as in `tasks.metrics`: Matthews' where only one
    class is drawn or answered, F1 where class 1 is neither, Pearson's where all that is drawn or
    answered is alike.
    """
    n_seeds, n_rows = answers.this.shape
    seeds = generator.integers(0, n_seeds, (n_draws, n_seeds))
    drawn = np.empty(n_draws)
    for first in range(0, n_draws, _BLOCK):
        here = slice(first, first + _BLOCK)
        counts = _row_counts(generator.integers(0, n_rows, (len(drawn[here]), n_rows)))
        by_seed = _scores(answers.metric, answers.labels, answers.this, counts)
        by_seed -= _scores(answers.metric, answers.labels, answers.other, counts)
        drawn[here] = mean_over_seeds(by_seed, seeds[here])
    return drawn


def mean_over_seeds(by_seed: _Floats, seeds: NDArray[np.int64]) -> _Floats:
    """Return d* of every draw, from the differences and the seeds drawn, (n_draws, n_seeds) both.

    It varies as much as it should, see above; of one seed it is the difference itself.
    """
    n_seeds = by_seed.shape[1]
    stretch = math.sqrt(n_seeds / max(1, n_seeds - 1))
    centre: _Floats = by_seed.mean(axis=1)
    taken: _Floats = np.take_along_axis(by_seed, seeds, axis=1).mean(axis=1)
    return centre + stretch * (taken - centre)


def interval(drawn: _Floats, *, share: float = 0.95) -> tuple[float, float]:
    """Return the quantiles that hold the middle `share` of the draws between them."""
    low, high = np.quantile(drawn, [(1.0 - share) / 2.0, (1.0 + share) / 2.0])
    return float(low), float(high)


def _row_counts(rows: NDArray[np.int64]) -> _Floats:
    """Count how often each row stands in each draw; (n_draws, n_rows)."""
    n_draws, n_rows = rows.shape
    places = rows + n_rows * np.arange(n_draws)[:, None]
    counts = np.bincount(places.ravel(), minlength=n_draws * n_rows)
    return counts.reshape(n_draws, n_rows).astype(np.float64)


def _scores(metric: str, labels: _Vector, by_seed: _Vector, counts: _Floats) -> _Floats:
    """Score every seed's answers on rows that stand there `counts` times; (n_draws, n_seeds)."""
    measure = _MEASURES[metric]
    columns = [measure.score(counts @ measure.terms(labels, answers)) for answers in by_seed]
    return np.stack(columns, axis=1)


class _Measure(NamedTuple):
    """A metric as a function of sums over rows, so that a draw costs one product of matrices."""

    terms: Callable[[_Vector, _Vector], _Floats]  # labels, answers -> (n_rows, n_terms)
    score: Callable[[_Floats], _Floats]  # sums (n_draws, n_terms) -> (n_draws,)


def _hits(labels: _Vector, answers: _Vector) -> _Floats:
    return np.stack([labels == answers, np.ones(len(labels))], axis=1)


def _accuracy(sums: _Floats) -> _Floats:
    return sums[:, 0] / sums[:, 1]


def _confusions(labels: _Vector, answers: _Vector) -> _Floats:
    """Return for every row a 1 at its label and answer, among all pairs of classes."""
    n_classes = 1 + int(max(labels.max(), answers.max()))
    pairs = labels.astype(np.int64) * n_classes + answers.astype(np.int64)
    terms = np.zeros((len(labels), n_classes**2))
    terms[np.arange(len(labels)), pairs] = 1.0
    return terms


def _matthews(sums: _Floats) -> _Floats:
    """Return Matthews' correlation, for two classes or more (Gorodkin, 2004)."""
    n_classes = math.isqrt(sums.shape[1])
    confusion = sums.reshape(-1, n_classes, n_classes)
    labelled, answered = confusion.sum(axis=2), confusion.sum(axis=1)
    n_rows = labelled.sum(axis=1)
    together = n_rows * np.trace(confusion, axis1=1, axis2=2) - (labelled * answered).sum(axis=1)
    spreads = (n_rows**2 - (labelled**2).sum(axis=1)) * (n_rows**2 - (answered**2).sum(axis=1))
    return _over_root(together, spreads)


def _f1(sums: _Floats) -> _Floats:
    """Return F1 of class 1 of two, or the mean over the classes that are there of more."""
    n_classes = math.isqrt(sums.shape[1])
    confusion = sums.reshape(-1, n_classes, n_classes)
    spoken_of = confusion.sum(axis=2) + confusion.sum(axis=1)
    by_class: _Floats = 2.0 * np.diagonal(confusion, axis1=1, axis2=2) / np.maximum(spoken_of, 1.0)
    if n_classes == 1:
        return np.zeros(len(sums))
    if n_classes == 2:
        return by_class[:, 1]
    macro: _Floats = by_class.sum(axis=1) / (spoken_of > 0.0).sum(axis=1)
    return macro


def _moments(labels: _Vector, answers: _Vector) -> _Floats:
    x, y = _standardised(labels), _standardised(answers)
    return np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y], axis=1)


def _standardised(values: _Vector) -> _Floats:
    """Return numbers of mean 0 and spread 1, which no sum of squares drowns; 0 if all alike."""
    floats = values.astype(np.float64)
    if np.ptp(floats) <= 1e-12 * np.abs(floats).max():
        return np.zeros(len(floats))
    centred: _Floats = floats - floats.mean()
    return centred / float(centred.std())


def _pearson(sums: _Floats) -> _Floats:
    n, x, y, xx, yy, xy = sums.T
    # Far above what rounding leaves of a spread of nothing, and far below any spread there is.
    spread_x, spread_y = (
        np.where(v > 1e-12 * n**2, v, 0.0) for v in (n * xx - x**2, n * yy - y**2)
    )
    return _over_root(n * xy - x * y, spread_x * spread_y)


def _over_root(together: _Floats, spreads: _Floats) -> _Floats:
    """Return together / sqrt(spreads), and 0 where one has no spread."""
    defined = spreads > 0.0
    return np.where(defined, together, 0.0) / np.sqrt(np.where(defined, spreads, 1.0))


_MEASURES: Final[Mapping[str, _Measure]] = MappingProxyType(
    {
        "accuracy": _Measure(_hits, _accuracy),
        "f1": _Measure(_confusions, _f1),
        "matthews": _Measure(_confusions, _matthews),
        "pearson": _Measure(_moments, _pearson),
    }
)
