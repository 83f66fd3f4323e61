"""Thousands of damaged files: each is refused by name, or is a valid diff all the same."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import pytest

from streamlab.diff.format.container import decode, encode
from streamlab.diff.format.frame import Block, digest_blocks, digest_header, read_frame, write_frame
from streamlab.diff.vector import SparseTensor
from streamlab.errors import DiffError, DiffFormatError

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamlab.diff.format.codec import CodecName
    from streamlab.diff.format.values import ValueType
    from streamlab.diff.vector import DiffVector

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
    """Damage one block and make the digests right again, as a hostile author would."""
    frame = read_frame(data)
    blocks = dict(frame.blocks)
    name = rng.choice(sorted(name for name in blocks if blocks[name].dtype == "U8"))
    mutant = damage(bytes(blocks[name].data), rng)
    blocks[name] = Block("U8", (len(mutant),), mutant)
    part = name.partition(".")[0]
    members = {n: b for n, b in blocks.items() if n.partition(".")[0] == part}
    rest = {key: value for key, value in frame.metadata.items() if key != "sha256"}
    sha256 = {part: digest_blocks(members), "header": digest_header(rest, blocks)}
    return write_frame({**rest, "sha256": {**frame.metadata["sha256"], **sha256}}, blocks)


def check_valid(diff: DiffVector) -> None:
    """Check again, tensor by tensor, what the reader claims to have proven."""
    for tensor in diff.tensors:
        SparseTensor(tensor.shape, tensor.positions, tensor.values)
        assert np.all(tensor.values != 0)
        assert tensor.values.dtype == np.float32


@pytest.mark.parametrize("codec", ["pcodec", "xz"])
@pytest.mark.parametrize("value_type", ["fp32", "fp16", "bf16", "int8", "int4"])
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
@pytest.mark.parametrize("value_type", ["fp32", "fp16", "bf16", "int8", "int4"])
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
