"""Values as codes of eight types, and back.

    fp32, fp16, bf16          rounded to nearest, ties to even
    int8, int4, int2, sign    sign * m * scale,  m in 1..2**(bits-1),  one scale per tensor
    ternary                   m * scale,         m in -1, 0, 1

`sign` has one bit, so m is 1. A value that would round to zero takes the type's smallest magnitude
with its own sign, except in `ternary`, where it becomes zero. The integer code is m - 1 for
positive values and -m for negative ones: 2**bits codes, none for zero; the ternary code is m. A
value of 0, which a position rule or mode `prune` keeps, is exact as a float and in `ternary`, and
+scale in the other integer types. Values that are multiples of one scale already are reproduced
bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from streamlab.diff.rules import Rule
from streamlab.diff.vector import DiffVector
from streamlab.errors import DiffError, DiffFormatError

ValueType = Literal["fp32", "fp16", "bf16", "int8", "int4", "int2", "sign", "ternary"]
INTEGER_BITS: Mapping[str, int] = MappingProxyType(
    {"int8": 8, "int4": 4, "int2": 2, "sign": 1, "ternary": 2}
)
VALUE_BITS: Mapping[str, int] = MappingProxyType(
    {"fp32": 32, "fp16": 16, "bf16": 16, **INTEGER_BITS}
)
_TINY_FLOAT32 = float(np.finfo(np.float32).smallest_subnormal)
_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
_SCALE_FACTORS = 0.94 ** np.arange(28)  # 1 to 0.19, relative to the scale of the largest value
_REFINEMENTS = 2

Floats = NDArray[np.float32]


NO_SCALES: Floats = np.zeros(0, dtype=np.float32)


@dataclass(frozen=True)
class Codes:
    """Codes of values; `scales` has one float32 per group of values, none for floats.

    A group is a tensor with entries, unless a position rule says otherwise.
    """

    numbers: NDArray[Any]
    scales: Floats = field(default_factory=lambda: NO_SCALES)


def code_range(value_type: ValueType) -> tuple[int, int]:
    """Return the smallest and the largest code of an integer type."""
    half = 1 << INTEGER_BITS[value_type] - 1
    return (-1, 1) if value_type == "ternary" else (-half, half - 1)


def _multiple_range(value_type: ValueType) -> tuple[int, int]:
    """Return the smallest and the largest multiple m of the scale in an integer type."""
    return (0, 1) if value_type == "ternary" else (1, 1 << INTEGER_BITS[value_type] - 1)


def code_dtype(value_type: ValueType, codec: str) -> np.dtype[Any]:
    """Return the type of numbers in the stream; pcodec needs at least 16 bits."""
    if value_type in INTEGER_BITS:
        return np.dtype(np.int16 if codec == "pcodec" else np.int8)
    return np.dtype({"fp32": np.float32, "fp16": np.float16, "bf16": np.uint16}[value_type])


def diff_codes(diff: DiffVector, value_type: ValueType) -> Codes:
    """Return the codes of all values of a diff. Raises DiffError where the type does not fit."""
    values = diff.entries if diff.rule is None else diff.rule.values_of(diff.entries)
    if diff.mode == "replace":
        return keep_values(values, value_type)
    return round_values(values, groups_of(diff.rule, diff.counts), value_type)


def groups_of(rule: Rule | None, counts: Sequence[int]) -> NDArray[np.int64]:
    """Return the lengths of the groups of values, from the entries of every tensor."""
    return np.array(counts if rule is None else rule.groups(counts), dtype=np.int64)


def keep_values(values: Floats, value_type: ValueType) -> Codes:
    """Encode (k,) values exactly, including signed zeros.

    Raises DiffError where the type cannot represent one bit for bit.
    """
    numbers: NDArray[Any] = values
    with np.errstate(over="ignore", under="ignore"):
        if value_type == "fp16":
            numbers = values.astype(np.float16)
        elif value_type == "bf16":
            numbers = (values.view(np.uint32) >> 16).astype(np.uint16)
    fits = value_type not in INTEGER_BITS
    counts = np.array([len(values)])
    if not fits or not _same_bits(_widen(Codes(numbers), counts, value_type), values):
        raise DiffError(
            f"{value_type} cannot represent every weight bit for bit; use a wider type."
        )
    return Codes(numbers)


def round_values(values: Floats, counts: NDArray[np.int64], value_type: ValueType) -> Codes:
    """Round (k,) values; `counts`: values of consecutive groups, including empty ones.

    Raises DiffError for a value that is too large for the type.
    """
    codes = _round(values, counts, value_type)
    widened = _widen(codes, counts, value_type)
    if not bool(np.isfinite(widened).all()):
        largest = float(np.abs(values).max())
        raise DiffError(f"{value_type} cannot represent the value {largest!r}; use a wider type.")
    return codes


def exact_codes(values: Floats, counts: NDArray[np.int64], value_type: ValueType) -> Codes | None:
    """Return codes from which (n,) values come back bit for bit, or None where there are none."""
    if value_type in INTEGER_BITS:
        allowed = _multiple_range(value_type)
        if not _find_scales(np.abs(values), counts[counts > 0], allowed).all():
            return None
    codes = _round(values, counts, value_type)
    return codes if _same_bits(_widen(codes, counts, value_type), values) else None


def _same_bits(one: Floats, other: Floats) -> bool:
    return np.array_equal(one.view(np.uint32), other.view(np.uint32))


def widen_values(
    codes: Codes, counts: NDArray[np.int64], value_type: ValueType, *, zeros: bool = False
) -> Floats:
    """Decode to float32 with at most one multiplication, so with equal bits on every machine.

    `zeros`: whether they are allowed. Raises DiffFormatError: `scale-range`, `value-range`,
    `value-finite`, `value-zero`.
    """
    if value_type in INTEGER_BITS and len(codes.numbers):
        if not bool((np.isfinite(codes.scales) & (codes.scales > 0)).all()):
            raise DiffFormatError("scale-range", "every scale must be finite and positive.")
        lowest, highest = int(codes.numbers.min()), int(codes.numbers.max())
        least, most = code_range(value_type)
        if lowest < least or highest > most:
            raise DiffFormatError(
                "value-range", f"codes must be {least} to {most}, got {lowest} to {highest}."
            )
    values = _widen(codes, counts, value_type)
    if not bool(np.isfinite(values).all()):
        bad = int(np.argmin(np.isfinite(values)))
        raise DiffFormatError("value-finite", f"value {bad} in the stream is {values[bad]}.")
    if not zeros and not bool(values.all()):
        bad = int(np.argmin(values != 0))
        raise DiffFormatError("value-zero", f"value {bad} in the stream is 0.")
    return values


def _round(values: Floats, counts: NDArray[np.int64], value_type: ValueType) -> Codes:
    """Round (k,) values; those too large for a float type become infinite."""
    if value_type in INTEGER_BITS:
        return _round_to_integers(values, counts[counts > 0], value_type)
    if value_type == "bf16":
        return Codes(_round_to_bfloat16(values))
    if value_type == "fp16":
        return Codes(round_to_float16(values, keep_non_zero=True))
    return Codes(values)


def round_to_float16(values: Floats, *, keep_non_zero: bool) -> NDArray[np.float16]:
    """Round to fp16; too large values overflow. `keep_non_zero`: none is rounded to zero."""
    with np.errstate(over="ignore", under="ignore"):
        rounded = values.astype(np.float16)
    if keep_non_zero:
        lost = (rounded == 0) & (values != 0)
        smallest = np.finfo(np.float16).smallest_subnormal
        rounded[lost] = np.copysign(smallest, values[lost])
    return rounded


def _widen(codes: Codes, counts: NDArray[np.int64], value_type: ValueType) -> Floats:
    if value_type in INTEGER_BITS:
        multiples = codes.numbers.astype(np.float32)  # exact
        if value_type != "ternary":
            multiples += codes.numbers >= 0
        with np.errstate(over="ignore"):
            multiples *= np.repeat(codes.scales, counts[counts > 0])
        return multiples
    if value_type == "bf16":
        wide = codes.numbers.astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)
    return np.asarray(codes.numbers, dtype=np.float32)


def _round_to_bfloat16(values: Floats) -> NDArray[np.uint16]:
    """Round to the upper 16 bits, ties to even."""
    bits = np.ascontiguousarray(values).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    lost = ((rounded & 0x7FFF) == 0) & (values != 0)
    rounded[lost] += 1
    return rounded.astype(np.uint16)


def _round_to_integers(values: Floats, counts: NDArray[np.int64], value_type: ValueType) -> Codes:
    if not len(values):
        return Codes(np.zeros(0, dtype=np.int16))
    allowed = _multiple_range(value_type)
    scales = _find_scales(np.abs(values), counts, allowed)
    magnitudes = np.abs(values).astype(np.float64)
    if not scales.all():
        scales = np.where(scales > 0, scales, _search_scales(magnitudes, counts, allowed))
    multiples = _multiples(magnitudes, scales.astype(np.float64), counts, allowed)
    above = multiples if value_type == "ternary" else multiples - 1
    return Codes(np.where(values >= 0, above, -multiples).astype(np.int16), scales)


def _find_scales(magnitudes: Floats, counts: NDArray[np.int64], allowed: tuple[int, int]) -> Floats:
    """Return, for each group, a scale of which all values are multiples bit for bit; 0: none."""
    n_distinct = allowed[1] - allowed[0] + 1
    scales = np.zeros(len(counts), dtype=np.float32)
    ends = np.cumsum(counts).tolist()
    for index, (first, end) in enumerate(pairwise([0, *ends])):
        # A few values tell most groups that lie on no grid.
        few = np.unique(magnitudes[first : min(end, first + 2 * n_distinct + 1)])
        if len(few) <= n_distinct:
            scales[index] = _find_scale(np.unique(magnitudes[first:end]), allowed)
    return scales


def _find_scale(distinct: Floats, allowed: tuple[int, int]) -> float:
    """Return a scale of which these ascending magnitudes are multiples bit for bit; 0: none.

    Where the largest is m scales after rounding, the scale is within a unit in the last place of
    their rounded quotient.
    """
    least, most = allowed
    if least == 0 and distinct[0] == 0:
        distinct = distinct[1:]
        if not len(distinct):
            return _TINY_FLOAT32  # of which 0 is a multiple, as of every other
    if len(distinct) > most or distinct[0] == 0:
        return 0.0
    largest_multiples = np.arange(len(distinct), most + 1, dtype=np.float32)
    with np.errstate(over="ignore", under="ignore"):
        quotients = distinct[-1] / largest_multiples
        below, above = (np.nextafter(quotients, np.float32(end)) for end in (0, np.inf))
        candidates = np.stack([quotients, below, above], axis=1).reshape(-1, 1)
        candidates = candidates[np.isfinite(candidates[:, 0]) & (candidates[:, 0] > 0)]
        multiples = np.rint(distinct.astype(np.float64) / candidates)
        exact = multiples.astype(np.float32) * candidates == distinct
    fits = np.flatnonzero(exact.all(axis=1) & (multiples[:, -1] <= most))
    return float(candidates[fits[0], 0]) if len(fits) else 0.0


def _search_scales(
    magnitudes: NDArray[np.float64], counts: NDArray[np.int64], allowed: tuple[int, int]
) -> Floats:
    """Choose each tensor's scale by least squared error on a grid, then refine it.

    A refinement takes the scale that fits the present codes best: sum(v*m) / sum(m*m).
    """
    starts = np.cumsum(counts) - counts
    most = allowed[1]
    full = np.maximum.reduceat(magnitudes, starts) / most
    best = np.clip(full, _TINY_FLOAT32, _LARGEST_FLOAT32 / most)
    least = np.full(len(counts), np.inf)

    def consider(scales: NDArray[np.float64]) -> NDArray[np.float64]:
        """Keep the scales that are better; return the best scales for their codes."""
        nonlocal best, least
        scales = np.clip(scales, _TINY_FLOAT32, _LARGEST_FLOAT32 / most)
        multiples = _multiples(magnitudes, scales, counts, allowed)
        residuals = magnitudes - multiples * np.repeat(scales, counts)
        errors = np.add.reduceat(residuals * residuals, starts)
        best = np.where(errors < least, scales, best)
        least = np.minimum(errors, least)
        fitted = np.add.reduceat(magnitudes * multiples, starts)
        squares = np.add.reduceat(multiples * multiples, starts)
        return np.asarray(fitted / np.maximum(squares, 1))  # all may be zeros

    for factor in _SCALE_FACTORS:
        consider(full * factor)
    for _ in range(_REFINEMENTS):
        consider(consider(best))
    return best.astype(np.float32)


def _multiples(
    magnitudes: NDArray[np.float64],
    scales: NDArray[np.float64],
    counts: NDArray[np.int64],
    allowed: tuple[int, int],
) -> NDArray[np.float64]:
    return np.clip(np.rint(magnitudes / np.repeat(scales, counts)), *allowed)
