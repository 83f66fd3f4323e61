"""Stored tasks: their description, and predictions with their diff applied to a loaded base."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from streamlab.diff.format.container import decode, open_diff
from streamlab.errors import BaseMismatchError, DataError, DiffError, StoreError
from streamlab.files import write_atomically
from streamlab.problems import message
from streamlab.representation import html_facts
from streamlab.tasks.batches import Encoded, encode
from streamlab.tasks.glue import GLUE
from streamlab.tasks.types import task_type
from streamlab.tasks.types.contract import Prediction, TaskKind, TaskType
from streamlab.tasks.types.tokenising import PromptFrame
from streamlab.units import format_bytes, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from transformers import PreTrainedModel

    from streamlab.diff.apply import Applied
    from streamlab.diff.layout import Layout
    from streamlab.diff.vector import DiffVector
    from streamlab.home.store import ArtifactStore
    from streamlab.inference.model import LoadedBase
    from streamlab.registry.references import Artifact
    from streamlab.tasks.types.example import Example


Text = str | tuple[str, str] | list[str]  # a text, a pair, or the words of one


@dataclass(frozen=True, repr=False)
class StoredTask:
    """A stored diff, read from the store at each use."""

    artifact: Artifact
    store: ArtifactStore

    def __repr__(self) -> str:
        facts = "; ".join(self._facts().values())
        return printable(f"StoredTask({facts})")

    def _repr_html_(self) -> str:
        """Return what is stored as HTML."""
        return html_facts("Stored task", self._facts().items())

    def _facts(self) -> dict[str, str]:
        """Return what a person wants to know of the artifact, read from its records alone."""
        diff, arrival = self.artifact.diff, self.artifact.arrival
        stored = {
            "artifact": f"{diff.kind} {diff.digest[:12]}, {format_bytes(diff.file_bytes)}",
            "retained": f"{diff.n_entries:,} of {diff.n_gated:,} weights",
        }
        if arrival is None:
            return stored
        version = "" if arrival.version == 1 else f"@{arrival.version}"
        return {
            "task": f"{arrival.task}{version} from {arrival.provider}",
            "arrival": f"{arrival.id} of {arrival.run}, {arrival.method}, seed {arrival.seed}",
        } | stored

    @property
    def base_fingerprint(self) -> str:
        """Return the fingerprint of the diff's base."""
        return self.artifact.diff.base_fingerprint

    def description(self) -> TaskDescription:
        """Return the file's task description, without the base. Raises as `diff` does."""
        return parse_description(open_diff(self.data()).header.task)

    def diff(self, layout: Layout) -> DiffVector:
        """Read the diff from the store and verify its digest and base.

        Raises StoreError or DiffFormatError for an invalid file, BaseMismatchError for another
        base, and DiffError for an artifact that is not a diff.
        """
        return decode(self.data(), layout, expected_digest=self.artifact.diff.digest)

    def data(self) -> bytes:
        """Return the file's bytes, verified by digest. Raises StoreError, DiffError."""
        record = self.artifact.diff
        if record.kind != "diff":
            kind = "an adapter" if record.kind == "adapter" else "a full checkpoint"
            raise DiffError(
                f"The artifact {record.digest[:12]} is stored as {kind}, not a diff, and cannot be "
                "applied to a base. Name a task of a method that trains diffs."
            )
        return self.store.get(record.digest)

    def save(self, path: Path) -> None:
        """Copy the stored file to a path, atomically. Raises StoreError, DiffError."""
        write_atomically(path, self.data())

    @contextmanager
    def applied(self, loaded: LoadedBase) -> Iterator[ServedTask]:
        """Apply the diff to a loaded base for the duration of a `with` block.

        Raises what `diff` raises; DiffError where the file has no usable description, the diff
        changes nothing or another one is applied; StoreError where it does not change as many
        weights as recorded.
        """
        diff = self.diff(loaded.base.layout)
        description = parse_description(diff.task)
        import torch  # deferred: not for what reads descriptions alone

        parts = loaded.base.parts(description.type.model_class)
        check_head(diff, description, parts.head)
        if parts.frozen_digest != description.frozen_head:
            raise BaseMismatchError(
                f"The diff of `{description.task}` was trained under another language model's head "
                "than the base has. Restore the checkpoint that it was trained on."
            )
        with loaded.holding(
            description.task,
            diff,
            model_class=description.type.model_class,
            dtype=torch.bfloat16 if description.dtype == "bf16" else torch.float32,
        ) as on:
            arrival = self.artifact.arrival
            probe = None if arrival is None else arrival.details.probe
            if probe is not None and probe.n_changed != on.n_changed:
                raise StoreError(
                    f"The artifact {self.artifact.diff.digest} changes {on.n_changed} weights, and "
                    f"{probe.n_changed} were recorded when it was made. The code that applies a "
                    "diff has changed since; train the task again."
                )
            yield ServedTask(description, loaded, on)


@dataclass(frozen=True, repr=False)
class ServedTask:
    """A task whose diff is applied to a model, for use inside the `with` block only."""

    description: TaskDescription
    loaded: LoadedBase
    on: Applied

    def __repr__(self) -> str:
        state = f"{self.on.n_changed:,} weights changed" if self.on.is_on else "no longer applied"
        return printable(f"ServedTask({self.description.task!r}: {state})")

    @property
    def model(self) -> PreTrainedModel:
        """Return the model with the diff applied."""
        return self.loaded.model

    def predict(self, texts: Sequence[Text], *, batch_size: int = 64) -> list[Prediction]:
        """Predict for texts, or pairs of texts, in their order, tokenised as in training.

        A token classification also takes lists of words. Raises DataError for values that are not
        texts, and for pairs where the task takes single texts or vice versa.
        """
        if not len(texts):
            return []
        return self.answer(texts, self.encode(texts), batch_size=batch_size)

    def encode(self, texts: Sequence[Text]) -> Encoded:
        """Tokenise texts as in training; `n_truncated` counts truncated ones. Raises DataError."""
        self._check_on()
        if isinstance(texts, str):
            raise DataError("Give a list of texts, for a single text a list of one.")
        examples = self._examples(texts)
        n_pairs = sum(example.text2 is not None for example in examples)
        wanted = self.description.takes_pairs
        fits = {None: (0, len(examples)), True: (len(examples),), False: (0,)}
        if n_pairs not in fits[wanted]:
            takes = {True: "pairs of texts", False: "single texts", None: "either texts or pairs"}
            raise DataError(
                f"The task `{self.description.task}` takes {takes[wanted]}, and "
                f"{n_pairs} of {len(examples)} examples are pairs."
            )
        return encode(
            examples,
            self.loaded.tokenizer,
            self.description.type,
            max_length=self.description.max_length,
            frame=self.description.frame,
        )

    def _examples(self, texts: Sequence[Any]) -> list[Example]:
        examples = []
        for number, text in enumerate(texts, start=1):
            try:
                examples.append(self.description.type.asked(text))
            except ValueError as error:
                raise DataError(f"Example {number}: {error}.") from error
        return examples

    def answer(
        self, texts: Sequence[Text], encoded: Encoded, *, batch_size: int = 64
    ) -> list[Prediction]:
        """Predict for texts in their order; `encoded`: of `encode`."""
        from streamlab.inference.model import logits  # deferred: loads torch

        self._check_on()
        if self.description.frame is not None:
            return self._complete(encoded, self.description.frame, batch_size=batch_size)
        outputs = logits(self.model, encoded, batch_size=batch_size).astype(np.float64)
        if not np.isfinite(outputs).all():
            raise DiffError(
                f"The diff of `{self.description.task}` gives outputs that are NaN or infinite. "
                "Train the task again, or use an earlier version."
            )
        of_type, labels = self.description.type, self.description.labels
        return of_type.predictions(outputs, labels, self._examples(texts))

    def _complete(
        self, prompts: Encoded, frame: PromptFrame, *, batch_size: int
    ) -> list[Prediction]:
        from streamlab.inference.model import generate  # deferred: loads torch

        tokenizer = self.loaded.tokenizer
        found = generate(
            self.model,
            prompts,
            end=frame.ids(tokenizer)[2],
            max_new_tokens=self.description.max_new_tokens or 1,
            batch_size=batch_size,
        )
        texts = (str(tokenizer.decode(ids, skip_special_tokens=True)) for ids in found)
        return [Prediction(text=text) for text in texts]

    def _check_on(self) -> None:
        if not self.on.is_on:
            raise DiffError(
                f"The diff of `{self.description.task}` is no longer applied. Predict inside the "
                "`with` block."
            )


_FrameText = Annotated[str, Field(max_length=10_000)]


class TaskDescription(BaseModel):
    """The description of a task in its diff file; unknown keys are ignored."""

    # The file may be from elsewhere, so types are strict.
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    task: Annotated[str, Field(min_length=1)]
    dataset: str = ""
    kind: TaskKind
    labels: tuple[Annotated[str, Field(min_length=1)], ...]  # by class index
    max_length: Annotated[int, Field(ge=1)]  # tokens; longer texts are truncated
    pair: bool | None = None  # two texts per example; None: see `takes_pairs`
    # Of language modelling: the texts before and after a prompt and the token that ends an answer,
    # which are of a chat template or not, and the most tokens of an answer.
    prompt: tuple[_FrameText, _FrameText, _FrameText] | None = None
    chat_template: bool = False
    max_new_tokens: Annotated[int, Field(ge=1, le=100_000)] | None = None
    dtype: Literal["bf16"] | None = None  # that the model answers in; None: float32
    frozen_head: str | None = None  # SHA-256 of a head that is not tied to the embeddings

    @model_validator(mode="after")
    def _labels_suit_kind(self) -> TaskDescription:
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("`labels` names a class twice")
        self.type.check_labels(self.labels)
        told = self.prompt is not None and self.max_new_tokens is not None
        if self.type.generates and not (told and self.prompt and self.prompt[2]):
            raise ValueError("`prompt` and `max_new_tokens` say how answers are generated")
        return self

    @property
    def frame(self) -> PromptFrame | None:
        """Return what prompts are set in, None where nothing is generated."""
        if not self.type.generates or self.prompt is None:
            return None
        return PromptFrame(*self.prompt, from_template=self.chat_template)

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
        """Return whether an example is two texts, by file or catalogue; None if unknown."""
        if not self.type.takes_pairs:
            return False
        if self.pair is not None:
            return self.pair
        entry = GLUE.get(self.dataset)
        return None if entry is None else entry.text2 is not None


def parse_description(task: Mapping[str, Any]) -> TaskDescription:
    """Validate the task description of a diff file. Raises DiffError naming every problem."""
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in task.items()}
    try:
        return TaskDescription.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, found['loc'])) or 'task'}: {message(found)}"
            for found in error.errors()
        )
        raise DiffError(
            f"The task description in the diff's file is invalid ({problems}). Predictions need "
            "`kind`, `labels` and `max_length`, as written by `streamlab run`; without them the "
            "diff can still be applied by `streamlab.diff.apply`."
        ) from error


def check_head(diff: DiffVector, description: TaskDescription, head_names: tuple[str, ...]) -> None:
    """Raise DiffError unless the diff has a complete head of its task's width.

    A missing head tensor would be random and go unnoticed.
    """
    lacking = sorted(set(head_names) - diff.head.keys())
    if lacking:
        raise DiffError(
            f"The diff of `{description.task}` lacks `{lacking[0]}`, so its predictions would be "
            "those of a random head. Create it again from a classifier."
        )
    if not head_names:
        return
    # The weight and the bias of the last module give the outputs.
    last = head_names[-1].rpartition(".")[0]
    for name in (name for name in head_names if name.rpartition(".")[0] == last):
        shape = diff.head[name].shape
        if shape[:1] != (description.n_outputs,):
            raise DiffError(
                f"The head's `{name}` of `{description.task}` has the shape {shape}, but its "
                f"task has {description.n_outputs} outputs. Train the task again."
            )
