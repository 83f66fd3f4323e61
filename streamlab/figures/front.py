"""The Pareto front of score against bytes: what nothing smaller equals or exceeds."""

from __future__ import annotations

import math
from collections.abc import Sequence


def find_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the (bytes, score) on the front, smallest first.

    >>> find_front([(10, 0.5), (20, 0.4), (30, 0.9), (10, 0.6)])
    [3, 2]
    """
    best, front = -math.inf, []
    for place in sorted(range(len(points)), key=lambda at: (points[at][0], -points[at][1])):
        if points[place][1] > best:
            front.append(place)
            best = points[place][1]
    return front
