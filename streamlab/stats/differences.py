"""Differences between methods over tasks and seeds, with intervals that hold for few seeds.

    d_ts = score of this - score of the other, task t, seed s          (paired by seed)
    d    = mean over tasks of the mean over seeds of d_ts
    V    = sum_t v_t / T^2,  v_t = var_s(d_ts) / S_t
    df   = (sum_t v_t)^2 / sum_t (v_t^2 / (S_t - 1))                   (Satterthwaite, 1946)
    df   = sum_t (S_t - 1)                                  where a task has two seeds or fewer

The tasks are those that there are, and are not sampled; the seeds are. The interval is
d +- t(df) sqrt(V). From two seeds a variance is so uncertain that Satterthwaite's intervals of 95%
catch the truth 98 times in 100; with the sum of the tasks' degrees of freedom it is 93 to 95, also
where the tasks' variances differ a hundredfold. The interval does not cover the choice of the
evaluation examples, whose standard error is given beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A mean difference over tasks, its interval over seeds, and how often each side won."""

    mean: float
    low: float  # NaN where no task has two seeds
    high: float
    degrees: float  # of freedom; 0 where there is no interval
    p_value: float  # of a mean of 0, two-sided; NaN without an interval
    n_wins: int  # pairs of a task and a seed
    n_losses: int
    n_ties: int

    @property
    def excludes_zero(self) -> bool:
        """Return whether the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


def known(value: float) -> float | None:
    """Return a number, None for NaN, which stands for one that could not be computed."""
    return None if math.isnan(value) else value


def mean_difference(
    by_task: Mapping[str, Sequence[float]], *, confidence: float = 0.95
) -> Difference:
    """Average paired differences over tasks; `by_task`: one difference a seed.

    A task with a single seed counts for the mean; its variance is taken as the mean variance of
    the others. Raises ValueError without any difference.

    >>> d = mean_difference({"a": [1.0, 2.0, 3.0], "b": [-1.0, 0.0, 1.0]})
    >>> round(d.mean, 3), round(d.degrees, 3), round(d.low, 3), round(d.high, 3)
    (1.0, 4.0, -0.133, 2.133)
    """
    samples = [np.asarray(values, dtype=np.float64) for values in by_task.values()]
    if not samples or not all(sample.size for sample in samples):
        raise ValueError("every task must have a difference, and there must be a task")
    mean = float(np.mean([sample.mean() for sample in samples]))
    every = np.concatenate(samples)
    low, high, degrees, p_value = _interval(samples, mean, confidence)
    return Difference(
        mean=mean,
        low=low,
        high=high,
        degrees=degrees,
        p_value=p_value,
        n_wins=int((every > 0).sum()),
        n_losses=int((every < 0).sum()),
        n_ties=int((every == 0).sum()),
    )


def _interval(
    samples: Sequence[np.ndarray], mean: float, confidence: float
) -> tuple[float, float, float, float]:
    """Return the ends of the interval, its degrees of freedom and the p-value of 0."""
    repeated = [sample for sample in samples if sample.size > 1]
    if not repeated:
        return math.nan, math.nan, 0.0, math.nan
    shared = float(np.mean([sample.var(ddof=1) for sample in repeated]))
    known = [sample.var(ddof=1) / sample.size for sample in repeated]
    total = sum(known) + shared * (len(samples) - len(repeated))
    error = math.sqrt(total) / len(samples)
    if not error:
        return mean, mean, math.inf, 1.0 if mean == 0 else 0.0
    degrees = _degrees(known, [sample.size for sample in samples])
    reach = float(stdtrit(degrees, (1 + confidence) / 2)) * error
    p_value = 2 * float(stdtr(degrees, -abs(mean) / error))
    return mean - reach, mean + reach, degrees, p_value


def _degrees(variances: Sequence[float], n_seeds: Sequence[int]) -> float:
    """Return the degrees of freedom of a sum of variances of means; tasks of one seed have none."""
    if min(n_seeds) < 3:
        return float(sum(n_seeds) - len(n_seeds))
    spread = sum(v**2 / (n - 1) for v, n in zip(variances, n_seeds, strict=True))
    return float(sum(variances) ** 2 / spread)


def examples_error(scores: Sequence[tuple[str, float, float, int]]) -> float:
    """Return the standard error that the evaluation examples leave in a mean difference.

    `scores`: for each task its metric, the two scores and the number of examples. The methods'
    errors on the same examples are taken as independent, an upper bound where they agree more
    often. NaN where a metric is none of accuracy, Matthews (as with equal margins) and Pearson or
    Spearman correlation (as of normal variables).

    >>> round(examples_error([("accuracy", 0.8, 0.8, 872)]), 4)
    0.0192
    """
    variances = [sum(_variance(metric, s, n) for s in (a, b)) for metric, a, b, n in scores]
    return math.sqrt(sum(variances)) / len(variances)


def _variance(metric: str, score: float, n: int) -> float:
    """Return the variance of a score over samples of n examples."""
    if metric == "accuracy":
        return score * (1 - score) / n
    if metric == "matthews":  # 2 accuracy - 1 where both margins are even
        return (1 - score**2) / n
    if metric in ("pearson", "spearman"):
        return (1 - score**2) ** 2 / (n - 1)
    return math.nan


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for the number of claims (Holm, 1979), in the order given.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted
