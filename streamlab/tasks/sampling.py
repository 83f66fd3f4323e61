"""Sampling of examples: train and validation by the run's seed, dev by a fixed one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import numpy as np

from streamlab.errors import DataError
from streamlab.hashing import canonical_json
from streamlab.tasks.types.example import Example
from streamlab.units import counted

# Every seed and every method is scored on the same examples.
DEV_SEED: Final = 0
_LEAST_VALIDATION: Final = 32
_MOST_VALIDATION: Final = 500


def generator_for(purpose: str, seed: int, dataset: str) -> np.random.Generator:
    """Return the random generator of one purpose, seed and dataset."""
    digest = hashlib.sha256(canonical_json([purpose, seed, dataset]).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def n_validation_examples(n_train: int, share: float) -> int:
    """Return how many examples to keep for choosing beside `n_train` examples to learn from."""
    return min(_MOST_VALIDATION, max(_LEAST_VALIDATION, round(share * n_train)))


def split_train(
    examples: Sequence[Example], *, share: float, n_most: int | None, seed: int, dataset: str
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Sample the examples to learn from, at most `n_most`, and others for choosing.

    Each part keeps the order of `examples`. Raises DataError for fewer than two examples.
    """
    if len(examples) < 2:
        raise DataError(
            f"The train split of {dataset!r} has {counted(len(examples), 'example')}, and one is "
            "needed to learn from and one to choose by. Give more examples."
        )
    n_wanted = min(len(examples), n_most or len(examples))
    n_validation = min(n_validation_examples(n_wanted, share), max(1, len(examples) // 3))
    order = generator_for("train", seed, dataset).permutation(len(examples))
    n_train = min(n_wanted, len(examples) - n_validation)
    validation, train = order[:n_validation], order[n_validation : n_validation + n_train]
    return _taken(examples, train), _taken(examples, validation)


def split_off_dev(
    examples: Sequence[Example], *, share: float, dataset: str
) -> tuple[list[Example], list[Example]]:
    """Split examples into train and dev for a source without a dev split, alike for all seeds."""
    order = generator_for("split off dev", DEV_SEED, dataset).permutation(len(examples))
    n_dev = max(1, round(share * len(examples)))
    return list(_taken(examples, order[n_dev:])), list(_taken(examples, order[:n_dev]))


def sample_dev(examples: Sequence[Example], *, n_most: int, dataset: str) -> tuple[Example, ...]:
    """Sample at most `n_most` examples to report on, alike for all seeds, in their order."""
    if len(examples) <= n_most:
        return tuple(examples)
    return _taken(
        examples, generator_for("dev", DEV_SEED, dataset).permutation(len(examples))[:n_most]
    )


def _taken(
    examples: Sequence[Example], places: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> tuple[Example, ...]:
    return tuple(examples[place] for place in np.sort(places))
