"""Task types: everything that differs between sequence classification and regression."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray

from streamlab.tasks.labels import ClassReader, LabelReader, NumberReader, infer_labels

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
    model_class: ClassVar[str]  # the class of `transformers` that has the head
    label_dtype: ClassVar[type[np.generic]]
    default_metrics: ClassVar[tuple[str, ...]]
    least_agreement: ClassVar[float]  # of rounded outputs with the exact ones
    has_classes: ClassVar[bool]

    @abstractmethod
    def n_outputs(self, labels: Sequence[str]) -> int:
        """Return the width of the head."""

    @abstractmethod
    def check_labels(self, labels: Sequence[str]) -> None:
        """Raise ValueError where a task of this type cannot have these class names."""

    def find_labels(self, _values: Iterable[Any]) -> tuple[str, ...]:
        """Return the class names among raw labels; raises ValueError for one that names none."""
        return ()

    @abstractmethod
    def label_reader(
        self, labels: tuple[str, ...], named: tuple[str, ...] | None, origin: str
    ) -> LabelReader:
        """Return what turns raw labels into labels; `named` are a source's own class names."""

    def collate(self, labels: Sequence[int | float]) -> NDArray[Any]:
        """Return labels as an array that the loss and the metrics take, (n_examples,)."""
        return np.array(labels, self.label_dtype)

    @abstractmethod
    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of a batch; `logits`: float32, (n_examples, n_outputs)."""

    @abstractmethod
    def decode(self, logits: Outputs) -> NDArray[Any]:
        """Return the class index or the number that is predicted for each example."""

    @abstractmethod
    def predictions(self, logits: Outputs, labels: Sequence[str]) -> list[Prediction]:
        """Return the answer to each example, with probabilities where there are classes."""

    @abstractmethod
    def agreement(self, logits: Outputs, expected: Outputs) -> float:
        """Return how well two models' outputs on the same examples agree; 1 at best."""

    @abstractmethod
    def wrong_label(
        self, label: float, n_outputs: int, mirror: float, rng: np.random.Generator
    ) -> float:
        """Return a wrong label: another class, or the number's mirror image, `mirror - label`."""

    @abstractmethod
    def configure(self, config: PretrainedConfig, labels: Sequence[str]) -> None:
        """Write into a model's configuration what its outputs mean."""


class Classification(TaskType):
    """One of several classes for a text or a pair of texts."""

    kind = "classification"
    model_class = "AutoModelForSequenceClassification"
    label_dtype = np.int64
    default_metrics = ("accuracy",)
    least_agreement = 0.995  # share of equal classes
    has_classes = True

    def n_outputs(self, labels: Sequence[str]) -> int:
        """Return the number of classes."""
        return len(labels)

    def check_labels(self, labels: Sequence[str]) -> None:
        """Raise ValueError for fewer than two classes."""
        if len(labels) < 2:
            raise ValueError("a classification has two `labels` or more")

    def find_labels(self, values: Iterable[Any]) -> tuple[str, ...]:
        """Return the class names: numbers in their order, or names sorted."""
        return infer_labels(values)

    def label_reader(
        self, labels: tuple[str, ...], named: tuple[str, ...] | None, origin: str
    ) -> LabelReader:
        """Return a reader of class names and class indices."""
        return ClassReader(labels, named, origin)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy."""
        from torch.nn import functional

        return functional.cross_entropy(logits, labels)

    def decode(self, logits: Outputs) -> NDArray[Any]:
        """Return the index of the largest output."""
        classes: NDArray[np.int64] = logits.argmax(axis=1)
        return classes

    def predictions(self, logits: Outputs, labels: Sequence[str]) -> list[Prediction]:
        """Return the most probable class of each example, by the softmax of the outputs."""
        grown = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares = grown / grown.sum(axis=1, keepdims=True)
        return [_most_probable(row.tolist(), labels) for row in shares]

    def agreement(self, logits: Outputs, expected: Outputs) -> float:
        """Return the share of examples with the same class."""
        return float((self.decode(logits) == self.decode(expected)).mean())

    def wrong_label(
        self, label: float, n_outputs: int, _mirror: float, rng: np.random.Generator
    ) -> int:
        """Return one of the other classes, drawn uniformly."""
        return (int(label) + int(rng.integers(1, n_outputs))) % n_outputs

    def configure(self, config: PretrainedConfig, labels: Sequence[str]) -> None:
        """Name the classes."""
        config.num_labels = len(labels)
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: place for place, label in enumerate(labels)}
        config.problem_type = "single_label_classification"


class Regression(TaskType):
    """A number for a text or a pair of texts."""

    kind = "regression"
    model_class = "AutoModelForSequenceClassification"
    label_dtype = np.float32
    default_metrics = ("pearson",)
    least_agreement = 0.999  # Spearman's rank correlation
    has_classes = False

    def n_outputs(self, _labels: Sequence[str]) -> int:
        """Return 1."""
        return 1

    def check_labels(self, labels: Sequence[str]) -> None:
        """Raise ValueError for any class names."""
        if labels:
            raise ValueError("a regression has no `labels`")

    def label_reader(
        self, _labels: tuple[str, ...], _named: tuple[str, ...] | None, _origin: str
    ) -> LabelReader:
        """Return a reader of finite numbers."""
        return NumberReader()

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean squared error."""
        from torch.nn import functional

        return functional.mse_loss(logits.squeeze(-1), labels)

    def decode(self, logits: Outputs) -> NDArray[Any]:
        """Return the single output in float64."""
        return logits[:, 0].astype(np.float64)

    def predictions(self, logits: Outputs, _labels: Sequence[str]) -> list[Prediction]:
        """Return the number for each example."""
        return [Prediction(None, None, float(value), {}) for value in logits[:, 0]]

    def agreement(self, logits: Outputs, expected: Outputs) -> float:
        """Return Spearman's rank correlation; 0 where one side is constant, so has no ranks."""
        from scipy.stats import spearmanr

        if np.array_equal(logits, expected):
            return 1.0
        if min(np.ptp(logits), np.ptp(expected)) == 0:
            return 0.0
        return float(spearmanr(logits[:, 0], expected[:, 0]).statistic)

    def wrong_label(
        self, label: float, _n_outputs: int, mirror: float, _rng: np.random.Generator
    ) -> float:
        """Return `mirror - label`."""
        return mirror - label

    def configure(self, config: PretrainedConfig, _labels: Sequence[str]) -> None:
        """Declare a single number."""
        config.num_labels = 1
        config.problem_type = "regression"


def _most_probable(shares: list[float], labels: Sequence[str]) -> Prediction:
    probabilities = dict(zip(labels, shares, strict=True))
    label = max(probabilities, key=probabilities.__getitem__)
    return Prediction(label, probabilities[label], None, probabilities)


TASK_TYPES: Final[Mapping[TaskKind, TaskType]] = MappingProxyType(
    {task_type.kind: task_type for task_type in (Classification(), Regression())}
)


def task_type(kind: TaskKind) -> TaskType:
    """Return the object of a task type by the name it has in scenarios, records and files."""
    return TASK_TYPES[kind]
