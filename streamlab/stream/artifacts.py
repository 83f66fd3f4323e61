"""What is stored of a training: a diff, or a baseline's checkpoint or adapter; and its use."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from streamlab.base import Base, checkpoint_bytes
from streamlab.diff.apply import applied
from streamlab.diff.format.container import decode
from streamlab.errors import DiffError, StoreError
from streamlab.home.diff_records import describe_diff
from streamlab.methods.api import Checkpoint
from streamlab.methods.lora import adapted
from streamlab.registry.records import ArtifactKind, NewDiff

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_PEFT_PREFIX = "base_model.model."


@dataclass(frozen=True)
class Served:
    """A model with an artifact on it; `n_changed` backbone weights differ from the base's.

    None where it is no diff.
    """

    model: PreTrainedModel
    n_changed: int | None


def checkpoint_of(trained: Checkpoint, base: Base) -> bytes:
    """Write a baseline's whole classifier as one file."""
    head = {name: torch.from_numpy(values) for name, values in trained.head.items()}
    return save({base.full_names[name]: tensor for name, tensor in trained.backbone.items()} | head)


def describe(kind: ArtifactKind, data: bytes, base: Base) -> NewDiff:
    """Describe an artifact for the registry, by nothing but its bytes.

    Raises DiffError where the bytes are no such artifact of this base.
    """
    if kind == "diff":
        diff = decode(data, base.layout)
        head = {name: torch.from_numpy(values.copy()) for name, values in diff.head.items()}
        return describe_diff(diff, data, full_bytes=_full_bytes(base, head))
    tensors = _loaded(data)
    if kind == "checkpoint":
        _check_names(tensors, base)
        head = {name: tensors[name] for name in tensors.keys() - base.full_names.values()}
        own = [tensors[name] for name in base.full_names.values()]
        return _described(kind, data, base, own, head, base.layout.sizes, len(data))
    head = {
        name.removeprefix(_PEFT_PREFIX): t for name, t in tensors.items() if ".lora_" not in name
    }
    own = [tensor for name, tensor in tensors.items() if ".lora_" in name]
    # An adapter's numbers are no entries of the base's tensors.
    return _described(kind, data, base, own, head, (), _full_bytes(base, head))


def _loaded(data: bytes) -> dict[str, torch.Tensor]:
    try:
        return load(data)
    except SafetensorError as error:
        raise DiffError(f"It is no file of tensors: {error}.") from error


def _check_names(tensors: Mapping[str, torch.Tensor], base: Base) -> None:
    """Refuse a checkpoint that lacks a tensor of the base, or has it in another shape."""
    for name, full in base.full_names.items():
        shape = tuple(base.tensors[name].shape)
        if full not in tensors or tuple(tensors[full].shape) != shape:
            raise DiffError(f"The checkpoint has no `{full}` of the shape {shape}.")


def _described(
    kind: ArtifactKind,
    data: bytes,
    base: Base,
    own: Collection[torch.Tensor],
    head: Mapping[str, torch.Tensor],
    counts: tuple[int, ...],
    full_bytes: int,
) -> NewDiff:
    values_bytes, head_bytes = sum(map(_bytes, own)), sum(map(_bytes, head.values()))
    return NewDiff(
        digest=hashlib.sha256(data).hexdigest(),
        kind=kind,
        base_fingerprint=base.fingerprint,
        value_type="fp32",
        n_gated=base.layout.n_gated,
        n_entries=sum(tensor.numel() for tensor in own),
        n_head_entries=sum(tensor.numel() for tensor in head.values()),
        file_bytes=len(data),
        positions_bytes=0,
        values_bytes=values_bytes,
        head_bytes=head_bytes,
        metadata_bytes=len(data) - values_bytes - head_bytes,
        full_checkpoint_bytes=full_bytes,
        tensor_counts=counts,
    )


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _full_bytes(base: Base, head: Mapping[str, torch.Tensor]) -> int:
    """Return the bytes of a whole checkpoint of the base under a head."""
    whole = {base.full_names[name]: tensor for name, tensor in base.tensors.items()}
    return checkpoint_bytes(whole | dict(head))


@contextmanager
def serving(
    model: PreTrainedModel,
    data: bytes,
    kind: ArtifactKind,
    digest: str,
    base: Base,
    adapter_config: Mapping[str, Any] | None = None,
) -> Iterator[Served]:
    """Put stored bytes on a fresh classifier of the base, and take a diff off again after.

    `adapter_config`: PEFT's settings, for an adapter. Raises StoreError for another digest.
    """
    if hashlib.sha256(data).hexdigest() != digest:
        raise StoreError(f"The artifact {digest} does not have its digest. Restore the file.")
    if kind == "diff":
        with applied(model, decode(data, base.layout, expected_digest=digest)) as on:
            yield Served(model, on.n_changed)
        return
    if kind == "adapter":
        if adapter_config is None:
            raise StoreError(f"The adapter {digest} comes without PEFT's settings; run again.")
        with adapted(model, data, adapter_config) as wrapped:
            yield Served(wrapped, None)
        return
    tensors = _loaded(data)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name not in tensors or tensors[name].shape != parameter.shape:
                raise DiffError(f"The checkpoint has no `{name}` of {tuple(parameter.shape)}.")
            parameter.copy_(tensors[name])
    yield Served(model, None)
