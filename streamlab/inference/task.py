"""A stored task in use: its diff on a loaded base for a while, and answers with it on."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from streamlab.diff.format.container import decode, inspect
from streamlab.errors import DataError, DiffError, StoreError
from streamlab.files import explained, written_aside
from streamlab.inference.facts import TaskFacts, check_head, read_facts
from streamlab.tasks.batches import Encoded, encode
from streamlab.tasks.columns import text_in
from streamlab.tasks.examples import Example

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from transformers import PreTrainedModel

    from streamlab.diff.apply import Applied
    from streamlab.diff.layout import Layout
    from streamlab.diff.vector import DiffVector
    from streamlab.home.store import ArtifactStore
    from streamlab.inference.model import LoadedBase
    from streamlab.inference.refs import Chosen

Text = str | tuple[str, str]


@dataclass(frozen=True)
class Prediction:
    """One answer: a label with its probability, or the value of a regression."""

    label: str | None
    probability: float | None  # of `label`
    value: float | None  # of a regression
    probabilities: Mapping[str, float]  # of every label, in the task's order


@dataclass(frozen=True)
class StoredTask:
    """A stored diff, read from the store whenever it is used."""

    chosen: Chosen
    store: ArtifactStore

    @property
    def base_fingerprint(self) -> str:
        """Return the fingerprint of the base that the diff is on."""
        return self.chosen.diff.base_fingerprint

    def facts(self) -> TaskFacts:
        """Read what the file says of its task; the base is not needed. Raises as `diff` does."""
        return read_facts(inspect(self.data())["task"])

    def diff(self, layout: Layout) -> DiffVector:
        """Read the diff from the store, its digest and its base checked.

        Raises StoreError or DiffFormatError where the file cannot be trusted, BaseMismatchError
        where it is on another base, and DiffError for a whole checkpoint.
        """
        return decode(self.data(), layout, expected_digest=self.chosen.diff.digest)

    def data(self) -> bytes:
        """Return the file's bytes, checked against its digest. Raises StoreError, DiffError."""
        record = self.chosen.diff
        if record.kind != "diff":
            raise DiffError(
                f"The artifact {record.digest[:12]} is a baseline's {record.kind} and no diff, so "
                "that it cannot be put on a base. Name a task of a method that makes diffs."
            )
        return self.store.get(record.digest)

    def save(self, path: Path) -> None:
        """Write the file as it is stored to a path, aside first. Raises StoreError, DiffError."""
        data = self.data()
        with written_aside(path) as file, explained(path):
            file.write(data)

    @contextmanager
    def applied(self, loaded: LoadedBase) -> Iterator[ServedTask]:
        """Hold the diff on a loaded base for the length of a `with` block.

        Raises what `diff` raises, and DiffError where the file does not say how it is used, the
        diff changes nothing or another one is on; StoreError where it changes other weights than
        when it was made.
        """
        diff = self.diff(loaded.base.layout)
        facts = read_facts(diff.task)
        check_head(diff, facts, loaded.base.head_names)
        with loaded.holding(facts.task, diff) as on:
            self._check_changed(on)
            yield ServedTask(facts, loaded, on)

    def _check_changed(self, on: Applied) -> None:
        arrival = self.chosen.arrival
        recorded = ((arrival.details.get("probe") or {}) if arrival else {}).get("n_changed")
        if recorded not in (None, on.n_changed):
            raise StoreError(
                f"The artifact {self.chosen.diff.digest} changes {on.n_changed} weights, and "
                f"{recorded} were recorded when it was made. The code that puts diffs on is not "
                "the one it was made with; train the task again."
            )


@dataclass(frozen=True)
class ServedTask:
    """A task whose diff is on a model; of use inside its `with` block only."""

    facts: TaskFacts
    loaded: LoadedBase
    on: Applied

    @property
    def model(self) -> PreTrainedModel:
        """Return the classifier with the diff on it."""
        return self.loaded.model

    def predict(self, texts: Sequence[Text], *, batch_size: int = 64) -> list[Prediction]:
        """Answer texts, or pairs of texts, in their order, tokenised as in training.

        Raises DataError for what is no text, and for pairs where the task takes single texts or
        the other way round.
        """
        return self.answer(self.encode(texts), batch_size=batch_size) if len(texts) else []

    def encode(self, texts: Sequence[Text]) -> Encoded:
        """Tokenise texts as in training; `n_truncated` of them were cut. Raises DataError."""
        self._check_on()
        if isinstance(texts, str):
            raise DataError("Give a list of texts; a single one goes into a list of its own.")
        rows = [_row(number, text) for number, text in enumerate(texts, start=1)]
        pairs = {row.text2 is not None for row in rows}
        wanted = self.facts.takes_pairs
        if len(pairs) > 1 or (wanted is not None and pairs != {wanted}):
            takes = {True: "pairs of texts", False: "single texts", None: "one kind of rows"}
            raise DataError(
                f"The task `{self.facts.task}` takes {takes[wanted]}, and "
                f"{sum(row.text2 is not None for row in rows)} of {len(rows)} rows are pairs."
            )
        return encode(rows, self.loaded.tokenizer, max_length=self.facts.max_length)

    def answer(self, encoded: Encoded, *, batch_size: int = 64) -> list[Prediction]:
        """Answer encoded rows in their order."""
        from streamlab.inference.logits import logits  # here, as finding a task needs no torch

        self._check_on()
        outputs = logits(self.model, encoded, batch_size=batch_size).astype(np.float64)
        if not np.isfinite(outputs).all():
            raise DiffError(
                f"The diff of `{self.facts.task}` answers with numbers that are not finite. It is "
                "of no use: have the task learnt again, or take an earlier version."
            )
        if self.facts.kind == "regression":
            return [Prediction(None, None, float(value), {}) for value in outputs[:, 0]]
        grown = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        shares = grown / grown.sum(axis=1, keepdims=True)
        return [self._prediction(row.tolist()) for row in shares]

    def _prediction(self, shares: list[float]) -> Prediction:
        probabilities = dict(zip(self.facts.labels, shares, strict=True))
        label = max(probabilities, key=probabilities.__getitem__)
        return Prediction(label, probabilities[label], None, probabilities)

    def _check_on(self) -> None:
        if not self.on.is_on:
            raise DiffError(
                f"The diff of `{self.facts.task}` is no longer on the model, which would answer "
                "without it. Stay inside the `with` block."
            )


def _row(number: int, text: Text) -> Example:
    texts = text if isinstance(text, (tuple, list)) else (text,)
    if len(texts) not in (1, 2):
        raise DataError(f"Example {number} has {len(texts)} texts; give one, or a pair.")
    record = dict(zip(("text", "text2"), texts, strict=False))
    try:
        row = Example(text_in(record, "text"), None, 0)
        return row if len(texts) == 1 else replace(row, text2=text_in(record, "text2"))
    except ValueError as error:
        raise DataError(f"Example {number}: {error}.") from error
