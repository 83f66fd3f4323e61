"""The codes of all values as one stream: packed, by a codec, or by asymmetric numeral systems.

The first byte says which; the writer takes the shortest. Readers state how many codes they expect.
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

PACKED, CODED = b"\0", b"\1"  # the first byte; of a stream of the module `ans`, the bits of a root

Numbers = NDArray[Any]


def write_codes(codes: Numbers, value_type: ValueType, codec: CodecName) -> bytes:
    """Return the stream of codes in the way that takes the fewest bytes, packed if in doubt.

    No codes take no bytes.
    """
    if not len(codes):
        return b""
    numbers = codes.astype(code_dtype(value_type, codec), copy=False)
    ways = [PACKED + pack_numbers(numbers, VALUE_BITS[value_type])]
    if value_type in INTEGER_BITS and len(codes) <= MAX_NUMBERS:
        n_symbols = _symbol_number(value_type)
        root_bits, stream = write_ans(codes.astype(np.int64) % n_symbols, n_symbols)
        ways.append(bytes([root_bits]) + stream)
    return min(*ways, CODED + CODECS[codec].compress(numbers), key=len)


def read_codes(
    data: bytes, value_type: ValueType, codec: CodecName, count: int, rule: str
) -> Numbers:
    """Return exactly `count` codes. Raises DiffFormatError naming `rule` otherwise."""
    way, rest, dtype = data[:1], data[1:], code_dtype(value_type, codec)
    if not count or way == CODED:
        return CODECS[codec].expand(rest if count else data, dtype, count, rule)
    if way == PACKED:
        return unpack_numbers(rest, dtype, VALUE_BITS[value_type], count, rule)
    if value_type in INTEGER_BITS and way and way[0] in ROOT_BITS:
        n_symbols = _symbol_number(value_type)
        symbols = read_ans(rest, way[0], n_symbols, count, rule)
        return np.where(symbols > code_range(value_type)[1], symbols - n_symbols, symbols).astype(
            dtype
        )
    raise DiffFormatError(rule, f"{count} {value_type} codes cannot begin with {way.hex()!r}.")


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
    if data[-1] >> (count * bits - 1) % 8 + 1:
        raise DiffFormatError(rule, "the bits after the last number must be 0.")
    packed = np.frombuffer(data, dtype=np.uint8)
    return _in_a_byte(bits)[packed].reshape(-1)[:count].astype(dtype)


@cache
def _in_a_byte(bits: int) -> NDArray[np.int8]:
    """Return the signed numbers of `bits` in each of 256 bytes, lowest first."""
    shifts = np.arange(8 // bits) * bits
    unsigned = np.arange(256)[:, None] >> shifts & (1 << bits) - 1
    return np.where(unsigned >> bits - 1, unsigned - (1 << bits), unsigned).astype(np.int8)
