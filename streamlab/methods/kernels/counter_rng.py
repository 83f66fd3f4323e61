"""Counter-based random numbers: uniforms as a hash of (seed, step, position), never stored.

The hash is that of `streamlab.diff.counter_hash`. A number depends on nothing else, so a step can
be sampled again in any order, in blocks of any size and on any number of threads.
"""

from __future__ import annotations

import torch
from torch import Tensor

from streamlab.diff.counter_hash import finish, prefix

_WORD = 0xFFFFFFFF


def uniforms(seed: int, step: int, first: int, count: int, device: torch.device) -> Tensor:
    """Return `count` numbers in (0, 1) as float32, for positions from `first` on.

    A number is (hash >> 9) / 2^23 + 2^-24, so 0 and 1 never occur. The range must not cross a
    multiple of 2^32.
    """
    low = torch.arange(first & _WORD, (first & _WORD) + count, dtype=torch.int64, device=device)
    hashes = finish(prefix(seed, step, first >> 32), low)
    return (hashes >> 9).to(torch.float32) * 2.0**-23 + 2.0**-24
