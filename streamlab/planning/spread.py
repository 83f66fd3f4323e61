"""How far off the bytes of tasks to come may be, from the spread of those measured.

For m tasks to come, given n measured ones of mean a and standard deviation s, all drawn from
one normal distribution:

    sum = a m  +-  t(n - 1, 0.975) s sqrt(m + m^2 / n)        s^2 = s_files^2 + (b^2 - 1) / 12

m is the chance of the m themselves, m^2 / n what the mean of n leaves unknown. A file ends
anywhere in its last block of b bytes, all places as likely, which adds a spread of its own.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """Where a size lies in 95 of 100 cases."""

    low: int
    high: int

    def __contains__(self, value: int) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Spread:
    """What `n_measured` sizes, two or more, tell of those to come."""

    n_measured: int
    deviation: float  # bytes
    quantile: float  # of Student's t

    def half_width(self, n_future: int) -> float:
        """Return half the 95% prediction interval of the sum of `n_future` more, in bytes."""
        return self.quantile * self.deviation * math.sqrt(n_future + n_future**2 / self.n_measured)


def find_spread(sizes: Sequence[int], block_bytes: int = 1) -> Spread | None:
    """Return the spread of files of these sizes in blocks; None for fewer than two of them."""
    if len(sizes) < 2:
        return None
    # Here, because scipy takes half a second.
    from scipy.special import stdtrit

    quantile = float(stdtrit(len(sizes) - 1, (1 + CONFIDENCE) / 2))
    deviation = math.hypot(statistics.stdev(sizes), math.sqrt((block_bytes**2 - 1) / 12))
    return Spread(len(sizes), deviation, quantile)
