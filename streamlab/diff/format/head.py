"""The head of a diff file: all dense tensors of the classifier in one section.

Of each tensor, in the order of the UTF-8 bytes of their names:

    name, its length before it | type | number of axes, axes | scales | codes

A first row of zeros, as the reference class of two has it, is a flag in the type and has neither
scale nor codes. fp32 and fp16 hold the numbers themselves. An integer type holds codes as for
values and a float32 scale for every row: for every index of the first axis, or one for a tensor of
fewer than two axes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from streamlab.diff.format.code_stream import pack_numbers, unpack_numbers
from streamlab.diff.format.values import (
    INTEGER_BITS,
    NO_SCALES,
    VALUE_BITS,
    Codes,
    code_dtype,
    exact_codes,
    round_to_float16,
    round_values,
    widen_values,
)
from streamlab.diff.format.varints import ByteReader, write_varints
from streamlab.diff.rules import row_number
from streamlab.errors import DiffError, DiffFormatError

HeadType = Literal["sign", "int2", "int4", "int8", "fp16", "fp32"]

_TYPES: tuple[HeadType, ...] = get_args(HeadType)  # in a file as their numbers
_ZERO_ROW = 8  # added to the number of a type
_MAX_AXES = 8
_RULE = "head-coding"

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class HeadTensor:
    """One tensor as it is stored; with `zero_row`, without its first row, which is all zeros."""

    head_type: HeadType
    shape: tuple[int, ...]
    codes: Codes
    zero_row: bool = False

    @property
    def size(self) -> int:
        """Return the number of entries."""
        return math.prod(self.shape)

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Return the shape of what has codes."""
        return _stored_shape(self.shape, self.zero_row)

    @property
    def n_stored(self) -> int:
        """Return the number of entries that have codes."""
        return math.prod(self.stored_shape)

    def widen(self) -> Floats:
        """Return the entries in float32, at most one multiplication from their codes.

        Raises DiffFormatError: `scale-range`, `value-finite`, `head-finite`.
        """
        if self.head_type in INTEGER_BITS:
            rows = _rows(self.stored_shape)
            array = widen_values(self.codes, rows, self.head_type, zeros=True)
        else:
            array = np.asarray(self.codes.numbers, dtype=np.float32)
        if not bool(np.isfinite(array).all()):
            raise DiffFormatError("head-finite", "the head has NaN or infinite entries.")
        if self.zero_row:
            zeros = np.zeros(self.size - self.n_stored, dtype=np.float32)
            array = np.concatenate([zeros, array])
        return array.reshape(self.shape)


def round_head(head: Mapping[str, Floats], head_type: HeadType) -> dict[str, HeadTensor]:
    """Return tensors as a file stores them.

    A tensor that a type of fewer bytes holds bit for bit is stored in that one: what was trained on
    the grid of a type loses nothing. Raises DiffError where an entry exceeds the range of fp16.
    """
    return {name: _round(name, array, head_type) for name, array in head.items()}


def _round(name: str, array: Floats, head_type: HeadType) -> HeadTensor:
    zero_row = _has_zero_row(array)
    stored = array[1:] if zero_row else array
    flat, shape, rows = np.ascontiguousarray(stored).reshape(-1), stored.shape, _rows(stored.shape)
    for narrow in get_args(HeadType):
        if _stored_bytes(shape, narrow) < _stored_bytes(shape, head_type):
            exact = exact_codes(flat, rows, narrow)
            if exact is not None:
                return HeadTensor(narrow, array.shape, exact, zero_row)
    if head_type != "fp16":
        codes = round_values(flat, rows, head_type)
        return HeadTensor(head_type, array.shape, codes, zero_row)
    halves = round_to_float16(flat, keep_non_zero=False)
    if not bool(np.isfinite(halves).all()):
        raise DiffError(f"The head's `{name}` exceeds the range of fp16; store it as fp32.")
    return HeadTensor("fp16", array.shape, Codes(halves), zero_row)


def _has_zero_row(array: Floats) -> bool:
    """Tell whether the first of several rows is all zeros, none of them negative."""
    several = array.ndim > 0 and len(array) > 1
    return several and not np.ascontiguousarray(array[0]).view(np.uint32).any()


def write_head(tensors: Mapping[str, HeadTensor]) -> bytes:
    """Return the section of a head; no tensors take no bytes."""
    return b"".join(_write(name.encode(), tensors[name]) for name in sorted(tensors))


def _write(name: bytes, tensor: HeadTensor) -> bytes:
    numbers = tensor.codes.numbers.astype(_dtype(tensor.head_type), copy=False)
    return b"".join(
        [
            write_varints([len(name)]),
            name,
            bytes([_TYPES.index(tensor.head_type) + _ZERO_ROW * tensor.zero_row]),
            write_varints([len(tensor.shape), *tensor.shape]),
            tensor.codes.scales.astype("<f4").tobytes(),
            pack_numbers(numbers, VALUE_BITS[tensor.head_type]),
        ]
    )


def read_head(data: bytes | memoryview) -> dict[str, HeadTensor]:
    """Return the tensors of a section; the bytes bound what is allocated.

    Raises DiffFormatError: `head-coding`.
    """
    reader = ByteReader(data, _RULE)
    tensors: dict[str, HeadTensor] = {}
    last = b""
    while reader.n_left:
        name = bytes(reader.take(reader.varint("the length of a name"), "a name"))
        if name <= last:
            raise DiffFormatError(_RULE, f"{name!r:.80} must not follow {last!r:.80}.")
        tensors[_decoded(name)] = _read(reader)
        last = name
    return tensors


def _decoded(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise DiffFormatError(_RULE, f"the name {name!r:.80} is not UTF-8.") from error


def _read(reader: ByteReader) -> HeadTensor:
    coded = reader.byte("the type of a tensor")
    zero_row, number = divmod(coded, _ZERO_ROW)
    if zero_row > 1 or number >= len(_TYPES):
        raise DiffFormatError(_RULE, f"there is no head type of the number {coded}.")
    n_axes = reader.varint("the number of axes")
    if n_axes > _MAX_AXES:
        raise DiffFormatError(_RULE, f"a tensor has at most {_MAX_AXES} axes, got {n_axes}.")
    shape = tuple(reader.varint("the length of an axis") for _ in range(n_axes))
    if not math.prod(shape):
        raise DiffFormatError(_RULE, f"a tensor must have entries, got the shape {shape}.")
    if zero_row and (not shape or shape[0] < 2):
        raise DiffFormatError(_RULE, f"a row of zeros is one of several, got the shape {shape}.")
    head_type, scales = _TYPES[number], NO_SCALES
    stored = _stored_shape(shape, bool(zero_row))
    if head_type in INTEGER_BITS:
        data = reader.take(4 * row_number(stored), "the scales of a tensor")
        scales = np.frombuffer(data, dtype="<f4").astype(np.float32)
    bits, size = VALUE_BITS[head_type], math.prod(stored)
    packed = bytes(reader.take(-(-size * bits // 8), "the codes of a tensor"))
    numbers = unpack_numbers(packed, _dtype(head_type), bits, size, _RULE)
    return HeadTensor(head_type, shape, Codes(numbers, scales), bool(zero_row))


def _stored_shape(shape: tuple[int, ...], zero_row: bool) -> tuple[int, ...]:
    return (shape[0] - 1, *shape[1:]) if zero_row else shape


def _rows(shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the numbers of entries that share a scale."""
    n_rows = row_number(shape)
    return np.full(n_rows, math.prod(shape) // n_rows if n_rows else 0, dtype=np.int64)


def _stored_bytes(shape: tuple[int, ...], head_type: HeadType) -> int:
    scales = 4 * row_number(shape) if head_type in INTEGER_BITS else 0
    return scales + -(-math.prod(shape) * VALUE_BITS[head_type] // 8)


def _dtype(head_type: HeadType) -> np.dtype[Any]:
    return code_dtype(head_type, "xz")
