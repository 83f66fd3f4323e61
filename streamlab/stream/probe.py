"""A fixed probe: does a stored diff do to the base what it did when it was made?

A few rows' outputs and the count of weights that change are recorded with the arrival. They are
compared whenever the stored bytes are put on the base again; outputs only where the machine and
the libraries are those of the recording, as others round otherwise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from streamlab.errors import StoreError
from streamlab.inference.model import logits
from streamlab.methods.api import TrainingSettings
from streamlab.stream.artifacts import Served
from streamlab.stream.environment import describe_environment
from streamlab.stream.providers.training import EncodedTask

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
