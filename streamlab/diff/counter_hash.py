"""Random words that no machine or version changes: a hash of (seed, step, position).

The hash is MurmurHash3_x86_32 (Austin Appleby, public domain) of the four little-endian words
(high half of the seed, step, high half of the position, low half of the position), with the low
half of the seed as its seed. A word depends on nothing else, so words can be made in any order and
in blocks of any size, by numpy, torch or a kernel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WORD_BITS = 32
C1 = 0xCC9E2D51
C2 = 0x1B873593
WORD = 0xFFFFFFFF
MESSAGE_BYTES = 16

Words = NDArray[np.uint32]


def prefix(seed: int, step: int, position_high: int) -> int:
    """Return the hash state after the three words that all positions of a block share."""
    state = seed & WORD
    for word in ((seed >> 32) & WORD, step & WORD, position_high & WORD):
        state = _absorb(state, word)
    return state


def _absorb(state: int, word: int) -> int:
    k = word * C1 & WORD
    k = (k << 15 | k >> 17) * C2 & WORD
    state ^= k
    state = (state << 13 | state >> 19) & WORD
    return (state * 5 + 0xE6546B64) & WORD


def words(seed: int, step: int, count: int, first: int = 0) -> Words:
    """Return the hashes of `count` positions from `first` on, all below 2^32."""
    h = np.arange(first, first + count, dtype=np.uint32)
    spare = np.empty_like(h)
    h *= C1
    _rotate(h, 15, spare)
    h *= C2
    h ^= prefix(seed, step, 0)
    _rotate(h, 13, spare)
    h *= 5
    h += 0xE6546B64
    h ^= MESSAGE_BYTES
    for bits, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h ^= np.right_shift(h, bits, out=spare)
        h *= factor
    h ^= np.right_shift(h, 16, out=spare)
    return h


def _rotate(h: Words, bits: int, spare: Words) -> None:
    """Rotate words to the left in place."""
    np.right_shift(h, WORD_BITS - bits, out=spare)
    h <<= bits
    h |= spare
