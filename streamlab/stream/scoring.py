"""Scores, always taken from stored bytes: read, checked, decoded and put on the base.

A probe goes with every diff: a digest of its outputs on the dev examples and the number of weights
it changes. It is compared whenever the stored bytes are put on the base again; outputs only where
the machine and the libraries are those of the recording, as others round otherwise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from streamlab.errors import StoreError
from streamlab.home.store import ArtifactStore
from streamlab.inference.artifact_kinds import Served, read_artifact
from streamlab.inference.model import logits
from streamlab.methods.api import TrainingSettings
from streamlab.registry.records import (
    ArrivalDetails,
    ArtifactKind,
    Confusion,
    NewScore,
    OutputProbe,
)
from streamlab.stream.environment import environment_digest
from streamlab.stream.run_context import EncodedTask, RunContext

Outputs = NDArray[np.float32]  # (n_examples, n_outputs), or with several positions an example
_MOST_CLASSES = 50  # of a confusion matrix that is recorded
Split = Literal["dev", "validation"]


def stored_outputs(
    context: RunContext,
    task_name: str,
    digest: str,
    kind: ArtifactKind,
    store: ArtifactStore,
    details: ArrivalDetails,
) -> Outputs:
    """Put a stored artifact on the base, and return its outputs on the dev examples.

    `details`: as recorded with the artifact. Raises StoreError or DiffError where the bytes
    cannot be used, or do not do what they did when they were made.
    """
    task, training = context.reported(task_name), context.training(task_name)
    data = store.get(digest)
    model_class = task.data.type.model_class
    artifact = read_artifact(kind, data, context.base, model_class=model_class, digest=digest)
    with artifact.applied_to(context.classifiers.clean(task, training)) as served:
        outputs = logits(served.model, task.dev)
    if details.probe is not None:
        check_probe(take_probe(served, outputs, training), details.probe, digest=digest)
    return outputs


def scores_of(
    outputs: Outputs,
    task: EncodedTask,
    *,
    split: Split,
    after_sequence: int,
    majority: Mapping[str, float | None],
) -> list[NewScore]:
    """Score the outputs on a split by every metric of a task.

    `majority`: what the majority class scores there, by metric.
    """
    labels = getattr(task, split).labels
    return [
        NewScore(
            metric=metric,
            value=value,
            majority=majority.get(metric),
            split=split,
            n_examples=len(labels),
            after_sequence=after_sequence,
            is_primary=metric == task.data.metrics[0].name,
        )
        for metric, value in task.data.score(outputs, labels).items()
    ]


def confusion_of(outputs: Outputs, task: EncodedTask) -> Confusion | None:
    """Return the confusion matrix of a model's outputs on the dev examples.

    None where not one class is right for an example, or there are too many for a matrix beside
    every arrival.
    """
    names = task.data.labels
    if not task.data.type.has_confusion or not 0 < len(names) <= _MOST_CLASSES:
        return None
    counts = np.zeros((len(names), len(names)), np.int64)
    answers = task.data.type.decode(outputs)
    np.add.at(counts, (task.dev.labels.astype(np.int64), answers), 1)
    return Confusion(labels=names, counts=tuple(map(tuple, counts.tolist())))


def take_probe(served: Served, outputs: Outputs, training: TrainingSettings) -> OutputProbe | None:
    """Return what is recorded of a model with a diff on it, None for anything but a diff.

    `outputs`: of the model on the dev examples.
    """
    if served.n_changed is None:
        return None
    return OutputProbe(
        n_changed=served.n_changed,
        n_examples=len(outputs),
        sha256=hashlib.sha256(outputs.tobytes()).hexdigest(),
        machine=environment_digest(training),
    )


def check_probe(found: OutputProbe | None, recorded: OutputProbe, *, digest: str) -> None:
    """Compare a model with a diff on it with what was recorded. Raises StoreError."""
    if found is not None and found.machine != recorded.machine:
        found = replace(found, sha256=recorded.sha256)
    for name in ("n_changed", "sha256"):
        if getattr(found, name, None) != getattr(recorded, name):
            raise StoreError(
                f"The artifact {digest} does not do what it did when it was made: its `{name}` is "
                f"{getattr(found, name, None)}, and {getattr(recorded, name)} was recorded. The "
                "base or the code that applies a diff has changed since; train the task again."
            )
