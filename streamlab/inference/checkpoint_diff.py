"""The diff between two checkpoints, made as a file and proven before it is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamlab.base import BaseSettings, checkpoint_bytes, load_model
from streamlab.diff.checkpoints import difference, layout_of, read_file, write_file
from streamlab.diff.entropy import two_part_bound
from streamlab.diff.format.container import EncodedDiff
from streamlab.errors import DiffError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from transformers import PreTrainedModel

    from streamlab.diff.format.values import ValueType
    from streamlab.diff.vector import DiffVector


@dataclass(frozen=True)
class CheckpointDiff:
    """A diff between two checkpoints, its file, and what it is compared with, in bytes."""

    diff: DiffVector
    encoded: EncodedDiff
    positions_bound_bytes: float
    checkpoint_bytes: int


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

    `exact`: gives the tuned checkpoint back bit for bit, which is tried on the file before this
    returns. Raises SourceError where a checkpoint cannot be loaded, DiffError where the two do
    not fit or the file does not give the tuned one back.
    """
    from_model, to_model = load_model(base), load_model(tuned)
    diff = difference(from_model, to_model, exact=exact, task=task or {})
    n_bytes = checkpoint_bytes(dict(to_model.named_parameters()))
    bound = two_part_bound(diff).bits / 8
    encoded = write_file(diff, path, value_type)
    if exact:
        try:
            _prove(path, encoded.digest, from_model, to_model)
        except DiffError:
            path.unlink()
            raise
    return CheckpointDiff(diff, encoded, bound, n_bytes)


def _prove(path: Path, digest: str, base: PreTrainedModel, tuned: PreTrainedModel) -> None:
    """Read the file again, and compare what it makes of the base with the tuned model's bits."""
    import torch

    again = read_file(path, layout_of(base), digest)
    before, after = dict(base.named_parameters()), dict(tuned.named_parameters())
    prefix = f"{tuned.base_model_prefix}."
    for name, tensor in zip(again.layout.names, again.tensors, strict=True):
        old = before[name] if name in before else before[prefix + name]
        new = after[name] if name in after else after[prefix + name]
        made = old.detach().clone().reshape(-1)
        made[torch.from_numpy(tensor.positions.copy())] = torch.from_numpy(tensor.values.copy()).to(
            made.dtype
        )
        same = torch.equal(made.view(torch.uint8), new.detach().reshape(-1).view(torch.uint8))
        if not same:
            raise DiffError(f"The file does not give `{name}` back bit for bit; nothing was kept.")
