"""Predictions of stored artifacts in one small file, to resample without a model."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamlab.errors import UsageError
from streamlab.files import atomic_write, disk_errors
from streamlab.stats.bootstrap import PairedPredictions


@dataclass(frozen=True, kw_only=True)
class PredictionFacts:
    """The artifact that predicted, and its score as recorded and as measured again."""

    task: str
    dataset: str
    method: str
    seed: int
    digest: str
    examples_fingerprint: str  # of all examples of the task
    metric: str
    recorded: float
    score: float


@dataclass(frozen=True)
class Predictions:
    """One artifact's predictions for its task's dev examples: class indices, or numbers."""

    facts: PredictionFacts
    labels: NDArray[Any]  # (n_examples,)
    predictions: NDArray[Any]  # (n_examples,)


def write_predictions(path: Path, predicted: Sequence[Predictions]) -> None:
    """Write predictions as .npz, the same ones to the same bytes. Raises StoreError."""
    arrays: dict[str, Any] = {
        "facts": np.array(json.dumps([asdict(one.facts) for one in predicted])),
        **{f"labels_{i}": one.labels for i, one in enumerate(predicted)},
        **{f"predictions_{i}": one.predictions for i, one in enumerate(predicted)},
    }
    with atomic_write(path) as file, disk_errors(path):
        np.savez_compressed(file, **arrays)


def read_predictions(path: Path) -> list[Predictions]:
    """Read a file of `write_predictions`. Raises UsageError for any other file."""
    try:
        # Opened here, because numpy does not close a file that it cannot read.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            facts = [PredictionFacts(**each) for each in json.loads(str(arrays["facts"]))]
            return [
                Predictions(each, arrays[f"labels_{i}"], arrays[f"predictions_{i}"])
                for i, each in enumerate(facts)
            ]
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise UsageError(
            f"{path} cannot be read as a file of predictions: {error}. "
            "Name one that this study wrote, or leave it out to read the stored artifacts."
        ) from error


def find_pairs(predicted: Sequence[Predictions], this: str, other: str) -> PairedPredictions | None:
    """Pair two methods' predictions for one task by seed; None where no seed has both.

    Raises UsageError where their examples differ, or one method is there twice under a seed.
    """
    found = {(one.facts.method, one.facts.seed): one for one in predicted}
    if len(found) < len(predicted):
        raise UsageError(
            f"The task `{predicted[0].facts.task}` was trained twice by one method under one seed. "
            "Name runs that have no seed of a task in common."
        )
    seeds = sorted(seed for method, seed in found if method == this and (other, seed) in found)
    if not seeds:
        return None
    pairs = [(found[this, seed], found[other, seed]) for seed in seeds]
    first = pairs[0][0]
    for one in (one for pair in pairs for one in pair):
        if _identity(one) != _identity(first) or not np.array_equal(one.labels, first.labels):
            raise UsageError(
                f"The task `{first.facts.task}` was scored on different examples or by different "
                "metrics, so that its scores cannot be paired. Name runs of one data set."
            )
    ours, theirs = (np.stack([pair[side].predictions for pair in pairs]) for side in (0, 1))
    return PairedPredictions(first.facts.metric, first.labels, ours, theirs)


def _identity(one: Predictions) -> tuple[str, str, str]:
    return (one.facts.dataset, one.facts.metric, one.facts.examples_fingerprint)
