"""Every rule of the format has a crafted file that breaks it alone and is refused by it."""

from __future__ import annotations

import lzma
import re
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest

import streamlab.diff
from streamlab.diff.format.code_stream import CODED
from streamlab.diff.format.codec import CODECS
from streamlab.diff.format.container import decode, encode, open_diff
from streamlab.diff.format.frame import read_frame, signed, write_frame
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


def by(name: str, block: bytes | None = None, **header: Any) -> bytes:
    """Return the file of a rule, with another section of the rule."""
    data = encode(ruled(BY[name]), codec="xz").data
    return craft(data, sections={} if block is None else {"positions.rule": block}, **header)


def craft(data: bytes, *, sections: Mapping[str, bytes] | None = None, **header: Any) -> bytes:
    """Change header and sections of a file, and make its digest right again."""
    frame = read_frame(data)
    return write_frame(replace(frame.header, **header), {**frame.sections, **(sections or {})})


def unsigned(data: bytes) -> bytes:
    """Return a file with the digest of the valid one."""
    return data[:8] + valid()[8:40] + data[40:]


def with_bytes(at: int, new: bytes, length: int | None = None) -> bytes:
    """Put bytes in place of as many, or of `length`, and make the digest right again."""
    data = valid()
    return signed(data[:at] + new + data[at + (len(new) if length is None else length) :])


def with_task(text: bytes) -> bytes:
    """Return a file with this section of the task."""
    data = valid()
    lengths = data[LENGTHS + 1 : LENGTHS + 9]  # of the other sections, a byte each
    rest = data[LENGTHS + 9 + len(TASK_JSON) :]
    return signed(data[:LENGTHS] + write_varints([len(text)]) + lengths + text + rest)


def packed(*numbers: int | float, dtype: str) -> bytes:
    return CODECS["xz"].compress(np.array(numbers, dtype=dtype))


def coded(*numbers: int | float, dtype: str) -> bytes:
    return b"\1" + packed(*numbers, dtype=dtype)


def classes(*numbers: int) -> bytes:
    return packed(*numbers, dtype="uint16")


def floats(numbers: list[float]) -> bytes:
    return np.array(numbers, dtype="<f4").tobytes()


def tensor(number: int, shape: tuple[int, ...], content: bytes, name: bytes = b"h") -> bytes:
    """Return one tensor of a head, of the type with this number."""
    axes = write_varints([len(shape), *shape])
    return write_varints([len(name)]) + name + bytes([number]) + axes + content


def with_head(section: bytes) -> bytes:
    return craft(valid(), sections={"head": section})


def with_codes(stream: bytes, value_type: ValueType = "bf16", codec: CodecName = "xz") -> bytes:
    """Return a file with these codes, the first byte of which says how they are coded."""
    sections = {"values.codes": stream[1:]}
    return craft(valid(value_type, codec), sections=sections, coding=stream[0])


def with_gaps(stream: bytes) -> bytes:
    return craft(valid(), sections={"positions.gaps": stream})


def selected(*gaps: int) -> bytes:
    """Return the block of rows with these gaps between them."""
    number = len(gaps).to_bytes(4, "little")
    return b"\4" + SEED + b"\1" + number + packed(*gaps, dtype="uint32")


TASK_JSON = b'{"name":"sst2"}'
D, K, CODEC, MODE, VALUE_TYPE, LENGTHS = 72, 74, 75, 76, 77, 78  # where they stand in `valid`
GAPS = [0, 4, 0, 0, 12, 2, 0, 99, 198]
CODES = [0x3F80] * 9
CASES: list[tuple[str, Callable[[], bytes]]] = [
    ("file-size", lambda: valid() + bytes(100_000)),
    ("format-name", lambda: b""),
    ("format-name", lambda: b"\xd1SLDIF"),
    ("format-name", lambda: with_bytes(6, b"G")),
    ("format-version", lambda: valid()[:7]),
    ("format-version", lambda: with_bytes(7, b"\1")),
    ("content-digest", lambda: valid()[:8]),
    ("content-digest", lambda: valid()[:40]),
    ("content-digest", lambda: valid()[:-1]),
    ("content-digest", lambda: valid() + b"\0"),
    ("content-digest", lambda: unsigned(craft(valid(), sections={"positions.cuts": b"\1"}))),
    ("content-digest", lambda: unsigned(with_codes(b"\1"))),
    ("content-digest", lambda: unsigned(craft(valid(), sections={"head": bytes(8)}))),
    ("content-digest", lambda: unsigned(craft(valid(), task={"name": "rte"}))),
    ("content-digest", lambda: unsigned(craft(valid(), base="cd" * 32))),
    ("content-digest", lambda: unsigned(craft(valid(), d=330))),
    ("header-coding", lambda: signed(valid()[:40])),
    ("header-coding", lambda: signed(valid()[: D - 1])),
    ("header-coding", lambda: signed(valid()[: LENGTHS + 3])),
    ("header-coding", lambda: with_bytes(K, b"\x89\0", 1)),
    ("header-coding", lambda: with_bytes(K, b"\xff" * 8 + b"\1", 1)),
    ("header-range", lambda: with_bytes(CODEC, b"\2")),
    ("header-range", lambda: with_bytes(MODE, b"\3")),
    ("header-range", lambda: with_bytes(VALUE_TYPE, b"\xff")),
    ("header-range", lambda: craft(valid(), k=330)),
    ("header-range", lambda: craft(valid(), k=2**31, d=2**40)),
    ("header-range", lambda: craft(valid(), d=2**53)),
    ("header-range", lambda: craft(valid("int4"), mode="replace")),
    ("section-table", lambda: signed(valid() + b"\0")),
    ("section-table", lambda: signed(valid()[:-1])),
    ("section-table", lambda: with_bytes(LENGTHS, b"\xff\xff\xff\xff\xff\xff\xff\x7f", 1)),
    ("section-table", lambda: craft(valid(), sections={"values.scales": bytes(4)})),
    ("section-table", lambda: craft(by("seeded"), sections={"positions.cuts": b"\0"})),
    ("section-table", lambda: craft(valid(), sections={"positions.rule": b"\1"})),
    ("task-json", lambda: with_task(b"")),
    ("task-json", lambda: with_task(b"{")),
    ("task-json", lambda: with_task(b"[1]")),
    ("task-json", lambda: with_task(b'{"a":NaN}')),
    ("task-json", lambda: with_task(b'{"a":1e999}')),
    ("task-json", lambda: with_task(b'{"a":"\xff"}')),
    ("task-json", lambda: with_task('{"a":"ü"}'.encode())),
    ("task-json", lambda: with_task(b'{"a":"\\ud800"}')),
    ("task-json", lambda: with_task(b"[" * 60_000)),
    ("task-json", lambda: with_task(b'{"a":' + b"[" * 32 + b"]" * 32 + b"}")),
    ("task-json", lambda: with_task(b'{"a":' + b"9" * 10_000 + b"}")),
    ("task-json", lambda: with_task(b'{"a":"' + b"9" * 65_536 + b'"}')),
    ("task-canonical", lambda: with_task(b'{"a": 1}')),
    ("task-canonical", lambda: with_task(b'{"b":1,"a":2}')),
    ("task-canonical", lambda: with_task(b'{"a":1,"a":2}')),
    ("no-change", lambda: craft(valid(), k=0, sections={"head": b""})),
    ("base-size", lambda: craft(valid(), d=330)),
    ("cut-coding", lambda: craft(valid(), sections={"positions.cuts": b""})),
    ("cut-coding", lambda: craft(valid(), sections={"positions.cuts": b"\0\0"})),
    ("cut-coding", lambda: craft(valid(), sections={"positions.cuts": b"\x40"})),
    ("cut-coding", lambda: craft(valid(), sections={"positions.cuts": b"\x04"})),
    ("cut-coding", lambda: craft(valid(), sections={"positions.cuts": b"\x03"})),
    ("class-stream", lambda: craft(valid(), sections={"positions.classes": b"junk"})),
    ("class-stream", lambda: craft(valid(), sections={"positions.classes": classes(1, 1)})),
    ("class-stream", lambda: craft(valid(), sections={"positions.cuts": b"\1"})),
    ("class-range", lambda: craft(valid(), sections={"positions.classes": classes(1, 2, 0)})),
    ("count-coding", lambda: craft(valid(), sections={"positions.counts": b"\x09\x80"})),
    ("count-coding", lambda: craft(valid(), sections={"positions.counts": b"\x89\x00"})),
    ("count-coding", lambda: craft(valid(), sections={"positions.counts": b"\xff" * 9})),
    ("count-coding", lambda: craft(valid(), sections={"positions.counts": b"\x01" * 16})),
    ("count-range", lambda: craft(valid(), sections={"positions.counts": b"\x09\x00"})),
    ("count-range", lambda: craft(valid(), sections={"positions.counts": b"\x06\x03"})),
    ("count-range", lambda: craft(valid(), sections={"positions.classes": classes(0, 0, 1)})),
    ("count-sum", lambda: craft(valid(), sections={"positions.counts": b"\x0a"})),
    ("count-sum", lambda: craft(valid(), sections={"positions.counts": b"\xff\xff\xff\xff\x7f"})),
    ("count-sum", lambda: craft(valid(), sections={"positions.counts": b""})),
    ("count-sum", lambda: craft(valid(), k=8)),
    ("scale-number", lambda: craft(valid("int4"), sections={"values.scales": bytes(12)})),
    ("scale-number", lambda: craft(valid("int4"), sections={"values.scales": bytes(7)})),
    ("scale-number", lambda: craft(valid("int4"), sections={"values.scales": b""})),
    (
        "scale-range",
        lambda: craft(valid("int4"), sections={"values.scales": floats([0, 1])}),
    ),
    (
        "scale-range",
        lambda: craft(valid("int8"), sections={"values.scales": floats([1, -1])}),
    ),
    (
        "scale-range",
        lambda: craft(valid("int8"), sections={"values.scales": floats([1, np.nan])}),
    ),
    ("value-stream", lambda: with_codes(b"\0")),
    ("value-stream", lambda: with_codes(b"\x0fjunk")),
    ("value-stream", lambda: with_codes(b"\1junk")),
    ("value-stream", lambda: with_codes(b"\0" + bytes(17))),
    ("value-stream", lambda: with_codes(b"\0" + bytes(19))),
    ("value-stream", lambda: with_codes(b"\0\0\2", "sign")),
    ("value-stream", lambda: with_codes(b"\0\0\0\4", "int2")),
    ("value-stream", lambda: with_codes(b"\4\1\0", "ternary")),
    ("value-stream", lambda: with_codes(b"\4\xff\1", "ternary")),
    ("value-stream", lambda: with_codes(b"\7\1\x40\1", "ternary")),
    ("value-stream", lambda: with_codes(b"\4\1\1", "bf16")),
    ("value-stream", lambda: with_codes(b"\x08\1\1\1", "ternary")),
    ("value-stream", lambda: by("seeded", k=10)),
    ("value-stream", lambda: by("shared", k=12)),
    (
        "value-stream",
        lambda: with_codes(coded(*CODES[:8], dtype="uint16")),
    ),
    (
        "value-range",
        lambda: with_codes(coded(*[1] * 8, 8, dtype="int8"), "int4"),
    ),
    (
        "value-range",
        lambda: with_codes(coded(*[1] * 8, -9, dtype="int8"), "int4"),
    ),
    (
        "value-range",
        lambda: with_codes(
            b"\1" + CODECS["pcodec"].compress(np.full(9, 128, np.int16)), "int8", "pcodec"
        ),
    ),
    (
        "value-finite",
        lambda: with_codes(coded(*CODES[:8], 0x7F80, dtype="uint16")),
    ),
    (
        "value-finite",
        lambda: with_codes(coded(*[1] * 8, np.nan, dtype="float32"), "fp32"),
    ),
    (
        "value-finite",
        lambda: craft(valid("int8"), sections={"values.scales": floats([3e38, 3e38])}),
    ),
    (
        "value-zero",
        lambda: with_codes(coded(*CODES[:8], 0x8000, dtype="uint16")),
    ),
    (
        "value-zero",
        lambda: with_codes(coded(*[1] * 8, 0, dtype="float16"), "fp16"),
    ),
    ("value-range", lambda: with_codes(b"\0\6", "ternary")),
    ("value-zero", lambda: with_codes(b"\0\4", "ternary")),
    ("value-zero", lambda: with_codes(b"\4\1", "ternary")),
    ("position-stream", lambda: with_gaps(b"junk")),
    (
        "position-stream",
        lambda: with_gaps(packed(*GAPS, 0, dtype="uint32")),
    ),
    (
        "position-range",
        lambda: with_gaps(packed(*GAPS[:8], 199, dtype="uint32")),
    ),
    (
        "position-range",
        lambda: craft(
            valid(),
            sections={
                "positions.classes": classes(1, 2, 0),
                "positions.counts": b"\x06\x03",
                "positions.gaps": packed(0, 4, 0, 0, 12, 3, *GAPS[6:], dtype="uint32"),
            },
        ),
    ),
    (
        "position-range",
        lambda: craft(
            valid(), sections={"positions.gaps": packed(*[2**32 - 1] * 9, dtype="uint32")}
        ),
    ),
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
        "head-finite",
        lambda: craft(valid(), sections={"head": tensor(5, (2,), floats([1, np.inf]))}),
    ),
    ("head-coding", lambda: with_head(b"\0")),
    ("head-coding", lambda: with_head(b"\x80\0h")),
    ("head-coding", lambda: with_head(b"\xff" * 8 + b"\1")),
    ("head-coding", lambda: with_head(b"\2h")),
    ("head-coding", lambda: with_head(b"\1h")),
    ("head-coding", lambda: with_head(tensor(5, (1,), floats([1]), b"\xff"))),
    ("head-coding", lambda: with_head(tensor(6, (1,), floats([1])))),
    ("head-coding", lambda: with_head(tensor(14, (2,), floats([1])))),
    ("head-coding", lambda: with_head(tensor(21, (2,), floats([1])))),
    ("head-coding", lambda: with_head(tensor(13, (1,), b""))),
    ("head-coding", lambda: with_head(tensor(13, (1, 1 << 50), b""))),
    ("head-coding", lambda: with_head(tensor(13, (3,), floats([1])))),
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
        kept = (2, 1, 0) if value_type == "ternary" else (6, 3, 0)
        assert decode(valid(value_type), LAYOUT).counts == kept
        assert craft(valid(value_type)) == valid(value_type)
    for name, rule in BY.items():
        assert decode(by(name), LAYOUT) == ruled(rule)
    assert decode(by("rows", selected(0, 1, 2)), LAYOUT) == ruled(BY["rows"])
    again = with_codes(coded(*CODES, dtype="uint16"))
    assert set(decode(again, LAYOUT).entries) == {1.0}
    unchanged = with_gaps(packed(*GAPS, dtype="uint32"))
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
        r'"((?:position|value|class)-stream|(?:count|rule|head|header)-coding)"',
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
    claimed = 2**28 - 1
    decode(data, layout)  # so that nothing is loaded for the first time while measured

    assert peak_bytes(craft(data, k=claimed), layout) < 200_000
    counted = craft(data, k=claimed, sections={"positions.counts": counts})
    assert peak_bytes(counted, layout) < 3_000_000


def test_counts_of_more_classes_than_there_are_lines_are_not_read() -> None:
    counts = b"\x80\x80\x80\x80\x01" * 20_000  # numbers that Python holds one by one
    decode(valid(), LAYOUT)

    assert peak_bytes(craft(valid(), sections={"positions.counts": counts}), LAYOUT) < 300_000


def test_a_rule_of_many_entries_costs_no_memory_before_its_values_are_found() -> None:
    layout = Layout("ab" * 32, LAYOUT.names, ((4, 6), (2**31,), (5,)))
    for rule in (Seeded(1, (True,) * 3, 9), Shared(1, (True,) * 3, 3, 3)):
        data = encode(ruled(rule, layout), codec="xz").data
        decode(data, layout)

        assert peak_bytes(craft(data, k=2**28 + 2**27), layout) < 200_000


@pytest.mark.parametrize("block", ["positions.gaps", "values.codes"])
def test_a_stream_that_expands_without_end_is_cut_short(block: str) -> None:
    filters: list[dict[str, Any]] = [{"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": 1 << 16}]
    bomb = lzma.compress(bytes(16 << 20), format=lzma.FORMAT_XZ, filters=filters)
    data = craft(valid(), sections={block: bomb}, coding=CODED)
    decode(valid(), LAYOUT)

    assert peak_bytes(data, LAYOUT) < 3_000_000
