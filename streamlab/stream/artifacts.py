"""What is stored of a training: a diff, or a rival's checkpoint or adapter; and reading it back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load, save

from streamlab.base import Base, checkpoint_bytes
from streamlab.diff.apply import applied
from streamlab.diff.container import EncodedDiff, decode
from streamlab.diff.vector import DiffVector
from streamlab.errors import StoreError
from streamlab.methods.contract import Adapter, Trained
from streamlab.methods.lora import adapted
from streamlab.registry.records import ArtifactKind, NewDiff

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from streamlab.diff.values import ValueType

_PEFT_PREFIX = "base_model.model."


@dataclass(frozen=True)
class Artifact:
    """The bytes to store, and the record that describes them."""

    data: bytes
    record: NewDiff


@dataclass(frozen=True)
class Served:
    """A model with an artifact on it; `n_changed` backbone weights differ from the base's.

    None where it is no diff.
    """

    model: PreTrainedModel
    n_changed: int | None


def pack_diff(
    diff: DiffVector, encoded: EncodedDiff, trained: Trained, base: Base, *, value_type: ValueType
) -> Artifact:
    """Describe a diff's file for the registry."""
    record = NewDiff(
        digest=encoded.digest,
        kind="diff",
        base_fingerprint=base.fingerprint,
        value_type=value_type,
        n_gated=diff.n_gated,
        n_entries=diff.n_entries,
        n_head_entries=diff.n_head_entries,
        file_bytes=len(encoded.data),
        positions_bytes=encoded.parts.positions,
        values_bytes=encoded.parts.values,
        head_bytes=encoded.parts.head,
        metadata_bytes=encoded.parts.metadata,
        full_checkpoint_bytes=_full_bytes(trained, base),
        tensor_counts=diff.counts,
    )
    return Artifact(encoded.data, record)


def pack_checkpoint(trained: Trained, base: Base) -> Artifact:
    """Write a rival's whole classifier as one file, and describe it."""
    tensors = _classifier_tensors(trained, base)
    data = save(tensors)
    head_bytes = sum(4 * values.size for values in trained.head.values())
    values_bytes = 4 * base.layout.n_gated
    record = NewDiff(
        digest=hashlib.sha256(data).hexdigest(),
        kind="checkpoint",
        base_fingerprint=base.fingerprint,
        value_type="fp32",
        n_gated=base.layout.n_gated,
        n_entries=base.layout.n_gated,
        n_head_entries=sum(values.size for values in trained.head.values()),
        file_bytes=len(data),
        positions_bytes=0,
        values_bytes=values_bytes,
        head_bytes=head_bytes,
        metadata_bytes=len(data) - values_bytes - head_bytes,
        full_checkpoint_bytes=len(data),
        tensor_counts=base.layout.sizes,
    )
    return Artifact(data, record)


def pack_adapter(adapter: Adapter, base: Base) -> Artifact:
    """Describe the file that PEFT wrote of an adapter and the head."""
    tensors = load(adapter.weights)
    head = {name: t for name, t in tensors.items() if ".lora_" not in name}
    own = [tensor for name, tensor in tensors.items() if name not in head]
    head_bytes, values_bytes = sum(map(_bytes, head.values())), sum(map(_bytes, own))
    whole = {base.full_names[name]: tensor for name, tensor in base.tensors.items()}
    record = NewDiff(
        digest=hashlib.sha256(adapter.weights).hexdigest(),
        kind="adapter",
        base_fingerprint=base.fingerprint,
        value_type="fp32",
        n_gated=base.layout.n_gated,
        n_entries=sum(tensor.numel() for tensor in own),
        n_head_entries=sum(tensor.numel() for tensor in head.values()),
        file_bytes=len(adapter.weights),
        positions_bytes=0,
        values_bytes=values_bytes,
        head_bytes=head_bytes,
        metadata_bytes=len(adapter.weights) - values_bytes - head_bytes,
        full_checkpoint_bytes=checkpoint_bytes(
            whole | {name.removeprefix(_PEFT_PREFIX): tensor for name, tensor in head.items()}
        ),
        tensor_counts=(),  # its numbers are no entries of the base's tensors
    )
    return Artifact(adapter.weights, record)


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _classifier_tensors(trained: Trained, base: Base) -> dict[str, torch.Tensor]:
    backbone = trained.backbone or base.tensors
    named = {base.full_names[name]: tensor for name, tensor in backbone.items()}
    return named | {name: torch.from_numpy(values) for name, values in trained.head.items()}


def _full_bytes(trained: Trained, base: Base) -> int:
    return checkpoint_bytes(_classifier_tensors(trained, base))


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
        with adapted(model, Adapter(data, adapter_config)) as wrapped:
            yield Served(wrapped, None)
        return
    tensors = load(data)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[name])
    yield Served(model, None)
