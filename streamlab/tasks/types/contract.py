"""The contract of a task type: from the columns of a source to answers that a person reads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from streamlab.tasks.labels import LabelReader, checked_text
from streamlab.tasks.types.example import Example, Label
from streamlab.tasks.types.tokenising import Tokenised, tokenise_texts

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

TaskKind = Literal["classification", "regression", "multi_label", "tokens", "causal_lm"]
ProblemType = Literal["regression", "single_label_classification", "multi_label_classification"]
# (n_examples, n_outputs), or (n_examples, n_positions, n_outputs) where an example is asked at
# several of its tokens; rows of positions that it lacks are 0.
Outputs = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Entity:
    """A span of words and what it is; `last` is the place of its last word."""

    label: str
    first: int
    last: int
    text: str


@dataclass(frozen=True)
class Prediction:
    """One answer, in the field that the task's type fills."""

    label: str | None = None
    probability: float | None = None  # of `label`
    value: float | None = None  # of a regression
    probabilities: Mapping[str, float] = field(default_factory=dict)  # in the task's order
    labels: tuple[str, ...] = ()  # all that apply
    tags: tuple[str, ...] = ()  # of every word
    entities: tuple[Entity, ...] = ()
    text: str | None = None  # generated


@dataclass(frozen=True)
class AnswerColumn:
    """One column of a table of answers: its name, its kind, and whether it is shown by default."""

    name: str
    kind: Literal["text", "score"]
    shown: bool = True


class TaskType(ABC):
    """One type of task. `labels` are the class names in order, empty where there are none."""

    kind: ClassVar[TaskKind]  # in scenarios, records and diff files
    title: ClassVar[str]  # in messages, with its article
    model_class: ClassVar[str] = "AutoModelForSequenceClassification"  # of `transformers`
    problem_type: ClassVar[ProblemType | None] = None  # in the model's configuration
    text_columns: ClassVar[tuple[str, ...]] = ("text",)  # best first
    label_columns: ClassVar[tuple[str, ...]] = ("label",)
    takes_pairs: ClassVar[bool] = True  # an example may have two texts
    flags_in_columns: ClassVar[bool] = False  # a column for every class will do
    has_classes: ClassVar[bool]
    takes_class_weights: ClassVar[bool] = False
    has_confusion: ClassVar[bool] = False  # one class is right for every example
    generates: ClassVar[bool] = False
    least_agreement: ClassVar[float]  # of rounded outputs with the exact ones

    def check_labels(self, labels: Sequence[str]) -> None:
        """Raise ValueError where a task of this type cannot have these class names."""
        if self.has_classes and len(labels) < 2:
            raise ValueError(f"{self.title} has two `labels` or more")
        if labels and not self.has_classes:
            raise ValueError(f"{self.title} has no `labels`")

    @abstractmethod
    def default_metrics(self, labels: Sequence[str]) -> tuple[str, ...]:
        """Return the names of the metrics of a task that names none, the primary one first."""

    def n_outputs(self, labels: Sequence[str]) -> int:
        """Return the width of the head."""
        return len(labels) or 1

    def prepare_head(  # noqa: B027 - most types have nothing of the kind
        self, head: Iterable[Tensor], labels: Sequence[str]
    ) -> None:
        """Write what training never changes into the tensors of a new head, in place."""

    def read_text(self, value: Any) -> str | tuple[str, ...]:
        """Return the text in a column of a source. Raises ValueError saying what is wrong."""
        return checked_text(value)

    def read_asked(self, value: Any) -> str | list[str]:
        """Return what is in a column to be answered; `asked` takes it. Raises ValueError."""
        return checked_text(value)

    @abstractmethod
    def label_reader(
        self, labels: tuple[str, ...], named: tuple[str, ...] | None, origin: str
    ) -> LabelReader:
        """Return a reader of raw labels; `named` are a source's own class names."""

    def check_example(self, example: Example) -> None:  # noqa: B027 - most have nothing to check
        """Raise ValueError where a label does not fit its text."""

    def parts(self, label: Label) -> Iterable[Any]:
        """Return the single answers in a label; a task must have two different ones."""
        return [label]

    @abstractmethod
    def wrong_labels(
        self, train: Sequence[Any], n_labels: int, draw: np.random.Generator
    ) -> Callable[[Any], Any]:
        """Return a function that makes a wrong label of a right one; `train`: the right ones."""

    def asked(self, given: Any) -> Example:
        """Return a text to answer, as a caller gives it, as an example without a label.

        Raises ValueError saying what is wrong with it.
        """
        texts = given if isinstance(given, (tuple, list)) else (given,)
        if len(texts) not in (1, 2):
            raise ValueError(f"it has {len(texts)} texts; give one, or a pair")
        first, *second = (
            in_column(checked_text, text, name)
            for text, name in zip(texts, ("text", "text2"), strict=False)
        )
        return Example(first, second[0] if second else None, 0)

    def shown(self, given: Any) -> tuple[str, ...]:
        """Return a text to answer, or the texts of a pair, as a table shows them."""
        return (given,) if isinstance(given, str) else tuple(given)

    def tokenise(
        self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int
    ) -> Tokenised:
        """Return token ids, and labels as the loss and the metrics take them."""
        labels = self.collate([example.label for example in examples])
        return tokenise_texts(examples, tokenizer, max_length, labels)

    @abstractmethod
    def collate(self, labels: Sequence[Any]) -> NDArray[Any]:
        """Return labels as an array, (n_examples,) or wider."""

    def serving_facts(
        self, examples: Sequence[Example], _tokenizer: PreTrainedTokenizerBase
    ) -> dict[str, Any]:
        """Return what a diff's file says for its use beyond labels and `max_length`.

        `examples`: those to learn from.
        """
        pair = bool(examples) and examples[0].text2 is not None
        return {"pair": pair} if self.takes_pairs else {}

    @abstractmethod
    def loss(
        self, logits: Tensor, labels: Tensor, *, class_weights: tuple[float, ...] | None = None
    ) -> Tensor:
        """Return the mean loss of a batch; `logits`: float32, (n_asked, n_outputs).

        `class_weights`: one for each class, by which the loss of its examples is multiplied.
        """

    def outputs(self, logits: Tensor, _labels: Tensor) -> Tensor:
        """Return what is kept of the logits for scores and comparison, (n_asked, n_kept)."""
        return logits

    def loss_of_outputs(
        self, outputs: Outputs, labels: NDArray[Any], class_weights: tuple[float, ...] | None = None
    ) -> float:
        """Return the mean loss of examples by their outputs."""
        import torch

        kept = torch.from_numpy(outputs), torch.from_numpy(labels)
        return float(self.loss(*kept, class_weights=class_weights))

    def fits(self, outputs: Outputs, labels: NDArray[Any]) -> bool:
        """Return whether outputs and labels are of the same examples."""
        return outputs.ndim == 2 and labels.shape == outputs.shape[:1]

    @abstractmethod
    def decode(self, outputs: Outputs) -> NDArray[Any]:
        """Return what is predicted for each example, as its metrics compare it with labels."""

    def named(self, answers: NDArray[Any], _labels: NDArray[Any], _names: Sequence[str]) -> Any:
        """Return answers or labels as the metrics of this type take them."""
        return answers

    @abstractmethod
    def majority_answer(self, labels: Sequence[Any]) -> Any:
        """Return the best answer to every example for one who has seen only these labels.

        None where there is no such answer.
        """

    def constant(self, answer: Any, labels: NDArray[Any]) -> NDArray[Any]:
        """Return the same answer to every example, in the shape of decoded outputs."""
        return np.full_like(labels, answer)

    @abstractmethod
    def predictions(
        self, outputs: Outputs, labels: Sequence[str], asked: Sequence[Example]
    ) -> list[Prediction]:
        """Return the answer to each example that was asked."""

    @abstractmethod
    def answer_columns(self, labels: Sequence[str]) -> tuple[AnswerColumn, ...]:
        """Return the columns of a table of answers, beside the texts."""

    @abstractmethod
    def answer_row(self, prediction: Prediction) -> tuple[Any, ...]:
        """Return an answer as a row of such a table."""

    @abstractmethod
    def agreement(self, outputs: Outputs, expected: Outputs) -> float:
        """Return how well two models' outputs on the same examples agree; 1 at best."""

    def configure(self, config: PretrainedConfig, labels: Sequence[str]) -> None:
        """Write the meaning of the outputs into a model's configuration."""
        config.num_labels = self.n_outputs(labels)
        if labels:
            config.id2label = dict(enumerate(labels))
            config.label2id = {label: place for place, label in enumerate(labels)}
        config.problem_type = self.problem_type


Text = TypeVar("Text")


def in_column(read: Callable[[Any], Text], value: Any, column: str) -> Text:
    """Return what `read` makes of a value, with the column named where it cannot."""
    try:
        return read(value)
    except ValueError as error:
        raise ValueError(f"the text in {column!r} {error}") from error
