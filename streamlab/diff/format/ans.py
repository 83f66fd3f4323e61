"""Asymmetric numeral systems: short streams of small integers close to their entropy.

The range variant (Duda, 2013, arXiv 1311.2540) with static frequencies. A frequency is the square
of a root of w bits, out of 4**w: at that spacing a count is as precise as its own standard
deviation, so that the roots cost about (m - 1)/2 log2 k bits, as the shortest codes do. The state
begins at 0 and ends in as few bytes as it needs, so that nothing is lost on short streams.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamlab.errors import DiffFormatError

ROOT_BITS = range(2, 8)
MAX_NUMBERS = 1 << 14  # one at a time in Python: some milliseconds
_LOWER = 1 << 32  # states are at least this, while bytes are left

Numbers = NDArray[np.int64]


def write_ans(symbols: Numbers, n_symbols: int) -> tuple[int, bytes]:
    """Return the bits of a root, and the roots and the state of (k,) symbols below `n_symbols`."""
    counts = np.bincount(symbols, minlength=n_symbols)
    w = min(ROOT_BITS, key=lambda bits: _estimate(counts, bits))
    roots = _roots(counts, w)
    frequencies = _frequencies(roots, w).tolist()
    starts = np.cumsum([0, *frequencies]).tolist()
    state, written = 0, bytearray()
    for symbol in reversed(symbols.tolist()):
        frequency = frequencies[symbol]
        limit = frequency * (_LOWER >> 2 * w) << 8
        while state >= limit:
            written.append(state & 0xFF)
            state >>= 8
        whole, rest = divmod(state, frequency)
        state = (whole << 2 * w) + rest + starts[symbol]
    first = state.to_bytes((state.bit_length() + 7) // 8, "big")
    return w, _pack(roots, w) + first + bytes(reversed(written))


def read_ans(data: bytes, w: int, n_symbols: int, count: int, rule: str) -> Numbers:
    """Return exactly `count` symbols below `n_symbols`.

    Raises DiffFormatError naming `rule` where roots or state are not what a writer leaves.
    """
    if count > MAX_NUMBERS:
        raise DiffFormatError(rule, f"at most {MAX_NUMBERS} numbers are coded so, not {count}.")
    n_bytes = _root_bytes(n_symbols, w)
    roots = _unpack(data[:n_bytes], w, n_symbols - 1, rule)
    frequencies = _frequencies(roots, w)
    if frequencies[0] < 0:
        raise DiffFormatError(rule, f"frequencies must add up to {4**w}.")
    starts = np.cumsum(frequencies) - frequencies
    symbol_of = np.repeat(np.arange(n_symbols), frequencies)
    frequency_of = frequencies[symbol_of].tolist()
    offset_of = (np.arange(4**w) - starts[symbol_of]).tolist()
    at, end, state, mask, shift = n_bytes, len(data), 0, 4**w - 1, 2 * w
    if data[at : at + 1] == b"\0":
        raise DiffFormatError(rule, "the state must not begin with a zero byte.")
    slots = []
    for _ in range(count):
        while state < _LOWER and at < end:
            state = state << 8 | data[at]
            at += 1
        slot = state & mask
        slots.append(slot)
        state = frequency_of[slot] * (state >> shift) + offset_of[slot]
    if state or at < end:
        raise DiffFormatError(rule, f"{end - at} bytes and the state {state} are left at the end.")
    return symbol_of[slots]


def _roots(counts: Numbers, w: int) -> Numbers:
    """Return the roots of the frequencies of all symbols but the first, which has what is left."""
    total = 4**w
    roots = np.rint(np.sqrt(counts[1:] * (total / max(1, counts.sum())))).astype(np.int64)
    roots = np.where(counts[1:] > 0, np.clip(roots, 1, 2**w - 1), 0)
    least = int(counts[0] > 0)
    while total - int((roots * roots).sum()) < least:
        roots[np.argmax(roots)] -= 1
    return roots


def _frequencies(roots: Numbers, w: int) -> Numbers:
    squares = roots * roots
    return np.concatenate([[4**w - squares.sum()], squares])


def _estimate(counts: Numbers, w: int) -> float:
    """Return the bits of a stream; infinite where a symbol would have no frequency."""
    roots = _roots(counts, w)
    used = counts > 0
    frequencies = _frequencies(roots, w)[used]
    if not frequencies.all():
        return float("inf")
    return 8 * _root_bytes(len(counts), w) + float(
        (counts[used] * (2 * w - np.log2(frequencies))).sum()
    )


def _root_bytes(n_symbols: int, w: int) -> int:
    return ((n_symbols - 1) * w + 7) // 8


def _pack(roots: Numbers, w: int) -> bytes:
    bits = (roots[:, None] >> np.arange(w)) & 1
    return np.packbits(bits.astype(np.uint8).reshape(-1), bitorder="little").tobytes()


def _unpack(data: bytes, w: int, count: int, rule: str) -> Numbers:
    if len(data) < (count * w + 7) // 8:
        raise DiffFormatError(rule, f"{count} roots of {w} bits do not fit into {len(data)} bytes.")
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    if bits[count * w :].any():
        raise DiffFormatError(rule, "the bits after the last root must be 0.")
    return bits[: count * w].reshape(count, w).astype(np.int64) @ (1 << np.arange(w))
