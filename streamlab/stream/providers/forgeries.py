"""Forged diff files: well-formed, with right checksums, by somebody who knows the format.

No function needs the base, and neither would an attacker.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamlab.diff.format.code_stream import read_codes, write_codes
from streamlab.diff.format.frame import Frame, Sections, read_frame, write_frame
from streamlab.diff.format.head import HeadTensor, read_head, write_head
from streamlab.diff.format.rule_block import n_values_of
from streamlab.diff.format.values import INTEGER_BITS, Codes

_CODES, _SCALES, _HEAD = "values.codes", "values.scales", "head"
_RULE = "positions.rule"

Numbers = NDArray[Any]


def rewritten(
    frame: Frame,
    *,
    header: Mapping[str, Any] | None = None,
    sections: Sections | None = None,
) -> bytes:
    """Return a file with parts of its header and sections replaced, and a matching checksum."""
    return write_frame(
        replace(frame.header, **(header or {})), {**frame.sections, **(sections or {})}
    )


def described_as(data: bytes, other: bytes) -> bytes:
    """Return the content of `data` under the description of the task in `other`."""
    return rewritten(read_frame(data), header={"task": read_frame(other).header.task})


def for_another_base(data: bytes) -> bytes:
    """Return the diff as one on another base of the same size."""
    frame = read_frame(data)
    other = hashlib.sha256(frame.header.base.encode()).hexdigest()
    return rewritten(frame, header={"base": other})


def padded(data: bytes, n_bytes: int) -> bytes:
    """Return the diff with more than `n_bytes` in all, most of it a superfluous head tensor."""
    frame = read_frame(data)
    zeros = HeadTensor("fp32", (n_bytes // 4 + 1,), Codes(np.zeros(n_bytes // 4 + 1, np.float32)))
    return _with_head(frame, {**_head_of(frame), "padding": zeros})


def with_nan(data: bytes, *, seed: int) -> bytes:
    """Return the diff with one NaN: in a value, in a scale of integer values, or in the head."""
    frame = read_frame(data)
    rng = np.random.default_rng(seed)
    if frame.header.k == 0:
        name, tensor = next(iter(_head_of(frame).items()))
        spoilt = HeadTensor("fp32", tensor.shape, Codes(_put_nan(rng)(tensor.widen().reshape(-1))))
        return _with_head(frame, {**_head_of(frame), name: spoilt})
    if frame.header.value_type in INTEGER_BITS:
        scales = _put_nan(rng)(np.frombuffer(frame.sections[_SCALES], dtype="<f4"))
        return rewritten(frame, sections={_SCALES: scales.tobytes()})
    return _with_codes(frame, _put_nan(rng))


def inverted(data: bytes) -> bytes:
    """Return the diff with the signs of all values and of the head inverted.

    Sizes, positions and norms stay the same, and the predictions become the opposite.
    """
    frame = read_frame(data)
    head = {name: _inverted_tensor(tensor) for name, tensor in _head_of(frame).items()}
    turned = _with_head(frame, head)
    if not frame.header.k:
        return turned
    invert = np.negative if frame.header.value_type == "ternary" else _invert_codes
    return _with_codes(read_frame(turned), invert)


def _head_of(frame: Frame) -> dict[str, HeadTensor]:
    return read_head(frame.sections[_HEAD])


def _with_head(frame: Frame, head: Mapping[str, HeadTensor]) -> bytes:
    return rewritten(frame, sections={_HEAD: write_head(head)})


def _inverted_tensor(tensor: HeadTensor) -> HeadTensor:
    return replace(tensor, codes=replace(tensor.codes, numbers=_invert_codes(tensor.codes.numbers)))


def _with_codes(frame: Frame, change: Callable[[Numbers], Numbers]) -> bytes:
    """Return the file with the codes of its values changed."""
    header = frame.header
    n_values = n_values_of(bytes(frame.sections[_RULE]), header.k)
    stream, value_type = bytes(frame.sections[_CODES]), header.value_type
    numbers = read_codes(header.coding, stream, value_type, header.codec, n_values, "value-stream")
    coding, changed = write_codes(change(numbers), value_type, header.codec)
    return rewritten(frame, header={"coding": coding}, sections={_CODES: changed})


def _put_nan(rng: np.random.Generator) -> Callable[[Numbers], Numbers]:
    def put_nan(numbers: Numbers) -> Numbers:
        changed = numbers.copy()
        nan = 0x7FC0 if changed.dtype == np.uint16 else np.nan  # bfloat16 is held as its bits
        changed[rng.integers(len(changed))] = nan
        return changed

    return put_nan


def _invert_codes(codes: Numbers) -> Numbers:
    """Invert the signs of floats, of bfloat16 as bits, and of integers, where -n - 1 inverts n."""
    if codes.dtype.kind == "f":
        return np.negative(codes)
    return codes ^ np.uint16(0x8000) if codes.dtype == np.uint16 else np.invert(codes)
