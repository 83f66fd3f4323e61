"""Import an adapter of the PEFT library: SHiRA as a diff, all others as they are.

The folder is treated as hostile, as a diff file is; its base must be given or be the only one in
the registry, since PEFT names a base and does not identify it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from streamlab.base import MODEL_CLASS, Base, BaseSettings, load_base
from streamlab.diff.checkpoints import PretrainedDiff
from streamlab.errors import UsageError
from streamlab.home.import_home import Imported
from streamlab.inference.artifact_kinds import read_artifact
from streamlab.inference.import_file import keep_artifact, run_of_artifact
from streamlab.inference.model import load_recorded_base
from streamlab.methods.adapter_file import AdapterFile, read_adapter
from streamlab.methods.adapter_folder import read_adapter_folder
from streamlab.methods.shira import shira_diff
from streamlab.registry.records import describe_base
from streamlab.registry.registry import Registry
from streamlab.registry.schema import check_place
from streamlab.tasks.types import TASK_TYPES

if TYPE_CHECKING:
    from streamlab.diff.format.values import ValueType
    from streamlab.home.folder import Home
    from streamlab.registry.records import NewDiff

# PEFT's names for the models of tasks, and their classes in `transformers`.
MODEL_CLASSES: Final = MappingProxyType(
    {
        "SEQ_CLS": MODEL_CLASS,
        "TOKEN_CLS": TASK_TYPES["tokens"].model_class,
        "CAUSAL_LM": TASK_TYPES["causal_lm"].model_class,
    }
)


@dataclass(frozen=True)
class ImportedAdapter:
    """An adapter that was imported, and what it took and takes."""

    imported: Imported
    diff: NewDiff
    folder_bytes: int  # of PEFT's two files


def import_adapter(
    home: Home,
    url: str,
    folder: Path,
    *,
    provider: str,
    task: str | None = None,
    labels: Sequence[str] = (),
    model: str | None = None,
    value_type: ValueType | None = None,
    store_url: str | None = None,
) -> ImportedAdapter:
    """Check an adapter, store it and record it as a run with one arrival, without a score.

    `task`: default: the folder's name. `labels`: default: LABEL_0, LABEL_1, ... `value_type`: of a
    diff; default: the narrowest that holds every value bit for bit. Other parameters are those of
    `import_file`. It is put on the base once before it is stored. Raises SourceError where the
    folder or the base cannot be read, UsageError for an unknown base or labels that do not fit, and
    DiffError for an adapter that is not used or does not fit.
    """
    data = read_adapter_folder(folder)
    file = read_adapter(data)
    base = _base(home, url, model)
    model_class = MODEL_CLASSES[file.settings["task_type"]]
    head = base.parts(model_class).head
    described = _described(file, head, task or folder.resolve().name, labels, base.max_length)
    if file.name == "shira":
        diff = PretrainedDiff.of(shira_diff(file, base, head, described))
        data = diff.encoded(value_type or diff.narrowest_type()).data
        artifact = read_artifact("diff", data, base, model_class=model_class)
    else:
        if value_type is not None:
            raise UsageError("`--values` are for adapters that become a diff (SHiRA).")
        artifact = read_artifact("adapter", data, base, model_class=model_class)
    n_outputs = max(1, len(described["labels"]))
    with artifact.applied_to(base.build(n_outputs=n_outputs, seed=0, model_class=model_class)):
        pass  # so it fits
    new = artifact.describe()
    run = run_of_artifact(
        folder, describe_base(base), new, described, provider=provider, task=described["task"]
    )
    imported = keep_artifact(home, url, data, lambda _here: run, store_url=store_url)
    size = sum(path.stat().st_size for path in folder.glob("adapter_*"))
    return ImportedAdapter(imported, new, size)


def _base(home: Home, url: str, model: str | None) -> Base:
    """Load the base that is given, or the only one that is recorded."""
    if model is not None:
        return load_base(BaseSettings(model=model).placed(Path.cwd()), seed=0)
    exists = check_place(url, home=home.path)
    with Registry.open(url, clock=time.time, read_only=True) if exists else nullcontext() as here:
        known = () if here is None else here.bases.list()
        if here is None or len(known) != 1:
            raise UsageError(
                f"Say which base the adapter was trained on by `--base MODEL`; {len(known)} are "
                "recorded here."
            )
        return load_recorded_base(here, known[0].fingerprint).base


def _described(
    file: AdapterFile, head_names: Sequence[str], name: str, labels: Sequence[str], max_length: int
) -> dict[str, Any]:
    """Return the description of the adapter's task, by its task type and the width of its head."""
    head = file.head(head_names)
    width = head[head_names[-1]].shape[0] if head_names else 0
    if labels and len(labels) != width:
        raise UsageError(
            f"{len(labels)} labels are given, and the adapter's head has {width} outputs. Give one "
            "for each by `--labels a,b,...`."
        )
    kind = {"TOKEN_CLS": "tokens", "CAUSAL_LM": "causal_lm"}.get(file.settings["task_type"])
    kind = kind or ("regression" if width == 1 else "classification")
    named = [*labels] or [f"LABEL_{place}" for place in range(width)]
    return {
        "task": name,
        "kind": kind,
        "labels": named if kind in ("classification", "tokens") else [],
        "max_length": max_length,
    }
