from __future__ import annotations

import hashlib
import math
import subprocess
import sys
from dataclasses import astuple, replace
from typing import TYPE_CHECKING, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlab.diff.format.codec import CodecName
from streamlab.diff.format.container import decode, decode_all, encode, open_diff, rounded
from streamlab.diff.format.frame import Header
from streamlab.diff.format.values import ValueType
from streamlab.diff.layout import Layout
from streamlab.diff.rules import (
    Rule,
    Seeded,
    SeededCounts,
    SeededRows,
    Shared,
    WholeTensors,
    positions,
    rows_of,
)
from streamlab.diff.vector import DiffVector, SparseTensor
from streamlab.errors import BaseMismatchError, DiffError, DiffFormatError
from streamlab.hashing import canonical_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

CODECS: tuple[CodecName, ...] = get_args(CodecName)
VALUE_TYPES: tuple[ValueType, ...] = get_args(ValueType)


@st.composite
def diffs(draw: st.DrawFn) -> DiffVector:
    """Draw bases of every kind of tensor, kept not at all, wholly, evenly or in runs."""
    axes = st.integers(0, 15)
    shapes = draw(st.lists(st.lists(axes, max_size=3).map(tuple), max_size=6))
    if draw(st.booleans()):
        shapes.append((3, 70_000))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    layout = Layout("ab" * 32, tuple(f"t{i}" for i in range(len(shapes))), tuple(shapes))
    tensors = []
    for shape in shapes:
        size = math.prod(shape)
        large = size > 64_000  # kept sparsely, for gaps over 65,535
        density = draw(st.sampled_from([0.0, 2e-5] if large else [0.0, 0.005, 0.5, 1.0]))
        positions = np.flatnonzero(rng.random(size) < density)
        values = rng.normal(size=len(positions)).astype(np.float32)
        values[values == 0] = 1
        tensors.append(SparseTensor(shape, positions, values))
    return DiffVector(layout, tuple(tensors), {"h": np.ones(1, np.float32)}, {"name": "t"})


@pytest.mark.parametrize("codec", CODECS)
@settings(deadline=None, max_examples=40)
@given(diff=diffs())
def test_every_diff_comes_back_bit_for_bit_in_fp32(codec: CodecName, diff: DiffVector) -> None:
    encoded = encode(diff, value_type="fp32", codec=codec)

    assert decode(encoded.data, diff.layout) == diff
    assert sum(astuple(encoded.parts)) == len(encoded.data)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("value_type", [one for one in VALUE_TYPES if one != "ternary"])
@settings(deadline=None, max_examples=15)
@given(diff=diffs())
def test_every_value_type_keeps_every_position_and_sign(
    codec: CodecName, value_type: ValueType, diff: DiffVector
) -> None:
    back = decode(encode(diff, value_type=value_type, codec=codec).data, diff.layout)

    for mine, theirs in zip(diff.tensors, back.tensors, strict=True):
        np.testing.assert_array_equal(mine.positions, theirs.positions)
        np.testing.assert_array_equal(np.sign(mine.values), np.sign(theirs.values))


@settings(deadline=None, max_examples=40)
@given(diff=diffs())
def test_ternary_leaves_out_explicit_entries_that_round_to_zero(diff: DiffVector) -> None:
    back = decode(encode(diff, value_type="ternary").data, diff.layout)

    assert back == rounded(diff, value_type="ternary")
    for mine, theirs in zip(diff.tensors, back.tensors, strict=True):
        kept = np.isin(mine.positions, theirs.positions)
        np.testing.assert_array_equal(np.sign(mine.values[kept]), np.sign(theirs.values))
        if len(theirs):
            assert np.abs(mine.values[~kept]).max(initial=0) <= np.abs(theirs.values).max() / 2
        assert bool(len(mine)) == bool(len(theirs))


@pytest.mark.parametrize("value_type", VALUE_TYPES)
def test_both_codecs_give_the_same_diff(
    draw_diff: Callable[..., DiffVector], value_type: ValueType
) -> None:
    diff = draw_diff(4)

    by_pcodec = decode(encode(diff, value_type=value_type, codec="pcodec").data, diff.layout)
    by_xz = decode(encode(diff, value_type=value_type, codec="xz").data, diff.layout)

    assert by_pcodec == by_xz


@pytest.mark.parametrize(
    ("value_type", "share"),
    [
        ("fp16", 3e-4),
        ("bf16", 2e-3),
        ("int8", 0.03),
        ("int4", 0.3),
        ("int2", 0.6),
        ("ternary", 0.7),
        ("sign", 0.9),
    ],
)
def test_rounding_costs_a_small_share_of_the_values_by_type(
    draw_diff: Callable[..., DiffVector], value_type: ValueType, share: float
) -> None:
    diff = draw_diff(4, spread=0.1)

    back = decode(encode(diff, value_type=value_type).data, diff.layout)

    values = np.concatenate([tensor.dense().reshape(-1) for tensor in diff.tensors])
    rounded = np.concatenate([tensor.dense().reshape(-1) for tensor in back.tensors])
    error = np.linalg.norm(values - rounded) / np.linalg.norm(values)
    assert share / 3 < error < share


@pytest.mark.parametrize("value_type", ["fp32", "fp16", "bf16"])
def test_writing_a_decoded_diff_again_gives_the_same_bytes(
    draw_diff: Callable[..., DiffVector], value_type: ValueType
) -> None:
    diff = draw_diff(5)
    first = encode(diff, value_type=value_type)

    again = encode(decode(first.data, diff.layout), value_type=value_type)

    assert again == first


SHAPES = ((), (0,), (1,), (7,), (40, 30), (30, 40), (3, 0), (2, 3, 4), (400, 700))
LENGTHS = rows_of(Layout("ab" * 32, tuple("abcdefghi"), SHAPES)).lengths
RULES: list[Rule] = [
    Seeded(5, (False,) * 4 + (True,) * 5, 3000),
    SeededCounts(5, np.array([1, 0, 0, 7, 500, 10, 0, 24, 2000])),
    SeededCounts(5, np.minimum(np.arange(479) % 4, LENGTHS), "row"),
    SeededRows(5, np.arange(479) % 9 == 4, 900),
    WholeTensors((True, True, False, True, True, False, False, True, False)),
    Shared(5, (False,) * 4 + (True,) * 5, 700, 5),
]


def ruled(rule: Rule, layout: Layout, values: NDArray[np.float32] | None = None) -> DiffVector:
    """Give the entries of a rule values of which some are 0."""
    where = positions(rule, layout)
    k = sum(map(len, where))
    n = rule.n if isinstance(rule, Shared) else k
    drawn = np.random.default_rng(0).normal(size=n).astype(np.float32)
    drawn[::7] = 0
    parts = np.split(
        rule.entries_of(drawn if values is None else values),
        np.cumsum([len(at) for at in where])[:-1],
    )
    tensors = tuple(map(SparseTensor, layout.shapes, where, parts))
    return DiffVector(layout, tensors, {"h": np.ones(1, np.float32)}, {}, rule=rule)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("value_type", VALUE_TYPES)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_a_diff_by_rule_comes_back_with_its_rule_and_its_zeros(
    draw_diff: Callable[..., DiffVector], rule: Rule, value_type: ValueType, codec: CodecName
) -> None:
    diff = ruled(rule, draw_diff().layout)

    encoded = encode(diff, value_type=value_type, codec=codec)
    back = decode(encoded.data, diff.layout)

    assert back.rule == rule
    assert back.counts == diff.counts
    assert back == rounded(diff, value_type=value_type)
    assert sum(astuple(encoded.parts)) == len(encoded.data)
    if value_type == "fp32":
        assert back == diff
    again = encode(back, value_type=value_type, codec=codec)
    assert decode(again.data, diff.layout) == back
    n_values = rule.n if isinstance(rule, Shared) else diff.n_entries
    assert open_diff(encoded.data).n_values == n_values


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_values_on_the_grid_of_their_type_are_stored_as_they_are(
    draw_diff: Callable[..., DiffVector], rule: Rule
) -> None:
    layout = draw_diff().layout
    for value_type, largest in (
        ("sign", 1),
        ("ternary", 1),
        ("int2", 2),
        ("int4", 8),
        ("int8", 128),
    ):
        n = len(rule.values_of(ruled(rule, layout).entries))
        rng = np.random.default_rng(1)
        signed = rng.integers(1, largest + 1, size=n) * rng.choice([-1, 1], size=n)
        diff = ruled(rule, layout, signed.astype(np.float32) * np.float32(0.0123))

        assert decode(encode(diff, value_type=value_type).data, layout) == diff


def test_a_seed_takes_the_place_of_positions(draw_diff: Callable[..., DiffVector]) -> None:
    diff = ruled(RULES[0], draw_diff().layout)

    explicit = encode(replace(diff, rule=None), value_type="sign")
    encoded = encode(diff, value_type="sign")

    assert encoded.parts.positions == 1 + 8 + 2
    assert encoded.parts.values == 3000 // 8 + 4 * sum(count > 0 for count in diff.counts)
    assert explicit.parts.positions > 1000


def test_a_rule_of_other_positions_is_refused_by_the_writer(
    draw_diff: Callable[..., DiffVector],
) -> None:
    diff = ruled(RULES[0], draw_diff().layout)

    with pytest.raises(DiffError, match="Seeded regenerates other positions"):
        encode(replace(diff, rule=Seeded(6, RULES[0].tensors, 3000)))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("value_type", VALUE_TYPES)
def test_the_same_content_gives_the_same_bytes(
    draw_diff: Callable[..., DiffVector], codec: CodecName, value_type: ValueType
) -> None:
    diff = draw_diff(6)
    head = dict(reversed(list(diff.head.items())))
    task = dict(reversed(list(diff.task.items())))
    same = DiffVector(diff.layout, diff.tensors, head, task)

    one = encode(diff, value_type=value_type, codec=codec)
    other = encode(same, value_type=value_type, codec=codec)

    assert one == other
    assert one.digest == hashlib.sha256(one.data).hexdigest()


def test_a_file_has_few_bytes_beside_its_parts_and_its_task(
    draw_diff: Callable[..., DiffVector],
) -> None:
    diff = draw_diff(7)

    encoded = encode(diff, value_type="int8")

    assert encoded.parts.metadata - len(canonical_json(diff.task)) <= 100


def test_a_head_in_half_precision_is_rounded_once_and_widened(
    draw_diff: Callable[..., DiffVector],
) -> None:
    diff = draw_diff(8)

    full, half = encode(diff), encode(diff, head_type="fp16")
    back = decode(half.data, diff.layout)

    assert full.parts.head - half.parts.head == 2 * diff.n_head_entries
    for name, array in diff.head.items():
        np.testing.assert_array_equal(back.head[name], array.astype(np.float16).astype(np.float32))


def test_a_head_too_large_for_half_precision_is_refused() -> None:
    layout = Layout("ab", (), ())
    diff = DiffVector(layout, (), {"h": np.array([1e6], np.float32)}, {})

    with pytest.raises(DiffError, match="head's `h` exceeds the range of fp16"):
        encode(diff, head_type="fp16")


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("value_type", VALUE_TYPES)
def test_a_head_without_entries_comes_back(codec: CodecName, value_type: ValueType) -> None:
    layout = Layout("ab" * 32, ("a", "b"), ((3, 4), (2,)))
    none = np.zeros(0, np.int64), np.zeros(0, np.float32)
    tensors = SparseTensor((3, 4), *none), SparseTensor((2,), *none)
    diff = DiffVector(layout, tensors, {"h": np.ones((1, 2), np.float32)}, {})

    assert decode(encode(diff, value_type=value_type, codec=codec).data, layout) == diff


def test_a_file_for_another_base_is_refused(draw_diff: Callable[..., DiffVector]) -> None:
    diff = draw_diff(9)
    other = Layout("cd" * 32, diff.layout.names, diff.layout.shapes)

    with pytest.raises(BaseMismatchError, match="belongs to the base 'abab"):
        decode(encode(diff).data, other)


def test_opening_needs_no_base_and_agrees_with_the_encoder(
    draw_diff: Callable[..., DiffVector],
) -> None:
    diff = draw_diff(10)
    encoded = encode(diff, value_type="int8", codec="xz")

    file = open_diff(encoded.data)

    assert (file.parts, file.digest) == (encoded.parts, encoded.digest)
    assert (file.n_bytes, file.n_head_entries) == (len(encoded.data), diff.n_head_entries)
    assert file.decode(diff.layout).counts == diff.counts
    assert file.header == Header(
        base="ab" * 32,
        d=diff.n_gated,
        k=diff.n_entries,
        codec="xz",
        mode="add",
        value_type="int8",
        task=diff.task,
        coding=file.header.coding,
    )


def test_a_task_past_its_limit_is_refused_by_the_writer(
    draw_diff: Callable[..., DiffVector],
) -> None:
    diff = draw_diff(0)
    wordy = DiffVector(diff.layout, diff.tensors, diff.head, {"labels": ["x" * 70_000]})

    with pytest.raises(DiffError, match="of at most 65536"):
        encode(wordy)


def test_a_fingerprint_that_is_no_sha_256_is_refused_by_the_writer() -> None:
    diff = DiffVector(Layout("ab", (), ()), (), {"h": np.ones(1, np.float32)}, {})

    with pytest.raises(DiffError, match="must have 64 hexadecimal digits, got 'ab'"):
        encode(diff)


def test_a_decoded_diff_cannot_be_written_to(draw_diff: Callable[..., DiffVector]) -> None:
    diff = draw_diff(0)

    back = decode(encode(diff).data, diff.layout)

    with pytest.raises(ValueError, match="read-only"):
        back.tensors[4].positions[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        back.tensors[4].values[0] = 0


@pytest.mark.parametrize("density", [0.001, 0.005, 0.01, 0.05])
def test_even_positions_come_close_to_their_entropy(density: float) -> None:
    """Within 1.5% of H(p)/p at 0.1%, within 1% above, cuts, classes and counts included."""
    rng = np.random.default_rng(0)
    shapes = ((30_000, 400), (4000, 2500), (1000,))
    layout = Layout("ab" * 32, tuple("abc"), shapes)
    tensors = []
    for shape in shapes:
        size = math.prod(shape)
        positions = np.cumsum(rng.geometric(density, size=int(2 * density * size) + 10)) - 1
        positions = positions[positions < size]
        tensors.append(SparseTensor(shape, positions, np.ones(len(positions), np.float32)))
    diff = DiffVector(layout, tuple(tensors), {}, {})

    spent = 8 * encode(diff).parts.positions / diff.n_entries

    p = diff.density
    entropy = (-p * math.log2(p) - (1 - p) * math.log2(1 - p)) / p
    assert entropy * 0.99 < spent < entropy * (1.015 if density == 0.001 else 1.01)


def test_reading_and_writing_files_never_loads_torch() -> None:
    program = (
        "import sys, streamlab.diff.format.container, streamlab.diff.entropy;"
        "sys.exit('torch' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_many_files_are_decoded_as_each_is(draw_diff: Callable[..., DiffVector]) -> None:
    files = [encode(draw_diff(seed)) for seed in (1, 2, 1)]
    layout = draw_diff(1).layout

    digests = [file.digest for file in files]
    found = list(decode_all((f.data for f in files), layout, expected_digests=digests))

    assert found == [decode(file.data, layout) for file in files]


def test_files_of_one_rule_share_its_positions(draw_diff: Callable[..., DiffVector]) -> None:
    layout = draw_diff(1).layout
    rules = [Seeded(seed, (True,) * len(layout.shapes), 4) for seed in (1, 1, 2)]
    files = [
        encode(
            DiffVector(
                layout,
                tuple(
                    SparseTensor(shape, at, np.ones(len(at), np.float32))
                    for shape, at in zip(layout.shapes, positions(rule, layout), strict=True)
                ),
                {},
                {},
                rule=rule,
            )
        )
        for rule in rules
    ]

    one, alike, other = decode_all([file.data for file in files], layout)

    for mine, same, another in zip(one.tensors, alike.tensors, other.tensors, strict=True):
        assert mine.positions is same.positions
        assert mine.positions is not another.positions


def test_the_first_of_many_files_that_is_not_as_expected_is_refused(
    draw_diff: Callable[..., DiffVector],
) -> None:
    first, second = encode(draw_diff(1)), encode(draw_diff(2))
    found = decode_all(
        [first.data, second.data], draw_diff(1).layout, expected_digests=[first.digest] * 2
    )

    next(found)
    with pytest.raises(DiffFormatError, match="SHA-256"):
        next(found)
