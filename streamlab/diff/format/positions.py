"""Positions as streams of cuts, classes, counts and gaps, and back.

Tensors are cut into lines, and lines of similar density form strings (see `partition`). A codec
writes the gaps between entries along each string:

    gap_0 = position_0,    gap_i = position_i - position_{i-1} - 1
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray

from streamlab.diff.format.partition import (
    COLUMNS,
    WHOLE,
    Classes,
    Lines,
    Strings,
    choose_classes,
    cut_into_lines,
    string_together,
    write_cuts,
)
from streamlab.diff.format.varints import write_varints
from streamlab.diff.layout import Layout
from streamlab.diff.native_entries import native_entries
from streamlab.errors import DiffError, DiffFormatError

MAX_GAP = (1 << 32) - 1  # a gap is an unsigned 32-bit number
MIN_PAGE_LINES = 512
_BLOCK_ENTRIES = 1 << 21

Positions = NDArray[np.int64]
Gaps = NDArray[np.uint32]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class PositionStreams:
    """Streams for a codec; `class_pages` and `pages` are lengths of homogeneous parts."""

    cuts: bytes
    classes: Classes
    class_pages: tuple[int, ...]
    counts: bytes
    gaps: Gaps
    pages: tuple[int, ...]


def split(positions: Sequence[Positions], layout: Layout) -> PositionStreams:
    """Turn sorted positions per tensor into streams. Raises DiffError for a gap over 32 bits."""
    cuts, chosen = choose_classes(positions, layout)
    lines = cut_into_lines(cuts, layout)
    none = np.zeros(0, dtype=np.uint16)
    classes = np.concatenate([none, *(chosen[index] for index in lines.tensors)])
    strings = string_together(lines, classes, int(classes.max(initial=0)))
    parts = _gaps(positions, classes, lines, strings, layout)
    counts = [sum(map(len, gaps)) for gaps in parts]
    return PositionStreams(
        write_cuts(cuts),
        classes,
        _class_pages(lines),
        write_varints(counts),
        np.concatenate([np.zeros(0, dtype=np.uint32), *chain.from_iterable(parts)]),
        tuple(counts),
    )


def join(
    gaps: Gaps, counts: Counts, classes: Classes, lines: Lines, layout: Layout
) -> list[Positions]:
    """Turn streams into sorted positions per tensor, verified to be inside it.

    `classes`: of every line. Gaps are unsigned, so positions ascend strictly; sums cannot
    overflow with fewer than 2**31 entries. Raises DiffFormatError (`count-range`,
    `position-range`).
    """
    native = native_entries(len(gaps))
    if native is not None:
        joined = native.join(
            gaps, counts, classes, lines.n_lines, lines.lengths, lines.cuts == COLUMNS
        )
        if joined is not None:
            return _split_by_tensor(*joined, lines)
    strings = string_together(lines, classes, len(counts))
    places = _read_places(gaps, counts, strings)
    del gaps
    reached = np.searchsorted(places, strings.starts)
    n_kept, source, shift = (np.empty_like(strings.order) for _ in range(3))
    n_kept[strings.order] = np.diff(reached, append=len(places))
    source[strings.order] = reached
    shift[strings.order] = -strings.starts
    shift += strings.in_tensor * strings.lengths
    ends = np.cumsum(n_kept)
    source -= ends - n_kept
    numbers = np.arange(len(places))
    # In blocks: arrays of all entries would take twice the memory of the result.
    edges = np.searchsorted(ends, range(_BLOCK_ENTRIES, len(places), _BLOCK_ENTRIES)) + 1
    for first, last in pairwise([0, *np.unique(edges).tolist(), len(ends)]):
        n_of_line = n_kept[first:last]
        own = numbers[ends[first] - n_kept[first] : ends[last - 1]] if last > first else numbers[:0]
        taken = np.repeat(source[first:last], n_of_line)
        taken += own
        # The numbers are valid; the other modes copy through a buffer.
        np.take(places, taken, out=own, mode="clip")
        own += np.repeat(shift[first:last], n_of_line)
    return _by_tensor(numbers, n_kept, strings, lines, layout)


def _split_by_tensor(numbers: Positions, n_in: Counts, lines: Lines) -> list[Positions]:
    parts: list[Positions] = [numbers] * len(lines.tensors)
    numbers.flags.writeable = False
    ends = np.cumsum(n_in).tolist()
    for index, (start, end) in zip(lines.tensors.tolist(), pairwise([0, *ends]), strict=True):
        parts[index] = numbers[start:end]
    return parts


def _by_tensor(
    numbers: Positions, n_kept: Counts, strings: Strings, lines: Lines, layout: Layout
) -> list[Positions]:
    """Split the entries of all lines by tensor, in row-major numbers."""
    parts: list[Positions] = [numbers] * len(lines.tensors)
    line_ends = np.cumsum(strings.n_named)
    upto = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(n_kept)])[line_ends]
    spans = zip(pairwise([0, *line_ends.tolist()]), pairwise([0, *upto.tolist()]), strict=True)
    tensors = zip(lines.tensors.tolist(), lines.cuts.tolist(), strict=True)
    for (index, cut), ((first, last), (start, end)) in zip(tensors, spans, strict=True):
        own = parts[index] = numbers[start:end]
        if cut == COLUMNS:
            columns = np.repeat(strings.in_tensor[first:last], n_kept[first:last])
            own[:] = _by_rows(own, columns, layout.shapes[index])
        own.flags.writeable = False
    numbers.flags.writeable = False
    return parts


def _by_rows(numbers: Positions, columns: Positions, shape: tuple[int, ...]) -> Positions:
    """Convert sorted column-major numbers to sorted row-major ones."""
    n_rows, n_columns = shape[0], math.prod(shape[1:])
    rows = numbers - columns * n_rows
    turned = rows * n_columns + columns
    if n_rows <= 1 << 16:
        # Of one row the columns ascend already, and numpy sorts 16 bits by radix, stably.
        turned = turned[np.argsort(rows.astype(np.uint16), kind="stable")]
    else:
        turned.sort()
    return turned


def _gaps(
    positions: Sequence[Positions],
    classes: Classes,
    lines: Lines,
    strings: Strings,
    layout: Layout,
) -> list[list[Gaps]]:
    """Return the gaps along the string of every class, in parts, one of each tensor.

    Raises DiffError for a gap over 32 bits.
    """
    shift = np.zeros(len(classes), dtype=np.int64)
    own = strings.in_tensor * strings.lengths
    shift[np.flatnonzero(classes)[strings.order]] = strings.starts - own[strings.order]
    parts: list[list[Gaps]] = [[] for _ in strings.ends]
    before = (np.concatenate([[0], strings.ends])[:-1] - 1).tolist()  # the last place of each class
    firsts = np.cumsum(lines.n_lines) - lines.n_lines
    for index, cut, first, length in zip(
        lines.tensors, lines.cuts, firsts, lines.lengths, strict=True
    ):
        numbers = positions[index]
        if not len(numbers):
            continue
        if cut == COLUMNS:
            shape = layout.shapes[index]
            numbers = _turn(numbers, shape[0], math.prod(shape[1:]))
            numbers.sort()
        on_line = first + numbers // length
        names = classes[on_line]
        places = (numbers + shift[on_line])[np.argsort(names, kind="stable")]
        ends = np.cumsum(np.bincount(names, minlength=len(parts) + 1)).tolist()
        for name, (start, end) in enumerate(pairwise(ends)):
            if start == end:
                continue
            gaps = np.diff(places[start:end], prepend=before[name]) - 1
            if gaps.max() > MAX_GAP:
                raise DiffError(
                    f"A gap in a diff file is at most {MAX_GAP} entries, got {gaps.max()}."
                )
            parts[name].append(gaps.astype(np.uint32))
            before[name] = int(places[end - 1])
    return parts


def _read_places(gaps: Gaps, counts: Counts, strings: Strings) -> NDArray[np.int64]:
    """Sum the gaps from the start of each class, and check that no place exceeds its string."""
    starts = np.concatenate([np.zeros(1, dtype=np.int64), strings.ends])[:-1]
    sizes = strings.ends - starts
    wrong = np.flatnonzero((counts < 1) | (counts > sizes))
    if len(wrong):
        raise DiffFormatError(
            "count-range",
            f"class {wrong[0] + 1} must have 1 to {sizes[wrong[0]]} entries, got "
            f"{counts[wrong[0]]}.",
        )
    places = gaps.astype(np.int64)
    places += 1
    ends = np.cumsum(counts).tolist()
    for index, (first, end) in enumerate(pairwise([0, *ends])):
        own = places[first:end]
        np.cumsum(own, out=own)
        if own[-1] > sizes[index]:
            raise DiffFormatError(
                "position-range",
                f"positions of class {index + 1} must be below {sizes[index]}, got {own[-1] - 1}.",
            )
        own += starts[index] - 1
    return places


def _class_pages(lines: Lines) -> tuple[int, ...]:
    """Return page lengths: one page for uncut tensors, then pages of some tensors' lines."""
    pages = [int(np.count_nonzero(lines.cuts == WHOLE))]
    held = 0
    for n_lines in lines.n_lines[lines.cuts != WHOLE].tolist():
        held += n_lines
        if held >= MIN_PAGE_LINES:
            pages.append(held)
            held = 0
    return tuple(page for page in (*pages, held) if page)


def _turn(positions: Positions, n_outer: int, n_inner: int) -> Positions:
    """Convert positions in an (outer, inner) matrix to those in its transpose."""
    outer = positions // n_inner
    return np.asarray((positions - outer * n_inner) * n_outer + outer, dtype=np.int64)
