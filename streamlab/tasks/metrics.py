"""GLUE's own metrics, through scikit-learn and scipy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from streamlab.errors import DataError, TrainingError

TaskKind = Literal["classification", "regression"]
Metric = Literal["accuracy", "f1", "matthews", "pearson", "spearman"]

METRICS_OF_KIND: Final[Mapping[TaskKind, tuple[Metric, ...]]] = MappingProxyType(
    {
        "classification": ("accuracy", "f1", "matthews"),
        "regression": ("pearson", "spearman"),
    }
)

_Vector = NDArray[Any]


def score(
    metrics: Sequence[Metric], logits: NDArray[np.floating[Any]], labels: _Vector
) -> dict[Metric, float]:
    """Compare predictions with labels by every metric asked for, each in [-1, 1].

    `logits`: (n_rows, n_outputs); the largest is the predicted class, and a single output is the
    predicted number. `labels`: (n_rows,), class indices or numbers. F1 is that of class 1 where
    there are two classes, and the unweighted mean over the classes that occur (macro) where
    there are more. A correlation that is undefined, because the predictions or the labels are
    all the same, is 0, and so is an F1 of a class that neither occurs nor is predicted.

    Raises DataError where there is no row or the shapes do not fit, TrainingError where a logit
    is NaN or infinite.

    >>> score(["accuracy", "f1"], np.array([[2.0, 1.0], [0.0, 3.0]]), np.array([0, 0]))
    {'accuracy': 0.5, 'f1': 0.0}
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not labels.size:
        raise DataError(
            f"Scoring needs logits of shape (n_rows, n_outputs) and as many labels, got the shapes "
            f"{logits.shape} and {labels.shape}; give at least one row."
        )
    if not np.isfinite(logits).all():
        raise TrainingError(
            "The model's outputs hold NaN or infinity, so they cannot be scored. "
            "Lower the learning rate, or train in float32."
        )
    single = logits.shape[1] == 1
    predictions = logits[:, 0].astype(np.float64) if single else logits.argmax(axis=1)
    return {metric: _SCORERS[metric](labels, predictions, logits.shape[1]) for metric in metrics}


def _accuracy(labels: _Vector, predictions: _Vector, _n_outputs: int) -> float:
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, predictions))


def _f1(labels: _Vector, predictions: _Vector, n_outputs: int) -> float:
    from sklearn.metrics import f1_score

    average = "binary" if n_outputs == 2 else "macro"
    return float(f1_score(labels, predictions, average=average, zero_division=0))


def _matthews(labels: _Vector, predictions: _Vector, _n_outputs: int) -> float:
    from sklearn.metrics import matthews_corrcoef

    if _constant(labels) or _constant(predictions):
        return 0.0
    return float(matthews_corrcoef(labels, predictions))


def _pearson(labels: _Vector, predictions: _Vector, _n_outputs: int) -> float:
    from scipy.stats import pearsonr

    if _constant(labels) or _constant(predictions):
        return 0.0
    return float(pearsonr(labels.astype(np.float64), predictions).statistic)


def _spearman(labels: _Vector, predictions: _Vector, _n_outputs: int) -> float:
    from scipy.stats import spearmanr

    if _constant(labels) or _constant(predictions):
        return 0.0
    return float(spearmanr(labels, predictions).statistic)


def _constant(values: _Vector) -> bool:
    # Wide of float64's rounding and far below float32's, in which models predict.
    spread = float(np.ptp(values))
    return spread <= 1e-12 * float(np.abs(values).max())


_SCORERS: Final[Mapping[Metric, Callable[[_Vector, _Vector, int], float]]] = MappingProxyType(
    {
        "accuracy": _accuracy,
        "f1": _f1,
        "matthews": _matthews,
        "pearson": _pearson,
        "spearman": _spearman,
    }
)
