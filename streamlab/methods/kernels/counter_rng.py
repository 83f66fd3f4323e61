"""Counter-based random numbers: uniforms as a hash of (seed, step, position), never stored.

The hash is MurmurHash3_x86_32 (Austin Appleby, public domain) of the four little-endian words
(high half of the seed, step, high half of the position, low half of the position), with the low
half of the seed as its seed. A number depends on nothing else, so a step can be sampled again in
any order, in blocks of any size and on any number of threads.
"""

from __future__ import annotations

import torch
from torch import Tensor

_C1 = 0xCC9E2D51
_C2 = 0x1B873593
_WORD = 0xFFFFFFFF
_MESSAGE_BYTES = 16


def prefix(seed: int, step: int, position_high: int) -> int:
    """Return the hash state after the three words that all positions of a block share."""
    state = seed & _WORD
    for word in ((seed >> 32) & _WORD, step & _WORD, position_high & _WORD):
        state = _absorb(state, word)
    return state


def _absorb(state: int, word: int) -> int:
    k = word * _C1 & _WORD
    k = (k << 15 | k >> 17) * _C2 & _WORD
    state ^= k
    state = (state << 13 | state >> 19) & _WORD
    return (state * 5 + 0xE6546B64) & _WORD


def uniforms(seed: int, step: int, first: int, count: int, device: torch.device) -> Tensor:
    """Return `count` numbers in (0, 1) as float32, for positions from `first` on.

    A number is (hash >> 9) / 2^23 + 2^-24, so 0 and 1 never occur. The range must not cross a
    multiple of 2^32.
    """
    return (words(seed, step, first, count, device) >> 9).to(torch.float32) * 2.0**-23 + 2.0**-24


def words(seed: int, step: int, first: int, count: int, device: torch.device) -> Tensor:
    """Return the `count` hashes below 2^32 of positions from `first` on, as int64."""
    low = torch.arange(first & _WORD, (first & _WORD) + count, dtype=torch.int64, device=device)
    # 64-bit words with the upper half masked off: only the low 32 bits of a product matter.
    k = low * _C1 & _WORD
    k = ((k << 15 | k >> 17) & _WORD) * _C2 & _WORD
    h = k ^ prefix(seed, step, first >> 32)
    h = (h << 13 | h >> 19) & _WORD
    h = (h * 5 + 0xE6546B64 & _WORD) ^ _MESSAGE_BYTES
    h = (h ^ h >> 16) * 0x85EBCA6B & _WORD
    h = (h ^ h >> 13) * 0xC2B2AE35 & _WORD
    return h ^ h >> 16
