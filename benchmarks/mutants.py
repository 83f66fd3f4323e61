"""Mutants of a diff file: random damage, and changes made with knowledge of the format.

The latter change one element (a number of a stream, a count, a key, an entry of the table) and
correct the digest, so that the reader gets further.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np

from streamlab.diff.format.codec import CODECS, CODED, read_numbers, write_numbers
from streamlab.diff.format.frame import (
    Block,
    Frame,
    read_frame,
    with_digest,
    write_frame,
)
from streamlab.diff.format.rule_block import n_values_of
from streamlab.diff.format.values import VALUE_BITS, code_dtype
from streamlab.errors import StreamlabError

Numbers = np.ndarray[Any, np.dtype[Any]]
_STREAMS = {"positions.gaps": np.uint32, "positions.classes": np.uint16}
_ODD = [0, 1, -1, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63, 1.5, "", "x", None, [], {}, True]


def mutate(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Return one mutant of `data`, possibly with parts of `other`."""
    kind = rng.choice(
        ["random", "random", "block", "stream", "stream", "metadata", "table", "lend"]
    )
    if kind == "random":
        return damage(data, rng)
    try:
        return _KNOWING[kind](data, other, rng)
    except (StreamlabError, ValueError, OverflowError, TypeError):
        return damage(data, rng)  # if it cannot be encoded


def damage(data: bytes, rng: random.Random) -> bytes:
    """Flip a bit, set, drop, duplicate or replace some bytes, or truncate the end."""
    mutant = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 5, 20])):
        at = rng.randrange(len(mutant)) if len(mutant) else 0
        # Half of the damage goes to the start, where the header is.
        at = at % 4096 if rng.random() < 0.5 else at
        length = rng.choice([1, 1, 4, 16, 4096])
        match rng.randrange(6):
            case 0 if at < len(mutant):
                mutant[at] ^= 1 << rng.randrange(8)
            case 1 if at < len(mutant):
                mutant[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
            case 2:
                del mutant[at : at + length]
            case 3:
                mutant[at:at] = mutant[at : at + length]
            case 4:
                mutant[at : at + length] = rng.randbytes(length)
            case _:
                del mutant[rng.randrange(len(mutant) + 1) :]
    return bytes(mutant)


def _block(data: bytes, _other: bytes, rng: random.Random) -> bytes:
    """Damage the bytes of one block."""
    frame = read_frame(data)
    name = rng.choice(sorted(frame.blocks))
    block = frame.blocks[name]
    mutant = damage(bytes(block.data), rng)
    if block.dtype != "U8":
        mutant = mutant[: len(block.data)].ljust(len(block.data), b"\xff")
        return _signed(frame, {name: Block(block.dtype, block.shape, mutant)}, {})
    return _signed(frame, {name: Block("U8", (len(mutant),), mutant)}, {})


def _stream(data: bytes, _other: bytes, rng: random.Random) -> bytes:
    """Change numbers of one stream, and encode it again."""
    frame = read_frame(data)
    tree = frame.metadata
    name = rng.choice([*(_STREAMS.keys() & frame.blocks.keys()), "values.codes"])
    block = bytes(frame.blocks[name].data)
    if name == "values.codes":
        packed = _changed_codes(frame, block, rng)
    else:
        dtype = np.dtype(_STREAMS[name])
        count = tree["k"] if name != "positions.classes" else _n_lines(tree, block, dtype)
        numbers = CODECS[tree["codec"]].expand(block, dtype, count, "x").copy()
        packed = CODECS[tree["codec"]].compress(_changed(numbers, rng))
    return _signed(frame, {name: Block("U8", (len(packed),), packed)}, {})


def _changed_codes(frame: Frame, block: bytes, rng: random.Random) -> bytes:
    """Change codes of values, and pack them or encode them again."""
    tree = frame.metadata
    dtype, bits = code_dtype(tree["value_type"], tree["codec"]), VALUE_BITS[tree["value_type"]]
    rule = bytes(frame.blocks["positions.rule"].data) if "positions.rule" in frame.blocks else b""
    n_values = n_values_of(rule, tree["k"])
    numbers = _changed(read_numbers(block, dtype, bits, tree["codec"], n_values, "x"), rng)
    if rng.random() < 0.5:  # which codes of any size survive
        return CODED + CODECS[tree["codec"]].compress(numbers)
    return write_numbers(numbers, bits, tree["codec"])


def _n_lines(tree: Any, stream: bytes, dtype: np.dtype[Any]) -> int:
    """Return the length of a stream, from the error for requesting too many numbers."""
    for count in (1 << 17, 1 << 16, 1 << 12):
        try:
            CODECS[tree["codec"]].expand(stream, dtype, count, "x")
        except StreamlabError as error:
            words = str(error).replace(",", " ").split()
            got = [int(word.rstrip(".")) for word in words if word.rstrip(".").isdigit()]
            if tree["codec"] == "pcodec" and got and got[-1] < count:
                return got[-1]
            if tree["codec"] == "xz" and got and got[-1] < count * dtype.itemsize:
                return got[-1] // dtype.itemsize
    raise ValueError("the length of the stream is unknown")


def _changed(numbers: Numbers, rng: random.Random) -> Numbers:
    info: Any = np.finfo if numbers.dtype.kind == "f" else np.iinfo
    odd = [0, 1, info(numbers.dtype).max, info(numbers.dtype).min]
    if numbers.dtype.kind == "f":
        odd += [np.nan, np.inf, -np.inf]
    match rng.randrange(4):
        case 0:
            for _ in range(rng.choice([1, 3, 100])):
                numbers[rng.randrange(len(numbers))] = rng.choice(odd)
        case 1:
            return numbers[: rng.randrange(len(numbers) + 1)]
        case 2:
            return np.concatenate([numbers, numbers[: rng.randrange(1, 9)]])
        case _:
            numbers[:] = rng.choice(odd)
    return numbers


def _metadata(data: bytes, _other: bytes, rng: random.Random) -> bytes:
    """Set, drop or add a key of the metadata."""
    frame = read_frame(data)
    tree = dict(frame.metadata)
    key = rng.choice([*sorted(tree), "extra"])
    values = [*_ODD, tree["k"] + 1, tree["k"] - 1, tree["d"] + 1]
    values += ["xz", "pcodec", "sign", "int2", "int4", "int8", "fp32", "bf16", 1, 2, "0" * 64]
    changes = {key: rng.choice(values)}
    if rng.random() < 0.2:
        changes = {"task": {"x": _nested(rng.choice([1, 50, 400]))}}
    return _signed(frame, {}, changes, dropped=[key] if rng.random() < 0.2 else [])


def _nested(depth: int) -> Any:
    tree: Any = 1
    for _ in range(depth):
        tree = [tree]
    return tree


def _table(data: bytes, _other: bytes, rng: random.Random) -> bytes:
    """State another type, shape or name for a block, or drop, duplicate or empty one."""
    frame = read_frame(data)
    name = rng.choice(sorted(frame.blocks))
    block = frame.blocks[name]
    shape = rng.choice([(), (0,), (2**40,), (1, *block.shape), (len(block.data),)])
    changed: dict[str, Block | None] = {name: Block(block.dtype, shape, block.data)}
    match rng.randrange(4):
        case 0:
            changed = {name: None}
        case 1:
            changed = {rng.choice(["head", "tail", "positions.more"]): block}
        case 2:
            changed = {name: Block(block.dtype, (0,), b"")}
    return _signed(frame, changed, {})


def _lend(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Take one block from another file."""
    frame, lender = read_frame(data), read_frame(other)
    name = rng.choice(sorted(frame.blocks.keys() & lender.blocks.keys()))
    return _signed(frame, {name: lender.blocks[name]}, {})


_KNOWING: dict[str, Callable[[bytes, bytes, random.Random], bytes]] = {
    "block": _block,
    "stream": _stream,
    "metadata": _metadata,
    "table": _table,
    "lend": _lend,
}


def _signed(
    frame: Frame,
    blocks: dict[str, Any],
    metadata: dict[str, Any],
    dropped: list[str] | None = None,
) -> bytes:
    """Encode the file with changes and a correct digest."""
    held = {**frame.blocks, **blocks}
    held = {name: block for name, block in held.items() if block is not None}
    tree = copy.deepcopy(dict(frame.metadata)) | metadata
    tree = {key: value for key, value in tree.items() if key not in (dropped or [])}
    if "sha256" in tree and "sha256" not in metadata:
        tree = with_digest(tree, held)
    return write_frame(tree, held)
