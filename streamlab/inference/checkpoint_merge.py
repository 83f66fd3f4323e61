"""Merge a diff file into the checkpoint of its base, one tensor at a time.

Neither the base nor the result has to fit into memory.
"""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any, Final

from streamlab.base import (
    MODEL_CLASS,
    BaseSettings,
    auto_class,
    quiet_transformers,
    safetensors_header,
)
from streamlab.checkpoint import StoredTensors, open_checkpoint
from streamlab.diff.apply import changed_tensor
from streamlab.diff.checkpoints import Weights, backbone_of, layout_of, tokenizer_beside
from streamlab.diff.format.container import open_diff
from streamlab.errors import DiffError, StoreError
from streamlab.files import atomic_folder, disk_errors
from streamlab.hashing import fingerprint_tensors, split_head
from streamlab.inference.described_task import model_class_of
from streamlab.inference.merge import Merged, check_free
from streamlab.inference.stored_task import parse_description

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedModel

    from streamlab.diff.vector import DiffVector
    from streamlab.inference.stored_task import TaskDescription

_MOST_FILE_BYTES: Final = 5 * 10**9  # of a file of the result, as the library writes them


def merge_file(base: BaseSettings, data: bytes, folder: Path) -> Merged:
    """Write the model of a base's checkpoint and a diff file into `folder`, atomically.

    It has the checkpoint's dtype, and the labels and the tokenizer's length of the file's task, if
    the file describes one. Every tensor is read back and compared. Raises UsageError if `folder`
    has content, BaseMismatchError for a diff of another base, DiffFormatError for an invalid file,
    and StoreError where the folder cannot be written.
    """
    check_free(folder)
    file = open_diff(data)
    task = file.header.task
    description = parse_description(task) if "kind" in task else None
    generates = description is not None and description.type.generates

    def with_own_head(config: PretrainedConfig) -> str | None:
        return model_class_of(config) if generates else None

    weights = open_checkpoint(base, model_class=with_own_head).weights
    diff = file.decode(layout_of(weights))
    model = _outline(weights.model, diff, description)
    model.config.streamlab = {
        "task": diff.task.get("task"),
        "diff": file.digest,
        "base": diff.layout.fingerprint,
    }
    merged = _MergedTensors(weights, diff, model)
    folder = folder.absolute()
    with atomic_folder(folder) as temporary:
        with disk_errors(folder):
            _write_tensors(merged, model, temporary)
            _write_others(weights.model, model, temporary, description)
        n_bytes = sum(path.stat().st_size for path in temporary.rglob("*") if path.is_file())
        check_free(folder)  # writing took a while
    known = MODEL_CLASS if diff.head else type(model).__name__
    model_class = known if description is None else description.type.model_class
    return Merged(folder, model_class, merged.n_changed, n_bytes)


class _MergedTensors:
    """The tensors of the result by name, made when they are asked for."""

    def __init__(self, weights: Weights, diff: DiffVector, model: PreTrainedModel) -> None:
        self._own, self._backbone, self._diff = weights.tensors, backbone_of(weights), diff
        self._entries = dict(zip(diff.layout.names, diff.tensors, strict=True))
        names = [name for name, _ in model.named_parameters()]
        self._backbone_name = {
            full: name
            for name, full in split_head(names, self._backbone, model.base_model_prefix)[0].items()
        }
        if model.base_model is model:
            self._backbone_name = {name: name for name in names}
        self.dtype = model.dtype
        self.n_changed = 0

    def __getitem__(self, name: str) -> Tensor:
        import torch

        if name in self._diff.head:
            return torch.from_numpy(self._diff.head[name].copy()).to(self.dtype)
        short = self._backbone_name.get(name)
        if short is None:
            if name not in self._own:
                raise DiffError(
                    f"Neither the base nor the diff has `{name}` of the result, which would be "
                    "random numbers. Create the diff again from a whole model."
                )
            return self._own[name]
        old = self._backbone[short]
        if short not in self._entries:  # such as a pooler that no classifier keeps
            return old
        new = changed_tensor(old, self._entries[short], self._diff.mode)
        if new is not old:
            self.n_changed += int((new != old).count_nonzero())
        return new


def _outline(
    base: PreTrainedModel, diff: DiffVector, description: TaskDescription | None
) -> PreTrainedModel:
    """Return the model of the result, without memory for its weights."""
    import torch

    config: PretrainedConfig = copy.deepcopy(base.config)
    if description is not None:
        description.type.configure(config, description.labels)
        make: Any = auto_class(description.type.model_class).from_config
    else:
        make = auto_class(MODEL_CLASS).from_config if diff.head else type(base)._from_config
    with quiet_transformers(), torch.device("meta"):
        model: PreTrainedModel = make(config, dtype=base.dtype)
        if description is None and diff.head:
            last = [name for name, _ in model.named_parameters() if name in diff.head][-1:]
            widths = [diff.head[name].shape[0] for name in last]
            if widths and widths != [config.num_labels]:
                config.num_labels = widths[0]  # which also numbers the labels
                model = make(config, dtype=base.dtype)
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    for name in model.state_dict().keys() - parameters:
        raise DiffError(
            f"A {config.model_type} model keeps numbers in the buffer `{name}`, which is not "
            "merged by tensor. Merge into a model in memory, by `DiffVector.merge_into`."
        )
    model.config.architectures = [type(model).__name__]
    return model


def _write_tensors(merged: _MergedTensors, model: PreTrainedModel, folder: Path) -> None:
    """Write files of tensors, and their index where there are several. Raises StoreError."""
    from huggingface_hub import split_torch_state_dict_into_shards
    from transformers.utils import SAFE_WEIGHTS_INDEX_NAME

    outlines: dict[str, Tensor] = {**dict(model.named_parameters())}
    split = split_torch_state_dict_into_shards(outlines, max_shard_size=_MOST_FILE_BYTES)
    for file_name, names in split.filename_to_tensors.items():
        _write_file(folder / file_name, {name: outlines[name] for name in names}, merged)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        text = json.dumps(index, indent=2, sort_keys=True)
        (folder / SAFE_WEIGHTS_INDEX_NAME).write_text(f"{text}\n", encoding="utf-8")


def _write_file(path: Path, outlines: Mapping[str, Tensor], merged: _MergedTensors) -> None:
    """Write a safetensors file and read it back, a tensor at a time.

    The library writes tensors that are all in memory.
    """
    import torch

    header, names = safetensors_header(outlines, {"format": "pt"})
    expected = {}
    with path.open("wb") as file:
        file.write(header)
        for name in names:
            tensor = merged[name].contiguous()
            expected[name] = fingerprint_tensors({name: tensor})
            file.write(tensor.view(-1).view(torch.uint8).numpy().data)
    written = StoredTensors({name: (path, name) for name in names}, merged.dtype)
    for name in names:
        if fingerprint_tensors({name: written[name]}) != expected[name]:
            raise StoreError(
                f"The files written do not reproduce `{name}` bit for bit; nothing was kept."
            )


def _write_others(
    base: PreTrainedModel,
    model: PreTrainedModel,
    folder: Path,
    description: TaskDescription | None,
) -> None:
    """Write the configuration and the base's tokenizer."""
    tokenizer = tokenizer_beside(base)
    with quiet_transformers():
        model.config.save_pretrained(folder)
        if tokenizer is not None:
            if description is not None:
                tokenizer.model_max_length = description.max_length
            tokenizer.save_pretrained(folder)
    mode = (folder / "config.json").stat().st_mode
    for path in folder.iterdir():
        path.chmod(mode)  # the library makes weights readable by their owner only
