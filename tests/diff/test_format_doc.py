"""A second reader, written from docs/reference/format.md alone, agrees with the first.

It uses nothing of the package but the errors-free facts of a base: names and shapes.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import math
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from streamlab.diff.format.container import decode, encode
from streamlab.diff.layout import Layout
from streamlab.diff.rules import (
    Rule,
    Seeded,
    SeededCounts,
    SeededRows,
    Shared,
    WholeTensors,
)
from streamlab.diff.rules import (
    positions as positions_by,
)
from streamlab.diff.vector import DiffVector, SparseTensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamlab.diff.format.head import HeadType
    from streamlab.diff.format.values import ValueType

Entries = dict[int, float]
Shapes = tuple[tuple[int, ...], ...]
BITS = {
    "fp32": 32,
    "fp16": 16,
    "bf16": 16,
    "int8": 8,
    "int4": 4,
    "int2": 2,
    "sign": 1,
    "ternary": 2,
}
TYPES = list(BITS)
HEAD_TYPES = ["sign", "int2", "int4", "int8", "fp16", "fp32"]
NAMES = ["task", "head", "rule", "cuts", "classes", "counts", "gaps", "scales", "codes"]
ITEMS = {"fp32": "f", "fp16": "e", "bf16": "H"}


def parsed(data: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the header and the sections of a file."""
    assert data[:8] == b"\xd1SLDIFF\2"
    assert data[8:40] == hashlib.sha256(data[:8] + data[40:]).digest()
    at = 72

    def number() -> int:
        nonlocal at
        found = shift = 0
        while True:
            found += (data[at] % 128) << shift
            shift += 7
            at += 1
            if data[at - 1] < 128:
                return found

    header: dict[str, Any] = {"base": data[40:72].hex(), "d": number(), "k": number()}
    header["codec"] = ["pcodec", "xz"][data[at]]
    header["mode"] = ["add", "replace", "prune"][data[at + 1]]
    header["value_type"], header["coding"] = TYPES[data[at + 2] % 16], data[at + 2] // 16
    at += 3
    lengths = [number() for _ in NAMES]
    sections = {}
    for name, length in zip(NAMES, lengths, strict=True):
        sections[name] = data[at : at + length]
        at += length
    assert at == len(data)
    return header | {"task": json.loads(sections["task"])}, sections


def head_of(section: bytes) -> dict[str, list[float]]:
    """Return the flat tensors of a head whose numbers and names are short."""
    head, at = {}, 0
    while at < len(section):
        name = section[at + 1 : at + 1 + section[at]].decode()
        at += 1 + section[at]
        zero_row, number = divmod(section[at], 8)
        head_type, n_axes = HEAD_TYPES[number], section[at + 1]
        shape = list(section[at + 2 : at + 2 + n_axes])
        at += 2 + n_axes
        n_zeros = zero_row * math.prod(shape[1:])
        if zero_row:
            shape[0] -= 1
        size, n_rows = math.prod(shape), shape[0] if n_axes > 1 else 1
        scales = [1.0] * n_rows
        if BITS[head_type] < 16:
            scales = list(struct.unpack(f"<{n_rows}f", section[at : at + 4 * n_rows]))
            at += 4 * n_rows
        length = -(-size * BITS[head_type] // 8)
        codes = codes_of(0, section[at : at + length], head_type, size)
        at += length
        rows = [i * n_rows // size for i in range(size)]
        head[name] = [0.0] * n_zeros + [
            value_of(c, scales[row], head_type) for c, row in zip(codes, rows, strict=True)
        ]
    return head


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
    if BITS[value_type] < 16:
        multiple = code + 1 if code >= 0 and value_type != "ternary" else code
        return float(np.float32(multiple) * np.float32(scale))
    if value_type == "bf16":
        (value,) = struct.unpack("<f", struct.pack("<HH", 0, code))
        return float(value)
    return float(code)


def codes_of(coding: int, stream: bytes, value_type: str, count: int) -> list[Any]:
    """Return the codes, packed or coded."""
    item, bits = ITEMS.get(value_type, "b"), BITS[value_type]
    if coding == 1:
        return numbers_of(stream, item, count)
    if coding > 1:
        return by_states(coding, stream, 3 if value_type == "ternary" else 2**bits, count)
    if bits >= 8:
        return list(struct.unpack(f"<{count}{item}", stream))
    joined = int.from_bytes(stream, "little")
    unsigned = [joined >> bits * i & (1 << bits) - 1 for i in range(count)]
    return [code - (1 << bits) if code >> bits - 1 else code for code in unsigned]


def by_states(w: int, stream: bytes, m: int, count: int) -> list[int]:
    """Decode a stream by asymmetric numeral systems."""
    at = ((m - 1) * w + 7) // 8
    joined = int.from_bytes(stream[:at], "little")
    roots = [joined >> w * i & 2**w - 1 for i in range(m - 1)]
    frequencies = [4**w - sum(root**2 for root in roots), *(root**2 for root in roots)]
    x, symbols = 0, []
    for _ in range(count):
        while x < 2**32 and at < len(stream):
            x = 256 * x + stream[at]
            at += 1
        slot, symbol, start = x % 4**w, 0, 0
        while slot >= start + frequencies[symbol]:
            start += frequencies[symbol]
            symbol += 1
        x = frequencies[symbol] * (x // 4**w) + slot - start
        symbols.append(symbol)
    assert (x, at) == (0, len(stream))
    return [symbol if symbol < (m + 1) // 2 else symbol - m for symbol in symbols]


def rotated(word: int, by: int) -> int:
    return (word << by | word >> 32 - by) % 2**32


def word_of(seed: int, purpose: int, i: int) -> int:
    """Return MurmurHash3_x86_32 of four words."""
    h = seed % 2**32
    for k in (seed >> 32, purpose, 0, i):
        h = rotated(h ^ rotated(k * 0xCC9E2D51 % 2**32, 15) * 0x1B873593 % 2**32, 13)
        h = (h * 5 + 0xE6546B64) % 2**32
    h ^= 16
    h = (h ^ h >> 16) * 0x85EBCA6B % 2**32
    h = (h ^ h >> 13) * 0xC2B2AE35 % 2**32
    return h ^ h >> 16


def rows_of(shapes: Shapes) -> list[list[tuple[int, int]]]:
    return [
        [(t, position) for position in row]
        for t, shape in enumerate(shapes)
        for row in lines_of(shape, 1 if len(shape) > 1 else 0)
    ]


def flags_of(data: bytes, count: int) -> list[bool]:
    return [bool(data[i // 8] >> i % 8 & 1) for i in range(count)]


def list_of(data: bytes, count: int) -> list[int]:
    return counts_of(data[1:]) if data[0] == 0 else numbers_of(data[1:], "I", count)


def selected_of(data: bytes, count: int) -> list[bool]:
    if data[0] == 0:
        return flags_of(data[1:], count)
    rows, row = set(), -1
    for gap in numbers_of(data[5:], "I", int.from_bytes(data[1:5], "little")):
        row += gap + 1
        rows.add(row)
    return [row in rows for row in range(count)]


def cells_of(block: bytes, shapes: Shapes, k: int) -> list[tuple[list[tuple[int, int]], int]]:
    """Return the cells of a rule, each with how many of its entries are drawn."""
    tensors = [[(t, p) for p in range(math.prod(s))] for t, s in enumerate(shapes)]
    rows = rows_of(shapes)
    kind, rest = block[0], block[9:]
    if kind in (2, 3):
        cells = tensors if kind == 2 else rows
        return list(zip(cells, list_of(rest, len(cells)), strict=True))
    if kind == 4:
        chosen, parts = selected_of(rest, len(rows)), rows
    else:
        flags = {1: rest, 5: block[1:], 6: rest[4:]}[kind]
        chosen, parts = flags_of(flags, len(shapes)), tensors
    joined = [entry for part, on in zip(parts, chosen, strict=True) if on for entry in part]
    return [(joined, k)]


def drawn_by(block: bytes, shapes: Shapes, k: int) -> list[tuple[int, int]]:
    """Return (tensor, position) of all entries of a rule."""
    seed = int.from_bytes(block[1:9], "little")
    drawn: list[tuple[int, int]] = []
    for cell, count in cells_of(block, shapes, k):
        first = len(drawn)
        for i in range(count):
            low, high = i * len(cell) // count, (i + 1) * len(cell) // count
            drawn.append(cell[low + (word_of(seed, 0, first + i) * (high - low) >> 32)])
    return drawn


def read_by_rule(data: bytes, shapes: Shapes) -> list[Entries]:
    """Return position -> value for each tensor of a file with a rule."""
    header, sections = parsed(data)
    block, k = sections["rule"], header["k"]
    s = int.from_bytes(block[9:13], "little") if block[0] == 6 else 1
    codes = codes_of(header["coding"], sections["codes"], header["value_type"], k // s)
    entries = drawn_by(block, shapes, k)
    used = sorted({t for t, _ in entries})
    scales = scales_of(sections, len(used))
    seed, n = int.from_bytes(block[1:9], "little"), k // s
    tensors: list[Entries] = [{} for _ in shapes]
    for i, (t, position) in enumerate(entries):
        if block[0] == 6:
            source = (i + (word_of(seed, 2, i // n) * n >> 32)) % n
            value = value_of(codes[source], scales[0], header["value_type"])
            tensors[t][position] = -value if word_of(seed, 1, i) >> 31 else value
        else:
            scale = scales[used.index(t)]
            tensors[t][position] = value_of(codes[i], scale, header["value_type"])
    return tensors


def scales_of(sections: dict[str, bytes], n_groups: int) -> list[float]:
    """Return the scales; those of types without any are not looked at."""
    scales = sections["scales"]
    return list(struct.unpack(f"<{len(scales) // 4}f", scales)) if scales else [1.0] * n_groups


def lines_of(shape: tuple[int, ...], cut: int) -> list[list[int]]:
    """Return the row-major positions along every line of a tensor."""
    size = math.prod(shape)
    if cut == 0:
        return [list(range(size))]
    rows, columns = shape[0], size // shape[0]
    if cut == 1:
        return [[r * columns + c for c in range(columns)] for r in range(rows)]
    return [[r * columns + c for r in range(rows)] for c in range(columns)]


def places_of(sections: dict[str, bytes], shapes: Shapes) -> list[list[tuple[int, int]]]:
    """Return the string of every class: (tensor, position) at each place of it."""
    packed = sections["cuts"]
    cuts = [int(packed[t // 4]) >> (t % 4 * 2) & 3 for t in range(len(shapes))]
    lines = [
        (t, positions)
        for kind in (False, True)
        for t, shape in enumerate(shapes)
        if (cuts[t] > 0) == kind
        for positions in lines_of(shape, cuts[t])
    ]
    classes = numbers_of(sections["classes"], "H", len(lines))
    n_classes = len(counts_of(sections["counts"]))
    strings: list[list[tuple[int, int]]] = [[] for _ in range(n_classes + 1)]
    for (t, positions), name in zip(lines, classes, strict=True):
        strings[name] += [(t, position) for position in positions]
    return strings[1:]


def read(data: bytes, shapes: Shapes) -> list[Entries]:
    """Return position -> value for each tensor."""
    header, sections = parsed(data)
    gaps = iter(numbers_of(sections["gaps"], "I", header["k"]))
    kept: list[list[int]] = [[] for _ in shapes]
    counts = counts_of(sections["counts"])
    for string, count in zip(places_of(sections, shapes), counts, strict=True):
        place = -1
        for _ in range(count):
            place += next(gaps) + 1
            t, position = string[place]
            kept[t].append(position)
    stream = sections["codes"]
    codes = iter(codes_of(header["coding"], stream, header["value_type"], header["k"]))
    scales = iter(scales_of(sections, len(shapes)))
    tensors: list[Entries] = []
    for positions in kept:
        scale = next(scales) if positions else 1.0
        tensors.append(
            {p: value_of(next(codes), scale, header["value_type"]) for p in sorted(positions)}
        )
    return tensors


@pytest.mark.parametrize("value_type", list(BITS))
def test_a_reader_written_from_the_specification_agrees(
    draw_diff: Callable[..., DiffVector], value_type: ValueType
) -> None:
    shapes = ((), (0,), (7,), (40, 30), (300, 20), (3, 0), (2, 3, 4), (2000, 30), (20, 20))
    diff = draw_diff(11, shapes=shapes, density=0.1)
    data = encode(diff, value_type=value_type, codec="xz").data

    assert read(data, shapes) == entries_of(decode(data, diff.layout))
    header, sections = parsed(data)
    assert any(sections["cuts"])
    assert (header["base"], header["d"], header["mode"]) == ("ab" * 32, diff.n_gated, "add")
    assert header["task"] == diff.task


@pytest.mark.parametrize("zero_row", [False, True])
@pytest.mark.parametrize("head_type", HEAD_TYPES)
def test_a_reader_of_heads_written_from_the_specification_agrees(
    draw_diff: Callable[..., DiffVector],
    head_type: HeadType,
    zero_row: bool,
) -> None:
    diff = draw_diff(11)
    if zero_row:
        arrays = {name: array.copy() for name, array in diff.head.items()}
        for array in arrays.values():
            array[0] = 0.0
        diff = DiffVector(diff.layout, diff.tensors, arrays, diff.task)
    data = encode(diff, head_type=head_type).data

    back = decode(data, diff.layout).head
    assert head_of(parsed(data)[1]["head"]) == {n: a.reshape(-1).tolist() for n, a in back.items()}


def entries_of(diff: DiffVector) -> list[Entries]:
    return [
        dict(zip(tensor.positions.tolist(), tensor.values.tolist(), strict=True))
        for tensor in diff.tensors
    ]


@pytest.mark.parametrize("value_type", ["fp32", "int4", "sign", "ternary"])
@pytest.mark.parametrize("n_rows", [3, 300])
def test_a_reader_of_rules_written_from_the_specification_agrees(
    value_type: ValueType, n_rows: int
) -> None:
    shapes = ((), (0,), (7,), (40, 30), (3, 0), (2, 3, 4), (n_rows, 5), (20, 20))
    layout = Layout("ab" * 32, tuple(f"t{i}" for i in range(len(shapes))), shapes)
    some = tuple(len(shape) > 1 for shape in shapes)
    row_number = 3 + 40 + 3 + 2 + n_rows + 20
    rng = np.random.default_rng(n_rows)
    rules: list[Rule] = [
        Seeded(2**60 + 3, some, 300),
        SeededCounts(1, np.array([1, 0, 2, 300, 0, 24, 9, 0])),
        SeededCounts(2, np.arange(row_number) % 7 // 6 * np.arange(row_number).clip(0, 1), "row"),
        SeededRows(3, rng.random(row_number) < 0.3, 30),
        SeededRows(3, np.arange(row_number) > 50, 30),
        WholeTensors(some),
        Shared(4, some, 50, 6),
    ]
    for rule in rules:
        where = positions_by(rule, layout)
        k = sum(map(len, where))
        values = rng.normal(size=rule.n if isinstance(rule, Shared) else k).astype(np.float32)
        parts = np.split(rule.entries_of(values), np.cumsum([len(at) for at in where])[:-1])
        tensors = tuple(map(SparseTensor, shapes, where, parts))
        diff = DiffVector(layout, tensors, {}, {}, rule=rule)
        data = encode(diff, value_type=value_type, codec="xz").data

        assert read_by_rule(data, shapes) == entries_of(decode(data, layout))
