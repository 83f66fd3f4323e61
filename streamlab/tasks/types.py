"""Task types: everything that differs between sequence classification and regression."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray

from streamlab.tasks.labels import ClassReader, LabelReader, NumberReader

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig

TaskKind = Literal["classification", "regression"]
Outputs = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Prediction:
    """One answer: a label with its probability, or the value of a regression."""

    label: str | None
    probability: float | None  # of `label`
    value: float | None  # of a regression
    probabilities: Mapping[str, float]  # of every label, in the task's order


class TaskType(ABC):
    """One type of task. `labels` are the class names in order, empty where there are none."""

    kind: ClassVar[TaskKind]  # in scenarios, records and diff files
    model_class: ClassVar[str] = "AutoModelForSequenceClassification"  # has the head
    problem_type: ClassVar[
        Literal["regression", "single_label_classification"]
    ]  # in the model's configuration
    label_dtype: ClassVar[type[np.generic]]
    has_classes: ClassVar[bool]
    default_metrics: ClassVar[tuple[str, ...]]
    least_agreement: ClassVar[float]  # of rounded outputs with the exact ones

    def check_labels(self, labels: Sequence[str]) -> None:
        """Raise ValueError where a task of this type cannot have these class names."""
        if self.has_classes and len(labels) < 2:
            raise ValueError(f"a {self.kind} has two `labels` or more")
        if labels and not self.has_classes:
            raise ValueError(f"a {self.kind} has no `labels`")

    def n_outputs(self, labels: Sequence[str]) -> int:
        """Return the width of the head."""
        return len(labels) or 1

    def prepare_head(  # noqa: B027 - most types have nothing of the kind
        self, head: Iterable[Tensor], labels: Sequence[str]
    ) -> None:
        """Write what training never changes into the tensors of a new head, in place."""

    @abstractmethod
    def label_reader(
        self, labels: tuple[str, ...], named: tuple[str, ...] | None, origin: str
    ) -> LabelReader:
        """Return a reader of raw labels; `named` are a source's own class names."""

    def collate(self, labels: Sequence[int | float]) -> NDArray[Any]:
        """Return labels as an array that the loss and the metrics take, (n_examples,)."""
        return np.array(labels, self.label_dtype)

    @abstractmethod
    def loss(
        self, logits: Tensor, labels: Tensor, *, class_weights: tuple[float, ...] | None = None
    ) -> Tensor:
        """Return the mean loss of a batch; `logits`: float32, (n_examples, n_outputs).

        `class_weights`: one for each class, by which the loss of its examples is multiplied.
        """

    @abstractmethod
    def decode(self, logits: Outputs) -> NDArray[Any]:
        """Return the class index or the number that is predicted for each example."""

    @abstractmethod
    def majority_answer(self, labels: Sequence[int | float]) -> int | float:
        """Return the best answer to every example for one who has seen only these labels."""

    @abstractmethod
    def predictions(self, logits: Outputs, labels: Sequence[str]) -> list[Prediction]:
        """Return the answer to each example, with probabilities where there are classes."""

    @abstractmethod
    def agreement(self, logits: Outputs, expected: Outputs) -> float:
        """Return how well two models' outputs on the same examples agree; 1 at best."""

    def configure(self, config: PretrainedConfig, labels: Sequence[str]) -> None:
        """Write the meaning of the outputs into a model's configuration."""
        config.num_labels = self.n_outputs(labels)
        if labels:
            config.id2label = dict(enumerate(labels))
            config.label2id = {label: place for place, label in enumerate(labels)}
        config.problem_type = self.problem_type


class Classification(TaskType):
    """One of several classes; rounded outputs agree by the share of equal classes.

    Of two classes, the first is the reference: its output is 0 and has no gradient, since only the
    difference of two outputs matters. A file then stores one row of weights for the second class.
    """

    kind = "classification"
    problem_type = "single_label_classification"
    label_dtype = np.int64
    has_classes = True
    default_metrics = ("accuracy",)
    least_agreement = 0.995

    def label_reader(
        self, labels: tuple[str, ...], named: tuple[str, ...] | None, origin: str
    ) -> LabelReader:
        """Return a reader of class names and indices."""
        return ClassReader(labels, named, origin)

    def prepare_head(self, head: Iterable[Tensor], labels: Sequence[str]) -> None:
        """Set the weights and the bias of the first of two classes to zero."""
        if len(labels) == 2:
            for tensor in head:
                if len(tensor) == 2:  # of the last layer
                    tensor.data[0] = 0.0

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

    def decode(self, logits: Outputs) -> NDArray[Any]:
        """Return the index of the largest output."""
        return np.asarray(logits.argmax(axis=1))

    def majority_answer(self, labels: Sequence[int | float]) -> int:
        """Return the most frequent class, of several the first."""
        return int(np.bincount(self.collate(labels)).argmax())

    def predictions(self, logits: Outputs, labels: Sequence[str]) -> list[Prediction]:
        """Return the most probable class of each example, by the softmax of the outputs."""
        grown = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares = grown / grown.sum(axis=1, keepdims=True)
        every = (dict(zip(labels, row.tolist(), strict=True)) for row in shares)
        best = ((max(found, key=found.__getitem__), found) for found in every)
        return [Prediction(label, found[label], None, found) for label, found in best]

    def agreement(self, logits: Outputs, expected: Outputs) -> float:
        """Return the share of examples with the same class."""
        return float((self.decode(logits) == self.decode(expected)).mean())


class Regression(TaskType):
    """A number; rounded outputs agree by Spearman's rank correlation."""

    kind = "regression"
    problem_type = "regression"
    label_dtype = np.float32
    has_classes = False
    default_metrics = ("pearson",)
    least_agreement = 0.999

    def label_reader(
        self, _labels: tuple[str, ...], _named: tuple[str, ...] | None, _origin: str
    ) -> LabelReader:
        """Return a reader of finite numbers."""
        return NumberReader()

    def loss(
        self, logits: Tensor, labels: Tensor, *, class_weights: tuple[float, ...] | None = None
    ) -> Tensor:
        """Return the mean squared error; there are no classes to weigh."""
        assert class_weights is None  # noqa: S101 - the settings of a task refuse them
        from torch.nn import functional

        return functional.mse_loss(logits.squeeze(-1), labels)

    def decode(self, logits: Outputs) -> NDArray[Any]:
        """Return the single output in float64."""
        return logits[:, 0].astype(np.float64)

    def majority_answer(self, labels: Sequence[int | float]) -> float:
        """Return the mean."""
        return float(np.mean(labels))

    def predictions(self, logits: Outputs, _labels: Sequence[str]) -> list[Prediction]:
        """Return the number for each example."""
        return [Prediction(None, None, float(value), {}) for value in logits[:, 0]]

    def agreement(self, logits: Outputs, expected: Outputs) -> float:
        """Return the rank correlation; 0 where one side is constant, so has no ranks."""
        from scipy.stats import spearmanr

        if np.array_equal(logits, expected):
            return 1.0
        if min(np.ptp(logits), np.ptp(expected)) == 0:
            return 0.0
        return float(spearmanr(logits[:, 0], expected[:, 0]).statistic)


TASK_TYPES: Final[Mapping[TaskKind, TaskType]] = MappingProxyType(
    {"classification": Classification(), "regression": Regression()}
)


def task_type(kind: TaskKind) -> TaskType:
    """Return a task type by the name it has in scenarios, records and diff files."""
    return TASK_TYPES[kind]
