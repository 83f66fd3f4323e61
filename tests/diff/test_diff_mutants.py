"""Thousands of damaged files: each is refused by name, or is a valid diff all the same."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, get_args

import numpy as np
import pytest

from streamlab.diff.format.container import decode, encode
from streamlab.diff.format.frame import read_frame, signed, write_frame
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
)
from streamlab.diff.vector import DiffVector, SparseTensor
from streamlab.errors import DiffError, DiffFormatError

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamlab.diff.format.codec import CodecName

SHAPES = ((), (7,), (12, 9), (3, 0), (9, 12), (2, 3, 4))


def damage(data: bytes, rng: random.Random) -> bytes:
    """Flip a bit, set, drop, double or move some bytes."""
    mutant = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        if not mutant:
            return bytes(rng.randrange(256) for _ in range(3))
        at = rng.randrange(len(mutant))
        length = rng.choice([1, 1, 4, 16])
        kind = rng.randrange(5)
        if kind == 0:
            mutant[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            mutant[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
        elif kind == 2:
            del mutant[at : at + length]
        elif kind == 3:
            mutant[at:at] = mutant[at : at + length]
        else:
            mutant[at : at + length] = rng.randbytes(length)
    return bytes(mutant)


def damaged_inside(data: bytes, rng: random.Random) -> bytes:
    """Damage one section and make the digest right again, as a hostile author would."""
    frame = read_frame(data)
    names = [name for name, section in frame.sections.items() if len(section)]
    name = "positions.rule" if "positions.rule" in names else rng.choice(names)
    changed = {name: damage(bytes(frame.sections[name]), rng)}
    return write_frame(frame.header, {**frame.sections, **changed})


def damaged_header(data: bytes, rng: random.Random) -> bytes:
    """Damage what comes before the sections, with a right digest."""
    return signed(data[:40] + damage(data[40:90], rng) + data[90:])


def check_valid(diff: DiffVector) -> None:
    """Check again, tensor by tensor, what the reader claims to have proven."""
    for tensor in diff.tensors:
        SparseTensor(tensor.shape, tensor.positions, tensor.values)
        assert diff.rule is not None or np.all(tensor.values != 0)
        assert tensor.values.dtype == np.float32


@pytest.mark.parametrize("codec", ["pcodec", "xz"])
@pytest.mark.parametrize("value_type", get_args(ValueType))
def test_a_damaged_file_is_refused_by_name(
    draw_diff: Callable[..., DiffVector], value_type: ValueType, codec: CodecName
) -> None:
    diff = draw_diff(2, shapes=SHAPES, density=0.3)
    data = encode(diff, value_type=value_type, codec=codec).data
    rng = random.Random(f"{value_type} {codec}")  # noqa: S311 - damage need not be secret

    for _ in range(120):
        mutant = damage(data, rng)
        if mutant != data:
            with pytest.raises(DiffError):
                decode(mutant, diff.layout)


@pytest.mark.parametrize("codec", ["pcodec", "xz"])
@pytest.mark.parametrize("value_type", get_args(ValueType))
def test_a_hostile_file_with_right_digests_is_refused_by_name_or_valid(
    draw_diff: Callable[..., DiffVector], value_type: ValueType, codec: CodecName
) -> None:
    diff = draw_diff(2, shapes=SHAPES, density=0.3)
    data = encode(diff, value_type=value_type, codec=codec).data
    rng = random.Random(f"{codec} {value_type}")  # noqa: S311 - damage need not be secret
    refused = 0

    for _ in range(180):
        try:
            check_valid(decode(damaged_inside(data, rng), diff.layout))
        except DiffFormatError:
            refused += 1

    assert refused > 90


@pytest.mark.parametrize("codec", ["pcodec", "xz"])
def test_a_hostile_header_is_refused_by_name_or_valid(
    draw_diff: Callable[..., DiffVector], codec: CodecName
) -> None:
    diff = draw_diff(2, shapes=SHAPES, density=0.3)
    data = encode(diff, value_type="int4", codec=codec).data
    rng = random.Random(codec)  # noqa: S311 - damage need not be secret
    refused = 0

    for _ in range(2000):
        try:
            check_valid(decode(damaged_header(data, rng), diff.layout))
        except DiffError:  # of another base, too
            refused += 1

    assert refused > 1800


SOME = (False, True, True, False, True, False)
RULES: list[Rule] = [
    Seeded(3, SOME, 60),
    SeededCounts(3, np.array([1, 2, 30, 0, 40, 9])),
    SeededCounts(3, np.arange(28) % 3 * (np.arange(28) < 14), "row"),
    SeededRows(3, np.arange(28) % 5 == 2, 15),
    WholeTensors(SOME),
    Shared(3, SOME, 11, 8),
]


@pytest.mark.parametrize("codec", ["pcodec", "xz"])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_a_hostile_rule_is_refused_by_name_or_valid(rule: Rule, codec: CodecName) -> None:
    layout = Layout("ab" * 32, tuple("abcdef"), SHAPES)
    where = positions(rule, layout)
    k = sum(map(len, where))
    n = rule.n if isinstance(rule, Shared) else k
    entries = rule.entries_of(np.linspace(-1, 1, n).astype(np.float32))
    parts = np.split(entries, np.cumsum([len(at) for at in where])[:-1])
    diff = DiffVector(layout, tuple(map(SparseTensor, SHAPES, where, parts)), {}, {}, rule=rule)
    data = encode(diff, value_type="int4", codec=codec).data
    rng = random.Random(f"{rule} {codec}")  # noqa: S311 - damage need not be secret
    refused = 0

    for _ in range(300):
        try:
            check_valid(decode(damaged_inside(data, rng), layout))
        except DiffFormatError:
            refused += 1

    assert refused > 60  # a damaged seed is another seed
