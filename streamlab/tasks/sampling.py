"""Which rows are used, drawn by seed: train and validation by the run's, dev by a fixed one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import numpy as np

from streamlab.errors import DataError
from streamlab.hashing import canonical_json
from streamlab.tasks.examples import Example

# Every seed and every method is scored on the same rows, whatever the run's own seed.
DEV_SEED: Final = 0
_FEWEST_VALIDATION_ROWS: Final = 32
_MOST_VALIDATION_ROWS: Final = 500


def generator_for(purpose: str, seed: int, dataset: str) -> np.random.Generator:
    """Return the generator that belongs to one purpose, seed and dataset, and to nothing else."""
    digest = hashlib.sha256(canonical_json([purpose, seed, dataset]).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def validation_rows_for(n_train: int, share: float) -> int:
    """Return how many rows to keep for choosing beside `n_train` rows to learn from."""
    return min(_MOST_VALIDATION_ROWS, max(_FEWEST_VALIDATION_ROWS, round(share * n_train)))


def split_train(
    rows: Sequence[Example], *, share: float, n_most: int | None, seed: int, dataset: str
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Draw the rows to learn from, at most `n_most`, and others for choosing.

    Each part keeps the order of `rows`. Raises DataError for fewer than two rows.
    """
    if len(rows) < 2:
        raise DataError(
            f"The train split of {dataset!r} has {len(rows)} row, and one is needed to learn from "
            "and one to choose by. Give more rows."
        )
    n_wanted = min(len(rows), n_most or len(rows))
    n_validation = min(validation_rows_for(n_wanted, share), max(1, len(rows) // 3))
    order = generator_for("train", seed, dataset).permutation(len(rows))
    n_train = min(n_wanted, len(rows) - n_validation)
    validation, train = order[:n_validation], order[n_validation : n_validation + n_train]
    return _taken(rows, train), _taken(rows, validation)


def split_off_dev(
    rows: Sequence[Example], *, share: float, dataset: str
) -> tuple[list[Example], list[Example]]:
    """Split rows into train and dev for a source without a dev split, alike for all seeds."""
    order = generator_for("split off dev", DEV_SEED, dataset).permutation(len(rows))
    n_dev = max(1, round(share * len(rows)))
    return list(_taken(rows, order[n_dev:])), list(_taken(rows, order[:n_dev]))


def sample_dev(rows: Sequence[Example], *, n_most: int, dataset: str) -> tuple[Example, ...]:
    """Draw at most `n_most` rows to report on, alike for all seeds, in the order of `rows`."""
    if len(rows) <= n_most:
        return tuple(rows)
    return _taken(rows, generator_for("dev", DEV_SEED, dataset).permutation(len(rows))[:n_most])


def _taken(
    rows: Sequence[Example], places: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> tuple[Example, ...]:
    return tuple(rows[place] for place in np.sort(places))
