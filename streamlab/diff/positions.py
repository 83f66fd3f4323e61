"""Positions <-> counts, flags and gaps: the layout both codecs share.

Tensors stand by falling density, so that pages of the stream are alike; gaps start anew in every
tensor; a matrix is read row by row or column by column, whichever gives the smaller gaps.

    gap_0 = position_0,    gap_i = position_i - position_{i-1} - 1
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from streamlab.errors import DiffError, DiffFormatError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamlab.diff.layout import Layout

MAX_TENSOR_ENTRIES = 1 << 32  # a gap is an unsigned 32-bit number
MIN_PAGE_ENTRIES = 2048
PAGE_DENSITY_DROP = 0.6
_COUNT_BYTES = 5  # a count below 2**32 takes at most five groups of seven bits

Positions = NDArray[np.int64]
Gaps = NDArray[np.uint32]
Order = NDArray[np.int64]


@dataclass(frozen=True)
class PositionStreams:
    """Positions ready for a codec; `order` is that of the tensors in `gaps`.

    `pages`: lengths of stretches of `gaps` whose tensors are alike in density.
    """

    counts: bytes
    flags: bytes
    gaps: Gaps
    order: Order
    pages: tuple[int, ...]


def split(positions: Sequence[Positions], layout: Layout) -> PositionStreams:
    """Turn sorted positions per tensor into streams.

    A matrix is read the way whose gaps take fewer bits, row by row where both take as many.
    Raises DiffError where a tensor has more entries than a gap can span.
    """
    counts = np.array([len(p) for p in positions], dtype=np.int64)
    order = density_order(counts, layout)
    flags = np.zeros(len(counts), dtype=np.uint8)
    gaps: dict[int, Gaps] = {}
    for index, tensor_positions in enumerate(positions):
        shape = layout.shapes[index]
        if layout.sizes[index] > MAX_TENSOR_ENTRIES:
            raise DiffError(
                f"`{layout.names[index]}` has {layout.sizes[index]} entries; "
                f"a diff file reaches {MAX_TENSOR_ENTRIES} in one tensor."
            )
        gaps[index] = _gaps(tensor_positions)
        if is_matrix(shape) and len(tensor_positions):
            other = _gaps(np.sort(_column_major(tensor_positions, shape)))
            if _bit_length(other) < _bit_length(gaps[index]):
                gaps[index], flags[index] = other, 1
    stream = np.concatenate([gaps[int(i)] for i in order] or [np.zeros(0, dtype=np.uint32)])
    packed = np.packbits(flags, bitorder="little").tobytes()
    pages = _pages(counts[order].tolist(), [layout.sizes[int(i)] for i in order])
    return PositionStreams(write_counts(counts), packed, stream, order, pages)


def join(
    gaps: Gaps, counts: NDArray[np.int64], flags: NDArray[np.bool_], layout: Layout
) -> list[Positions]:
    """Turn the streams into sorted positions per tensor, each shown to lie inside its tensor.

    Gaps are never negative, so positions ascend strictly; the sum cannot overflow, because the
    container admits fewer than 2**31 entries. Raises DiffFormatError (`position-range`).
    """
    order = density_order(counts, layout)
    joined: list[Positions] = [np.zeros(0, dtype=np.int64) for _ in counts]
    if not len(gaps):
        return joined
    order = order[counts[order] > 0]
    kept = counts[order]
    ends = np.cumsum(kept)
    running = np.cumsum(gaps, dtype=np.int64)
    running += np.arange(len(gaps), dtype=np.int64)
    before = np.concatenate([[0], running[ends[:-1] - 1] + 1])
    last = running[ends - 1] - before
    sizes = np.array(layout.sizes, dtype=np.int64)[order]
    if bool((last >= sizes).any()):
        worst = int(np.argmax(last >= sizes))
        raise DiffFormatError(
            "position-range",
            f"`{layout.names[order[worst]]}` has {sizes[worst]} entries, "
            f"and the file names entry {last[worst]}.",
        )
    running -= np.repeat(before, kept)
    for index, part in zip(order, np.split(running, ends[:-1]), strict=True):
        if flags[index]:
            part[:] = _row_major(part, layout.shapes[index])
            part.sort()
        joined[index] = part
    return joined


def density_order(counts: NDArray[np.int64], layout: Layout) -> Order:
    """Order tensors by falling count / size (as float64), equal ones as in the base."""
    sizes = np.maximum(np.array(layout.sizes, dtype=np.float64), 1.0)
    return np.argsort(-(counts / sizes), kind="stable")


def is_matrix(shape: tuple[int, ...]) -> bool:
    """Tell whether a tensor has columns: two axes or more (the later ones are one)."""
    return len(shape) >= 2


def write_counts(counts: NDArray[np.int64]) -> bytes:
    """Write each count as LEB128: seven bits a byte, lowest first, the top bit for 'more'."""
    written = bytearray()
    for count in counts.tolist():
        while count > 0x7F:
            written.append(count & 0x7F | 0x80)
            count >>= 7
        written.append(count)
    return bytes(written)


def read_counts(data: bytes, total: int, layout: Layout) -> NDArray[np.int64]:
    """Read one count per tensor of `layout`, each in its shortest form.

    Raises DiffFormatError: `count-coding`, `count-number`, `count-range` where one is larger than
    its tensor, `count-sum` where they do not add up to `total`.
    """
    n_tensors = len(layout.sizes)
    if len(data) > _COUNT_BYTES * n_tensors:
        raise DiffFormatError(
            "count-number", f"{n_tensors} tensors cannot take {len(data)} bytes of counts."
        )
    counts = _read_leb128(data)
    if len(counts) != n_tensors:
        raise DiffFormatError(
            "count-number", f"the base has {n_tensors} tensors, the file {len(counts)}."
        )
    for name, size, count in zip(layout.names, layout.sizes, counts, strict=True):
        if count > size:
            raise DiffFormatError(
                "count-range", f"`{name}` has {size} entries, and the file keeps {count} of them."
            )
    if sum(counts) != total:
        raise DiffFormatError("count-sum", f"counts must add up to {total}, got {sum(counts)}.")
    return np.array(counts, dtype=np.int64)


def _read_leb128(data: bytes) -> list[int]:
    counts: list[int] = []
    count = length = 0
    for byte in data:
        count |= (byte & 0x7F) << (7 * length)
        length += 1
        if byte & 0x80:
            if length == _COUNT_BYTES:
                raise DiffFormatError("count-coding", f"count {len(counts)} is over 5 bytes long.")
            continue
        if length > 1 and byte == 0:
            raise DiffFormatError("count-coding", f"count {len(counts)} has a needless zero byte.")
        counts.append(count)
        count = length = 0
    if length:
        raise DiffFormatError("count-coding", f"the last of {len(counts) + 1} counts is cut off.")
    return counts


def read_flags(data: bytes, counts: NDArray[np.int64], layout: Layout) -> NDArray[np.bool_]:
    """Read one flag per tensor; only a matrix that keeps entries may carry one (`flag-coding`)."""
    expected = (len(counts) + 7) // 8
    if len(data) != expected:
        raise DiffFormatError("flag-coding", f"flags take {expected} bytes, got {len(data)}.")
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8), bitorder="little")
    if bits[len(counts) :].any():
        raise DiffFormatError("flag-coding", f"bits after flag {len(counts)} must be 0.")
    flags = bits[: len(counts)].astype(bool)
    for index in np.flatnonzero(flags).tolist():
        if not is_matrix(layout.shapes[index]) or counts[index] == 0:
            raise DiffFormatError(
                "flag-coding",
                f"`{layout.names[index]}` of shape {layout.shapes[index]} with "
                f"{counts[index]} entries cannot be transposed.",
            )
    return flags


def _pages(counts: Sequence[int], sizes: Sequence[int]) -> tuple[int, ...]:
    """Cut a stream of tensors by falling density where that falls well below the page's own.

    A page costs about 60 bytes and adapts to its gaps; the cuts save 0 to 6% of the positions.
    """
    pages: list[int] = []
    held = size = 0
    for count, tensor_size in zip(counts, sizes, strict=True):
        if count == 0:
            break  # and all that follow: the density falls
        if held >= MIN_PAGE_ENTRIES and count / tensor_size < PAGE_DENSITY_DROP * held / size:
            pages.append(held)
            held = size = 0
        held += count
        size += tensor_size
    return (*pages, held) if held else tuple(pages)


def _gaps(positions: Positions) -> Gaps:
    gaps = positions.astype(np.uint32)
    gaps[1:] = positions[1:] - positions[:-1] - 1
    return gaps


def _bit_length(gaps: Gaps) -> int:
    """Sum the bits that each gap + 1 takes: within 0.1% of choosing by compressed bytes."""
    return int(np.frexp(gaps.astype(np.float64) + 1.0)[1].sum())


def _column_major(positions: Positions, shape: tuple[int, ...]) -> Positions:
    return _turn(positions, shape[0], math.prod(shape[1:]))


def _row_major(positions: Positions, shape: tuple[int, ...]) -> Positions:
    return _turn(positions, math.prod(shape[1:]), shape[0])


def _turn(positions: Positions, n_outer: int, n_inner: int) -> Positions:
    """Renumber entries of an (outer, inner) matrix as those of its transpose."""
    outer = positions // n_inner
    return np.asarray((positions - outer * n_inner) * n_outer + outer, dtype=np.int64)
