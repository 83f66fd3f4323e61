"""Artifact kinds: how a diff, a checkpoint and an adapter are read, described and put on a model.

A kind is one class; `read_artifact` finds it by its name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from streamlab.base import (
    MODEL_CLASS,
    SAFETENSORS_TYPES,
    Base,
    ModelParts,
    checkpoint_bytes,
    kind_of,
)
from streamlab.diff.apply import applied
from streamlab.diff.format.container import decode, open_diff
from streamlab.diff.vector import DiffVector
from streamlab.errors import DiffError, StoreError
from streamlab.exact.change_file import MAGIC, Change, decode_change, encode_change
from streamlab.exact.coder import Bytes, ChangeWriter, Kind
from streamlab.exact.tensor_files import TensorsInMemory
from streamlab.methods.adapter_file import AdapterFile, read_adapter
from streamlab.methods.api import Checkpoint
from streamlab.methods.peft import adapted
from streamlab.registry.records import ArtifactKind, NewDiff, describe_diff

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Tensors = Mapping[str, torch.Tensor]

_DTYPES: Final = {kind: getattr(torch, name) for name, kind in SAFETENSORS_TYPES.items()}


@dataclass(frozen=True)
class Served:
    """A model with an artifact on it, and how many backbone weights a diff changed; else None."""

    model: PreTrainedModel
    n_changed: int | None


class Artifact(Protocol):
    """The bytes of one artifact, read and checked against a base."""

    def describe(self) -> NewDiff:
        """Describe the artifact for the registry by its bytes alone."""
        ...

    def applied_to(self, model: PreTrainedModel) -> AbstractContextManager[Served]:
        """Put the artifact on a clean model; only a diff is taken off again at the end.

        Raises DiffError where it does not fit.
        """
        ...


@dataclass(frozen=True)
class DiffArtifact:
    """A diff file and the diff it was decoded to."""

    data: bytes
    base: Base
    diff: DiffVector

    def describe(self) -> NewDiff:
        """See `Artifact`."""
        head = {name: torch.from_numpy(values.copy()) for name, values in self.diff.head.items()}
        file = open_diff(self.data, max_bytes=len(self.data))
        return describe_diff(self.diff, file, full_bytes=_full_bytes(self.base, head))

    @contextmanager
    def applied_to(self, model: PreTrainedModel) -> Iterator[Served]:
        """See `Artifact`."""
        with applied(model, self.diff) as on:
            yield Served(model, on.n_changed)


@dataclass(frozen=True)
class CheckpointArtifact:
    """A whole model without what is frozen: a safetensors file, or its exact difference.

    `change`: of a difference.
    """

    data: bytes
    base: Base
    parts: ModelParts
    tensors: Tensors
    change: Change | None = None

    def describe(self) -> NewDiff:
        """See `Artifact`; of a difference, the head takes what it takes alone."""
        backbone = [self.tensors[name] for name in self.base.full_names.values()]
        names = self.tensors.keys() - self.base.full_names.values()
        head = {name: self.tensors[name] for name in names}
        counts, size = self.base.layout.sizes, len(self.data)
        if self.change is None:
            return _describe("checkpoint", self.data, self.base, backbone, head, counts, size)
        whole = checkpoint_bytes(self.tensors)
        described = _describe("checkpoint", self.data, self.base, backbone, head, counts, whole)
        head_bytes = _bytes_alone(head)
        description_bytes = self.change.description_bytes
        return replace(
            described,
            head_bytes=head_bytes,
            values_bytes=size - head_bytes - description_bytes,
            metadata_bytes=description_bytes,
        )

    @contextmanager
    def applied_to(self, model: PreTrainedModel) -> Iterator[Served]:
        """See `Artifact`."""
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in self.parts.frozen:
                    continue
                _check_tensor(self.tensors, name, tuple(parameter.shape))
                parameter.copy_(self.tensors[name])
        yield Served(model, None)


@dataclass(frozen=True)
class AdapterArtifact:
    """An adapter of PEFT's with its settings, head included."""

    data: bytes
    base: Base
    parts: ModelParts
    file: AdapterFile

    def describe(self) -> NewDiff:
        """See `Artifact`; the entries of an adapter are not entries of the base's tensors.

        Its settings count as metadata, and integers as positions: they index the base.
        """
        names = self.parts.head
        adapter = self.file.without_head(names).values()
        head = self.file.head(names)
        full_bytes = _full_bytes(self.base, {name: t.float() for name, t in head.items()})
        return _describe("adapter", self.data, self.base, adapter, head, (), full_bytes)

    @contextmanager
    def applied_to(self, model: PreTrainedModel) -> Iterator[Served]:
        """See `Artifact`."""
        with adapted(model, self.file, longest=self.base.max_length) as wrapped:
            yield Served(wrapped, None)


def read_artifact(
    kind: ArtifactKind,
    data: bytes,
    base: Base,
    *,
    model_class: str = MODEL_CLASS,
    digest: str | None = None,
) -> Artifact:
    """Read an artifact of a base.

    `model_class`: of `transformers`, as the task's type has it. `digest`: that of stored bytes, to
    be compared. Raises StoreError for another digest, DiffError for bytes that are no such
    artifact.
    """
    if digest is not None and hashlib.sha256(data).hexdigest() != digest:
        raise StoreError(f"The artifact {digest} does not have its digest. Restore the file.")
    parts = base.parts(model_class)
    match kind:
        case "diff":
            return DiffArtifact(data, base, decode(data, base.layout))
        case "checkpoint":
            change, tensors = _load(data, base)
            for name, full in base.full_names.items():
                _check_tensor(tensors, full, tuple(base.tensors[name].shape))
            return CheckpointArtifact(data, base, parts, tensors, change)
        case "adapter":
            file = read_adapter(data)
            file.head(parts.head)
            return AdapterArtifact(data, base, parts, file)


def checkpoint_of(trained: Checkpoint, base: Base, *, as_difference: bool) -> bytes:
    """Write a baseline's whole model as one file, or as its exact difference from the base."""
    head = {name: torch.from_numpy(values) for name, values in trained.head.items()}
    whole = {base.full_names[name]: tensor for name, tensor in trained.backbone.items()} | head
    if not as_difference:
        return save(whole)
    return encode_change(_backbone(base), _in_memory(whole))


def _load(data: bytes, base: Base) -> tuple[Change | None, Tensors]:
    """Return a checkpoint's tensors, and the difference that they were stored as, if any."""
    if data.startswith(MAGIC):
        change, found = decode_change(_backbone(base), data)
        return change, {name: _tensor(*one) for name, one in found.tensors.items()}
    try:
        return None, load(data)
    except SafetensorError as error:
        raise DiffError(f"The artifact is not a safetensors file: {error}.") from error


def _backbone(base: Base) -> TensorsInMemory:
    """Return the base's tensors by their names in a classifier."""
    return _in_memory({base.full_names[name]: tensor for name, tensor in base.tensors.items()})


def _in_memory(tensors: Tensors) -> TensorsInMemory:
    found = {}
    for name, tensor in tensors.items():
        flat = tensor.detach().contiguous().reshape(-1)
        found[name] = kind_of(tensor), flat.view(torch.uint8).numpy()
    return TensorsInMemory(dict(sorted(found.items())))


def _tensor(kind: Kind, data: Bytes) -> torch.Tensor:
    return torch.from_numpy(data).view(_DTYPES[kind.dtype]).reshape(kind.shape)


def _bytes_alone(tensors: Tensors) -> int:
    """Return the bytes that new tensors take as changes."""
    writer = ChangeWriter()
    for kind, data in _in_memory(tensors).tensors.values():
        writer.write(None, data, kind)
    return len(writer.finish())


def _check_tensor(tensors: Tensors, name: str, shape: tuple[int, ...]) -> None:
    if name not in tensors or tuple(tensors[name].shape) != shape:
        raise DiffError(f"The checkpoint has no `{name}` of the shape {shape}.")


def _describe(
    kind: ArtifactKind,
    data: bytes,
    base: Base,
    own: Collection[torch.Tensor],
    head: Tensors,
    counts: tuple[int, ...],
    full_bytes: int,
) -> NewDiff:
    values = [tensor for tensor in own if tensor.is_floating_point()]
    values_bytes, head_bytes = _n_bytes(values), _n_bytes(head.values())
    positions_bytes = _n_bytes(own) - values_bytes
    return NewDiff(
        digest=hashlib.sha256(data).hexdigest(),
        kind=kind,
        base_fingerprint=base.fingerprint,
        value_type="fp16" if all(t.dtype == torch.float16 for t in values) else "fp32",
        n_gated=base.layout.n_gated,
        n_entries=sum(tensor.numel() for tensor in values),
        n_head_entries=sum(tensor.numel() for tensor in head.values()),
        file_bytes=len(data),
        positions_bytes=positions_bytes,
        values_bytes=values_bytes,
        head_bytes=head_bytes,
        metadata_bytes=len(data) - positions_bytes - values_bytes - head_bytes,
        full_checkpoint_bytes=full_bytes,
        tensor_counts=counts,
    )


def _n_bytes(tensors: Collection[torch.Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def _full_bytes(base: Base, head: Tensors) -> int:
    """Return the bytes of a whole checkpoint of the base under a head."""
    backbone = {base.full_names[name]: tensor for name, tensor in base.tensors.items()}
    tensors = (backbone | dict(head)).items()
    outline = ((name, tuple(tensor.shape), base.dtype) for name, tensor in tensors)
    return _file_bytes(tuple(outline))


@lru_cache(maxsize=16)  # writing a file to learn its size takes as long as scoring a small task
def _file_bytes(outline: tuple[tuple[str, tuple[int, ...], torch.dtype], ...]) -> int:
    zeros = {name: torch.zeros(shape, dtype=dtype) for name, shape, dtype in outline}
    return checkpoint_bytes(zeros)
