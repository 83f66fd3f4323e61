"""The base as a diff sees it: which tensors there are, in which order, of which shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Layout:
    """Name the base and its backbone tensors, tied ones once, in the base's own order."""

    fingerprint: str  # of the base, hex
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Return the number of entries of every tensor."""
        return tuple(math.prod(shape) for shape in self.shapes)

    @property
    def n_gated(self) -> int:
        """Return d, the number of entries a diff may change."""
        return sum(self.sizes)
