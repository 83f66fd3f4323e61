"""Every rule of the format has a crafted file that breaks it alone and is refused by it."""

from __future__ import annotations

import copy
import json
import lzma
import re
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest

import streamlab.diff
from streamlab.diff.format.codec import CODECS, CODED, PACKED
from streamlab.diff.format.container import decode, encode, open_diff
from streamlab.diff.format.frame import Block, read_frame, with_digest, write_frame
from streamlab.diff.format.values import ValueType
from streamlab.diff.format.varints import write_varints
from streamlab.diff.layout import Layout
from streamlab.diff.rules import (
    Rule,
    Seeded,
    SeededCounts,
    SeededRows,
    Shared,
    WholeTensors,
    positions,
)
from streamlab.diff.vector import DiffVector, SparseTensor
from streamlab.errors import DiffError, DiffFormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streamlab.diff.format.codec import CodecName

ROOT = Path(__file__).parents[2]
LAYOUT = Layout("ab" * 32, ("m", "v", "none"), ((4, 6), (300,), (5,)))
HEAD = {"h.bias": np.array([1, 2], np.float32)}
TASK = {"name": "sst2"}


def small(layout: Layout = LAYOUT) -> DiffVector:
    """Keep 6 of 24, 3 of 300 and 0 of 5 entries: one class of two lines, and a line in none."""
    m = np.array([0, 5, 6, 7, 20, 23], np.int64)
    v = np.array([0, 100, 299], np.int64)
    none = np.zeros(0, np.int64)
    tensors = (
        SparseTensor(layout.shapes[0], m, np.array([1, -1, 0.5, 2, 4, -8], np.float32)),
        SparseTensor(layout.shapes[1], v, np.array([8, 1, -1], np.float32)),
        SparseTensor((5,), none, none.astype(np.float32)),
    )
    return DiffVector(layout, tensors, HEAD, TASK)


def valid(value_type: ValueType = "bf16", codec: CodecName = "xz") -> bytes:
    return encode(small(), value_type=value_type, codec=codec).data


SEED = (7).to_bytes(8, "little")
BY: dict[str, Rule] = {
    "seeded": Seeded(7, (True, True, False), 9),
    "counts": SeededCounts(7, np.array([4, 5, 0])),
    "row counts": SeededCounts(7, np.array([1, 0, 0, 2, 6, 0]), "row"),
    "rows": SeededRows(7, np.array([True, False, True, False, False, True]), 9),
    "tensors": WholeTensors((True, False, True)),
    "shared": Shared(7, (True, True, False), 3, 3),
}


def ruled(rule: Rule, layout: Layout = LAYOUT) -> DiffVector:
    """Give the entries of a rule values of which one is 0."""
    where = positions(rule, layout)
    k = sum(map(len, where))
    n = rule.n if isinstance(rule, Shared) else k
    entries = rule.entries_of(np.arange(n).astype(np.float32))
    parts = np.split(entries, np.cumsum([len(part) for part in where])[:-1])
    tensors = tuple(map(SparseTensor, layout.shapes, where, parts))
    return DiffVector(layout, tensors, HEAD, TASK, rule=rule)


def by(name: str, block: bytes | None = None, **metadata: Any) -> bytes:
    """Return the file of a rule, with another block of the rule."""
    data = encode(ruled(BY[name]), codec="xz").data
    blocks = {} if block is None else {"positions.rule": block}
    return craft(data, metadata=metadata, blocks=blocks)


def craft(
    data: bytes,
    *,
    metadata: Mapping[str, Any] | None = None,
    blocks: Mapping[str, bytes | Block | None] | None = None,
    sign: bool = True,
) -> bytes:
    """Change metadata and blocks of a file, and make its digest right again unless told not to."""
    frame = read_frame(data)
    tree: dict[str, Any] = copy.deepcopy(dict(frame.metadata))
    held = dict(frame.blocks)
    for name, block in (blocks or {}).items():
        if block is None:
            del held[name]
        elif isinstance(block, bytes):
            old = held[name]
            shape = (len(block) // {"F32": 4, "F16": 2, "U8": 1}[old.dtype],)
            held[name] = replace(old, data=block, shape=shape)
        else:
            held[name] = block
    tree.update(metadata or {})
    tree = {key: value for key, value in tree.items() if value is not None}
    if sign and "sha256" not in (metadata or {}):
        tree = with_digest(tree, held)
    return write_frame(tree, held)


def with_header(change: Callable[[dict[str, Any]], None]) -> bytes:
    """Change the outer header as a tree; the body stays."""
    data = valid()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header, sort_keys=True, separators=(",", ":"))
    return framed(text.encode(), data[8 + length :])


def framed(text: bytes, body: bytes = b"") -> bytes:
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body


def packed(*numbers: int | float, dtype: str) -> bytes:
    return CODECS["xz"].compress(np.array(numbers, dtype=dtype))


def coded(*numbers: int | float, dtype: str) -> bytes:
    return CODED + packed(*numbers, dtype=dtype)


def classes(*numbers: int) -> bytes:
    return packed(*numbers, dtype="uint16")


def floats(numbers: list[float]) -> bytes:
    return np.array(numbers, dtype="<f4").tobytes()


def tensor(number: int, shape: tuple[int, ...], content: bytes, name: bytes = b"h") -> bytes:
    """Return one tensor of a head, of the type with this number."""
    axes = write_varints([len(shape), *shape])
    return write_varints([len(name)]) + name + bytes([number]) + axes + content


def with_head(section: bytes) -> bytes:
    return craft(valid(), blocks={"head": section})


def selected(*gaps: int) -> bytes:
    """Return the block of rows with these gaps between them."""
    number = len(gaps).to_bytes(4, "little")
    return b"\4" + SEED + CODED + number + packed(*gaps, dtype="uint32")


def spaced(data: bytes) -> bytes:
    length = int.from_bytes(data[:8], "little")
    text = data[8 : 8 + length].rstrip().replace(b'"dtype":', b'"dtype": ', 1)
    return framed(text, data[8 + length :])


def repeated_key() -> bytes:
    data = valid()
    length = int.from_bytes(data[:8], "little")
    text = data[8 : 8 + length].rstrip()
    return framed(b'{"__metadata__":{},' + text[1:], data[8 + length :])


def inner_text(text: str) -> bytes:
    return with_header(lambda h: h["__metadata__"].update({"streamlab.diff": text}))


def moved(header: dict[str, Any]) -> None:
    header["values.codes"]["data_offsets"][0] -= 1


def renamed(header: dict[str, Any]) -> None:
    header["positions.gapz"] = header.pop("positions.gaps")


GAPS = [0, 4, 0, 0, 12, 2, 0, 99, 198]
CODES = [0x3F80] * 9
CASES: list[tuple[str, Callable[[], bytes]]] = [
    ("file-size", lambda: b"1234567"),
    ("file-size", lambda: valid() + bytes(100_000)),
    ("header-size", lambda: (65_537).to_bytes(8, "little") + bytes(100)),
    ("header-size", lambda: (2**63).to_bytes(8, "little") + b"{}"),
    ("header-size", lambda: (16).to_bytes(8, "little") + b"{}"),
    ("header-json", lambda: framed(b"{")),
    ("header-json", lambda: framed(b"[1]")),
    ("header-json", lambda: framed(b'{"a":NaN}')),
    ("header-json", lambda: framed(b'{"a":1e999}')),
    ("header-json", lambda: framed(b'{"a":"\xff"}')),
    ("header-json", lambda: framed(b'{"a":"\\ud800"}')),
    ("header-json", lambda: framed(b"[" * 60_000)),
    ("header-json", lambda: framed(b'{"a":' + b"[" * 32 + b"]" * 32 + b"}")),
    ("header-json", lambda: framed(b'{"a":' + b"9" * 10_000 + b"}")),
    ("header-json", lambda: inner_text("[]")),
    ("header-json", lambda: inner_text("ü")),
    ("header-canonical", lambda: spaced(valid())),
    ("header-canonical", repeated_key),
    ("header-canonical", lambda: inner_text('{"b":1,"a":2}')),
    ("metadata-key", lambda: framed(b"{}")),
    ("metadata-key", lambda: with_header(lambda h: h["__metadata__"].update(format="pt"))),
    ("metadata-key", lambda: with_header(lambda h: h["__metadata__"].clear())),
    ("metadata-key", lambda: with_header(lambda h: h.update(__metadata__=[]))),
    (
        "metadata-key",
        lambda: with_header(lambda h: h["__metadata__"].update({"streamlab.diff": 1})),
    ),
    ("tensor-table", lambda: valid() + b"\0"),
    ("tensor-table", lambda: valid()[:-1]),
    ("tensor-table", lambda: with_header(moved)),
    ("tensor-table", lambda: with_header(renamed)),
    ("tensor-table", lambda: with_header(lambda h: h["values.codes"].update(shape=[2**60]))),
    ("tensor-table", lambda: with_header(lambda h: h["values.codes"].update(shape=[-1]))),
    ("tensor-table", lambda: with_header(lambda h: h["values.codes"].update(shape=[True]))),
    ("tensor-table", lambda: with_header(lambda h: h["values.codes"].update(dtype="F64"))),
    ("tensor-table", lambda: with_header(lambda h: h["values.codes"].update(dtype=[]))),
    ("tensor-table", lambda: with_header(lambda h: h["values.codes"].update(more=1))),
    ("tensor-table", lambda: with_header(lambda h: h.update({"values.codes": 3}))),
    ("tensor-table", lambda: craft(valid(), blocks={"positions.cuts": None})),
    ("tensor-table", lambda: craft(valid(), blocks={"values.scales": Block("F32", (0,), b"")})),
    ("tensor-table", lambda: craft(valid("int4"), blocks={"values.scales": None})),
    ("tensor-table", lambda: craft(valid(), blocks={"head.x": Block("U8", (4,), bytes(4))})),
    ("tensor-table", lambda: craft(valid(), blocks={"head": Block("U8", (0,), b"")})),
    ("tensor-table", lambda: craft(valid(), blocks={"head": Block("F32", (1,), bytes(4))})),
    ("tensor-table", lambda: craft(valid(), blocks={"tail": Block("U8", (1,), b"x")})),
    ("format-name", lambda: craft(valid(), metadata={"format": "other"})),
    ("format-name", lambda: craft(valid(), metadata={"format": None})),
    ("format-version", lambda: craft(valid(), metadata={"version": 1})),
    ("format-version", lambda: craft(valid(), metadata={"version": True})),
    ("format-version", lambda: craft(valid(), metadata={"version": None})),
    ("metadata-schema", lambda: craft(valid(), metadata={"k": -1})),
    ("metadata-schema", lambda: craft(valid(), metadata={"k": 9.0})),
    ("metadata-schema", lambda: craft(valid(), metadata={"k": 2**31, "d": 2**40})),
    ("metadata-schema", lambda: craft(valid(), metadata={"k": 330})),
    ("metadata-schema", lambda: craft(valid(), metadata={"codec": "zip"})),
    ("metadata-schema", lambda: craft(valid(), metadata={"value_type": "fp8"})),
    ("metadata-schema", lambda: craft(valid(), metadata={"task": "x" * 500})),
    ("metadata-schema", lambda: craft(valid(), metadata={"base": ""})),
    ("metadata-schema", lambda: craft(valid(), metadata={"sha256": "0"})),
    ("metadata-schema", lambda: craft(valid(), metadata={"extra": 1})),
    ("metadata-schema", lambda: craft(valid(), metadata={"task": None})),
    ("no-change", lambda: craft(valid(), metadata={"k": 0}, blocks={"head": None})),
    ("base-size", lambda: craft(valid(), metadata={"d": 330})),
    ("content-digest", lambda: craft(valid(), blocks={"positions.cuts": b"\1"}, sign=False)),
    ("content-digest", lambda: craft(valid(), blocks={"values.codes": b"\1"}, sign=False)),
    ("content-digest", lambda: craft(valid(), metadata={"task": {"name": "rte"}}, sign=False)),
    ("content-digest", lambda: craft(valid(), blocks={"head": bytes(8)}, sign=False)),
    ("cut-coding", lambda: craft(valid(), blocks={"positions.cuts": b""})),
    ("cut-coding", lambda: craft(valid(), blocks={"positions.cuts": b"\0\0"})),
    ("cut-coding", lambda: craft(valid(), blocks={"positions.cuts": b"\x40"})),
    ("cut-coding", lambda: craft(valid(), blocks={"positions.cuts": b"\x04"})),
    ("cut-coding", lambda: craft(valid(), blocks={"positions.cuts": b"\x03"})),
    ("class-stream", lambda: craft(valid(), blocks={"positions.classes": b"junk"})),
    ("class-stream", lambda: craft(valid(), blocks={"positions.classes": classes(1, 1)})),
    ("class-stream", lambda: craft(valid(), blocks={"positions.cuts": b"\1"})),
    ("class-range", lambda: craft(valid(), blocks={"positions.classes": classes(1, 2, 0)})),
    ("count-coding", lambda: craft(valid(), blocks={"positions.counts": b"\x09\x80"})),
    ("count-coding", lambda: craft(valid(), blocks={"positions.counts": b"\x89\x00"})),
    ("count-coding", lambda: craft(valid(), blocks={"positions.counts": b"\xff" * 9})),
    ("count-coding", lambda: craft(valid(), blocks={"positions.counts": b"\x01" * 16})),
    ("count-range", lambda: craft(valid(), blocks={"positions.counts": b"\x09\x00"})),
    ("count-range", lambda: craft(valid(), blocks={"positions.counts": b"\x06\x03"})),
    ("count-range", lambda: craft(valid(), blocks={"positions.classes": classes(0, 0, 1)})),
    ("count-sum", lambda: craft(valid(), blocks={"positions.counts": b"\x0a"})),
    ("count-sum", lambda: craft(valid(), blocks={"positions.counts": b"\xff\xff\xff\xff\x7f"})),
    ("count-sum", lambda: craft(valid(), blocks={"positions.counts": b""})),
    ("count-sum", lambda: craft(valid(), metadata={"k": 8})),
    ("scale-number", lambda: craft(valid("int4"), blocks={"values.scales": bytes(12)})),
    (
        "scale-range",
        lambda: craft(valid("int4"), blocks={"values.scales": floats([0, 1])}),
    ),
    (
        "scale-range",
        lambda: craft(valid("int8"), blocks={"values.scales": floats([1, -1])}),
    ),
    (
        "scale-range",
        lambda: craft(valid("int8"), blocks={"values.scales": floats([1, np.nan])}),
    ),
    ("value-stream", lambda: craft(valid(), blocks={"values.codes": b""})),
    ("value-stream", lambda: craft(valid(), blocks={"values.codes": b"junk"})),
    ("value-stream", lambda: craft(valid(), blocks={"values.codes": CODED + b"junk"})),
    ("value-stream", lambda: craft(valid(), blocks={"values.codes": PACKED + bytes(17)})),
    ("value-stream", lambda: craft(valid(), blocks={"values.codes": PACKED + bytes(19)})),
    ("value-stream", lambda: craft(valid("sign"), blocks={"values.codes": PACKED + b"\0\2"})),
    ("value-stream", lambda: craft(valid("int2"), blocks={"values.codes": PACKED + b"\0\0\4"})),
    ("value-stream", lambda: by("seeded", k=10)),
    ("value-stream", lambda: by("shared", k=12)),
    (
        "value-stream",
        lambda: craft(valid(), blocks={"values.codes": coded(*CODES[:8], dtype="uint16")}),
    ),
    (
        "value-range",
        lambda: craft(valid("int4"), blocks={"values.codes": coded(*[1] * 8, 8, dtype="int8")}),
    ),
    (
        "value-range",
        lambda: craft(valid("int4"), blocks={"values.codes": coded(*[1] * 8, -9, dtype="int8")}),
    ),
    (
        "value-range",
        lambda: craft(
            valid("int8", "pcodec"),
            blocks={"values.codes": CODED + CODECS["pcodec"].compress(np.full(9, 128, np.int16))},
        ),
    ),
    (
        "value-finite",
        lambda: craft(valid(), blocks={"values.codes": coded(*CODES[:8], 0x7F80, dtype="uint16")}),
    ),
    (
        "value-finite",
        lambda: craft(
            valid("fp32"), blocks={"values.codes": coded(*[1] * 8, np.nan, dtype="float32")}
        ),
    ),
    (
        "value-finite",
        lambda: craft(valid("int8"), blocks={"values.scales": floats([3e38, 3e38])}),
    ),
    (
        "value-zero",
        lambda: craft(valid(), blocks={"values.codes": coded(*CODES[:8], 0x8000, dtype="uint16")}),
    ),
    (
        "value-zero",
        lambda: craft(valid("fp16"), blocks={"values.codes": coded(*[1] * 8, 0, dtype="float16")}),
    ),
    ("position-stream", lambda: craft(valid(), blocks={"positions.gaps": b"junk"})),
    (
        "position-stream",
        lambda: craft(valid(), blocks={"positions.gaps": packed(*GAPS, 0, dtype="uint32")}),
    ),
    (
        "position-range",
        lambda: craft(valid(), blocks={"positions.gaps": packed(*GAPS[:8], 199, dtype="uint32")}),
    ),
    (
        "position-range",
        lambda: craft(
            valid(),
            blocks={
                "positions.classes": classes(1, 2, 0),
                "positions.counts": b"\x06\x03",
                "positions.gaps": packed(0, 4, 0, 0, 12, 3, *GAPS[6:], dtype="uint32"),
            },
        ),
    ),
    (
        "position-range",
        lambda: craft(valid(), blocks={"positions.gaps": packed(*[2**32 - 1] * 9, dtype="uint32")}),
    ),
    ("rule-coding", lambda: by("seeded", b"")),
    ("rule-coding", lambda: by("seeded", b"\0" + SEED + b"\3")),
    ("rule-coding", lambda: by("seeded", b"\7" + SEED + b"\3")),
    ("rule-coding", lambda: by("seeded", b"\1" + SEED[:7])),
    ("rule-coding", lambda: by("seeded", b"\1" + SEED)),
    ("rule-coding", lambda: by("seeded", b"\1" + SEED + b"\3\0")),
    ("rule-coding", lambda: by("seeded", b"\1" + SEED + b"\x0b")),
    ("rule-coding", lambda: by("counts", b"\2" + SEED + b"\0\4\5")),
    ("rule-coding", lambda: by("counts", b"\2" + SEED + b"\0\4\5\0\0")),
    ("rule-coding", lambda: by("counts", b"\2" + SEED + b"\2\4\5\0")),
    ("rule-coding", lambda: by("counts", b"\2" + SEED + b"\0\4\x85\0\0")),
    ("rule-coding", lambda: by("counts", b"\2" + SEED + b"\0" + bytes(16))),
    ("rule-coding", lambda: by("counts", b"\2" + SEED + b"\1" + packed(4, 5, dtype="uint32"))),
    ("rule-coding", lambda: by("rows", b"\4" + SEED + b"\0\x65")),
    ("rule-coding", lambda: by("rows", b"\4" + SEED + b"\2\x25")),
    ("rule-coding", lambda: by("rows", b"\4" + SEED + b"\1" + (7).to_bytes(4, "little"))),
    ("rule-coding", lambda: by("rows", selected(0, 2, 1)[:-1])),
    ("rule-range", lambda: by("rows", selected(0, 2, 3))),
    ("rule-range", lambda: by("rows", selected(2**32 - 1, 2, 0))),
    ("rule-range", lambda: by("rows", b"\4" + SEED + b"\0\x02")),
    ("rule-range", lambda: by("seeded", b"\1" + SEED + b"\4")),
    ("rule-range", lambda: by("seeded", b"\1" + SEED + b"\0")),
    ("rule-range", lambda: by("seeded", k=0)),
    ("rule-range", lambda: by("counts", b"\2" + SEED + b"\0\4\4\0")),
    ("rule-range", lambda: by("counts", b"\2" + SEED + b"\0\4\0\5", k=10)),
    ("rule-range", lambda: by("counts", b"\2" + SEED + b"\0\x19\0\0", k=25)),
    ("rule-range", lambda: by("counts", b"\2" + SEED + b"\0" + b"\xff\xff\xff\xff\x7f" * 3)),
    ("rule-range", lambda: by("row counts", b"\3" + SEED + b"\0\7\0\0\0\2\0")),
    ("rule-range", lambda: by("tensors", b"\5\1")),
    ("rule-range", lambda: by("tensors", b"\5\0")),
    ("rule-range", lambda: by("shared", b"\6" + SEED + bytes(4) + b"\3")),
    ("rule-range", lambda: by("shared", b"\6" + SEED + b"\2\0\0\0\3")),
    ("rule-range", lambda: by("shared", b"\6" + SEED + b"\3\0\0\0\4")),
    ("rule-range", lambda: by("shared", b"\6" + SEED + b"\xff\xff\xff\xff\3")),
    (
        "tensor-table",
        lambda: craft(by("seeded"), blocks={"positions.cuts": Block("U8", (1,), b"\0")}),
    ),
    (
        "tensor-table",
        lambda: craft(valid(), blocks={"positions.rule": Block("U8", (1,), b"\1")}),
    ),
    (
        "head-finite",
        lambda: craft(valid(), blocks={"head": tensor(5, (2,), floats([1, np.inf]))}),
    ),
    ("head-coding", lambda: with_head(b"\0")),
    ("head-coding", lambda: with_head(b"\x80\0h")),
    ("head-coding", lambda: with_head(b"\xff" * 8 + b"\1")),
    ("head-coding", lambda: with_head(b"\2h")),
    ("head-coding", lambda: with_head(b"\1h")),
    ("head-coding", lambda: with_head(tensor(5, (1,), floats([1]), b"\xff"))),
    ("head-coding", lambda: with_head(tensor(6, (1,), floats([1])))),
    ("head-coding", lambda: with_head(tensor(5, (1,) * 9, floats([1])))),
    ("head-coding", lambda: with_head(tensor(5, (1, 0), b""))),
    ("head-coding", lambda: with_head(tensor(5, (1 << 50,), floats([1])))),
    ("head-coding", lambda: with_head(tensor(0, (1 << 40, 1), floats([1]) + b"\1"))),
    ("head-coding", lambda: with_head(tensor(0, (2,), floats([1]) + b"\4"))),
    ("head-coding", lambda: with_head(tensor(0, (2,), floats([1]) + b"\1\1"))),
    ("head-coding", lambda: with_head(tensor(5, (1,), floats([1])) * 2)),
    (
        "head-coding",
        lambda: with_head(b"".join(tensor(5, (1,), floats([1]), name) for name in (b"i", b"h"))),
    ),
    ("scale-range", lambda: with_head(tensor(0, (2,), floats([0]) + b"\1"))),
]


def test_the_file_the_cases_start_from_is_valid() -> None:
    for value_type in get_args(ValueType):
        assert decode(valid(value_type), LAYOUT).counts == (6, 3, 0)
        assert craft(valid(value_type)) == valid(value_type)
    for name, rule in BY.items():
        assert decode(by(name), LAYOUT) == ruled(rule)
    assert decode(by("rows", selected(0, 1, 2)), LAYOUT) == ruled(BY["rows"])
    again = craft(valid(), blocks={"values.codes": coded(*CODES, dtype="uint16")})
    assert set(decode(again, LAYOUT).entries) == {1.0}
    unchanged = craft(valid(), blocks={"positions.gaps": packed(*GAPS, dtype="uint32")})
    assert decode(unchanged, LAYOUT) == decode(valid(), LAYOUT)


@pytest.mark.parametrize(("rule", "make"), CASES, ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)])
def test_a_crafted_file_is_refused_by_its_rule(rule: str, make: Callable[[], bytes]) -> None:
    with pytest.raises(DiffFormatError) as refusal:
        open_diff(make(), max_bytes=100_000).decode(LAYOUT)

    assert refusal.value.rule == rule
    assert len(str(refusal.value)) < 600


def test_another_digest_than_expected_is_refused() -> None:
    encoded = encode(small())

    assert decode(encoded.data, LAYOUT, expected_digest=encoded.digest).counts == (6, 3, 0)
    with pytest.raises(DiffFormatError) as refusal:
        decode(encoded.data, LAYOUT, expected_digest="00" * 32)
    assert refusal.value.rule == "file-digest"


def test_opening_refuses_what_needs_no_base() -> None:
    for rule, make in CASES:
        if (
            rule.split("-")[0] in {"header", "metadata", "tensor", "format", "no"}
            or rule == "head-coding"
        ):
            with pytest.raises(DiffFormatError, match=f"`{rule}`"):
                open_diff(make(), max_bytes=100_000)


def rules_in_source() -> set[str]:
    sources = Path(streamlab.diff.__path__[0]).rglob("*.py")
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    direct = re.findall(r'DiffFormatError\(\s*"([a-z-]+)"', text)
    handed_down = re.findall(
        r'"((?:position|value|class)-stream|(?:count|rule|head)-coding|format-(?:name|version))"',
        text,
    )
    return {*direct, *handed_down}


def test_every_rule_in_the_source_is_specified_and_every_specified_rule_exists() -> None:
    specification = (ROOT / "docs" / "reference" / "format.md").read_text(encoding="utf-8")

    specified = set(re.findall(r"^\| `([a-z]+-[a-z]+)` \|", specification, flags=re.MULTILINE))

    assert specified == rules_in_source()


def test_every_rule_has_a_crafted_file() -> None:
    assert {rule for rule, _ in CASES} | {"file-digest"} == rules_in_source()


def peak_bytes(data: bytes, layout: Layout) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(DiffError):
            decode(data, layout)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_claim_of_many_entries_costs_no_memory_before_it_is_checked() -> None:
    layout = Layout("ab" * 32, LAYOUT.names, ((4, 6), (2**31,), (5,)))
    data = encode(small(layout), codec="xz").data

    counts = bytes([0xFF, 0xFF, 0xFF, 0x7F])  # of 2**31 + 24 entries
    claims = {"k": 2**28 - 1}
    decode(data, layout)  # so that nothing is loaded for the first time while measured

    assert peak_bytes(craft(data, metadata=claims), layout) < 200_000
    claimed = craft(data, metadata=claims, blocks={"positions.counts": counts})
    assert peak_bytes(claimed, layout) < 3_000_000


def test_counts_of_more_classes_than_there_are_lines_are_not_read() -> None:
    counts = b"\x80\x80\x80\x80\x01" * 20_000  # numbers that Python holds one by one
    decode(valid(), LAYOUT)

    assert peak_bytes(craft(valid(), blocks={"positions.counts": counts}), LAYOUT) < 300_000


def test_a_rule_of_many_entries_costs_no_memory_before_its_values_are_found() -> None:
    layout = Layout("ab" * 32, LAYOUT.names, ((4, 6), (2**31,), (5,)))
    for rule in (Seeded(1, (True,) * 3, 9), Shared(1, (True,) * 3, 3, 3)):
        data = encode(ruled(rule, layout), codec="xz").data
        decode(data, layout)

        assert peak_bytes(craft(data, metadata={"k": 2**28 + 2**27}), layout) < 200_000


@pytest.mark.parametrize("block", ["positions.gaps", "values.codes"])
def test_a_stream_that_expands_without_end_is_cut_short(block: str) -> None:
    filters: list[dict[str, Any]] = [{"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": 1 << 16}]
    bomb = lzma.compress(bytes(16 << 20), format=lzma.FORMAT_XZ, filters=filters)
    data = craft(valid(), blocks={block: bomb if block == "positions.gaps" else CODED + bomb})
    decode(valid(), LAYOUT)

    assert peak_bytes(data, LAYOUT) < 3_000_000
