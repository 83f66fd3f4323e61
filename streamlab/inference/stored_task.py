"""A stored task in use: its diff on a loaded base for a while, and answers with it on."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from streamlab.diff.format.container import decode, open_diff
from streamlab.errors import DataError, DiffError, StoreError
from streamlab.files import write_atomically
from streamlab.tasks.batches import Encoded, encode
from streamlab.tasks.column_mapping import text_in
from streamlab.tasks.examples import Example
from streamlab.tasks.glue import find_entry
from streamlab.tasks.types import Prediction, TaskKind, TaskType, task_type

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from transformers import PreTrainedModel

    from streamlab.diff.apply import Applied
    from streamlab.diff.layout import Layout
    from streamlab.diff.vector import DiffVector
    from streamlab.home.store import ArtifactStore
    from streamlab.inference.model import LoadedBase
    from streamlab.registry.references import Artifact


Text = str | tuple[str, str]


@dataclass(frozen=True)
class StoredTask:
    """A stored diff, read from the store whenever it is used."""

    artifact: Artifact
    store: ArtifactStore

    @property
    def base_fingerprint(self) -> str:
        """Return the fingerprint of the base that the diff is on."""
        return self.artifact.diff.base_fingerprint

    def facts(self) -> TaskDescription:
        """Read what the file says of its task; the base is not needed. Raises as `diff` does."""
        return parse_description(open_diff(self.data()).header.task)

    def diff(self, layout: Layout) -> DiffVector:
        """Read the diff from the store, its digest and its base checked.

        Raises StoreError or DiffFormatError where the file cannot be trusted, BaseMismatchError
        where it is on another base, and DiffError for a whole checkpoint.
        """
        return decode(self.data(), layout, expected_digest=self.artifact.diff.digest)

    def data(self) -> bytes:
        """Return the file's bytes, checked against its digest. Raises StoreError, DiffError."""
        record = self.artifact.diff
        if record.kind != "diff":
            raise DiffError(
                f"The artifact {record.digest[:12]} is a baseline's {record.kind} and no diff, so "
                "that it cannot be put on a base. Name a task of a method that makes diffs."
            )
        return self.store.get(record.digest)

    def save(self, path: Path) -> None:
        """Write the file as it is stored to a path, aside first. Raises StoreError, DiffError."""
        write_atomically(path, self.data())

    @contextmanager
    def applied(self, loaded: LoadedBase) -> Iterator[ServedTask]:
        """Hold the diff on a loaded base for the length of a `with` block.

        Raises what `diff` raises, and DiffError where the file does not say how it is used, the
        diff changes nothing or another one is on; StoreError where it changes other weights than
        when it was made.
        """
        diff = self.diff(loaded.base.layout)
        facts = parse_description(diff.task)
        check_head(diff, facts, loaded.base.head_names)
        with loaded.holding(facts.task, diff) as on:
            self._check_changed(on)
            yield ServedTask(facts, loaded, on)

    def _check_changed(self, on: Applied) -> None:
        arrival = self.artifact.arrival
        probe = None if arrival is None else arrival.details.probe
        if probe is not None and probe.n_changed != on.n_changed:
            raise StoreError(
                f"The artifact {self.artifact.diff.digest} changes {on.n_changed} weights, and "
                f"{probe.n_changed} were recorded when it was made. The code that applies a diff "
                "has changed since; train the task again."
            )


@dataclass(frozen=True)
class ServedTask:
    """A task whose diff is on a model; of use inside its `with` block only."""

    facts: TaskDescription
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
        return encode(
            rows, self.loaded.tokenizer, self.facts.type, max_length=self.facts.max_length
        )

    def answer(self, encoded: Encoded, *, batch_size: int = 64) -> list[Prediction]:
        """Answer encoded rows in their order."""
        from streamlab.inference.model import logits  # here, as finding a task needs no torch

        self._check_on()
        outputs = logits(self.model, encoded, batch_size=batch_size).astype(np.float64)
        if not np.isfinite(outputs).all():
            raise DiffError(
                f"The diff of `{self.facts.task}` answers with numbers that are not finite. It is "
                "of no use: have the task learnt again, or take an earlier version."
            )
        return self.facts.type.predictions(outputs, self.facts.labels)

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


class TaskDescription(BaseModel):
    """One task as its file names it; what else the file says is left alone."""

    # A file from elsewhere may say more, and must not be read with a blind eye for types.
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    task: Annotated[str, Field(min_length=1)]
    dataset: str = ""
    kind: TaskKind
    labels: tuple[Annotated[str, Field(min_length=1)], ...]  # by class index
    max_length: Annotated[int, Field(ge=1)]  # tokens; longer texts were cut in training
    pair: bool | None = None  # two texts a row; the first files written do not say it

    @model_validator(mode="after")
    def _labels_suit_kind(self) -> TaskDescription:
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("`labels` names a class twice")
        self.type.check_labels(self.labels)
        return self

    @property
    def type(self) -> TaskType:
        """Return the task's type."""
        return task_type(self.kind)

    @property
    def n_outputs(self) -> int:
        """Return the width of the head: the number of classes, or 1 for regression."""
        return self.type.n_outputs(self.labels)

    @property
    def takes_pairs(self) -> bool | None:
        """Tell whether a row is two texts; None where neither file nor catalogue knows."""
        if self.pair is not None:
            return self.pair
        entry = find_entry(self.dataset)
        return None if entry is None else entry.text2 is not None


def parse_description(task: Mapping[str, Any]) -> TaskDescription:
    """Read what a diff's file says of its task.

    Raises DiffError naming what is missing or wrong.
    """
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in task.items()}
    try:
        return TaskDescription.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, found['loc'])) or 'task'}: {found['msg']}"
            for found in error.errors(include_url=False, include_input=False)
        )
        raise DiffError(
            f"The diff's file does not say how it is to be used ({problems}). It can be put on a "
            "model with `streamlab.diff.apply`; predictions need a file that names the task's "
            "`kind`, `labels` and `max_length`, as `streamlab run` writes it."
        ) from error


def check_head(diff: DiffVector, facts: TaskDescription, head_names: tuple[str, ...]) -> None:
    """Raise DiffError unless the diff holds a whole head of the width its task has.

    Under a head that was not stored a model would answer at random, and say nothing of it.
    """
    lacking = sorted(set(head_names) - diff.head.keys())
    if lacking:
        raise DiffError(
            f"The diff for `{facts.task}` holds no `{lacking[0]}`, so that its answers would be "
            "those of a random head. Make it again from a classifier."
        )
    shapes = {name: diff.head[name].shape for name in _last_layer(head_names)}
    for name, shape in shapes.items():
        if shape[:1] != (facts.n_outputs,):
            raise DiffError(
                f"The head's `{name}` for `{facts.task}` has the shape {shape}, and its task "
                f"{facts.n_outputs} outputs: the file contradicts itself. Train the task again."
            )


def _last_layer(head_names: tuple[str, ...]) -> list[str]:
    """Return the weight and bias that the outputs come from: those of the last module."""
    owner = head_names[-1].rpartition(".")[0]
    return [name for name in head_names if name.rpartition(".")[0] == owner]
