"""Multi-label classification: any number of classes for a text or a pair of texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamlab.tasks.labels import ClassReader, FlagsReader, LabelReader
from streamlab.tasks.types.contract import AnswerColumn, Outputs, Prediction, TaskType
from streamlab.tasks.types.example import Example

if TYPE_CHECKING:
    from torch import Tensor


class MultiLabel(TaskType):
    """Classes that apply or not, each by itself; one applies where its probability is above 0.5.

    Rounded outputs agree by the share of equal answers over all examples and classes.
    """

    kind = "multi_label"
    title = "a multi-label task"
    problem_type = "multi_label_classification"
    label_columns = ("labels", "label")
    flags_in_columns = True
    has_classes = True
    least_agreement = 0.995

    def default_metrics(self, _labels: Sequence[str]) -> tuple[str, ...]:
        """Return both F1 and the share of examples with every class right."""
        return "micro_f1", "macro_f1", "subset_accuracy"

    def label_reader(
        self, labels: tuple[str, ...], named: tuple[str, ...] | None, origin: str
    ) -> LabelReader:
        """Return a reader of lists of class names and indices, which may be empty."""
        return FlagsReader(ClassReader(labels, named, origin))

    def wrong_labels(
        self, _train: Sequence[Any], _n_labels: int, _draw: np.random.Generator
    ) -> Callable[[Any], Any]:
        """Return the classes that do not apply."""
        return lambda label: tuple(1 - flag for flag in label)

    def collate(self, labels: Sequence[Any]) -> NDArray[Any]:
        """Return 1 where a class applies and 0 elsewhere, (n_examples, n_labels)."""
        return np.array(labels, np.float32)

    def loss(
        self, logits: Tensor, labels: Tensor, *, class_weights: tuple[float, ...] | None = None
    ) -> Tensor:
        """Return the mean binary cross-entropy over examples and classes."""
        assert class_weights is None  # noqa: S101 - the settings of a task refuse them
        from torch.nn import functional

        return functional.binary_cross_entropy_with_logits(logits, labels)

    def fits(self, outputs: Outputs, labels: NDArray[Any]) -> bool:
        """Return whether there is an output for every label."""
        return outputs.ndim == 2 and labels.shape == outputs.shape

    def decode(self, outputs: Outputs) -> NDArray[Any]:
        """Return 1 where the probability is above 0.5, (n_examples, n_labels)."""
        return (outputs > 0).astype(np.int64)

    def majority_answer(self, labels: Sequence[Any]) -> NDArray[np.int64]:
        """Return the classes that apply to more than half of the examples."""
        found: NDArray[np.int64] = (self.collate(labels).mean(axis=0) > 0.5).astype(np.int64)
        return found

    def predictions(
        self, outputs: Outputs, labels: Sequence[str], _asked: Sequence[Example]
    ) -> list[Prediction]:
        """Return the classes of each example above 0.5, and the probability of every class."""
        shares = 1 / (1 + np.exp(-outputs))
        return [
            Prediction(
                labels=tuple(name for name, on in zip(labels, row, strict=True) if on),
                probabilities=dict(zip(labels, share.tolist(), strict=True)),
            )
            for row, share in zip(self.decode(outputs), shares, strict=True)
        ]

    def answer_columns(self, labels: Sequence[str]) -> tuple[AnswerColumn, ...]:
        """Return the classes that apply, and, not shown by default, each one's probability."""
        shares = (AnswerColumn(f"p({label})", "score", shown=False) for label in labels)
        return AnswerColumn("labels", "text"), *shares

    def answer_row(self, prediction: Prediction) -> tuple[Any, ...]:
        """Return the classes that apply, separated by commas, and every class's probability."""
        return ", ".join(prediction.labels), *prediction.probabilities.values()

    def agreement(self, outputs: Outputs, expected: Outputs) -> float:
        """Return the share of equal answers over examples and classes."""
        return float((self.decode(outputs) == self.decode(expected)).mean())
