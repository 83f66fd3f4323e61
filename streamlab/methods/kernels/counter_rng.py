"""Counter-based random numbers: uniforms as a hash of (seed, step, position), never stored.

The hash is that of `streamlab.diff.counter_hash`. A number depends on nothing else, so a step can
be sampled again in any order, in blocks of any size and on any number of threads.
"""

from __future__ import annotations

import torch
from torch import Tensor

from streamlab.diff.counter_hash import C1, C2, MESSAGE_BYTES, WORD, prefix


def uniforms(seed: int, step: int, first: int, count: int, device: torch.device) -> Tensor:
    """Return `count` numbers in (0, 1) as float32, for positions from `first` on.

    A number is (hash >> 9) / 2^23 + 2^-24, so 0 and 1 never occur. The range must not cross a
    multiple of 2^32.
    """
    low = torch.arange(first & WORD, (first & WORD) + count, dtype=torch.int64, device=device)
    hashes = _finish(prefix(seed, step, first >> 32), low)
    return (hashes >> 9).to(torch.float32) * 2.0**-23 + 2.0**-24


def _finish(state: int, low: Tensor) -> Tensor:
    """Return the hashes below 2^32 of int64 low halves of positions, from their `prefix`."""
    # 64-bit words with the upper half masked off: torch has no arithmetic of unsigned 32-bit ones.
    k = low * C1 & WORD
    k = ((k << 15 | k >> 17) & WORD) * C2 & WORD
    h = k ^ state
    h = (h << 13 | h >> 19) & WORD
    h = (h * 5 + 0xE6546B64 & WORD) ^ MESSAGE_BYTES
    h = (h ^ h >> 16) * 0x85EBCA6B & WORD
    h = (h ^ h >> 13) * 0xC2B2AE35 & WORD
    return h ^ h >> 16
