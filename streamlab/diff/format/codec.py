"""Codecs of number streams: `pcodec`, close to the entropy, and `xz`, of the standard library.

Short streams are packed, so many bits a number, where a codec would take more. Readers state how
many numbers they expect; a stream never decides how much is allocated.
"""

from __future__ import annotations

import lzma
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray
from pcodec import ChunkConfig, DeltaSpec, ModeSpec, PagingSpec, standalone

from streamlab.errors import DiffFormatError

CodecName = Literal["pcodec", "xz"]
PAGE_ENTRIES = 32_768
XZ_DICTIONARY_BYTES = 1 << 20
XZ_MEMORY_BYTES = 16 << 20  # limit of a decoder, whatever its stream requests

PACKED, CODED = b"\0", b"\1"  # the first byte of numbers

Numbers = NDArray[Any]


@dataclass(frozen=True)
class Codec:
    """A pair of functions that compress numbers and expand exactly as many."""

    write: Callable[[Numbers, Sequence[int]], bytes]
    read: Callable[[bytes, DTypeLike, int, str], Numbers]

    def compress(self, numbers: Numbers, stretches: Sequence[int] = ()) -> bytes:
        """Return the compressed bytes; none for no numbers.

        `stretches`: lengths of consecutive homogeneous parts, for codecs that use them.
        """
        return self.write(numbers, stretches or [len(numbers)]) if len(numbers) else b""

    def expand(self, data: bytes, dtype: DTypeLike, count: int, rule: str) -> Numbers:
        """Return exactly `count` numbers. Raises DiffFormatError naming `rule` otherwise."""
        if bool(data) != bool(count):
            raise DiffFormatError(rule, f"{count} numbers cannot have {len(data)} bytes.")
        return self.read(data, dtype, count, rule) if count else np.zeros(0, dtype=dtype)


def _write_pcodec(numbers: Numbers, stretches: Sequence[int]) -> bytes:
    config = ChunkConfig(
        compression_level=12,
        mode_spec=ModeSpec.classic(),
        delta_spec=DeltaSpec.no_op(),  # gaps are differences already; values are unordered
        paging_spec=PagingSpec.exact_page_sizes(_page_sizes(stretches)),
    )
    return bytes(standalone.simple_compress(np.ascontiguousarray(numbers), config))


def _page_sizes(stretches: Sequence[int]) -> list[int]:
    """Split each stretch into pages of nearly equal length, none over the limit."""
    sizes: list[int] = []
    for length in stretches:
        n_pages = -(-length // PAGE_ENTRIES)
        shorter, n_longer = divmod(length, n_pages)
        sizes += [shorter + 1] * n_longer + [shorter] * (n_pages - n_longer)
    return sizes


def _read_pcodec(data: bytes, dtype: DTypeLike, count: int, rule: str) -> Numbers:
    numbers = np.zeros(count, dtype=dtype)
    try:
        progress = standalone.simple_decompress_into(data, numbers)
    except (RuntimeError, TypeError, ValueError) as error:
        raise DiffFormatError(rule, f"the pcodec stream is damaged: {error}.") from error
    if progress.n_processed != count or not progress.finished:
        raise DiffFormatError(
            rule,
            f"the pcodec stream must hold {count} numbers, got {progress.n_processed}"
            f"{'' if progress.finished else ' or more'}.",
        )
    return numbers


def _write_xz(numbers: Numbers, _stretches: Sequence[int]) -> bytes:
    item = numbers.dtype.newbyteorder("<")
    rows = np.ascontiguousarray(numbers, dtype=item).view(np.uint8).reshape(len(numbers), -1)
    return lzma.compress(
        rows.T.tobytes(),  # byte planes, lowest first
        format=lzma.FORMAT_XZ,
        check=lzma.CHECK_NONE,  # the container has digests
        filters=[
            {
                "id": lzma.FILTER_LZMA2,
                "preset": 6,
                "dict_size": XZ_DICTIONARY_BYTES,
                "lc": 0,  # neighbouring bytes are unrelated
                "lp": 0,
                "pb": 0,
            }
        ],
    )


def _read_xz(data: bytes, dtype: DTypeLike, count: int, rule: str) -> Numbers:
    item = np.dtype(dtype)
    expected = count * item.itemsize
    decoder = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=XZ_MEMORY_BYTES)
    try:
        planes = decoder.decompress(data, max_length=expected + 1)
    except lzma.LZMAError as error:
        raise DiffFormatError(rule, f"the xz stream is damaged: {error}.") from error
    if len(planes) != expected or not decoder.eof or decoder.unused_data:
        held = f"more than {expected}" if len(planes) > expected else str(len(planes))
        raise DiffFormatError(
            rule, f"the xz stream must hold {expected} bytes and end there, got {held}."
        )
    rows = np.frombuffer(planes, dtype=np.uint8).reshape(item.itemsize, count).T
    return np.ascontiguousarray(rows).view(item.newbyteorder("<")).reshape(count).astype(item)


CODECS: Mapping[CodecName, Codec] = MappingProxyType(
    {
        "pcodec": Codec(_write_pcodec, _read_pcodec),
        "xz": Codec(_write_xz, _read_xz),
    }
)


def write_numbers(numbers: Numbers, bits: int, codec: CodecName) -> bytes:
    """Return numbers packed at `bits` each, or as a stream of `codec` where that takes fewer bytes.

    Integers of fewer than 8 bits are two's complement. No numbers take no bytes.
    """
    if not len(numbers):
        return b""
    packed, coded = pack_numbers(numbers, bits), CODECS[codec].compress(numbers)
    return PACKED + packed if len(packed) <= len(coded) else CODED + coded


def read_numbers(
    data: bytes, dtype: DTypeLike, bits: int, codec: CodecName, count: int, rule: str
) -> Numbers:
    """Return exactly `count` numbers. Raises DiffFormatError naming `rule` otherwise."""
    way, rest = data[:1], data[1:]
    if count and way == PACKED:
        return unpack_numbers(rest, np.dtype(dtype), bits, count, rule)
    if count and way != CODED:
        raise DiffFormatError(rule, f"{count} numbers must begin with 0 or 1, got {way.hex()!r}.")
    return CODECS[codec].expand(rest if count else data, dtype, count, rule)


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
