"""The diff between two checkpoints, verified before its file is written."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from streamlab.base import BaseSettings, checkpoint_bytes
from streamlab.checkpoint import open_checkpoint
from streamlab.diff.apply import changed_tensor
from streamlab.diff.checkpoints import (
    PretrainedDiff,
    Weights,
    backbone_of,
    frozen_names,
    tokenizer_beside,
)
from streamlab.diff.entropy import two_part_bound
from streamlab.diff.format.container import EncodedDiff, decode
from streamlab.errors import DiffError
from streamlab.files import write_atomically
from streamlab.hashing import fingerprint_tensors
from streamlab.inference.described_task import describe_task, model_class_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transformers import PretrainedConfig, PreTrainedModel

    from streamlab.diff.format.values import ValueType
    from streamlab.diff.vector import DiffVector


@dataclass(frozen=True)
class CheckpointDiff:
    """A diff between two checkpoints, its file, and the sizes it is compared with."""

    diff: DiffVector
    encoded: EncodedDiff
    positions_bound_bytes: float
    checkpoint_bytes: int
    left_out: tuple[str, ...]  # tensors of the tuned checkpoint that no classifier has


def write_checkpoint_diff(
    base: BaseSettings,
    tuned: BaseSettings,
    path: Path,
    *,
    exact: bool,
    value_type: ValueType | None = None,
    task: str | None = None,
    labels: Sequence[str] = (),
) -> CheckpointDiff:
    """Write the diff that turns one checkpoint into another, and what using it requires.

    `exact`: the file must reproduce the tuned checkpoint bit for bit, which is verified before it
    is written. `task` and `labels`: see `describe_task`. Raises UsageError for labels that do not
    fit, SourceError where a checkpoint cannot be loaded, DiffError where the two do
    not match or the verification fails, and StoreError where the file cannot be written.
    """
    after = open_checkpoint(tuned, model_class=model_class_of)
    before = open_checkpoint(base, model_class=partial(_language_model, after.weights.model))
    model = after.weights.model
    tokenizer = tokenizer_beside(model) or tokenizer_beside(before.weights.model)
    described = describe_task(model, tokenizer, name=task, labels=labels)
    frozen = {name: after.weights.tensors[name].float() for name in frozen_names(model)}
    if frozen:
        described["frozen_head"] = fingerprint_tensors(frozen)
    diff = PretrainedDiff.from_weights(before.weights, after.weights, exact=exact, task=described)
    encoded = diff.encoded(value_type)
    if exact:
        layout = diff.layout
        del diff  # since the file's content equals it
        diff = PretrainedDiff.of(decode(encoded.data, layout))
        _verify(diff, before.weights, after.weights)
    write_atomically(path, encoded.data)
    return CheckpointDiff(
        diff,
        encoded,
        positions_bound_bytes=two_part_bound(diff) / 8,
        checkpoint_bytes=checkpoint_bytes(after.weights.tensors),
        left_out=after.left_out,
    )


def _language_model(tuned: PreTrainedModel, config: PretrainedConfig) -> str | None:
    """Return the class of a base whose language model's head the tuned model has as well."""
    wanted = model_class_of(config)
    return wanted if tuned.get_output_embeddings() is not None else None


def _verify(diff: DiffVector, base: Weights, tuned: Weights) -> None:
    """Raise DiffError unless the diff turns the base's bits into those of the tuned model."""
    import torch

    before, after = backbone_of(base), backbone_of(tuned)
    for name, entries in zip(diff.layout.names, diff.tensors, strict=True):
        if name not in after and not len(entries):  # a pooler that the tuned model leaves out
            continue
        result = changed_tensor(before[name], entries, diff.mode)
        if not torch.equal(
            result.view(-1).view(torch.uint8), after[name].view(-1).view(torch.uint8)
        ):
            raise DiffError(
                f"The diff does not reproduce `{name}` bit for bit; nothing was written."
            )
