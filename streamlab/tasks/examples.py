"""Examples, and a task as it is learnt: its splits, labels, metrics and source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from streamlab.tasks.metrics import Metric, majority_scores, score
from streamlab.tasks.types import task_type
from streamlab.tasks.types.contract import Outputs, TaskKind, TaskType
from streamlab.tasks.types.example import Example

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SourceUsed:
    """The source of a task's examples.

    `examples_fingerprint` covers all the examples of the source, before any are sampled: it is the
    same for every seed, and differs where a single example does.
    """

    kind: str  # files, hub, package, synthetic or a plug-in's name
    detail: str  # path, hub id with revision, or data seed; and the splits used
    examples_fingerprint: str

    @property
    def synthetic(self) -> bool:
        """Tell whether the data are synthetic."""
        return self.kind == "synthetic"


@dataclass(frozen=True, kw_only=True)
class ExampleCounts:
    """The examples of a source that were not used as they are."""

    skipped: int = 0  # without a text or with an unknown label
    unused: int = 0  # beyond the numbers that the settings allow
    repeated: int = 0  # dev examples whose texts are in train too


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """One task, ready to be learnt: `validation` is for choosing, `dev` is only reported."""

    name: str
    dataset: str
    kind: TaskKind
    labels: tuple[str, ...]  # by class index; empty for regression
    metrics: tuple[Metric, ...]  # the primary one comes first
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    dev: tuple[Example, ...]
    source: SourceUsed
    counts: ExampleCounts = ExampleCounts()
    tried: tuple[str, ...] = ()  # a sentence on every source that was tried before
    class_weights: tuple[float, ...] | None = None  # in the loss, by class index; None: all equal

    @property
    def type(self) -> TaskType:
        """Return the task's type."""
        return task_type(self.kind)

    @property
    def loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the loss of a batch, a function of float32 logits and labels."""
        if self.class_weights is None:
            return self.type.loss
        return partial(self.type.loss, class_weights=self.class_weights)

    @property
    def named_class_weights(self) -> dict[str, float] | None:
        """Return the weight of each class in the loss by its name, None where all are alike."""
        if self.class_weights is None:
            return None
        return dict(zip(self.labels, self.class_weights, strict=True))

    def loss_of(self, outputs: Outputs, labels: NDArray[Any]) -> float:
        """Return the mean loss of examples by a model's outputs."""
        return self.type.loss_of_outputs(outputs, labels, self.class_weights)

    def score(self, outputs: Outputs, labels: NDArray[Any]) -> dict[str, float]:
        """Score a model's outputs by every metric of the task."""
        return score(self.type, self.metrics, outputs, labels, names=self.labels)

    def primary_score(self, outputs: Outputs, labels: NDArray[Any]) -> float:
        """Score a model's outputs by the primary metric."""
        first = self.metrics[:1]
        return score(self.type, first, outputs, labels, names=self.labels)[first[0].name]

    def majority_scores(self, labels: NDArray[Any]) -> dict[str, float | None]:
        """Score the majority class (or the mean) of `train` as the answer to every example."""
        answer = self.type.majority_answer([example.label for example in self.train])
        return majority_scores(self.type, self.metrics, answer, labels, names=self.labels)

    @property
    def n_outputs(self) -> int:
        """Return the width of the head."""
        return self.type.n_outputs(self.labels)
