"""The block of a position rule: its kind, its seed and its numbers, in as few bytes as they need.

    1 byte: kind | 8 bytes: seed, unless no position is seeded | the rest, by kind

A number list begins with a byte that says how it is coded; the writer takes the shortest way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from streamlab.diff.format.codec import CODECS, CodecName
from streamlab.diff.format.varints import MAX_VARINT_BYTES, read_varints, write_varints
from streamlab.diff.layout import Layout
from streamlab.diff.rules import (
    Rule,
    Seeded,
    SeededCounts,
    SeededRows,
    Shared,
    WholeTensors,
    rows_of,
)
from streamlab.errors import DiffError, DiffFormatError

SEEDED, TENSOR_COUNTS, ROW_COUNTS, ROWS, TENSORS, SHARED = range(1, 7)  # kinds
_DIRECT, _CODED = b"\0", b"\1"  # how a number list is coded
_SEED_BYTES = 8
_NUMBER_BYTES = 4

Flags = NDArray[np.bool_]


def write_rule(rule: Rule, codec: CodecName) -> bytes:
    """Return the block of a rule."""
    match rule:
        case Seeded():
            return _begun(SEEDED, rule.seed) + _write_flags(np.array(rule.tensors))
        case SeededCounts():
            kind = TENSOR_COUNTS if rule.per == "tensor" else ROW_COUNTS
            return _begun(kind, rule.seed) + _write_counts(rule.counts, codec)
        case SeededRows():
            return _begun(ROWS, rule.seed) + _write_rows(rule.rows, codec)
        case WholeTensors():
            return bytes([TENSORS]) + _write_flags(np.array(rule.tensors))
        case Shared():
            times = rule.s.to_bytes(_NUMBER_BYTES, "little")
            return _begun(SHARED, rule.seed) + times + _write_flags(np.array(rule.tensors))
    raise DiffError(f"A diff file has no block for the rule {type(rule).__name__}.")


def read_rule(data: bytes, k: int, codec: CodecName, layout: Layout) -> Rule:
    """Return the rule of a file with `k` entries, which fits the layout.

    Raises DiffFormatError: `rule-coding` for malformed bytes, `rule-range` for numbers that do
    not fit the layout or each other.
    """
    kind = data[0] if data else 0
    if kind not in _READERS:
        raise DiffFormatError("rule-coding", f"there is no rule of the kind {kind}.")
    try:
        rule = _READERS[kind](data[1:], k, codec, layout)
        n_entries = rule.n_entries(layout)
    except DiffFormatError:
        raise
    except DiffError as error:
        raise DiffFormatError("rule-range", str(error)) from error
    if n_entries != k:
        raise DiffFormatError("rule-range", f"the rule must give {k} entries, got {n_entries}.")
    return rule


def n_values_of(data: bytes, k: int) -> int:
    """Return how many values a file with `k` entries stores, from the block alone; b"": no rule."""
    if data[:1] != bytes([SHARED]):
        return k
    times = data[1 + _SEED_BYTES : 1 + _SEED_BYTES + _NUMBER_BYTES]
    return k // max(1, int.from_bytes(times, "little"))


def _read_seeded(data: bytes, k: int, _codec: CodecName, layout: Layout) -> Rule:
    seed, rest = _read_seed(data)
    return Seeded(seed, _read_tensors(rest, layout), k)


def _read_tensor_counts(data: bytes, _k: int, codec: CodecName, layout: Layout) -> Rule:
    seed, rest = _read_seed(data)
    return SeededCounts(seed, _read_counts(rest, codec, len(layout.names)))


def _read_row_counts(data: bytes, _k: int, codec: CodecName, layout: Layout) -> Rule:
    seed, rest = _read_seed(data)
    return SeededCounts(seed, _read_counts(rest, codec, len(rows_of(layout).lengths)), "row")


def _read_selected_rows(data: bytes, k: int, codec: CodecName, layout: Layout) -> Rule:
    seed, rest = _read_seed(data)
    return SeededRows(seed, _read_rows(rest, codec, len(rows_of(layout).lengths)), k)


def _read_whole_tensors(data: bytes, _k: int, _codec: CodecName, layout: Layout) -> Rule:
    return WholeTensors(_read_tensors(data, layout))


def _read_shared(data: bytes, k: int, _codec: CodecName, layout: Layout) -> Rule:
    seed, rest = _read_seed(data)
    times = int.from_bytes(rest[:_NUMBER_BYTES], "little")
    tensors = _read_tensors(rest[_NUMBER_BYTES:], layout)
    if not times or k % times:
        raise DiffFormatError("rule-range", f"{k} entries cannot share values {times} by {times}.")
    return Shared(seed, tensors, k // times, times)


_READERS: Mapping[int, Callable[[bytes, int, CodecName, Layout], Rule]] = MappingProxyType(
    {
        SEEDED: _read_seeded,
        TENSOR_COUNTS: _read_tensor_counts,
        ROW_COUNTS: _read_row_counts,
        ROWS: _read_selected_rows,
        TENSORS: _read_whole_tensors,
        SHARED: _read_shared,
    }
)


def _begun(kind: int, seed: int) -> bytes:
    return bytes([kind]) + seed.to_bytes(_SEED_BYTES, "little")


def _read_seed(data: bytes) -> tuple[int, bytes]:
    if len(data) < _SEED_BYTES:
        raise DiffFormatError("rule-coding", f"a seed takes 8 bytes, got {len(data)}.")
    return int.from_bytes(data[:_SEED_BYTES], "little"), data[_SEED_BYTES:]


def _write_flags(flags: Flags) -> bytes:
    """Write a bit per flag, lowest bits first."""
    return np.packbits(flags, bitorder="little").tobytes()


def _read_flags(data: bytes, n: int) -> Flags:
    if len(data) != (n + 7) // 8:
        raise DiffFormatError(
            "rule-coding", f"{n} flags take {(n + 7) // 8} bytes, got {len(data)}."
        )
    flags = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    if flags[n:].any():
        raise DiffFormatError("rule-coding", f"bits after flag {n} must be 0.")
    return flags[:n].astype(np.bool_)


def _read_tensors(data: bytes, layout: Layout) -> tuple[bool, ...]:
    return tuple(_read_flags(data, len(layout.names)).tolist())


def _write_counts(counts: NDArray[np.int64], codec: CodecName) -> bytes:
    """Write counts as LEB128, or as a codec stream."""
    direct = _DIRECT + write_varints(counts.tolist())
    coded = _CODED + CODECS[codec].compress(counts.astype(np.uint32))
    return min(direct, coded, key=len)


def _read_counts(data: bytes, codec: CodecName, n: int) -> NDArray[np.int64]:
    way, rest = data[:1], data[1:]
    if way == _CODED:
        return _expand(rest, codec, n)
    if way != _DIRECT or len(rest) > MAX_VARINT_BYTES * n:
        raise DiffFormatError("rule-coding", f"{n} counts cannot be {len(data)} bytes like these.")
    counts = read_varints(rest, "rule-coding")
    if len(counts) != n:
        raise DiffFormatError("rule-coding", f"there must be {n} counts, got {len(counts)}.")
    return np.array(counts, dtype=np.int64)


def _write_rows(rows: Flags, codec: CodecName) -> bytes:
    """Write a bit per row, or the number of selected rows and a codec stream of their gaps."""
    gaps = np.diff(np.flatnonzero(rows), prepend=-1) - 1
    n_selected = len(gaps).to_bytes(_NUMBER_BYTES, "little")
    coded = _CODED + n_selected + CODECS[codec].compress(gaps.astype(np.uint32))
    return min(_DIRECT + _write_flags(rows), coded, key=len)


def _read_rows(data: bytes, codec: CodecName, n: int) -> Flags:
    way, rest = data[:1], data[1:]
    if way == _DIRECT:
        return _read_flags(rest, n)
    n_selected = int.from_bytes(rest[:_NUMBER_BYTES], "little")
    if way != _CODED or n_selected > n:
        raise DiffFormatError(
            "rule-coding", f"{n} rows cannot be selected by {len(data)} bytes like these."
        )
    places = np.cumsum(_expand(rest[_NUMBER_BYTES:], codec, n_selected) + 1) - 1
    if len(places) and places[-1] >= n:
        raise DiffFormatError("rule-range", f"rows must be below {n}, got {places[-1]}.")
    rows = np.zeros(n, dtype=np.bool_)
    rows[places] = True
    return rows


def _expand(data: bytes, codec: CodecName, n: int) -> NDArray[np.int64]:
    return CODECS[codec].expand(data, np.uint32, n, "rule-coding").astype(np.int64)
