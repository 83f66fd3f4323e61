"""Positions and entries in C: `entries.c`, compiled when it is first needed."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamlab.compiler import compile_library

LEAST_ENTRIES: Final = 4096  # of fewer, numpy is as fast

_Pointer, _Integer = ctypes.c_void_p, ctypes.c_int64


class NativeEntries:
    """The functions of `entries.c`. Positions must be valid: they are not checked."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._stratified = library.stratified
        self._stratified.argtypes = (ctypes.c_uint32, _Pointer, _Pointer, _Integer, _Pointer)
        self._stratified.restype = None
        self._join = library.join_positions
        self._join.argtypes = (
            _Pointer, _Pointer, _Integer, _Pointer, _Pointer, _Pointer, _Pointer, _Integer,
            *[_Pointer] * 9,
        )  # fmt: skip
        self._join.restype = ctypes.c_int
        self._read, self._write = (
            {bits // 8: getattr(library, f"{name}_{bits}") for bits in (16, 32, 64)}
            for name in ("read", "write")
        )
        for move in (*self._read.values(), *self._write.values()):
            move.argtypes = (_Pointer, _Pointer, _Integer, _Pointer, _Pointer)
            move.restype = None

    def stratified(
        self, prefix: int, sizes: NDArray[np.int64], counts: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return what `rules.stratified` does; `prefix`: of `counter_hash`, for the positions."""
        sizes, counts = np.ascontiguousarray(sizes), np.ascontiguousarray(counts)
        places = np.empty(int(counts.sum()), dtype=np.int64)
        self._stratified(
            prefix, sizes.ctypes.data, counts.ctypes.data, len(counts), places.ctypes.data
        )
        return places

    def join(
        self,
        gaps: NDArray[np.uint32],
        counts: NDArray[np.int64],
        classes: NDArray[np.uint16],
        n_lines: NDArray[np.int64],
        lengths: NDArray[np.int64],
        columns: NDArray[np.bool_],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        """Return the positions that `positions.join` does, and how many each tensor has.

        `n_lines`, `lengths`, `columns`: by tensor its lines, the entries of one, and whether they
        are columns. None where a class has too few or too many entries, or one past its end,
        and for numbers of more than 32 bits.
        """
        if max(len(gaps), len(classes), lengths.max(initial=0)) >> 32:
            return None
        given = [
            np.ascontiguousarray(array)
            for array in (gaps, counts, classes, n_lines, lengths, columns)
        ]
        of_lines = np.empty((4, len(classes)), dtype=np.uint32)
        within = np.empty(len(gaps), dtype=np.uint32)
        found = np.empty(len(gaps), dtype=np.int64)
        rows = np.empty(int(lengths[columns].max(initial=0)) + 1, dtype=np.int64)
        upto = np.empty(len(counts) + 2, dtype=np.int64)
        n_in = np.empty(len(n_lines), dtype=np.int64)
        gaps_at, counts_at, classes_at, *tensors_at = (array.ctypes.data for array in given)
        is_valid = self._join(
            gaps_at, counts_at, len(counts), classes_at, *tensors_at, len(n_lines),
            *(line.ctypes.data for line in of_lines),
            *(array.ctypes.data for array in (within, rows, upto, found, n_in)),
        )  # fmt: skip
        return (found, n_in) if is_valid else None

    def read(
        self,
        addresses: Sequence[int],
        counts: NDArray[np.int64],
        positions: NDArray[np.int64],
        into: NDArray[Any],
    ) -> None:
        """Copy numbers into an array: those at the positions, `counts` of each address."""
        self._move(self._read, addresses, counts, positions, into)

    def write(
        self,
        addresses: Sequence[int],
        counts: NDArray[np.int64],
        positions: NDArray[np.int64],
        source: NDArray[Any],
    ) -> None:
        """Copy the numbers of an array to the positions, `counts` of them at each address."""
        self._move(self._write, addresses, counts, positions, source)

    def _move(
        self,
        functions: dict[int, Any],
        addresses: Sequence[int],
        counts: NDArray[np.int64],
        positions: NDArray[np.int64],
        buffer: NDArray[Any],
    ) -> None:
        table = np.array(addresses, dtype=np.uint64)
        functions[buffer.itemsize](
            table.ctypes.data,
            counts.ctypes.data,
            len(counts),
            positions.ctypes.data,
            buffer.ctypes.data,
        )


def native_entries(n_entries: int) -> NativeEntries | None:
    """Return the compiled functions; None for few entries, and where there is no compiler."""
    return _find() if n_entries >= LEAST_ENTRIES else None


@cache
def _find() -> NativeEntries | None:
    library = compile_library([Path(__file__).with_name("entries.c")])
    return None if library is None else NativeEntries(library)
