"""Sequence classification: one of several classes for a text or a pair of texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamlab.tasks.labels import ClassReader, LabelReader
from streamlab.tasks.types.contract import AnswerColumn, Outputs, Prediction, TaskType
from streamlab.tasks.types.example import Example

if TYPE_CHECKING:
    from torch import Tensor


class Classification(TaskType):
    """One of several classes; rounded outputs agree by the share of equal classes.

    Of two classes, the first is the reference: its output is 0 and has no gradient, since only the
    difference of two outputs matters. A file then stores one row of weights for the second class.
    """

    kind = "classification"
    title = "a classification"
    problem_type = "single_label_classification"
    has_classes = True
    takes_class_weights = True
    has_confusion = True
    least_agreement = 0.995

    def default_metrics(self, _labels: Sequence[str]) -> tuple[str, ...]:
        """Return the accuracy."""
        return ("accuracy",)

    def label_reader(
        self, labels: tuple[str, ...], named: tuple[str, ...] | None, origin: str
    ) -> LabelReader:
        """Return a reader of class names and indices."""
        return ClassReader(labels, named, origin)

    def wrong_labels(
        self, _train: Sequence[Any], n_labels: int, draw: np.random.Generator
    ) -> Callable[[Any], Any]:
        """Draw one of the other classes."""
        return lambda label: (int(label) + int(draw.integers(1, n_labels))) % n_labels

    def prepare_head(self, head: Iterable[Tensor], labels: Sequence[str]) -> None:
        """Set the weights and the bias of the first of two classes to zero."""
        if len(labels) == 2:
            for tensor in head:
                if len(tensor) == 2:  # of the last layer
                    tensor.data[0] = 0.0

    def collate(self, labels: Sequence[int]) -> NDArray[Any]:
        """Return class indices, (n_examples,)."""
        return np.array(labels, np.int64)

    def loss(
        self, logits: Tensor, labels: Tensor, *, class_weights: tuple[float, ...] | None = None
    ) -> Tensor:
        """Return the cross-entropy; the first of two outputs counts as a constant."""
        import torch
        from torch.nn import functional

        if logits.shape[1] == 2:
            logits = torch.stack([logits[:, 0].detach(), logits[:, 1]], dim=1)
        if class_weights is None:
            return functional.cross_entropy(logits, labels)
        weights = torch.tensor(class_weights, dtype=logits.dtype, device=logits.device)
        # Not PyTorch's `weight`, which divides by the batch's own weights: a batch of one class
        # would count in full, whatever its weight.
        losses = functional.cross_entropy(logits, labels, reduction="none")
        return (weights[labels] * losses).mean()

    def decode(self, outputs: Outputs) -> NDArray[Any]:
        """Return the index of the largest output."""
        return np.asarray(outputs.argmax(axis=1))

    def majority_answer(self, labels: Sequence[int]) -> int:
        """Return the most frequent class, of several the first."""
        return int(np.bincount(self.collate(labels)).argmax())

    def predictions(
        self, outputs: Outputs, labels: Sequence[str], _asked: Sequence[Example]
    ) -> list[Prediction]:
        """Return the most probable class of each example, by the softmax of the outputs."""
        grown = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        shares = grown / grown.sum(axis=1, keepdims=True)
        every = (dict(zip(labels, row.tolist(), strict=True)) for row in shares)
        best = ((max(found, key=found.__getitem__), found) for found in every)
        return [Prediction(label, found[label], probabilities=found) for label, found in best]

    def answer_columns(self, labels: Sequence[str]) -> tuple[AnswerColumn, ...]:
        """Return class and probability, and, not shown by default, that of every class."""
        shares = (AnswerColumn(f"p({label})", "score", shown=False) for label in labels)
        return AnswerColumn("label", "text"), AnswerColumn("probability", "score"), *shares

    def answer_row(self, prediction: Prediction) -> tuple[Any, ...]:
        """Return class, probability, and every class's."""
        return prediction.label, prediction.probability, *prediction.probabilities.values()

    def agreement(self, outputs: Outputs, expected: Outputs) -> float:
        """Return the share of examples with the same class."""
        return float((self.decode(outputs) == self.decode(expected)).mean())
