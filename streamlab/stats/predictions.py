"""What stored artifacts answered, row by row: one small file, to draw from without a model."""

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
from streamlab.stats.bootstrap import PairedAnswers


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Which artifact was asked, and what score came of it, when it was made and now."""

    task: str
    dataset: str
    method: str
    seed: int
    digest: str
    examples_fingerprint: str  # of the data that the rows are from
    metric: str
    recorded: float
    score: float


@dataclass(frozen=True)
class Answered:
    """One artifact's answers to its task's dev rows: class numbers, or numbers."""

    facts: Facts
    labels: NDArray[Any]  # (n_rows,)
    answers: NDArray[Any]  # (n_rows,)


def write_answers(path: Path, answered: Sequence[Answered]) -> None:
    """Write answers as .npz; the same answers give the same bytes. Raises StoreError."""
    arrays: dict[str, Any] = {
        "facts": np.array(json.dumps([asdict(one.facts) for one in answered])),
        **{f"labels_{i}": one.labels for i, one in enumerate(answered)},
        **{f"answers_{i}": one.answers for i, one in enumerate(answered)},
    }
    with atomic_write(path) as file, disk_errors(path):
        np.savez_compressed(file, **arrays)


def read_answers(path: Path) -> list[Answered]:
    """Read what `write_answers` wrote. Raises UsageError where it is something else."""
    try:
        # Opened here, as numpy leaves a file that it cannot read open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            facts = [Facts(**each) for each in json.loads(str(arrays["facts"]))]
            return [
                Answered(each, arrays[f"labels_{i}"], arrays[f"answers_{i}"])
                for i, each in enumerate(facts)
            ]
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise UsageError(
            f"{path} cannot be read as a file of answers: {error}. "
            "Name one that this study wrote, or leave it out to ask the stored artifacts."
        ) from error


def find_pairs(answered: Sequence[Answered], this: str, other: str) -> PairedAnswers | None:
    """Pair two methods' answers to one task by seed; None where no seed has both.

    Raises UsageError where they answered other rows, or one of them twice under a seed.
    """
    found = {(one.facts.method, one.facts.seed): one for one in answered}
    if len(found) < len(answered):
        raise UsageError(
            f"The task `{answered[0].facts.task}` was learnt twice by one method under one seed. "
            "Name runs that have no seed of a task in common."
        )
    seeds = sorted(seed for method, seed in found if method == this and (other, seed) in found)
    if not seeds:
        return None
    pairs = [(found[this, seed], found[other, seed]) for seed in seeds]
    first = pairs[0][0]
    for one in (one for pair in pairs for one in pair):
        if _what_of(one) != _what_of(first) or not np.array_equal(one.labels, first.labels):
            raise UsageError(
                f"The task `{first.facts.task}` was scored on other rows, or by another metric, in "
                "some of the runs, so that its scores make no pairs. Name runs of one data set."
            )
    ours, theirs = (np.stack([pair[side].answers for pair in pairs]) for side in (0, 1))
    return PairedAnswers(first.facts.metric, first.labels, ours, theirs)


def _what_of(one: Answered) -> tuple[str, str, str]:
    return (one.facts.dataset, one.facts.metric, one.facts.examples_fingerprint)
