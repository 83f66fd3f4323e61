"""The frame of a diff file: a header of some bytes, and its sections.

    8 bytes: magic and version | 32: SHA-256 of all others | 32: fingerprint of the base
    d, k | codec, mode, value type with coding, a byte each | length of every section | sections

It is not a safetensors file, whose JSON takes more bytes than a small diff. The same content always
gives the same bytes, and nothing is allocated before it is checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

from streamlab.diff.format.code_stream import PACKED
from streamlab.diff.format.codec import CodecName
from streamlab.diff.format.values import INTEGER_BITS, ValueType
from streamlab.diff.format.varints import ByteReader, write_varints
from streamlab.diff.rules import MAX_ENTRIES
from streamlab.diff.vector import Mode
from streamlab.errors import DiffError, DiffFormatError
from streamlab.hashing import canonical_json, parse_json

MAGIC = b"\xd1SLDIFF"
VERSION = 2
MAX_TASK_BYTES = 64 << 10
SECTIONS = (
    "task",
    "head",
    "positions.rule",
    "positions.cuts",
    "positions.classes",
    "positions.counts",
    "positions.gaps",
    "values.scales",
    "values.codes",
)
_START = MAGIC + bytes([VERSION])
_DIGEST = slice(len(_START), len(_START) + 32)
_TYPE_BITS = 4  # of the byte that has the value type, and the coding above it
_MAX_D = (1 << 53) - 1
# In a file as their numbers.
_CODECS: tuple[CodecName, ...] = get_args(CodecName)
_MODES: tuple[Mode, ...] = get_args(Mode)
_VALUE_TYPES: tuple[ValueType, ...] = get_args(ValueType)

Sections = Mapping[str, bytes | memoryview]
Name = TypeVar("Name")


@dataclass(frozen=True)
class Header:
    """What a file says of itself: `k` of `d` backbone entries of `base` change."""

    base: str  # fingerprint, 64 hexadecimal digits
    d: int
    k: int
    codec: CodecName
    mode: Mode
    value_type: ValueType
    task: Mapping[str, Any]
    coding: int = PACKED  # of the codes of all values; see `code_stream`


@dataclass(frozen=True)
class Frame:
    """The header of a file and its sections by name, empty ones and the task included."""

    header: Header
    sections: Sections


def write_frame(header: Header, sections: Sections) -> bytes:
    """Return the bytes of a file; sections that are not given are empty.

    Raises DiffError where the base's fingerprint is no SHA-256 or the task is too long.
    """
    task = canonical_json(header.task).encode()
    if len(task) > MAX_TASK_BYTES:
        raise DiffError(
            f"The task description would take {len(task)} bytes of at most {MAX_TASK_BYTES}; "
            "shorten `task`."
        )
    held = {**sections, "task": task}
    parts = [bytes(held.get(name, b"")) for name in SECTIONS]
    kinds = (
        _CODECS.index(header.codec),
        _MODES.index(header.mode),
        _VALUE_TYPES.index(header.value_type) | header.coding << _TYPE_BITS,
    )
    return signed(
        b"".join(
            [
                _START,
                bytes(32),
                _fingerprint(header.base),
                write_varints([header.d, header.k]),
                bytes(kinds),
                write_varints(map(len, parts)),
                *parts,
            ]
        )
    )


def signed(data: bytes) -> bytes:
    """Return a file's bytes with the digest of all others in its place."""
    return data[: _DIGEST.start] + _digest(data) + data[_DIGEST.stop :]


def _digest(data: bytes) -> bytes:
    view = memoryview(data)
    running = hashlib.sha256(view[: _DIGEST.start])
    running.update(view[_DIGEST.stop :])
    return running.digest()


def _fingerprint(base: str) -> bytes:
    try:
        raw = bytes.fromhex(base)
    except ValueError:
        raw = b""
    if raw.hex() != base or len(raw) != 32:
        raise DiffError(f"A base's fingerprint must have 64 hexadecimal digits, got {base!r:.80}.")
    return raw


def read_frame(data: bytes) -> Frame:
    """Parse a file without copying sections.

    Raises DiffFormatError: `format-name`, `format-version`, `content-digest`, `header-coding`,
    `header-range`, `section-table`, `task-json`, `task-canonical`.
    """
    if data[: len(MAGIC)] != MAGIC:
        raise DiffFormatError("format-name", f"must begin with {MAGIC!r}, got {data[:7]!r}.")
    if data[len(MAGIC) : len(_START)] != bytes([VERSION]):
        got = data[len(MAGIC) : len(_START)].hex()
        raise DiffFormatError("format-version", f"the version must be {VERSION}, got 0x{got}.")
    stated = data[_DIGEST]
    actual = _digest(data)
    if stated != actual:
        raise DiffFormatError(
            "content-digest", f"the SHA-256 must be {actual.hex()}, got {stated.hex()}."
        )
    reader = ByteReader(data, "header-coding", _DIGEST.stop)
    base = bytes(reader.take(32, "the base's fingerprint")).hex()
    d, k = reader.varint("`d`"), reader.varint("`k`")
    codec = _named("codec", reader.byte("the codec"), _CODECS)
    mode = _named("mode", reader.byte("the mode"), _MODES)
    coding, number = divmod(reader.byte("the value type"), 1 << _TYPE_BITS)
    value_type = _named("value type", number, _VALUE_TYPES)
    lengths = [reader.varint(f"the length of `{name}`") for name in SECTIONS]
    if sum(lengths) != reader.n_left:
        raise DiffFormatError(
            "section-table", f"sections take {sum(lengths)} bytes, but {reader.n_left} are left."
        )
    sections = {n: reader.take(m, n) for n, m in zip(SECTIONS, lengths, strict=True)}
    header = Header(base, d, k, codec, mode, value_type, _read_task(sections["task"]), coding)
    check_header(header)
    return Frame(header, sections)


def check_header(header: Header) -> None:
    """Check the numbers of a header. Raises DiffFormatError: `header-range`."""
    if header.d > _MAX_D or header.k > min(header.d, MAX_ENTRIES):
        raise DiffFormatError(
            "header-range",
            f"`k` must be at most `d` and {MAX_ENTRIES}, and `d` at most {_MAX_D}, got "
            f"{header.k} and {header.d}.",
        )
    if header.mode == "replace" and header.value_type in INTEGER_BITS:
        raise DiffFormatError(
            "header-range",
            f"{header.value_type} cannot replace weights exactly; use a float type.",
        )


def _named(what: str, number: int, names: tuple[Name, ...]) -> Name:
    if number >= len(names):
        raise DiffFormatError("header-range", f"there is no {what} of the number {number}.")
    return names[number]


def _read_task(section: bytes | memoryview) -> dict[str, Any]:
    if len(section) > MAX_TASK_BYTES:  # before it is parsed
        raise DiffFormatError(
            "task-json", f"`task` must take at most {MAX_TASK_BYTES} bytes, got {len(section)}."
        )
    text = bytes(section)
    try:
        tree = parse_json(text.decode("ascii"))
    except ValueError as error:
        raise DiffFormatError("task-json", f"`task` is not ASCII JSON: {error}.") from error
    if not isinstance(tree, dict):
        raise DiffFormatError("task-json", "`task` must be a JSON object.")
    if canonical_json(tree).encode() != text:
        raise DiffFormatError("task-canonical", "`task` is not canonical JSON.")
    return tree
