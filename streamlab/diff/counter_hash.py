"""Random words that no machine or version changes: a hash of (seed, step, position).

The hash is MurmurHash3_x86_32 (Austin Appleby, public domain) of the four little-endian words
(high half of the seed, step, high half of the position, low half of the position), with the low
half of the seed as its seed. A word depends on nothing else, so words can be made in any order and
in blocks of any size, by numpy, torch or a kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

WORD_BITS = 32
_C1 = 0xCC9E2D51
_C2 = 0x1B873593
_WORD = 0xFFFFFFFF
_MESSAGE_BYTES = 16

Words = TypeVar("Words", NDArray[np.int64], "Tensor")


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


def finish(state: int, low: Words) -> Words:
    """Return the hashes below 2^32 of int64 low halves of positions, from their `prefix`."""
    # 64-bit words with the upper half masked off: only the low 32 bits of a product matter.
    k = low * _C1 & _WORD
    k = ((k << 15 | k >> 17) & _WORD) * _C2 & _WORD
    h = k ^ state
    h = (h << 13 | h >> 19) & _WORD
    h = (h * 5 + 0xE6546B64 & _WORD) ^ _MESSAGE_BYTES
    h = (h ^ h >> 16) * 0x85EBCA6B & _WORD
    h = (h ^ h >> 13) * 0xC2B2AE35 & _WORD
    return h ^ h >> 16


def words(seed: int, step: int, count: int, first: int = 0) -> NDArray[np.int64]:
    """Return the hashes of `count` positions from `first` on, all below 2^32, as int64."""
    return finish(prefix(seed, step, 0), np.arange(first, first + count, dtype=np.int64))
