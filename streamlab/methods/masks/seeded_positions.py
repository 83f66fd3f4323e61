"""Positions that a seed regenerates: sorted, without repeats, alike on every machine.

Stratified: of n entries, the i-th of k positions lies in [floor(i n / k), floor((i + 1) n / k)).
Where in it, a hash of the seed and i decides (`counter_rng`), in integers only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from streamlab.methods.kernels.counter_rng import words

_BITS = 32  # of a hash; a stratum is far smaller


def seeded_positions(seed: int, n: int, k: int) -> Tensor:
    """Return `k` ascending positions below `n`, one in each stratum; (k,) int64.

    Raises ValueError unless 0 <= k <= n < 2**31.

    >>> seeded_positions(7, 100, 5).tolist()
    [6, 30, 59, 69, 92]
    """
    if not 0 <= k <= n < 1 << 31:
        raise ValueError(f"{k} positions among {n} entries are wanted")
    if not k:
        return torch.zeros(0, dtype=torch.int64)
    edges = torch.arange(k + 1, dtype=torch.int64) * n // k
    lengths = edges[1:] - edges[:-1]
    return edges[:-1] + (words(seed, 0, 0, k, torch.device("cpu")) * lengths >> _BITS)
