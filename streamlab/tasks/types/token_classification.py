"""Token classification: a tag for every word of a text, and the entities that tags make up."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from streamlab.tasks.labels import ClassReader, LabelReader, TagReader, checked_text
from streamlab.tasks.types.contract import AnswerColumn, Entity, Outputs, Prediction, TaskType
from streamlab.tasks.types.example import Example, Label
from streamlab.tasks.types.tokenising import IGNORED, Tokenised, tokenise_words

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

OUTSIDE: Final = "O"
_WORD: Final = re.compile(r"\w+|[^\w\s]")  # marks are words of their own, as in CoNLL's files


class TokenClassification(TaskType):
    """A tag for every word, asked at its first piece; other pieces have no label.

    Rounded outputs agree by the share of words with the same tag.
    """

    kind = "tokens"
    title = "a token classification"
    model_class = "AutoModelForTokenClassification"
    text_columns = ("tokens", "words")
    label_columns = ("tags", "ner_tags")
    takes_pairs = False
    has_classes = True
    least_agreement = 0.995

    def default_metrics(self, labels: Sequence[str]) -> tuple[str, ...]:
        """Return the F1 of entities and the accuracy; of tags that make none, the accuracy."""
        return ("entity_f1", "token_accuracy") if makes_entities(labels) else ("token_accuracy",)

    def read_text(self, value: Any) -> tuple[str, ...]:
        """Return the words in a list."""
        if not isinstance(value, (list, tuple)) or not value:
            raise ValueError(f"is {value!r:.60}; give a list of words, at least one")
        return tuple(map(checked_text, value))

    def read_asked(self, value: Any) -> str | list[str]:
        """Return a text, or the words in a list."""
        return checked_text(value) if isinstance(value, str) else list(self.read_text(value))

    def label_reader(
        self, labels: tuple[str, ...], named: tuple[str, ...] | None, origin: str
    ) -> LabelReader:
        """Return a reader of lists of tags."""
        return TagReader(ClassReader(labels, named, origin))

    def check_example(self, example: Example) -> None:
        """Raise ValueError unless there is a tag for every word."""
        assert isinstance(example.label, tuple)  # noqa: S101 - of `TagReader`
        if len(example.text) != len(example.label):
            raise ValueError(
                f"it has {len(example.text)} words and {len(example.label)} tags; give a tag for "
                "every word"
            )

    def parts(self, label: Label) -> Iterable[Any]:
        """Return the tags of the words."""
        assert isinstance(label, tuple)  # noqa: S101 - of `TagReader`
        return label

    def wrong_labels(
        self, _train: Sequence[Any], n_labels: int, draw: np.random.Generator
    ) -> Callable[[Any], Any]:
        """Draw one of the other tags for every word."""

        def wrong(label: tuple[int, ...]) -> tuple[int, ...]:
            steps = draw.integers(1, n_labels, len(label)).tolist()
            return tuple((tag + step) % n_labels for tag, step in zip(label, steps, strict=True))

        return wrong

    def asked(self, given: Any) -> Example:
        """Return a text, split into words and marks, or a list of words."""
        words = _WORD.findall(checked_text(given)) if isinstance(given, str) else given
        words = self.read_text(words)
        return Example(words, None, (0,) * len(words))

    def shown(self, given: Any) -> tuple[str, ...]:
        """Return a text, or its words with spaces between."""
        return (given if isinstance(given, str) else " ".join(given),)

    def tokenise(
        self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int
    ) -> Tokenised:
        """Return token ids, the places of the words' first pieces, and their tags."""
        labels = self.collate([example.label for example in examples])
        return tokenise_words(examples, tokenizer, max_length, labels)

    def collate(self, labels: Sequence[Any]) -> NDArray[Any]:
        """Return tags, (n_examples, most words), IGNORED where there is no word."""
        found = np.full((len(labels), max(map(len, labels))), IGNORED, np.int64)
        for row, label in zip(found, labels, strict=True):
            row[: len(label)] = label
        return found

    def loss(
        self, logits: Tensor, labels: Tensor, *, class_weights: tuple[float, ...] | None = None
    ) -> Tensor:
        """Return the mean cross-entropy over the words of a batch."""
        assert class_weights is None  # noqa: S101 - the settings of a task refuse them
        from torch.nn import functional

        return functional.cross_entropy(
            logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORED
        )

    def fits(self, outputs: Outputs, labels: NDArray[Any]) -> bool:
        """Return whether there is a row of outputs for every place of a word."""
        return outputs.ndim == 3 and labels.shape == outputs.shape[:2]

    def decode(self, outputs: Outputs) -> NDArray[Any]:
        """Return the tag of every word, (n_examples, most words)."""
        return np.asarray(outputs.argmax(axis=-1))

    def named(self, answers: NDArray[Any], labels: NDArray[Any], names: Sequence[str]) -> Any:
        """Return the tags' names as lists, one for every example, of the words that have a tag."""
        return [
            [names[answer] for answer, label in zip(row, of_row, strict=True) if label != IGNORED]
            for row, of_row in zip(answers.tolist(), labels.tolist(), strict=True)
        ]

    def majority_answer(self, labels: Sequence[Any]) -> int:
        """Return the most frequent tag, of several the first."""
        counts = Counter(tag for label in labels for tag in label)
        best: int = min(counts, key=lambda tag: (-counts[tag], tag))
        return best

    def predictions(
        self, outputs: Outputs, labels: Sequence[str], asked: Sequence[Example]
    ) -> list[Prediction]:
        """Return the tag of every word, and the entities that the tags make up.

        A word that was cut off has no outputs: it is outside of entities, or has no tag.
        """
        found, spanning = [], makes_entities(labels)
        for row, example in zip(outputs, asked, strict=True):
            tags = [
                labels[int(one.argmax())] if one.any() else OUTSIDE * spanning
                for one in row[: len(example.text)]
            ]
            spans = entities(tags, tuple(example.text)) if spanning else ()
            found.append(Prediction(tags=tuple(tags), entities=spans))
        return found

    def answer_columns(self, labels: Sequence[str]) -> tuple[AnswerColumn, ...]:
        """Return entities and tags, of which tables show the former where tags make them up."""
        spanning = makes_entities(labels)
        return (
            AnswerColumn("entities", "text", shown=spanning),
            AnswerColumn("tags", "text", shown=not spanning),
        )

    def answer_row(self, prediction: Prediction) -> tuple[Any, ...]:
        """Return the entities with their labels, and the tags with spaces between."""
        spans = ", ".join(f"{one.text} ({one.label})" for one in prediction.entities)
        return spans, " ".join(prediction.tags)

    def agreement(self, outputs: Outputs, expected: Outputs) -> float:
        """Return the share of words with the same tag."""
        asked = expected.any(axis=-1)
        return float((self.decode(outputs) == self.decode(expected))[asked].mean())


def makes_entities(labels: Sequence[str]) -> bool:
    """Return whether all tags are `O`, `B-...` or `I-...`, and so mark entities."""
    spans = [label for label in labels if label != OUTSIDE]
    return bool(spans) and all(label[:2] in ("B-", "I-") and label[2:] for label in spans)


def entities(tags: Sequence[str], words: Sequence[str]) -> tuple[Entity, ...]:
    """Return the entities that tags mark, by their order; an `I-` may begin one.

    >>> entities(["B-PER", "I-PER", "O", "I-LOC"], ["Ada", "King", "in", "London"])[1].text
    'London'
    """
    from nervaluate.loaders import ListLoader

    return tuple(
        Entity(one.label, one.start, one.end, " ".join(words[one.start : one.end + 1]))
        for one in ListLoader().load([list(tags)])[0]
    )
