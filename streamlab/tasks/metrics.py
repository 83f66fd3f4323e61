"""Metrics: those of GLUE, through scikit-learn and scipy, and those of plug-ins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamlab.errors import DataError, TrainingError, UsageError
from streamlab.plugins import load
from streamlab.tasks.types import TaskKind, TaskType

_Vector = NDArray[Any]


@dataclass(frozen=True)
class Metric:
    """A score of predictions; a higher one is better.

    `compute(labels, predictions, n_outputs)` takes class indices or numbers, (n_examples,), and
    the number of classes (1 for a number); it returns a number in `bounds`.
    """

    name: str  # in records and listings
    kinds: frozenset[TaskKind]  # of the tasks that it can judge
    compute: Callable[[_Vector, _Vector, int], float]
    bounds: tuple[float, float] = (0.0, 1.0)
    is_correlation: bool = False  # undefined, and taken as 0, where either side is constant

    def __call__(self, labels: _Vector, predictions: _Vector, n_outputs: int) -> float:
        """Return the score. Raises DataError where it is NaN or out of bounds."""
        if self.is_correlation and (_constant(labels) or _constant(predictions)):
            return 0.0
        value = float(self.compute(labels, predictions, n_outputs))
        lowest, highest = self.bounds
        # A mean of many equal numbers may be a rounding away from them.
        if not lowest - 1e-9 <= value <= highest + 1e-9:
            raise DataError(
                f"The metric `{self.name}` returned {value!r}, and its scores are from {lowest} to "
                f"{highest}. Correct the metric."
            )
        return value


METRICS: Final[Mapping[str, str]] = MappingProxyType(
    {
        name: f"{__name__}:{name.upper()}"
        for name in ("accuracy", "f1", "macro_f1", "matthews", "pearson", "spearman")
    }
)


def find_metric(name: str) -> Metric:
    """Return a metric by its name or import path.

    Raises UsageError where there is none, or where a plug-in is not a `Metric` or takes the name
    of one of ours.
    """
    found = load("streamlab.metrics", name, METRICS)
    if not isinstance(found, Metric):
        raise UsageError(
            f"The metric {name!r} is {type(found).__name__}, and must be a `{__name__}.Metric`. "
            "Correct the plug-in."
        )
    if found.name in METRICS and name not in METRICS:
        raise UsageError(
            f"The metric {name!r} calls itself {found.name!r}, as one of streamlab's does. Give it "
            "another name."
        )
    return found


def suited_names(kind: TaskKind) -> list[str]:
    """List the built-in metrics for a kind of task."""
    return [name for name in METRICS if kind in find_metric(name).kinds]


def score(
    task_type: TaskType,
    metrics: Sequence[Metric],
    logits: NDArray[np.floating[Any]],
    labels: _Vector,
) -> dict[str, float]:
    """Compare predictions with labels by every metric; returns scores by the metrics' names.

    `logits`: (n_examples, n_outputs). `labels`: (n_examples,), class indices or numbers. Raises
    DataError where there is no example, the shapes do not fit or a metric fails, TrainingError
    where a logit is NaN or infinite.

    >>> from streamlab.tasks.types import task_type
    >>> logits, labels = np.array([[2.0, 1.0], [0.0, 3.0]]), np.array([0, 0])
    >>> score(task_type("classification"), [ACCURACY, F1], logits, labels)
    {'accuracy': 0.5, 'f1': 0.0}
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not labels.size:
        raise DataError(
            f"Scoring needs logits of shape (n_examples, n_outputs) and as many labels, got the "
            f"shapes {logits.shape} and {labels.shape}; give at least one example."
        )
    if not np.isfinite(logits).all():
        raise TrainingError(
            "The model's outputs hold NaN or infinity, so they cannot be scored. "
            "Lower the learning rate, or train in float32."
        )
    predictions = task_type.decode(logits)
    return {metric.name: metric(labels, predictions, logits.shape[1]) for metric in metrics}


def majority_scores(
    metrics: Sequence[Metric], answer: float, labels: _Vector, *, n_outputs: int
) -> dict[str, float | None]:
    """Score the same answer to every example by every metric; returns scores by their names.

    `answer`: of `TaskType.majority_answer`. `labels`: (n_examples,). A correlation is 0; the score
    is None by a metric that fails on answers that are all the same.

    >>> majority_scores([ACCURACY, MATTHEWS], 1, np.array([1, 1, 0, 1]), n_outputs=2)
    {'accuracy': 0.75, 'matthews': 0.0}
    """
    answers = np.full_like(labels, answer)
    scores: dict[str, float | None] = {}
    for metric in metrics:
        try:
            scores[metric.name] = metric(labels, answers, n_outputs)
        except DataError:
            scores[metric.name] = None
    return scores


def _accuracy(labels: _Vector, predictions: _Vector, _n_outputs: int) -> float:
    return float((labels == predictions).mean())


def _f1(labels: _Vector, predictions: _Vector, n_outputs: int) -> float:
    """Return the F1 of class 1 of two, or the unweighted mean over the classes that occur.

    A class that neither occurs nor is predicted has an F1 of 0.
    """
    from sklearn.metrics import f1_score

    average = "binary" if n_outputs == 2 else "macro"
    return float(f1_score(labels, predictions, average=average, zero_division=0))


def _macro_f1(labels: _Vector, predictions: _Vector, _n_outputs: int) -> float:
    """Return the unweighted mean over the classes that occur or are predicted."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predictions, average="macro", zero_division=0))


def _matthews(labels: _Vector, predictions: _Vector, _n_outputs: int) -> float:
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels, predictions))


def _pearson(labels: _Vector, predictions: _Vector, _n_outputs: int) -> float:
    from scipy.stats import pearsonr

    return float(pearsonr(labels.astype(np.float64), predictions).statistic)


def _spearman(labels: _Vector, predictions: _Vector, _n_outputs: int) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(labels, predictions).statistic)


def _constant(values: _Vector) -> bool:
    # Wide of float64's rounding and far below float32's, in which models predict.
    spread = float(np.ptp(values))
    return spread <= 1e-12 * float(np.abs(values).max())


_CLASSES: Final = frozenset[TaskKind]({"classification"})
_NUMBERS: Final = frozenset[TaskKind]({"regression"})

ACCURACY: Final = Metric("accuracy", _CLASSES, _accuracy)
F1: Final = Metric("f1", _CLASSES, _f1)
MACRO_F1: Final = Metric("macro_f1", _CLASSES, _macro_f1)
MATTHEWS: Final = Metric("matthews", _CLASSES, _matthews, (-1.0, 1.0), is_correlation=True)
PEARSON: Final = Metric("pearson", _NUMBERS, _pearson, (-1.0, 1.0), is_correlation=True)
SPEARMAN: Final = Metric("spearman", _NUMBERS, _spearman, (-1.0, 1.0), is_correlation=True)
