"""A row of numbers <-> bytes, by one of two codecs behind one signature.

`pcodec` comes close to the entropy; `xz` needs nothing but the standard library. Neither lets
its stream decide how much is allocated: the reader says how many numbers it expects.
"""

from __future__ import annotations

import lzma
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray
from pcodec import ChunkConfig, DeltaSpec, ModeSpec, PagingSpec, standalone

from streamlab.errors import DiffFormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

CodecName = Literal["pcodec", "xz"]
PAGE_ENTRIES = 32_768
XZ_DICTIONARY_BYTES = 1 << 20
XZ_MEMORY_BYTES = 16 << 20  # a decoder may use this much, whatever its stream asks for

Numbers = NDArray[Any]


@dataclass(frozen=True)
class Codec:
    """Compress numbers, and expand exactly as many of them again."""

    write: Callable[[Numbers, Sequence[int]], bytes]
    read: Callable[[bytes, DTypeLike, int, str], Numbers]

    def compress(self, numbers: Numbers, stretches: Sequence[int] = ()) -> bytes:
        """Write numbers; none at all take no bytes.

        `stretches`: lengths that add up to the numbers, of parts that are alike inside, for a
        codec that can make use of them.
        """
        return self.write(numbers, stretches or [len(numbers)]) if len(numbers) else b""

    def expand(self, data: bytes, dtype: DTypeLike, count: int, rule: str) -> Numbers:
        """Read exactly `count` numbers.

        Raises DiffFormatError naming `rule` where `data` holds anything else.
        """
        if bool(data) != bool(count):
            raise DiffFormatError(rule, f"{count} numbers cannot take {len(data)} bytes.")
        return self.read(data, dtype, count, rule) if count else np.zeros(0, dtype=dtype)


def _write_pcodec(numbers: Numbers, stretches: Sequence[int]) -> bytes:
    config = ChunkConfig(
        compression_level=12,
        mode_spec=ModeSpec.classic(),
        delta_spec=DeltaSpec.no_op(),  # gaps are differences already, values have no order
        paging_spec=PagingSpec.exact_page_sizes(_page_sizes(stretches)),
    )
    return bytes(standalone.simple_compress(np.ascontiguousarray(numbers), config))


def _page_sizes(stretches: Sequence[int]) -> list[int]:
    """Cut each stretch into pages of equal length, or one more, none over the limit."""
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
            f"{'' if progress.finished else ' and more to come'}.",
        )
    return numbers


def _write_xz(numbers: Numbers, _stretches: Sequence[int]) -> bytes:
    item = numbers.dtype.newbyteorder("<")
    rows = np.ascontiguousarray(numbers, dtype=item).view(np.uint8).reshape(len(numbers), -1)
    return lzma.compress(
        rows.T.tobytes(),  # plane by plane: all lowest bytes first
        format=lzma.FORMAT_XZ,
        check=lzma.CHECK_NONE,  # the container has a digest of every part
        filters=[
            {
                "id": lzma.FILTER_LZMA2,
                "preset": 6,
                "dict_size": XZ_DICTIONARY_BYTES,
                "lc": 0,  # neighbouring bytes say nothing of each other
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
