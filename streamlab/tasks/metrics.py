"""Metrics: those of GLUE, through scikit-learn and scipy, and those of plug-ins."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamlab.errors import DataError, TrainingError, UsageError
from streamlab.plugins import load
from streamlab.tasks.types.contract import Outputs, TaskKind, TaskType
from streamlab.tasks.types.tokenising import IGNORED

_Vector = NDArray[Any]
_Tags = list[list[str]]  # by example
_MOST_LOSS: Final = 34.0  # whose exponential is still a number that records hold


@dataclass(frozen=True)
class Metric:
    """A score of predictions; a higher one is better, or a lower one where it says so.

    `compute(labels, predictions, n_outputs)` takes class indices or numbers, (n_examples,), and
    the number of classes (1 for a number); it returns a number in `bounds`. Of multi-label tasks
    it takes flags, (n_examples, n_labels); of token classifications the names of the tags, a list
    for every example; of language modelling the token ids, (n_examples, n_tokens), -100 where
    there are no more, and the log probability and the margin of each, (n_examples, n_tokens, 2).
    """

    name: str  # in records and listings
    kinds: frozenset[TaskKind]  # of the tasks that it can judge
    compute: Callable[[Any, Any, int], float]
    bounds: tuple[float, float] = (0.0, 1.0)
    is_correlation: bool = False  # undefined, and taken as 0, where either side is constant
    lower_is_better: bool = False  # such a metric cannot be a task's first

    def __call__(self, labels: Any, predictions: Any, n_outputs: int) -> float:
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
        for name in (
            "accuracy",
            "f1",
            "macro_f1",
            "matthews",
            "pearson",
            "spearman",
            "micro_f1",
            "subset_accuracy",
            "entity_f1",
            "token_accuracy",
            "exact_match",
            "perplexity",
        )
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
    outputs: Outputs,
    labels: _Vector,
    *,
    names: Sequence[str] = (),
) -> dict[str, float]:
    """Compare predictions with labels by every metric; returns scores by the metrics' names.

    `outputs`: (n_examples, n_outputs). `labels`: (n_examples,), class indices or numbers; see
    `TaskType` for what else there is. `names`: of the classes. Raises DataError where there is no
    example, the shapes do not fit or a metric fails, TrainingError where an output is NaN or
    infinite.

    >>> from streamlab.tasks.types import task_type
    >>> logits, labels = np.array([[2.0, 1.0], [0.0, 3.0]]), np.array([0, 0])
    >>> score(task_type("classification"), [ACCURACY, F1], logits, labels)
    {'accuracy': 0.5, 'f1': 0.0}
    """
    if not labels.size or not task_type.fits(outputs, labels):
        raise DataError(
            f"Scoring needs outputs of shape (n_examples, n_outputs) and as many labels, got the "
            f"shapes {outputs.shape} and {labels.shape}; give at least one example."
        )
    if not np.isfinite(outputs).all():
        raise TrainingError(
            "The model's outputs hold NaN or infinity, so they cannot be scored. "
            "Lower the learning rate, or train in float32."
        )
    right, found = (
        task_type.named(answers, labels, names) for answers in (labels, task_type.decode(outputs))
    )
    return {metric.name: metric(right, found, outputs.shape[-1]) for metric in metrics}


def majority_scores(
    task_type: TaskType,
    metrics: Sequence[Metric],
    answer: Any,
    labels: _Vector,
    *,
    names: Sequence[str] = (),
) -> dict[str, float | None]:
    """Score the same answer to every example by every metric; returns scores by their names.

    `answer`: of `TaskType.majority_answer`. `labels`, `names`: as for `score`. A correlation is 0;
    the score is None without an answer, and by a metric that fails on answers that are all the
    same.

    >>> from streamlab.tasks.types import task_type
    >>> labels = np.array([1, 1, 0, 1])
    >>> majority_scores(task_type("classification"), [ACCURACY, F1], 1, labels, names=("a", "b"))
    {'accuracy': 0.75, 'f1': 0.8571428571428571}
    """
    if answer is None:
        return {metric.name: None for metric in metrics}
    right, answers = (
        task_type.named(one, labels, names) for one in (labels, task_type.constant(answer, labels))
    )
    n_outputs = task_type.n_outputs(names)
    scores: dict[str, float | None] = {}
    for metric in metrics:
        try:
            scores[metric.name] = metric(right, answers, n_outputs)
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
    """Return the unweighted mean over the classes that occur or are predicted.

    Of multi-label tasks: over all classes; one that neither occurs nor is predicted has 0.
    """
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predictions, average="macro", zero_division=0))


def _micro_f1(labels: _Vector, predictions: _Vector, _n_outputs: int) -> float:
    """Return the F1 of all pairs of an example and a class together."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predictions, average="micro", zero_division=0))


def _subset_accuracy(labels: _Vector, predictions: _Vector, _n_outputs: int) -> float:
    """Return the share of examples for which every class is right."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, predictions))


def _entity_f1(labels: _Tags, predictions: _Tags, _n_outputs: int) -> float:
    """Return the F1 of entities: both ends and the type must be right, as in CoNLL's score."""
    from nervaluate import Evaluator

    kinds = sorted({tag[2:] for row in (*labels, *predictions) for tag in row if tag != "O"})
    if not kinds:
        return 0.0
    found = Evaluator(labels, predictions, tags=kinds, loader="list").evaluate()
    return float(found["overall"]["strict"].f1)


def _token_accuracy(labels: Any, predictions: Any, _n_outputs: int) -> float:
    """Return the share of words with the right tag, or of tokens that greedy decoding gives."""
    if isinstance(labels, list):
        pairs = [
            one == other
            for row, answers in zip(labels, predictions, strict=True)
            for one, other in zip(row, answers, strict=True)
        ]
        return float(np.mean(pairs)) if pairs else 0.0
    return float((predictions[labels != IGNORED][:, 1] > 0).mean())


def _exact_match(labels: _Vector, predictions: _Vector, _n_outputs: int) -> float:
    """Return the share of completions that greedy decoding gives, token by token, to their end.

    It does where it chooses every token after the right ones before it.
    """
    return float(((predictions[..., 1] > 0) | (labels == IGNORED)).all(axis=1).mean())


def _perplexity(labels: _Vector, predictions: _Vector, _n_outputs: int) -> float:
    """Return the exponential of the mean negative log probability of a completion's tokens."""
    mean = -float(predictions[labels != IGNORED][:, 0].mean(dtype=np.float64))
    return math.exp(min(mean, _MOST_LOSS))


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
_SETS: Final = frozenset[TaskKind]({"multi_label"})
_TAGS: Final = frozenset[TaskKind]({"tokens"})
_TEXTS: Final = frozenset[TaskKind]({"causal_lm"})

ACCURACY: Final = Metric("accuracy", _CLASSES, _accuracy)
F1: Final = Metric("f1", _CLASSES, _f1)
MACRO_F1: Final = Metric("macro_f1", _CLASSES | _SETS, _macro_f1)
MICRO_F1: Final = Metric("micro_f1", _SETS, _micro_f1)
SUBSET_ACCURACY: Final = Metric("subset_accuracy", _SETS, _subset_accuracy)
ENTITY_F1: Final = Metric("entity_f1", _TAGS, _entity_f1)
TOKEN_ACCURACY: Final = Metric("token_accuracy", _TAGS | _TEXTS, _token_accuracy)
EXACT_MATCH: Final = Metric("exact_match", _TEXTS, _exact_match)
PERPLEXITY: Final = Metric("perplexity", _TEXTS, _perplexity, (1.0, math.inf), lower_is_better=True)
MATTHEWS: Final = Metric("matthews", _CLASSES, _matthews, (-1.0, 1.0), is_correlation=True)
PEARSON: Final = Metric("pearson", _NUMBERS, _pearson, (-1.0, 1.0), is_correlation=True)
SPEARMAN: Final = Metric("spearman", _NUMBERS, _spearman, (-1.0, 1.0), is_correlation=True)
