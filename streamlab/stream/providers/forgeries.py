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

from streamlab.diff.format.codec import read_numbers, write_numbers
from streamlab.diff.format.frame import (
    Block,
    Frame,
    Header,
    read_frame,
    read_header,
    with_digest,
    write_frame,
)
from streamlab.diff.format.head import HeadTensor, read_head, write_head
from streamlab.diff.format.rule_block import n_values_of
from streamlab.diff.format.values import INTEGER_BITS, VALUE_BITS, Codes, code_dtype

_CODES, _SCALES, _HEAD = "values.codes", "values.scales", "head"
_RULE = "positions.rule"

Numbers = NDArray[Any]


def rewritten(
    frame: Frame,
    *,
    metadata: Mapping[str, Any] | None = None,
    blocks: Mapping[str, Block] | None = None,
) -> bytes:
    """Return a file with some metadata and blocks replaced, and a matching checksum."""
    held = {**frame.blocks, **(blocks or {})}
    tree = {**frame.metadata, **(metadata or {})}
    return write_frame(with_digest(tree, held), held)


def described_as(data: bytes, other: bytes) -> bytes:
    """Return the content of `data` under the description of the task in `other`."""
    return rewritten(read_frame(data), metadata={"task": read_frame(other).metadata["task"]})


def for_another_base(data: bytes) -> bytes:
    """Return the diff as one on another base of the same size."""
    frame = read_frame(data)
    other = hashlib.sha256(str(frame.metadata["base"]).encode()).hexdigest()
    return rewritten(frame, metadata={"base": other})


def padded(data: bytes, n_bytes: int) -> bytes:
    """Return the diff with more than `n_bytes` in all, most of it a superfluous head tensor."""
    frame = read_frame(data)
    zeros = HeadTensor("fp32", (n_bytes // 4 + 1,), Codes(np.zeros(n_bytes // 4 + 1, np.float32)))
    return rewritten(frame, blocks={_HEAD: _head_block({**_head_of(frame), "padding": zeros})})


def with_nan(data: bytes, *, seed: int) -> bytes:
    """Return the diff with one NaN: in a value, in a scale of integer values, or in the head."""
    frame = read_frame(data)
    header = read_header(frame.metadata)
    rng = np.random.default_rng(seed)
    if header.k == 0:
        name, tensor = next(iter(_head_of(frame).items()))
        spoilt = HeadTensor("fp32", tensor.shape, Codes(_put_nan(rng)(tensor.widen().reshape(-1))))
        return rewritten(frame, blocks={_HEAD: _head_block({**_head_of(frame), name: spoilt})})
    if header.value_type in INTEGER_BITS:
        scales = _in_floats(frame.blocks[_SCALES], _put_nan(rng))
        return rewritten(frame, blocks={_SCALES: scales})
    return rewritten(frame, blocks={_CODES: _in_codes(frame, header, _put_nan(rng))})


def inverted(data: bytes) -> bytes:
    """Return the diff with the signs of all values and of the head inverted.

    Sizes, positions and norms stay the same, and the predictions become the opposite.
    """
    frame = read_frame(data)
    header = read_header(frame.metadata)
    head = {name: _inverted_tensor(tensor) for name, tensor in _head_of(frame).items()}
    blocks = {_HEAD: _head_block(head)} if head else {}
    if header.k:
        blocks[_CODES] = _in_codes(frame, header, _invert_codes)
    return rewritten(frame, blocks=blocks)


def _head_of(frame: Frame) -> dict[str, HeadTensor]:
    return read_head(frame.blocks[_HEAD].data) if _HEAD in frame.blocks else {}


def _head_block(head: Mapping[str, HeadTensor]) -> Block:
    data = write_head(head)
    return Block("U8", (len(data),), data)


def _inverted_tensor(tensor: HeadTensor) -> HeadTensor:
    return replace(tensor, codes=replace(tensor.codes, numbers=_invert_codes(tensor.codes.numbers)))


def _in_floats(block: Block, change: Callable[[Numbers], Numbers]) -> Block:
    """Return a block of floats with its numbers changed."""
    numbers = np.frombuffer(block.data, dtype={"F32": "<f4", "F16": "<f2"}[block.dtype])
    return replace(block, data=change(numbers).astype(numbers.dtype).tobytes())


def _in_codes(frame: Frame, header: Header, change: Callable[[Numbers], Numbers]) -> Block:
    """Return the block of codes with the numbers in its stream changed."""
    dtype, bits = code_dtype(header.value_type, header.codec), VALUE_BITS[header.value_type]
    stream = bytes(frame.blocks[_CODES].data)
    rule = bytes(frame.blocks[_RULE].data) if _RULE in frame.blocks else b""
    n_values = n_values_of(rule, header.k)
    numbers = read_numbers(stream, dtype, bits, header.codec, n_values, "value-stream")
    data = write_numbers(change(numbers), bits, header.codec)
    return Block("U8", (len(data),), data)


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
