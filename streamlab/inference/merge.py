"""A task's model as a folder of its own, which `transformers` loads and nothing here is needed for.

The base and the diff in one, bit for bit what they are together; with the task's labels in the
configuration and the base's tokenizer, which cuts at the length of the training.
"""

from __future__ import annotations

import copy
import os
import shutil
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamlab.base import quiet_transformers
from streamlab.errors import StoreError, UsageError
from streamlab.files import TEMPORARY_PREFIX, sync_folder
from streamlab.inference.model import LoadedBase

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PretrainedConfig, PreTrainedModel

    from streamlab.inference.stored_task import ServedTask, StoredTask, TaskDescription


@dataclass(frozen=True)
class Merged:
    """A folder that was written, and what is in it."""

    folder: Path
    facts: TaskDescription
    n_changed: int  # backbone weights that differ from the base's
    n_bytes: int  # of all files


def check_free(folder: Path) -> None:
    """Raise UsageError where something is in the way of a new folder; an empty one is not."""
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        raise UsageError(
            f"{folder} is there already and not an empty folder; nothing is written over. Name "
            "another folder, or remove it first."
        )


def merge_to(base: LoadedBase, task: StoredTask, folder: Path) -> Merged:
    """Write the model that a base and a stored diff make into `folder`, whole or not at all.

    What was written is loaded and compared bit for bit before the folder gets its name. Raises
    UsageError where something is in the way, StoreError where the disk refuses or the files do
    not give the model back, and what putting the diff on raises.
    """
    check_free(folder)
    own = LoadedBase(base.base)  # its configuration becomes the task's
    folder = folder.absolute()
    aside = folder.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")
    try:
        with task.applied(own) as served:
            _describe(served.model.config, served.facts, task)
            _write(served, aside)
            _prove(served.model, aside)
            n_bytes = _synced(aside)
            check_free(folder)  # the writing took a while
            aside.replace(folder)
            sync_folder(folder.parent)
            return Merged(folder, served.facts, served.on.n_changed, n_bytes)
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written: {error.strerror or error}. Nothing was left "
            "half-written. Free some space, or name another folder."
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _describe(config: PretrainedConfig, facts: TaskDescription, task: StoredTask) -> None:
    """Make a base's configuration that of the task."""
    facts.type.configure(config, facts.labels)
    # Where the folder came from goes with it.
    config.streamlab = {
        "task": facts.task,
        "diff": task.artifact.diff.digest,
        "base": task.base_fingerprint,
    }


def _write(served: ServedTask, folder: Path) -> None:
    from safetensors import SafetensorError

    tokenizer = copy.deepcopy(served.loaded.tokenizer)
    tokenizer.model_max_length = served.facts.max_length
    folder.mkdir(parents=True)
    try:
        with quiet_transformers():
            served.model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    mode = (folder / "config.json").stat().st_mode
    for path in folder.iterdir():
        path.chmod(mode)  # the library keeps weights from everybody but their owner


def _prove(model: PreTrainedModel, folder: Path) -> None:
    """Load what was written and compare it with the model. Raises StoreError."""
    import torch
    from transformers import AutoModelForSequenceClassification

    with quiet_transformers():
        again = AutoModelForSequenceClassification.from_pretrained(folder)
    found = dict(again.named_parameters())
    for name, tensor in model.named_parameters():
        other = found.get(name)
        if other is None or other.dtype != tensor.dtype or not torch.equal(other, tensor):
            raise StoreError(
                f"The files written do not give `{name}` back bit for bit; nothing was kept."
            )


def _synced(folder: Path) -> int:
    """Flush every file to the disk, and return how many bytes they are."""
    n_bytes = 0
    for path in (path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            n_bytes += os.fstat(file.fileno()).st_size
    sync_folder(folder)
    return n_bytes
