"""A base loaded to be served from: one classifier, on which one task's diff is at a time."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from streamlab.base import Base, BaseSettings, load_base
from streamlab.diff.apply import applied
from streamlab.errors import BaseMismatchError, DiffError
from streamlab.tasks.batches import Encoded, evaluation_batches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from streamlab.diff.apply import Applied
    from streamlab.diff.vector import DiffVector
    from streamlab.registry.records import BaseRecord
    from streamlab.registry.registry import Registry


class LoadedBase:
    """Hold a base and a classifier on it; for one thread at a time.

    `model` is a classifier of `transformers`, whose weights are the base's except inside a
    `with` block; its head is a placeholder that every diff replaces.
    """

    def __init__(self, base: Base) -> None:
        self.base = base
        self.model: PreTrainedModel = base.classifier(n_outputs=2, seed=0)
        self._task: str | None = None

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the base's tokenizer."""
        return self.base.tokenizer

    @property
    def task(self) -> str | None:
        """Return the task whose diff is on the model, None for the bare base."""
        return self._task

    @contextmanager
    def holding(self, task: str, diff: DiffVector) -> Iterator[Applied]:
        """Hold a diff on the model for the length of a `with` block.

        Raises BaseMismatchError for a diff on another base, DiffError where another one is on
        already, where the diff does not fit, or where it changes nothing.
        """
        if self._task is not None:
            raise DiffError(
                f"The diff of `{self._task}` is on the model; one put on top of it would answer "
                f"for neither. Leave that block before `{task}`."
            )
        with applied(self.model, diff, expected=self.base.fingerprint) as on:
            if diff.n_entries and not on.n_changed:
                raise DiffError(
                    f"The diff for `{task}` changes none of the {diff.n_entries} weights it "
                    "names, so that the bare base would answer. Train the task again."
                )
            self._task = task
            try:
                yield on
            finally:
                self._task = None


def load_recorded_base(
    registry: Registry, fingerprint: str, *, model: str | None = None
) -> LoadedBase:
    """Load the base of a fingerprint from where it is recorded to lie, or from `model`.

    Raises SourceError where it cannot be loaded, and BaseMismatchError where what lies there is
    another base.
    """
    record = registry.base(fingerprint)
    settings = BaseSettings(
        model=model or record.model,
        revision=None if model else record.revision,
        layers=record.layers,
    )
    base = load_base(settings, seed=_seed_of(registry, record))
    if base.fingerprint != fingerprint:
        raise BaseMismatchError(
            f"{settings.model!r} holds the base {base.fingerprint[:12]}, and {fingerprint[:12]} is "
            "recorded. Put the recorded base back, or say where it lies now."
        )
    return LoadedBase(base)


def _seed_of(registry: Registry, record: BaseRecord) -> int:
    """Return the seed that filled the tensors the checkpoint lacked; any, where it lacked none."""
    if not record.initialised:
        return 0
    runs = [run for run in registry.runs() if run.base_fingerprint == record.fingerprint]
    return int(runs[0].scenario["seeds"][0]) if runs else 0


def logits(model: PreTrainedModel, rows: Encoded, *, batch_size: int = 64) -> NDArray[np.float32]:
    """Return the model's outputs in float32, (n_rows, n_outputs), in the order of the rows."""
    outputs: NDArray[np.float32] | None = None
    with torch.inference_mode():
        for places, batch in evaluation_batches(rows, batch_size=batch_size):
            inputs = {name: tensor.to(model.device) for name, tensor in batch.inputs.items()}
            answers = model(**inputs).logits.float().cpu().numpy()
            if outputs is None:
                outputs = np.zeros((len(rows.labels), answers.shape[1]), np.float32)
            outputs[places] = answers
    if outputs is None:
        raise ValueError("there are no rows to score")
    return outputs
