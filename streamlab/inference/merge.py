"""Merge a stored diff into its base: a model folder that `transformers` loads by itself.

It reproduces base and diff bit for bit, with the task's labels in the configuration and the base's
tokenizer, which truncates at the maximum length of the training.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamlab.base import quiet_transformers
from streamlab.errors import StoreError, UsageError
from streamlab.files import atomic_folder, disk_errors
from streamlab.inference.model import LoadedBase

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PretrainedConfig

    from streamlab.inference.stored_task import ServedTask, StoredTask, TaskDescription


@dataclass(frozen=True)
class Merged:
    """A model folder that was written."""

    folder: Path
    model_class: str  # of `transformers`, that loads it
    n_changed: int  # backbone weights that differ from the base's
    n_bytes: int  # of all files


def check_free(folder: Path) -> None:
    """Raise UsageError unless `folder` is absent or empty."""
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        raise UsageError(
            f"{folder} exists and is not an empty folder; nothing is overwritten. Name another "
            "folder, or remove it first."
        )


def merge_to(base: LoadedBase, task: StoredTask, folder: Path) -> Merged:
    """Write the model of a base and a stored diff into `folder`, atomically.

    The files are loaded and compared bit for bit before the folder gets its name. Raises
    UsageError if `folder` has content, StoreError where it cannot be written or the files do not
    reproduce the model, and what applying the diff raises.
    """
    check_free(folder)
    own = LoadedBase(base.base)  # a classifier of its own, whose configuration is changed
    folder = folder.absolute()
    with task.applied(own) as served, atomic_folder(folder) as temporary:
        _describe(served.model.config, served.description, task)
        with disk_errors(folder):
            _write(served, temporary)
        _verify(served, temporary)
        n_bytes = sum(path.stat().st_size for path in temporary.rglob("*") if path.is_file())
        check_free(folder)  # writing took a while
    model_class = served.description.type.model_class
    return Merged(folder, model_class, served.on.n_changed, n_bytes)


def _describe(config: PretrainedConfig, description: TaskDescription, task: StoredTask) -> None:
    """Turn a base's configuration into that of the task."""
    description.type.configure(config, description.labels)
    # The provenance of the folder.
    config.streamlab = {
        "task": description.task,
        "diff": task.artifact.diff.digest,
        "base": task.base_fingerprint,
    }


def _write(served: ServedTask, folder: Path) -> None:
    from safetensors import SafetensorError

    tokenizer = copy.deepcopy(served.loaded.tokenizer)
    tokenizer.model_max_length = served.description.max_length
    try:
        with quiet_transformers():
            served.model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    mode = (folder / "config.json").stat().st_mode
    for path in folder.iterdir():
        path.chmod(mode)  # the library makes weights readable by their owner only


def _verify(served: ServedTask, folder: Path) -> None:
    """Load the files written and compare them with the model. Raises StoreError."""
    import torch
    import transformers

    model, base = served.model, served.loaded.base
    model_class = served.description.type.model_class
    with quiet_transformers():
        again = getattr(transformers, model_class).from_pretrained(folder)
    found = dict(again.named_parameters())
    # A pooler, which this class of models leaves out.
    unused = {base.full_names[name] for name in base.parts(model_class).unused}
    for name, tensor in model.named_parameters():
        if name in unused:
            continue
        other = found.get(name)
        if other is None or other.dtype != tensor.dtype or not torch.equal(other, tensor):
            raise StoreError(
                f"The files written do not reproduce `{name}` bit for bit; nothing was kept."
            )
