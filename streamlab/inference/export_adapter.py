"""Export stored artifacts as adapters of the PEFT library, where they are exactly that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamlab.errors import DiffError
from streamlab.files import atomic_folder, disk_errors
from streamlab.inference.import_adapter import MODEL_CLASSES
from streamlab.inference.merge import check_free
from streamlab.methods.adapter_file import read_adapter
from streamlab.methods.shira import shira_adapter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from streamlab.inference.model import LoadedBase
    from streamlab.inference.stored_task import StoredTask
    from streamlab.methods.adapter_file import AdapterFile


def export_adapter(
    stored: StoredTask, folder: Path, *, base_name: str, load_base: Callable[[], LoadedBase]
) -> None:
    """Write the two files that PEFT reads into a new folder.

    An adapter is written as it is stored, and a diff as a SHiRA adapter; `load_base` is asked for
    the latter alone. `base_name`: the model that the settings name. Raises UsageError if `folder`
    has content, DiffError for an artifact that is no adapter, saying why, and StoreError.
    """
    check_free(folder)
    adapter = _adapter_of(stored, load_base)
    with atomic_folder(folder) as temporary, disk_errors(folder):
        adapter.write_to(temporary, base=base_name)


def _adapter_of(stored: StoredTask, load_base: Callable[[], LoadedBase]) -> AdapterFile:
    record = stored.artifact.diff
    if record.kind == "adapter":
        return read_adapter(stored.store.get(record.digest))
    if record.kind != "diff":
        raise DiffError(
            f"The artifact {record.digest[:12]} is a {record.kind}, not an adapter or a diff. Name "
            "a task of a method that trains one."
        )
    model_class = stored.description().type.model_class
    task_type = next(name for name, known in MODEL_CLASSES.items() if known == model_class)
    loaded = load_base()
    loaded.become(model_class)
    diff = stored.diff(loaded.base.layout)
    return shira_adapter(diff, loaded.model, loaded.base.full_names, task_type=task_type)
