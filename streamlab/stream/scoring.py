"""Scores, always from stored bytes: read, checked, decoded, put on a fresh base, asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamlab.base import Base
from streamlab.home.store import ArtifactStore
from streamlab.inference.model import logits
from streamlab.methods.api import TrainingSettings
from streamlab.registry.records import ArtifactKind, NewScore
from streamlab.stream.artifacts import serving
from streamlab.stream.probe import check_probe
from streamlab.stream.providers.training import EncodedTask, fresh_model
from streamlab.tasks.batches import Encoded
from streamlab.tasks.metrics import score


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
            is_primary=metric == task.data.metrics[0],
        )
        for split, (rows, found) in outputs.items()
        for metric, value in score(task.data.metrics, found, np.asarray(rows.labels)).items()
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
