"""Mutants of a diff file: random damage, and changes made with knowledge of the format.

The latter change one element (a number of a stream, a count, a byte of the header, a section) and
correct the digest, so that the reader gets further.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from streamlab.diff.format.code_stream import CODED, read_codes, write_codes
from streamlab.diff.format.codec import CODECS
from streamlab.diff.format.frame import Frame, Sections, read_frame, signed, write_frame
from streamlab.diff.format.rule_block import n_values_of
from streamlab.diff.format.values import VALUE_BITS
from streamlab.errors import StreamlabError

Numbers = np.ndarray[Any, np.dtype[Any]]
_STREAMS = {"positions.gaps": np.uint32, "positions.classes": np.uint16}
_ODD = [0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**56 - 1]
_LONGEST_HEADER = 160  # of which most are the lengths of sections


def mutate(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Return one mutant of `data`, possibly with parts of `other`."""
    kind = rng.choice(
        ["random", "random", "section", "stream", "stream", "header", "bytes", "move", "lend"]
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
        at = at % 256 if rng.random() < 0.5 else at
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


def _section(data: bytes, _other: bytes, rng: random.Random) -> bytes:
    """Damage the bytes of one section."""
    frame = read_frame(data)
    name = _held(frame, rng)
    return _signed(frame, {name: damage(bytes(frame.sections[name]), rng)})


def _held(frame: Frame, rng: random.Random) -> str:
    """Choose a section that is not empty."""
    return rng.choice([name for name, section in frame.sections.items() if len(section)])


def _stream(data: bytes, _other: bytes, rng: random.Random) -> bytes:
    """Change numbers of one stream, and encode it again."""
    frame = read_frame(data)
    codec = CODECS[frame.header.codec]
    streams = [name for name in _STREAMS if len(frame.sections[name])]
    name = rng.choice([*streams, "values.codes"])
    stream = bytes(frame.sections[name])
    if name == "values.codes":
        return _with_codes(frame, stream, rng)
    dtype = np.dtype(_STREAMS[name])
    count = frame.header.k if name != "positions.classes" else _n_lines(frame, stream, dtype)
    numbers = codec.expand(stream, dtype, count, "x").copy()
    return _signed(frame, {name: codec.compress(_changed(numbers, rng))})


def _with_codes(frame: Frame, stream: bytes, rng: random.Random) -> bytes:
    """Change codes of values, and pack them or encode them again."""
    header = frame.header
    n_values = n_values_of(bytes(frame.sections["positions.rule"]), header.k)
    numbers = read_codes(header.coding, stream, header.value_type, header.codec, n_values, "x")
    numbers = _changed(numbers, rng)
    coding, changed = write_codes(numbers, header.value_type, header.codec)
    if rng.random() < 0.5:  # which codes of any size survive
        coding, changed = CODED, CODECS[header.codec].compress(numbers)
    return write_frame(replace(header, coding=coding), {**frame.sections, "values.codes": changed})


def _n_lines(frame: Frame, stream: bytes, dtype: np.dtype[Any]) -> int:
    """Return the length of a stream, from the error for requesting too many numbers."""
    codec = frame.header.codec
    for count in (1 << 17, 1 << 16, 1 << 12):
        try:
            CODECS[codec].expand(stream, dtype, count, "x")
        except StreamlabError as error:
            words = str(error).replace(",", " ").split()
            got = [int(word.rstrip(".")) for word in words if word.rstrip(".").isdigit()]
            if codec == "pcodec" and got and got[-1] < count:
                return got[-1]
            if codec == "xz" and got and got[-1] < count * dtype.itemsize:
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


def _header(data: bytes, _other: bytes, rng: random.Random) -> bytes:
    """State something else in the header."""
    frame = read_frame(data)
    header = frame.header
    near = [header.k + 1, max(0, header.k - 1), header.d + 1]
    changes: list[dict[str, Any]] = [
        {"k": rng.choice([*_ODD, *near])},
        {"d": rng.choice([*_ODD, *near])},
        {"codec": rng.choice(["xz", "pcodec"])},
        {"mode": rng.choice(["add", "replace", "prune"])},
        {"value_type": rng.choice(list(VALUE_BITS))},
        {"coding": rng.randrange(16)},
        {"base": "00" * 32},
        {"task": {"x": _nested(rng.choice([1, 30, 31, 400]))}},
    ]
    return write_frame(replace(header, **rng.choice(changes)), frame.sections)


def _nested(depth: int) -> Any:
    tree: Any = 1
    for _ in range(depth):
        tree = [tree]
    return tree


def _bytes(data: bytes, _other: bytes, rng: random.Random) -> bytes:
    """Damage the header's bytes."""
    return signed(damage(data[:_LONGEST_HEADER], rng) + data[_LONGEST_HEADER:])


def _move(data: bytes, _other: bytes, rng: random.Random) -> bytes:
    """Empty one section, or give its content to another or to both."""
    frame = read_frame(data)
    name, into = _held(frame, rng), rng.choice(sorted(frame.sections))
    section = frame.sections[name]
    changes: list[Sections] = [{name: b""}, {name: b"", into: section}, {into: section}]
    return _signed(frame, rng.choice(changes))


def _lend(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Take one section from another file."""
    frame, lender = read_frame(data), read_frame(other)
    name = rng.choice(sorted(frame.sections))
    return _signed(frame, {name: lender.sections[name]})


_KNOWING: dict[str, Callable[[bytes, bytes, random.Random], bytes]] = {
    "section": _section,
    "stream": _stream,
    "header": _header,
    "bytes": _bytes,
    "move": _move,
    "lend": _lend,
}


def _signed(frame: Frame, sections: Sections) -> bytes:
    """Encode the file with other sections and a correct digest."""
    return write_frame(frame.header, {**frame.sections, **sections})
