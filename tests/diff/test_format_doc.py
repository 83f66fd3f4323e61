"""A second reader, written from docs/format.md alone, agrees with the first.

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

from streamlab.diff.container import decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamlab.diff.values import ValueType
    from streamlab.diff.vector import DiffVector

Entries = dict[int, float]
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


def read(data: bytes, shapes: tuple[tuple[int, ...], ...]) -> list[Entries]:
    """Return position -> value for each tensor."""
    metadata = metadata_of(data)
    blocks = safetensors.numpy.load(data)
    counts = counts_of(blocks["positions.counts"].tobytes())
    gaps = iter(numbers_of(blocks["positions.gaps"].tobytes(), "I", metadata["k"]))
    item = ITEMS[metadata["value_type"]]
    codes = iter(numbers_of(blocks["values.codes"].tobytes(), item, metadata["k"]))
    scales = iter(blocks.get("values.scales", np.ones(len(shapes))).tolist())
    sizes = [math.prod(shape) for shape in shapes]
    order = sorted(range(len(shapes)), key=lambda t: (-counts[t] / max(sizes[t], 1), t))
    tensors: list[Entries] = [{} for _ in shapes]
    for t in order:
        if counts[t] == 0:
            continue
        place, places = -1, []
        for _ in range(counts[t]):
            place += next(gaps) + 1
            places.append(place)
        if blocks["positions.flags"][t // 8] >> (t % 8) & 1:
            rows = shapes[t][0]
            columns = sizes[t] // rows
            places = sorted((place % rows) * columns + place // rows for place in places)
        scale = next(scales)
        tensors[t] = {p: value_of(next(codes), scale, metadata["value_type"]) for p in places}
    return tensors


@pytest.mark.parametrize("value_type", ["fp32", "fp16", "bf16", "int8", "int4"])
def test_a_reader_written_from_the_specification_agrees(
    draw_diff: Callable[..., DiffVector], value_type: ValueType
) -> None:
    shapes = ((), (0,), (7,), (40, 30), (30, 40), (3, 0), (2, 3, 4))
    diff = draw_diff(11, shapes=shapes, density=0.2)
    data = encode(diff, value_type=value_type, codec="xz").data

    mine = read(data, shapes)

    theirs = [
        dict(zip(tensor.positions.tolist(), tensor.values.tolist(), strict=True))
        for tensor in decode(data, diff.layout).tensors
    ]
    assert mine == theirs
    assert any(np.unpackbits(safetensors.numpy.load(data)["positions.flags"]))
