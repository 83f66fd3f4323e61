"""A loaded base: one classifier that carries the diff of at most one task at a time."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from streamlab.base import Base, BaseSettings, load_base
from streamlab.diff.apply import applied
from streamlab.errors import BaseMismatchError, DiffError
from streamlab.hashing import fingerprint_tensors
from streamlab.tasks.batches import Encoded, evaluation_batches
from streamlab.units import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from streamlab.diff.apply import Applied
    from streamlab.diff.vector import DiffVector
    from streamlab.registry.records import BaseRecord
    from streamlab.registry.registry import Registry


class LoadedBase:
    """A base and a classifier on it, for use by one thread at a time.

    `model` is a classifier of `transformers` with the base's weights, except inside a `with`
    block; its head is a placeholder that every diff replaces.
    """

    def __init__(self, base: Base) -> None:
        self.base = base
        self.model: PreTrainedModel = base.classifier(n_outputs=2, seed=0)
        self._task: str | None = None

    def __repr__(self) -> str:
        carries = "no diff applied" if self._task is None else f"the diff of {self._task!r} applied"
        return printable(
            f"LoadedBase({self.base.settings.model!r}: {self.base.layout.n_gated:,} weights, "
            f"{carries})"
        )

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the base's tokenizer."""
        return self.base.tokenizer

    @property
    def task(self) -> str | None:
        """Return the task whose diff is on the model; None for the base alone."""
        return self._task

    def fingerprint(self) -> str:
        """Return the SHA-256 of the model's current backbone weights."""
        names = self.base.full_names
        return fingerprint_tensors({n: self.model.get_parameter(f) for n, f in names.items()})

    @contextmanager
    def holding(self, task: str, diff: DiffVector) -> Iterator[Applied]:
        """Apply a diff to the model for the duration of a `with` block.

        Raises BaseMismatchError for a diff of another base, and DiffError where another diff is
        applied, or the diff does not fit or changes nothing.
        """
        if self._task is not None:
            raise DiffError(
                f"The diff of `{self._task}` is applied; another one on top would answer for "
                f"neither task. Leave its `with` block before using `{task}`."
            )
        with applied(self.model, diff, expected=self.base.fingerprint) as on:
            if diff.n_entries and not on.n_changed:
                raise DiffError(
                    f"The diff of `{task}` changes none of its {diff.n_entries} weights, so the "
                    "base alone would answer. Train the task again."
                )
            self._task = task
            try:
                yield on
            finally:
                self._task = None


def load_recorded_base(
    registry: Registry, fingerprint: str, *, model: str | None = None
) -> LoadedBase:
    """Load the base of a fingerprint from its recorded location, or from `model`.

    Raises SourceError where it cannot be loaded, and BaseMismatchError for another base there.
    """
    record = registry.bases.get(fingerprint)
    settings = BaseSettings(
        model=model or record.model,
        revision=None if model else record.revision,
        layers=record.layers,
    )
    base = load_base(settings, seed=_seed_of(registry, record))
    if base.fingerprint != fingerprint:
        raise BaseMismatchError(
            f"{settings.model!r} is the base {base.fingerprint[:12]}, but {fingerprint[:12]} is "
            "recorded: its weights, configuration or tokenizer differ. Restore the recorded base, "
            "or give its present location."
        )
    return LoadedBase(base)


def _seed_of(registry: Registry, record: BaseRecord) -> int:
    """Return the seed of tensors missing in the checkpoint; any number if none was."""
    if not record.initialised:
        return 0
    runs = [run for run in registry.runs.list() if run.base_fingerprint == record.fingerprint]
    return runs[0].settings.seeds[0] if runs else 0


def logits(
    model: PreTrainedModel, examples: Encoded, *, batch_size: int = 64
) -> NDArray[np.float32]:
    """Return the model's outputs, (n_examples, n_outputs), in the order of the examples.

    Raises DiffError where the model refuses an example.
    """
    outputs: NDArray[np.float32] | None = None
    with torch.inference_mode():
        for places, batch in evaluation_batches(examples, batch_size=batch_size):
            inputs = {name: tensor.to(model.device) for name, tensor in batch.inputs.items()}
            try:
                answers = model(**inputs).logits.float().cpu().numpy()
            except (ValueError, RuntimeError, IndexError) as error:
                raise DiffError(f"The model cannot answer for an example: {error}") from error
            if outputs is None:
                outputs = np.zeros((len(examples.labels), answers.shape[1]), np.float32)
            outputs[places] = answers
    if outputs is None:
        raise ValueError("there are no examples to score")
    return outputs
