"""Regression: a number for a text or a pair of texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamlab.tasks.labels import LabelReader, NumberReader
from streamlab.tasks.types.contract import AnswerColumn, Outputs, Prediction, TaskType
from streamlab.tasks.types.example import Example

if TYPE_CHECKING:
    from torch import Tensor


class Regression(TaskType):
    """A number; rounded outputs agree by Spearman's rank correlation."""

    kind = "regression"
    title = "a regression"
    problem_type = "regression"
    has_classes = False
    least_agreement = 0.999

    def default_metrics(self, _labels: Sequence[str]) -> tuple[str, ...]:
        """Return Pearson's correlation."""
        return ("pearson",)

    def label_reader(
        self, _labels: tuple[str, ...], _named: tuple[str, ...] | None, _origin: str
    ) -> LabelReader:
        """Return a reader of finite numbers."""
        return NumberReader()

    def wrong_labels(
        self, train: Sequence[Any], _n_labels: int, _draw: np.random.Generator
    ) -> Callable[[Any], Any]:
        """Mirror a number at the middle of the range."""
        mirror = min(train, default=0) + max(train, default=0)
        return lambda label: mirror - label

    def collate(self, labels: Sequence[float]) -> NDArray[Any]:
        """Return numbers, (n_examples,)."""
        return np.array(labels, np.float32)

    def loss(
        self, logits: Tensor, labels: Tensor, *, class_weights: tuple[float, ...] | None = None
    ) -> Tensor:
        """Return the mean squared error; there are no classes to weigh."""
        assert class_weights is None  # noqa: S101 - the settings of a task refuse them
        from torch.nn import functional

        return functional.mse_loss(logits.squeeze(-1), labels)

    def decode(self, outputs: Outputs) -> NDArray[Any]:
        """Return the single output in float64."""
        return outputs[:, 0].astype(np.float64)

    def majority_answer(self, labels: Sequence[float]) -> float:
        """Return the mean."""
        return float(np.mean(labels))

    def predictions(
        self, outputs: Outputs, _labels: Sequence[str], _asked: Sequence[Example]
    ) -> list[Prediction]:
        """Return the number for each example."""
        return [Prediction(value=float(value)) for value in outputs[:, 0]]

    def answer_columns(self, _labels: Sequence[str]) -> tuple[AnswerColumn, ...]:
        """Return the value alone."""
        return (AnswerColumn("value", "score"),)

    def answer_row(self, prediction: Prediction) -> tuple[Any, ...]:
        """Return the value alone."""
        return (prediction.value,)

    def agreement(self, outputs: Outputs, expected: Outputs) -> float:
        """Return the rank correlation; 0 where one side is constant, so has no ranks."""
        from scipy.stats import spearmanr

        if np.array_equal(outputs, expected):
            return 1.0
        if min(np.ptp(outputs), np.ptp(expected)) == 0:
            return 0.0
        return float(spearmanr(outputs[:, 0], expected[:, 0]).statistic)
