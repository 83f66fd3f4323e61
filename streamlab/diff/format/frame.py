"""The frame of a diff file: a safetensors file in canonical form, and its metadata.

    8 bytes: length of the header | header: canonical JSON, padded with spaces | tensor bytes

It is not written by a library, so that the same content always gives the same bytes, and not read
by one, so that nothing is allocated before it is checked.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints, ValidationError

from streamlab.config import Settings
from streamlab.diff.format.codec import CodecName
from streamlab.diff.format.values import INTEGER_BITS, ValueType
from streamlab.diff.rules import MAX_ENTRIES
from streamlab.diff.vector import Mode
from streamlab.errors import DiffError, DiffFormatError
from streamlab.hashing import canonical_json, parse_json

METADATA_KEY = "streamlab.diff"
MAX_HEADER_BYTES = 64 << 10
_LENGTH_BYTES = 8
_ITEM_BYTES = {"F32": 4, "F16": 2, "U8": 1}

Dtype = Literal["F32", "F16", "U8"]


@dataclass(frozen=True)
class Block:
    """One tensor of the file: its little-endian bytes, row-major."""

    dtype: Dtype
    shape: tuple[int, ...]
    data: bytes | memoryview


@dataclass(frozen=True)
class Frame:
    """The metadata of a file and its blocks by name."""

    metadata: Mapping[str, Any]
    blocks: Mapping[str, Block]


def write_frame(metadata: Mapping[str, Any], blocks: Mapping[str, Block]) -> bytes:
    """Return the bytes of a file. Raises DiffError for a header over the limit of readers."""
    header: dict[str, Any] = {"__metadata__": {METADATA_KEY: canonical_json(metadata)}}
    table = _table(blocks)
    header |= table
    text = _padded(canonical_json(header).encode())
    if len(text) > MAX_HEADER_BYTES:
        raise DiffError(
            f"The header would take {len(text)} bytes of at most {MAX_HEADER_BYTES}; "
            "shorten `task` or the head's list of tensors."
        )
    length = len(text).to_bytes(_LENGTH_BYTES, "little")
    return b"".join([length, text, *(blocks[name].data for name in table)])


def read_frame(data: bytes) -> Frame:
    """Parse a file without copying blocks.

    Raises DiffFormatError: `file-size`, `header-size`, `header-json`, `header-canonical`,
    `metadata-key`, `tensor-table`.
    """
    text = _header_text(data)
    header = _parse(text, "header")
    if _padded(canonical_json(header).encode()) != text:
        raise DiffFormatError("header-canonical", "the header is not canonical JSON.")
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or list(metadata) != [METADATA_KEY]:
        raise DiffFormatError("metadata-key", f"`__metadata__` must hold `{METADATA_KEY}` alone.")
    inner = metadata[METADATA_KEY]
    if not isinstance(inner, str):
        raise DiffFormatError("metadata-key", f"`{METADATA_KEY}` must be text.")
    tree = _parse(inner.encode(), "metadata")
    if canonical_json(tree) != inner:
        raise DiffFormatError("header-canonical", "the metadata is not canonical JSON.")
    body = memoryview(data)[_LENGTH_BYTES + len(text) :]
    return Frame(tree, _read_table(header, body))


def digest_frame(metadata: Mapping[str, Any], blocks: Mapping[str, Block]) -> str:
    """Return the SHA-256, in hex, of all content of a file but this digest.

    It covers the canonical JSON of [metadata without `sha256`, table of blocks], then the blocks
    in file order.
    """
    table = _table(blocks)
    rest = {key: value for key, value in metadata.items() if key != "sha256"}
    running = hashlib.sha256(canonical_json([rest, table]).encode())
    for name in table:
        running.update(blocks[name].data)
    return running.hexdigest()


def with_digest(metadata: Mapping[str, Any], blocks: Mapping[str, Block]) -> dict[str, Any]:
    """Return the metadata with the digest of the content."""
    return {**metadata, "sha256": digest_frame(metadata, blocks)}


def _table(blocks: Mapping[str, Block]) -> dict[str, dict[str, Any]]:
    """Return the header's entry of every block, in file order."""
    table: dict[str, dict[str, Any]] = {}
    end = 0
    for name in sorted(blocks, key=lambda name: _rank(name, blocks[name].dtype)):
        block = blocks[name]
        start, end = end, end + len(block.data)
        table[name] = {
            "data_offsets": [start, end],
            "dtype": block.dtype,
            "shape": list(block.shape),
        }
    return table


def _rank(name: str, dtype: str) -> tuple[int, str]:
    """Return a sort key that aligns every block to its item size."""
    return -_ITEM_BYTES[dtype], name


def _padded(text: bytes) -> bytes:
    return text + b" " * (-len(text) % 8)


def _header_text(data: bytes) -> bytes:
    if len(data) < _LENGTH_BYTES:
        raise DiffFormatError("file-size", f"must be at least 8 bytes, got {len(data)}.")
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    if length > MAX_HEADER_BYTES:
        raise DiffFormatError(
            "header-size", f"the header must be at most {MAX_HEADER_BYTES} bytes, got {length}."
        )
    text = data[_LENGTH_BYTES : _LENGTH_BYTES + length]
    if len(text) != length:
        raise DiffFormatError(
            "header-size", f"the header must have {length} bytes, got {len(text)}."
        )
    return bytes(text)


def _parse(text: bytes, what: str) -> dict[str, Any]:
    try:
        tree = parse_json(text.decode("ascii"))
    except ValueError as error:
        raise DiffFormatError("header-json", f"the {what} is not ASCII JSON: {error}.") from error
    if not isinstance(tree, dict):
        raise DiffFormatError("header-json", f"the {what} must be a JSON object.")
    return tree


def _read_table(header: Mapping[str, Any], body: memoryview) -> dict[str, Block]:
    """Check that the blocks fill the body in canonical order, without gap or overlap."""
    entries = {name: _read_entry(name, entry) for name, entry in header.items()}
    blocks: dict[str, Block] = {}
    end = 0
    for name in sorted(entries, key=lambda name: _rank(name, entries[name].dtype)):
        entry = entries[name]
        start, end = end, end + math.prod(entry.shape) * _ITEM_BYTES[entry.dtype]
        if entry.data_offsets != [start, end]:
            raise DiffFormatError(
                "tensor-table", f"{name!r} must take [{start}, {end}], not {entry.data_offsets}."
            )
        blocks[name] = Block(entry.dtype, tuple(entry.shape), body[start:end])
    if end != len(body):
        raise DiffFormatError(
            "tensor-table", f"the tensors take {end} bytes, but {len(body)} follow the header."
        )
    return blocks


Count = Annotated[int, Field(ge=0, lt=1 << 53)]


class _Entry(Settings):
    """The header's entry of one block."""

    model_config = ConfigDict(strict=True)

    data_offsets: Annotated[list[Count], Field(max_length=2)]
    dtype: Dtype
    shape: Annotated[list[Count], Field(max_length=8)]


def _read_entry(name: str, entry: Any) -> _Entry:
    try:
        return _Entry.model_validate(entry)
    except ValidationError as error:
        raise DiffFormatError("tensor-table", f"the entry of {name!r} is malformed.") from error


FORMAT_NAME: Literal["streamlab-diff"] = "streamlab-diff"
FORMAT_VERSION = 2

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Header(Settings):
    """The metadata of a diff: `k` of `d` backbone entries change."""

    model_config = ConfigDict(strict=True)

    format: Literal["streamlab-diff"]
    version: Annotated[int, Field(ge=FORMAT_VERSION, le=FORMAT_VERSION)]  # strict: not True
    base: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    d: Count
    k: Annotated[int, Field(ge=0, le=MAX_ENTRIES)]
    codec: CodecName
    mode: Mode
    value_type: ValueType
    sha256: Digest  # of all other content of the file
    task: dict[str, Any]


def read_header(tree: Mapping[str, Any]) -> Header:
    """Validate the metadata.

    Raises DiffFormatError: `format-name`, `format-version`, `metadata-schema`.
    """
    try:
        header = Header.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        rules = {"format": "format-name", "version": "format-version"}
        rule = rules.get(place, "metadata-schema")
        message = f"`{place}`: {first['msg']}, got {first['input']!r:.80}."
        raise DiffFormatError(rule, message) from error
    if header.k > header.d:
        raise DiffFormatError(
            "metadata-schema", f"`k` must be at most `d` = {header.d}, got {header.k}."
        )
    if header.mode == "replace" and header.value_type in INTEGER_BITS:
        raise DiffFormatError(
            "metadata-schema",
            f"{header.value_type} cannot replace weights exactly; use a float type.",
        )
    return header
