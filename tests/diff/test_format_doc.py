"""A second reader, written from docs/reference/format.md alone, agrees with the first.

It uses nothing of the package but the errors-free facts of a base: names and shapes.
"""

from __future__ import annotations

import json
import lzma
import math
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import safetensors.numpy

from streamlab.diff.format.container import decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamlab.diff.format.values import ValueType
    from streamlab.diff.vector import DiffVector

Entries = dict[int, float]
Shapes = tuple[tuple[int, ...], ...]
ITEMS = {"fp32": "f", "fp16": "e", "bf16": "H", "int8": "b", "int4": "b"}


def metadata_of(data: bytes) -> dict[str, Any]:
    (length,) = struct.unpack("<Q", data[:8])
    metadata: dict[str, Any] = json.loads(
        json.loads(data[8 : 8 + length])["__metadata__"]["streamlab.diff"]
    )
    return metadata


def numbers_of(stream: bytes, item: str, count: int) -> list[Any]:
    planes = lzma.decompress(stream) if count else b""
    width = struct.calcsize(item)
    rows = b"".join(bytes(planes[i::count]) for i in range(count))
    return list(struct.unpack(f"<{count}{item}", rows)) if width * count == len(rows) else []


def counts_of(data: bytes) -> list[int]:
    counts, count, shift = [], 0, 0
    for byte in data:
        count += (byte % 128) << shift
        shift += 7
        if byte < 128:
            counts.append(count)
            count = shift = 0
    return counts


def value_of(code: Any, scale: float, value_type: str) -> float:
    if value_type.startswith("int"):
        return float(np.float32(code + 1 if code >= 0 else code) * np.float32(scale))
    if value_type == "bf16":
        (value,) = struct.unpack("<f", struct.pack("<HH", 0, code))
        return float(value)
    return float(code)


def lines_of(shape: tuple[int, ...], cut: int) -> list[list[int]]:
    """Return the row-major positions along every line of a tensor."""
    size = math.prod(shape)
    if cut == 0:
        return [list(range(size))]
    rows, columns = shape[0], size // shape[0]
    if cut == 1:
        return [[r * columns + c for c in range(columns)] for r in range(rows)]
    return [[r * columns + c for r in range(rows)] for c in range(columns)]


def places_of(blocks: Any, shapes: Shapes) -> list[list[tuple[int, int]]]:
    """Return the string of every class: (tensor, position) at each place of it."""
    packed = blocks["positions.cuts"]
    cuts = [int(packed[t // 4]) >> (t % 4 * 2) & 3 for t in range(len(shapes))]
    lines = [
        (t, positions)
        for kind in (False, True)
        for t, shape in enumerate(shapes)
        if (cuts[t] > 0) == kind
        for positions in lines_of(shape, cuts[t])
    ]
    classes = numbers_of(blocks["positions.classes"].tobytes(), "H", len(lines))
    n_classes = len(counts_of(blocks["positions.counts"].tobytes()))
    strings: list[list[tuple[int, int]]] = [[] for _ in range(n_classes + 1)]
    for (t, positions), name in zip(lines, classes, strict=True):
        strings[name] += [(t, position) for position in positions]
    return strings[1:]


def read(data: bytes, shapes: Shapes) -> list[Entries]:
    """Return position -> value for each tensor."""
    metadata = metadata_of(data)
    blocks = safetensors.numpy.load(data)
    gaps = iter(numbers_of(blocks["positions.gaps"].tobytes(), "I", metadata["k"]))
    kept: list[list[int]] = [[] for _ in shapes]
    counts = counts_of(blocks["positions.counts"].tobytes())
    for string, count in zip(places_of(blocks, shapes), counts, strict=True):
        place = -1
        for _ in range(count):
            place += next(gaps) + 1
            t, position = string[place]
            kept[t].append(position)
    item = ITEMS[metadata["value_type"]]
    codes = iter(numbers_of(blocks["values.codes"].tobytes(), item, metadata["k"]))
    scales = iter(blocks.get("values.scales", np.ones(len(shapes))).tolist())
    tensors: list[Entries] = []
    for positions in kept:
        scale = next(scales) if positions else 1.0
        tensors.append(
            {p: value_of(next(codes), scale, metadata["value_type"]) for p in sorted(positions)}
        )
    return tensors


@pytest.mark.parametrize("value_type", ["fp32", "fp16", "bf16", "int8", "int4"])
def test_a_reader_written_from_the_specification_agrees(
    draw_diff: Callable[..., DiffVector], value_type: ValueType
) -> None:
    shapes = ((), (0,), (7,), (40, 30), (300, 20), (3, 0), (2, 3, 4), (2000, 30), (20, 20))
    diff = draw_diff(11, shapes=shapes, density=0.1)
    data = encode(diff, value_type=value_type, codec="xz").data

    mine = read(data, shapes)

    theirs = [
        dict(zip(tensor.positions.tolist(), tensor.values.tolist(), strict=True))
        for tensor in decode(data, diff.layout).tensors
    ]
    assert mine == theirs
    assert safetensors.numpy.load(data)["positions.cuts"].any()
