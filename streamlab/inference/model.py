"""A loaded base: one classifier that carries the diff of at most one task at a time."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from streamlab.base import MODEL_CLASS, Base, BaseSettings, load_base, quiet_transformers
from streamlab.diff.apply import applied
from streamlab.errors import BaseMismatchError, DiffError
from streamlab.hashing import fingerprint_tensors
from streamlab.tasks.batches import Encoded, asked_logits, evaluation_batches
from streamlab.units import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from streamlab.diff.apply import Applied
    from streamlab.diff.vector import DiffVector
    from streamlab.registry.records import BaseRecord
    from streamlab.registry.registry import Registry


class LoadedBase:
    """A base and a model on it, for use by one thread at a time.

    `model` is a model of `transformers` with the base's weights, except inside a `with` block: a
    classifier, or of the class that the last task needed. Its head is a placeholder that every
    diff replaces.
    """

    def __init__(self, base: Base) -> None:
        self.base = base
        self.model: PreTrainedModel = base.build(n_outputs=2, seed=0)
        self._built_as = (MODEL_CLASS, torch.float32)
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

    def become(self, model_class: str, dtype: torch.dtype = torch.float32) -> None:
        """Put a model of another class or dtype in place of `model`. Raises SourceError."""
        if (model_class, dtype) != self._built_as:
            self.model = self.base.build(n_outputs=2, seed=0, model_class=model_class, dtype=dtype)
            self._built_as = model_class, dtype

    @contextmanager
    def holding(
        self,
        task: str,
        diff: DiffVector,
        *,
        model_class: str = MODEL_CLASS,
        dtype: torch.dtype = torch.float32,
    ) -> Iterator[Applied]:
        """Apply a diff to the model for the duration of a `with` block.

        `model_class`: of `transformers`, whose head the task has; another one is built anew, as is
        one of another `dtype`.
        Raises BaseMismatchError for a diff of another base, and DiffError where another diff is
        applied, or the diff does not fit or changes nothing.
        """
        if self._task is not None:
            raise DiffError(
                f"The diff of `{self._task}` is applied; another one on top would answer for "
                f"neither task. Leave its `with` block before using `{task}`."
            )
        self.become(model_class, dtype)
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
    """Return what the task's type keeps of the model's outputs, in the order of the examples.

    (n_examples, n_outputs), or (n_examples, n_positions, n_outputs) where an example is asked at
    several tokens. Raises DiffError where the model refuses an example.
    """
    outputs: NDArray[np.float32] | None = None
    shape = examples.labels.shape[: 1 if examples.positions is None else 2]
    with torch.inference_mode():
        for places, batch in evaluation_batches(examples, batch_size=batch_size):
            on_device = batch.to(model.device)
            try:
                found = asked_logits(model, on_device)
                answers = examples.type.outputs(found, on_device.targets).cpu().numpy()
            except (ValueError, RuntimeError, IndexError) as error:
                raise DiffError(f"The model cannot answer for an example: {error}") from error
            if outputs is None:
                outputs = np.zeros((*shape, answers.shape[1]), np.float32)
            if examples.positions is None:
                outputs[places] = answers
            else:
                rows, columns = np.nonzero(examples.positions[places] >= 0)
                outputs[places[rows], columns] = answers
    if outputs is None:
        raise ValueError("there are no examples to score")
    return outputs


def generate(
    model: PreTrainedModel,
    prompts: Encoded,
    *,
    end: int,
    max_new_tokens: int,
    batch_size: int = 64,
) -> list[list[int]]:
    """Return the tokens that greedy decoding adds to every prompt, without the one that ends them.

    Prompts of one length share a batch, so that there is no padding. Raises DiffError where the
    model refuses a prompt.
    """
    from transformers import GenerationConfig

    settings = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=end,
        pad_token_id=end,
        bos_token_id=None,
    )
    found: list[list[int]] = [[] for _ in prompts.token_ids]
    by_length: dict[int, list[int]] = {}
    for place, ids in enumerate(prompts.token_ids):
        by_length.setdefault(len(ids), []).append(place)
    for length, places in sorted(by_length.items()):
        for start in range(0, len(places), batch_size):
            batch = places[start : start + batch_size]
            asked = torch.tensor([prompts.token_ids[place] for place in batch], device=model.device)
            try:
                with torch.inference_mode(), quiet_transformers():
                    whole: Any = model.generate(  # type: ignore[operator]
                        input_ids=asked,
                        attention_mask=torch.ones_like(asked),
                        generation_config=settings,
                    )
            except (ValueError, RuntimeError, IndexError) as error:
                raise DiffError(f"The model cannot answer for an example: {error}") from error
            for place, row in zip(batch, whole[:, length:].tolist(), strict=True):
                found[place] = row[: row.index(end)] if end in row else row
    return found
