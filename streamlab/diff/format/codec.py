"""Codecs of number streams: `pcodec`, close to the entropy, and `xz`, of the standard library.

Readers state how many numbers they expect; a stream never decides how much is allocated.
"""

from __future__ import annotations

import lzma
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
