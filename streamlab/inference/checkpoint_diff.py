"""The diff between two checkpoints, verified before its file is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamlab.base import BaseSettings, checkpoint_bytes, load_model
from streamlab.diff.checkpoints import PretrainedDiff
from streamlab.diff.entropy import two_part_bound
from streamlab.diff.format.container import EncodedDiff, decode
from streamlab.errors import DiffError
from streamlab.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from transformers import PreTrainedModel

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
    task: Mapping[str, Any] | None = None,
) -> CheckpointDiff:
    """Write the diff that turns one checkpoint into another.

    `exact`: the file must reproduce the tuned checkpoint bit for bit, which is verified before it
    is written. Raises SourceError where a checkpoint cannot be loaded, DiffError where the two do
    not match or the verification fails, and StoreError where the file cannot be written.
    """
    base_model, _ = load_model(base)
    tuned_model, left_out = load_model(tuned)
    diff = PretrainedDiff.from_models(base_model, tuned_model, exact=exact, task=task)
    encoded = diff.encoded(value_type)
    if exact:
        _verify(decode(encoded.data, diff.layout), base_model, tuned_model)
    write_atomically(path, encoded.data)
    return CheckpointDiff(
        diff,
        encoded,
        positions_bound_bytes=two_part_bound(diff) / 8,
        checkpoint_bytes=checkpoint_bytes(dict(tuned_model.named_parameters())),
        left_out=left_out,
    )


def _verify(diff: DiffVector, base: PreTrainedModel, tuned: PreTrainedModel) -> None:
    """Raise DiffError unless the diff turns the base's bits into those of the tuned model."""
    import torch

    before, after = dict(base.named_parameters()), dict(tuned.named_parameters())
    prefix = f"{tuned.base_model_prefix}."
    for name, tensor in zip(diff.layout.names, diff.tensors, strict=True):
        old = before[name] if name in before else before[prefix + name]
        new = after[name] if name in after else after[prefix + name]
        result = old.detach().clone().reshape(-1)
        values = torch.from_numpy(tensor.values.copy()).to(result.dtype)
        result[torch.from_numpy(tensor.positions.copy())] = values
        if not torch.equal(result.view(torch.uint8), new.detach().reshape(-1).view(torch.uint8)):
            raise DiffError(
                f"The diff does not reproduce `{name}` bit for bit; nothing was written."
            )
