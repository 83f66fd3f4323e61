"""The file of an adapter: PEFT's tensors, head included, and PEFT's settings in its metadata.

It is PEFT's own `adapter_model.safetensors`, with the content of `adapter_config.json` under one
key of the metadata, so that the file alone is enough and its size is all that an adapter costs.
Floating-point numbers are fp16. Settings that have no part in the answers are left out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save

from streamlab.errors import DiffError
from streamlab.hashing import canonical_json, parse_json
from streamlab.methods.peft_types import TYPES, AdapterType, stored_settings
from streamlab.problems import message

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS_FILE = "adapter_model.safetensors"  # PEFT's own names
CONFIG_FILE = "adapter_config.json"
_FLOATS = (torch.float16, torch.bfloat16, torch.float32)
_INTEGERS = (torch.uint8, torch.int16, torch.int32, torch.int64)
_SINGLE = tuple(kind.single for kind in TYPES.values() if kind.single)
_METADATA_KEY = "adapter_config"
# Of a name in the file before its name in the model: of a tuner, and of prompt tuning.
_PREFIXES = ("base_model.model.", "base_model.")


@dataclass(frozen=True)
class AdapterFile:
    """An adapter whose settings and tensors may be given to PEFT."""

    settings: Mapping[str, Any]
    tensors: Mapping[str, Tensor]  # by PEFT's names

    @property
    def name(self) -> str:
        """Return the name of the type."""
        return str(self.settings["peft_type"]).lower()

    @property
    def kind(self) -> AdapterType:
        """Return what is known of the type."""
        return TYPES[self.name]

    def head(self, names: Collection[str]) -> dict[str, Tensor]:
        """Return the tensors of the task's head by the model's `names` of them.

        Raises DiffError where one is missing.
        """
        found = {}
        for name in names:
            place = next((p + name for p in _PREFIXES if p + name in self.tensors), None)
            if place is None:
                raise DiffError(f"The adapter lacks `{name}` of the task's head.")
            found[name] = self.tensors[place]
        return found

    def without_head(self, names: Collection[str]) -> dict[str, Tensor]:
        """Return the tensors of the adapter itself, by PEFT's names."""
        head = {prefix + name for name in names for prefix in _PREFIXES}
        return {name: tensor for name, tensor in self.tensors.items() if name not in head}

    def write_to(self, folder: Path, *, base: str | None = None) -> None:
        """Write the two files that `PeftModel.from_pretrained` reads.

        `base`: the name of the model, for those who look for it.
        """
        named = {} if base is None else {"base_model_name_or_path": base}
        config = {"inference_mode": True, **named, **self.settings}
        (folder / WEIGHTS_FILE).write_bytes(save(dict(self.tensors), metadata={"format": "pt"}))
        (folder / CONFIG_FILE).write_text(canonical_json(config), encoding="utf-8")


def rounded(tensor: Tensor) -> Tensor:
    """Return a tensor as it is stored: fp16 unless it is of integers, or beyond fp16's range."""
    half = tensor.half() if tensor.is_floating_point() else tensor
    return half if bool(half.isfinite().all()) else tensor


def write_adapter(
    tensors: Mapping[str, Tensor], settings: Mapping[str, Any], *, exact: bool = False
) -> bytes:
    """Write an adapter as one file, in fp16 unless the numbers are to be `exact`."""
    stored = {
        name: (tensor if exact or name.endswith(_SINGLE) else rounded(tensor.detach()))
        .cpu()
        .contiguous()
        .clone()
        for name, tensor in tensors.items()
    }
    return save(stored, metadata={_METADATA_KEY: canonical_json(settings)})


def read_adapter(data: bytes) -> AdapterFile:
    """Read an adapter that may come from a stranger.

    Raises DiffError for anything but tensors of finite numbers with settings that are known, in
    their bounds. Whether they fit a model is for `adapted` to find out.
    """
    try:
        tensors = load(data)
        size = int.from_bytes(data[:8], "little")
        metadata = parse_json(data[8 : 8 + size]).get("__metadata__") or {}
        settings = parse_json(metadata[_METADATA_KEY])
    except SafetensorError as error:
        raise DiffError(f"The artifact is not a safetensors file: {error}.") from error
    except (KeyError, ValueError) as error:
        raise DiffError(
            f"The adapter has no settings of PEFT under `{_METADATA_KEY}` in its metadata."
        ) from error
    file = AdapterFile(_checked_settings(settings), tensors)
    for name, tensor in tensors.items():
        if tensor.dtype not in (*_FLOATS, *_INTEGERS):
            raise DiffError(f"The adapter's `{name}` is {tensor.dtype}, which is not used.")
        integers = not tensor.is_floating_point()
        if integers and not (file.kind.positions or file.settings.get("save_only_topk_weights")):
            raise DiffError(f"The adapter's `{name}` is {tensor.dtype}; it must be floating-point.")
        if not bool(tensor.isfinite().all()):
            raise DiffError(f"The adapter's `{name}` holds NaN or infinite numbers.")
    return file


def _checked_settings(given: Any) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise DiffError(f"PEFT's settings of the adapter must be a mapping, got {given!r:.60}.")
    kind = given.get("peft_type")
    if not isinstance(kind, str) or kind.lower() not in TYPES or kind != kind.upper():
        raise DiffError(
            f"An adapter of the type {kind!r:.60} is not used: what it asks for cannot be bounded "
            f"or tested. Known: {', '.join(sorted(TYPES)).upper()}."
        )
    try:
        checked = stored_settings(kind.lower()).model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        unknown = first["type"] == "extra_forbidden"
        reason = " must be left out" if unknown else f": {message(first)}"
        raise DiffError(f"PEFT's settings of the adapter: `{place:.100}`{reason}.") from error
    return checked.model_dump(mode="json", exclude_unset=True)
