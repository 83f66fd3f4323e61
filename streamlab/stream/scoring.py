"""Scores, always from stored bytes: read, checked, decoded, put on a fresh base, asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamlab.base import Base
from streamlab.errors import StoreError
from streamlab.home.store import ArtifactStore
from streamlab.inference.model import logits
from streamlab.methods.api import TrainingSettings
from streamlab.registry.records import ArtifactKind, NewScore
from streamlab.stream.artifacts import Served, serving
from streamlab.stream.context import EncodedTask, fresh_model
from streamlab.stream.environment import describe_environment
from streamlab.tasks.batches import Encoded


def score_stored(
    digest: str,
    kind: ArtifactKind,
    task: EncodedTask,
    base: Base,
    training: TrainingSettings,
    store: ArtifactStore,
    *,
    after_sequence: int,
    facts: Mapping[str, Any],
    splits: tuple[str, ...] = ("dev", "validation"),
) -> list[NewScore]:
    """Score a stored artifact on a task's splits; see `stored_outputs`."""
    outputs = stored_outputs(digest, kind, task, base, training, store, facts=facts, splits=splits)
    return [
        NewScore(
            metric=metric,
            value=value,
            split=split,
            n_rows=len(rows.labels),
            after_sequence=after_sequence,
            is_primary=metric == task.data.metrics[0].name,
        )
        for split, (rows, found) in outputs.items()
        for metric, value in task.data.score(found, rows.labels).items()
    ]


def stored_outputs(
    digest: str,
    kind: ArtifactKind,
    task: EncodedTask,
    base: Base,
    training: TrainingSettings,
    store: ArtifactStore,
    *,
    facts: Mapping[str, Any],
    splits: tuple[str, ...] = ("dev", "validation"),
) -> dict[str, tuple[Encoded, NDArray[np.float32]]]:
    """Put a stored artifact on the base; return the rows of each split that has any, and outputs.

    `facts`: what was recorded beside it; `probe` by `take_probe`, of a diff, and PEFT's settings as
    `adapter_config`, of an adapter. The head under it comes from another seed than any
    training's, so that a head that was not stored could not go unnoticed.
    Raises StoreError or DiffError where the bytes cannot be used, or do something else than they
    did when they were made.
    """
    model = fresh_model(base, task.data, training, seed=0)
    config = facts.get("adapter_config")
    with serving(model, store.get(digest), kind, digest, base, config) as served:
        if "probe" in facts:
            check_probe(served, task, training, facts["probe"], digest=digest)
        return {
            split: (rows, logits(served.model, rows))
            for split, rows in (("dev", task.dev), ("validation", task.validation))
            if split in splits and len(rows.labels)
        }


N_ROWS = 8


def take_probe(served: Served, task: EncodedTask, training: TrainingSettings) -> dict[str, Any]:
    """Return what is recorded of a model with a diff on it."""
    rows = task.validation if len(task.validation.labels) else task.train
    outputs = logits(served.model, rows.first(N_ROWS))
    return {
        "n_changed": served.n_changed,
        "n_rows": len(outputs),
        "sha256": hashlib.sha256(outputs.tobytes()).hexdigest(),
        "machine": _machine(training),
    }


def check_probe(
    served: Served,
    task: EncodedTask,
    training: TrainingSettings,
    recorded: Mapping[str, Any],
    *,
    digest: str,
) -> None:
    """Compare a model with a diff on it with what was recorded. Raises StoreError."""
    found = take_probe(served, task, training)
    if found["machine"] != recorded["machine"]:
        found["sha256"] = recorded["sha256"]
    for name in ("n_changed", "sha256"):
        if found[name] != recorded[name]:
            raise StoreError(
                f"The artifact {digest} does not do what it did when it was made: its "
                f"`{name}` is {found[name]}, and {recorded[name]} was recorded. The base or the "
                "code that applies a diff is not the one it was made with; train the task again."
            )


def _machine(training: TrainingSettings) -> str:
    text = json.dumps(describe_environment(training), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
