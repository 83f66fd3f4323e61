"""Small diffs, drawn from a seed, for every test of the diff."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from streamlab.diff.layout import Layout
from streamlab.diff.vector import DiffVector, SparseTensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SHAPES = ((), (0,), (1,), (7,), (40, 30), (30, 40), (3, 0), (2, 3, 4), (400, 700))


def draw(
    seed: int = 0,
    *,
    shapes: Sequence[tuple[int, ...]] = SHAPES,
    density: float = 0.05,
    head: bool = True,
    spread: float = 1e-3,
) -> DiffVector:
    """Draw a diff whose columns differ in density, so that some matrices get cut."""
    rng = np.random.default_rng(seed)
    layout = Layout("ab" * 32, tuple(f"t.{i}" for i in range(len(shapes))), tuple(shapes))
    tensors = []
    for shape in shapes:
        chances = np.full(shape, density)
        if len(shape) == 2 and shape[0] > shape[1]:
            chances = chances * rng.choice([0.1, 3.0], size=(1, shape[1]))
        positions = np.flatnonzero(rng.random(shape) < chances)
        values = (rng.laplace(size=len(positions)) * spread).astype(np.float32)
        values[values == 0] = spread
        tensors.append(SparseTensor(shape, positions, values))
    dense_head = {
        "classifier.bias": rng.normal(size=3).astype(np.float32),
        "classifier.weight": rng.normal(size=(3, 8)).astype(np.float32),
    }
    task: dict[str, Any] = {"name": "sst2", "labels": ["böse", "gut"], "max_length": 64}
    return DiffVector(layout, tuple(tensors), dense_head if head else {}, task)


@pytest.fixture(scope="session")
def draw_diff() -> Callable[..., DiffVector]:
    return draw
