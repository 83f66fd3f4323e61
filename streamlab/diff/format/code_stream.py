"""The codes of all values as one stream: packed, by a codec, or by asymmetric numeral systems.

The header of the file says which; the writer takes the shortest. Readers state how many codes they
expect.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamlab.diff.format.ans import MAX_NUMBERS, ROOT_BITS, read_ans, write_ans
from streamlab.diff.format.codec import CODECS, CodecName
from streamlab.diff.format.values import INTEGER_BITS, VALUE_BITS, ValueType, code_dtype, code_range
from streamlab.errors import DiffFormatError

PACKED, CODED = 0, 1  # how codes are coded; by the module `ans`, it is the bits of a root

Numbers = NDArray[Any]


def write_codes(codes: Numbers, value_type: ValueType, codec: CodecName) -> tuple[int, bytes]:
    """Return how codes are coded in the fewest bytes, packed if in doubt, and their stream.

    No codes take no bytes.
    """
    numbers = codes.astype(code_dtype(value_type, codec), copy=False)
    ways = [(PACKED, pack_numbers(numbers, VALUE_BITS[value_type]))]
    if value_type in INTEGER_BITS and 0 < len(codes) <= MAX_NUMBERS:
        n_symbols = _symbol_number(value_type)
        ways.append(write_ans(codes.astype(np.int64) % n_symbols, n_symbols))
    ways.append((CODED, CODECS[codec].compress(numbers)))
    return min(ways, key=lambda way: len(way[1]))


def read_codes(
    coding: int, data: bytes, value_type: ValueType, codec: CodecName, count: int, rule: str
) -> Numbers:
    """Return exactly `count` codes. Raises DiffFormatError naming `rule` otherwise."""
    dtype = code_dtype(value_type, codec)
    if coding == CODED and count:
        return CODECS[codec].expand(data, dtype, count, rule)
    if coding == PACKED:
        return unpack_numbers(data, dtype, VALUE_BITS[value_type], count, rule)
    if value_type in INTEGER_BITS and coding in ROOT_BITS and count:
        n_symbols = _symbol_number(value_type)
        symbols = read_ans(data, coding, n_symbols, count, rule)
        return np.where(symbols > code_range(value_type)[1], symbols - n_symbols, symbols).astype(
            dtype
        )
    raise DiffFormatError(rule, f"{count} {value_type} codes cannot have the coding {coding}.")


def _symbol_number(value_type: ValueType) -> int:
    least, most = code_range(value_type)
    return most - least + 1


def pack_numbers(numbers: Numbers, bits: int) -> bytes:
    """Return numbers at `bits` each, the first in the lowest bits of the first byte."""
    if bits >= 8:
        return numbers.astype(f"<{numbers.dtype.kind}{bits // 8}").tobytes()
    per_byte = 8 // bits
    padded = np.zeros(-(-len(numbers) // per_byte) * per_byte, dtype=np.uint8)
    padded[: len(numbers)] = numbers.astype(np.int8).view(np.uint8) & ((1 << bits) - 1)
    shifts = (np.arange(per_byte) * bits).astype(np.uint8)
    return bytes(np.bitwise_or.reduce(padded.reshape(-1, per_byte) << shifts, axis=1))


def unpack_numbers(data: bytes, dtype: np.dtype[Any], bits: int, count: int, rule: str) -> Numbers:
    """Return exactly `count` packed numbers. Raises DiffFormatError naming `rule` otherwise."""
    expected = -(-count * bits // 8)
    if len(data) != expected:
        raise DiffFormatError(
            rule, f"{count} numbers of {bits} bits take {expected} bytes, got {len(data)}."
        )
    if bits >= 8:
        return np.frombuffer(data, dtype=f"<{dtype.kind}{bits // 8}").astype(dtype)
    if count and data[-1] >> (count * bits - 1) % 8 + 1:
        raise DiffFormatError(rule, "the bits after the last number must be 0.")
    packed = np.frombuffer(data, dtype=np.uint8)
    return _in_a_byte(bits)[packed].view(np.int8)[:count].astype(dtype)


@cache
def _in_a_byte(bits: int) -> Numbers:
    """Return the signed numbers of `bits` in each of 256 bytes, lowest first.

    Those of a byte are one unsigned integer: numpy takes one number faster than several.
    """
    shifts = np.arange(8 // bits) * bits
    unsigned = np.arange(256)[:, None] >> shifts & (1 << bits) - 1
    numbers = np.where(unsigned >> bits - 1, unsigned - (1 << bits), unsigned).astype(np.int8)
    return numbers.view(f"u{8 // bits}").reshape(-1)
