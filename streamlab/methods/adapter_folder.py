"""Adapters as PEFT saves them: a folder with `adapter_config.json` and `adapter_model.safetensors`.

PEFT drops settings that it does not know with a warning, so that an adapter would answer otherwise
than it was trained. Here each setting is known, or has PEFT's default, or is refused by its name.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from streamlab.errors import DiffError, SourceError, StoreError, UsageError
from streamlab.files import read_beneath
from streamlab.hashing import parse_json
from streamlab.methods.adapter_file import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    read_adapter,
    write_adapter,
)
from streamlab.methods.peft_types import TYPES, stored_settings

_MOST_BYTES: Final = 1 << 30
_MOST_CONFIG_BYTES: Final = 1 << 20
# What an adapter's answers do not depend on: where it came from, and how it was trained.
_NOT_DECIDING: Final = frozenset(
    {"auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "runtime_config"}
    | {"init_weights", "init_lora_weights", "ensure_weight_tying", "eva_config", "corda_config"}
    | {"lora_ga_config", "layer_replication", "megatron_core", "arrow_config"}
)


def is_adapter_folder(folder: Path) -> bool:
    """Return whether PEFT has saved an adapter into a folder."""
    return (folder / CONFIG_FILE).is_file()


def read_adapter_folder(folder: Path) -> bytes:
    """Return an adapter of PEFT as one file, with the numbers that the folder has.

    Raises SourceError where a file is missing or cannot be read, UsageError where PEFT is not
    installed, and DiffError for settings or tensors that are not used, naming them.
    """
    config, weights = (
        _read(folder, name, most)
        for name, most in ((CONFIG_FILE, _MOST_CONFIG_BYTES), (WEIGHTS_FILE, _MOST_BYTES))
    )
    try:
        given = parse_json(config)
        tensors = load(weights)
    except (ValueError, SafetensorError) as error:
        raise SourceError(f"The adapter in {folder} cannot be read: {error}.") from error
    if not isinstance(given, dict):
        raise SourceError(f"{folder / CONFIG_FILE} must hold an object, got {given!r:.60}.")
    settings = _deciding(given)
    for name, tensor in tensors.items():
        if name.endswith("_indices") and tensor.is_floating_point():  # as PEFT writes on Windows
            whole = tensor.to(torch.int32)
            if not torch.equal(whole.to(tensor.dtype), tensor):
                raise DiffError(f"The adapter's `{name}` has positions that are not whole numbers.")
            tensors[name] = whole
    copied = settings.get("modules_to_save", ())
    # PEFT names heads of every architecture, and saves those that the model has.
    held = {name.removeprefix("base_model.model.").partition(".")[0] for name in tensors}
    settings["modules_to_save"] = [name for name in copied if name in held]
    data = write_adapter(tensors, settings, exact=True)
    read_adapter(data)  # refuses what is not used
    return data


def _read(folder: Path, name: str, most_bytes: int) -> bytes:
    try:
        return read_beneath(folder.resolve(), (folder / name).resolve(), most_bytes=most_bytes)
    except (OSError, RuntimeError, StoreError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(
            f"{folder} is not a folder that PEFT has saved an adapter into: `{name}` cannot be "
            f"read ({reason})."
        ) from error


def _deciding(given: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that decide the answers. Raises DiffError for what is not known."""
    name = str(given.get("peft_type")).lower()
    if name not in TYPES:
        raise DiffError(
            f"An adapter of the type {given.get('peft_type')!r:.60} is not used. Known: "
            f"{', '.join(sorted(TYPES)).upper()}."
        )
    known = stored_settings(name).model_fields
    defaults, training = _defaults(name), TYPES[name].training
    kept = {}
    for key, value in given.items():
        if key in known:
            if value is not None:
                kept[key] = value
        elif key in training or key in _NOT_DECIDING:
            continue
        elif key not in defaults or (value or None) != (defaults[key] or None):
            raise DiffError(
                f"The adapter's setting `{key:.100}` is {value!r:.100}, which is not used. Merge "
                "the adapter into its model by `merge_and_unload`, and take the diff of that by "
                "`streamlab diff`."
            )
    return {"task_type": "SEQ_CLS"} | kept


def _defaults(name: str) -> dict[str, Any]:
    """Return the defaults of all settings of a type, as the installed PEFT has them."""
    try:
        from peft import PEFT_TYPE_TO_CONFIG_MAPPING
    except ImportError as error:
        raise UsageError(
            "Adapters need the PEFT library, which is not installed. Install it with "
            '`pip install "streamlab[peft]"`.'
        ) from error
    make: Any = PEFT_TYPE_TO_CONFIG_MAPPING
    found = {}
    for field in fields(make[name.upper()]):
        if callable(field.default_factory):
            found[field.name] = field.default_factory()
        else:
            found[field.name] = None if field.default is MISSING else field.default
    return found
