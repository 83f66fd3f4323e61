"""Encode a diff as the bytes of one file, and decode it, as docs/reference/format.md specifies.

The reader treats its input as hostile: every number is checked before anything of its size is
allocated, and each error names the violated rule.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamlab.diff.format import positions, values
from streamlab.diff.format.codec import CODECS, CodecName, read_numbers, write_numbers
from streamlab.diff.format.frame import (
    FORMAT_NAME,
    FORMAT_VERSION,
    Block,
    Frame,
    Header,
    digest_frame,
    read_frame,
    read_header,
    with_digest,
    write_frame,
)
from streamlab.diff.format.head import HeadTensor, HeadType, read_head, round_head, write_head
from streamlab.diff.format.partition import cut_into_lines, read_cuts
from streamlab.diff.format.rule_block import n_values_of, read_rule, write_rule
from streamlab.diff.format.values import ValueType
from streamlab.diff.format.varints import MAX_VARINT_BYTES, read_varints
from streamlab.diff.layout import Layout
from streamlab.diff.rules import MAX_ENTRIES, Rule
from streamlab.diff.rules import positions as positions_by
from streamlab.diff.vector import DiffVector, SparseTensor, proven_tensor
from streamlab.errors import BaseMismatchError, DiffError, DiffFormatError

DEFAULT_MAX_BYTES = 1 << 30

_CUTS, _CLASSES = "positions.cuts", "positions.classes"
_COUNTS, _GAPS = "positions.counts", "positions.gaps"
_RULE = "positions.rule"
_CODES, _SCALES = "values.codes", "values.scales"
_HEAD = "head"
_PARTS = ("positions", "values", "head")


@dataclass(frozen=True)
class Parts:
    """Bytes by part of a file; `metadata` is everything before the first block."""

    positions: int
    values: int
    head: int
    metadata: int


@dataclass(frozen=True)
class EncodedDiff:
    """A file's bytes, their SHA-256 in hex, and their number by part."""

    data: bytes
    digest: str
    parts: Parts


def encode(
    diff: DiffVector,
    *,
    value_type: ValueType = "bf16",
    codec: CodecName = "pcodec",
    head_type: HeadType = "fp32",
) -> EncodedDiff:
    """Encode a diff as one file; the same diff and settings give the same bytes.

    All k entries are stored: an added value that would round to zero takes the smallest magnitude
    of the type, as a value of zero does in an integer type. A rule is stored in place of the
    positions. Raises DiffError where a value is too large for its type, a replaced weight would be
    rounded, the rule does not regenerate the positions, or the diff exceeds a limit of the format.
    """
    if diff.n_entries > MAX_ENTRIES:
        raise DiffError(f"A diff file holds at most {MAX_ENTRIES} entries, got {diff.n_entries}.")
    blocks = _position_blocks(diff, codec) | _value_blocks(diff, value_type, codec)
    if diff.head:
        blocks[_HEAD] = _bytes_block(write_head(round_head(diff.head, head_type)))
    metadata = {
        "format": FORMAT_NAME,
        "version": FORMAT_VERSION,
        "base": diff.layout.fingerprint,
        "d": diff.n_gated,
        "k": diff.n_entries,
        "codec": codec,
        "mode": diff.mode,
        "value_type": value_type,
        "task": diff.task,
    }
    metadata = with_digest(metadata, blocks)
    read_header(metadata)  # rejects what a reader would reject
    data = write_frame(metadata, blocks)
    return EncodedDiff(data, hashlib.sha256(data).hexdigest(), _measure(blocks, len(data)))


@dataclass(frozen=True)
class DiffFile:
    """A file with valid structure and checksums; decoding its entries needs the base's layout."""

    header: Header
    frame: Frame
    head: Mapping[str, HeadTensor]
    digest: str  # SHA-256 of the file in hex
    n_bytes: int

    @property
    def parts(self) -> Parts:
        """Return the bytes by part."""
        return _measure(self.frame.blocks, self.n_bytes)

    @property
    def n_head_entries(self) -> int:
        """Return the number of entries of the dense head."""
        return sum(tensor.size for tensor in self.head.values())

    @property
    def n_values(self) -> int:
        """Return the number of stored values, which entries may share."""
        block = self.frame.blocks.get(_RULE)
        return n_values_of(b"" if block is None else bytes(block.data), self.header.k)

    def decode(self, layout: Layout) -> DiffVector:
        """Decode the entries against the layout of their base; values are widened to float32.

        Raises DiffFormatError naming the violated rule, and BaseMismatchError for another base.
        """
        frame, header = self.frame, self.header
        if header.base != layout.fingerprint:
            raise BaseMismatchError(
                f"The diff belongs to the base {header.base!r}, not to {layout.fingerprint!r}; "
                "load that base, or train the task again on this one."
            )
        if header.d != layout.n_gated:
            raise DiffFormatError(
                "base-size", f"`d` must be the base's {layout.n_gated} entries, got {header.d}."
            )
        rule = None
        if _RULE in frame.blocks:
            rule = read_rule(bytes(frame.blocks[_RULE].data), header.k, header.codec, layout)
            # Before the positions, whose number nothing else in the file would prove.
            numbers = _read_codes(frame, header, self.n_values)
            positions_of = positions_by(rule, layout)
        else:
            positions_of = _read_positions(frame, header, layout)
            numbers = _read_codes(frame, header, header.k)
        counts = [len(part) for part in positions_of]
        entries = _widen(frame, header, numbers, rule, counts)
        entries.flags.writeable = False
        values_of = [entries[a:b] for a, b in pairwise([0, *np.cumsum(counts).tolist()])]
        tensors = map(proven_tensor, layout.shapes, positions_of, values_of)
        head = {name: tensor.widen() for name, tensor in self.head.items()}
        return DiffVector(layout, tuple(tensors), head, header.task, header.mode, rule)


def open_diff(
    data: bytes, *, expected_digest: str | None = None, max_bytes: int = DEFAULT_MAX_BYTES
) -> DiffFile:
    """Check everything in a file that can be checked without its base.

    `expected_digest`: the required SHA-256 of the bytes, in hex. Raises DiffFormatError naming
    the violated rule.
    """
    if len(data) > max_bytes:
        raise DiffFormatError("file-size", f"must be at most {max_bytes} bytes, got {len(data)}.")
    digest = hashlib.sha256(data).hexdigest()
    if expected_digest not in (None, digest):
        raise DiffFormatError(
            "file-digest", f"the SHA-256 must be {expected_digest}, got {digest}."
        )
    frame = read_frame(data)
    header = read_header(frame.metadata)
    _check_table(frame.blocks, header)
    actual = digest_frame(frame.metadata, frame.blocks)
    if actual != header.sha256:
        raise DiffFormatError(
            "content-digest", f"the SHA-256 must be {header.sha256}, got {actual}."
        )
    head = frame.blocks.get(_HEAD)
    tensors = read_head(b"" if head is None else head.data)
    return DiffFile(header, frame, tensors, digest, len(data))


def decode(data: bytes, layout: Layout, *, expected_digest: str | None = None) -> DiffVector:
    """Decode a file that belongs to the base of `layout`; see `open_diff` and `DiffFile.decode`."""
    return open_diff(data, expected_digest=expected_digest).decode(layout)


def rounded(
    diff: DiffVector, *, value_type: ValueType = "bf16", head_type: HeadType = "fp32"
) -> DiffVector:
    """Return the diff that decoding its file would give, without writing the file.

    Raises DiffError as `encode` does.
    """
    codes, rule = values.diff_codes(diff, value_type), diff.rule
    zeros = diff.mode != "add" or rule is not None
    groups = values.groups_of(rule, diff.counts)
    entries = values.widen_values(codes, groups, value_type, zeros=zeros)
    parts = np.split(entries if rule is None else rule.entries_of(entries), np.cumsum(diff.counts))
    tensors = (
        SparseTensor(tensor.shape, tensor.positions, part)
        for tensor, part in zip(diff.tensors, parts[:-1], strict=True)
    )
    head = {name: one.widen() for name, one in round_head(diff.head, head_type).items()}
    return DiffVector(diff.layout, tuple(tensors), head, diff.task, diff.mode, rule)


def _position_blocks(diff: DiffVector, codec: CodecName) -> dict[str, Block]:
    held = [tensor.positions for tensor in diff.tensors]
    if diff.rule is not None:
        pairs = zip(positions_by(diff.rule, diff.layout), held, strict=True)
        if not all(np.array_equal(regenerated, one) for regenerated, one in pairs):
            raise DiffError(
                f"The rule {type(diff.rule).__name__} regenerates other positions than the diff "
                "has. Make the diff from the positions of its rule, or without a rule."
            )
        return {_RULE: _bytes_block(write_rule(diff.rule, codec))}
    compress = CODECS[codec].compress
    streams = positions.split(held, diff.layout)
    return {
        _CUTS: _bytes_block(streams.cuts),
        _CLASSES: _bytes_block(compress(streams.classes, streams.class_pages)),
        _COUNTS: _bytes_block(streams.counts),
        _GAPS: _bytes_block(compress(streams.gaps, streams.pages)),
    }


def _value_blocks(diff: DiffVector, value_type: ValueType, codec: CodecName) -> dict[str, Block]:
    codes = values.diff_codes(diff, value_type)
    numbers = codes.numbers.astype(values.code_dtype(value_type, codec), copy=False)
    stream = write_numbers(numbers, values.VALUE_BITS[value_type], codec)
    blocks = {_CODES: _bytes_block(stream)}
    if value_type in values.INTEGER_BITS:
        scales = codes.scales.astype("<f4").tobytes()
        blocks[_SCALES] = Block("F32", (len(codes.scales),), scales)
    return blocks


def _bytes_block(data: bytes) -> Block:
    return Block("U8", (len(data),), data)


def _by_part(blocks: Mapping[str, Block]) -> dict[str, dict[str, Block]]:
    parts: dict[str, dict[str, Block]] = {part: {} for part in _PARTS}
    for name, block in blocks.items():
        parts[name.partition(".")[0]][name] = block
    return parts


def _measure(blocks: Mapping[str, Block], n_bytes: int) -> Parts:
    sizes = {
        part: sum(len(block.data) for block in members.values())
        for part, members in _by_part(blocks).items()
    }
    return Parts(**sizes, metadata=n_bytes - sum(sizes.values()))


def _check_table(blocks: Mapping[str, Block], header: Header) -> None:
    """Check that the blocks are those of positions or a rule, of the value type, and a head's."""
    where = (_RULE,) if _RULE in blocks else (_CUTS, _CLASSES, _COUNTS, _GAPS)
    expected: dict[str, str] = dict.fromkeys((*where, _CODES), "U8")
    if header.value_type in values.INTEGER_BITS:
        expected[_SCALES] = "F32"
    for name, dtype in expected.items():
        block = blocks.get(name)
        if block is None or block.dtype != dtype or len(block.shape) != 1:
            raise DiffFormatError("tensor-table", f"`{name}` must be a vector of {dtype}.")
    for name in sorted(blocks.keys() - expected.keys() - {_HEAD}):
        raise DiffFormatError("tensor-table", f"{name!r} is not a block of a diff file.")
    head = blocks.get(_HEAD)
    if head is not None and (head.dtype != "U8" or len(head.shape) != 1 or not head.data):
        raise DiffFormatError("tensor-table", f"`{_HEAD}` must be a non-empty vector of U8.")
    if header.k == 0 and head is None:
        raise DiffFormatError("no-change", "the file has no entries and no head.")


def _read_positions(frame: Frame, header: Header, layout: Layout) -> list[NDArray[np.int64]]:
    """Read sorted positions per tensor; the size of each array is checked before allocation."""
    cuts = read_cuts(bytes(frame.blocks[_CUTS].data), layout)
    lines = cut_into_lines(cuts, layout)
    stated = frame.blocks[_COUNTS].data
    if len(stated) > MAX_VARINT_BYTES * lines.total:  # each class has at least one line
        raise DiffFormatError(
            "count-coding", f"{lines.total} lines cannot have {len(stated)} bytes of counts."
        )
    counts = np.array(read_varints(bytes(stated), "count-coding"), np.int64)
    if counts.sum() != header.k:
        raise DiffFormatError("count-sum", f"counts must add up to {header.k}, got {counts.sum()}.")
    classes = _expand(frame.blocks[_CLASSES], header, np.uint16, lines.total, "class-stream")
    if classes.max(initial=0) > len(counts):
        raise DiffFormatError(
            "class-range", f"a line is in class {classes.max()} of {len(counts)}."
        )
    gaps = _expand(frame.blocks[_GAPS], header, np.uint32, header.k, "position-stream")
    return positions.join(gaps, counts, classes, lines, layout)


def _expand(block: Block, header: Header, dtype: DTypeLike, count: int, rule: str) -> NDArray[Any]:
    return CODECS[header.codec].expand(bytes(block.data), dtype, count, rule)


def _read_codes(frame: Frame, header: Header, count: int) -> NDArray[Any]:
    return read_numbers(
        bytes(frame.blocks[_CODES].data),
        values.code_dtype(header.value_type, header.codec),
        values.VALUE_BITS[header.value_type],
        header.codec,
        count,
        "value-stream",
    )


def _widen(
    frame: Frame,
    header: Header,
    numbers: NDArray[Any],
    rule: Rule | None,
    counts: Sequence[int],
) -> NDArray[np.float32]:
    """Return the values of all entries; `counts`: the entries of every tensor."""
    scales, groups = values.NO_SCALES, values.groups_of(rule, counts)
    if header.value_type in values.INTEGER_BITS:
        block = frame.blocks[_SCALES]
        expected = int(np.count_nonzero(groups))
        if block.shape != (expected,):
            raise DiffFormatError(
                "scale-number", f"there must be {expected} scales, got {block.shape[0]}."
            )
        scales = np.frombuffer(block.data, dtype="<f4").astype(np.float32)
    zeros = header.mode != "add" or rule is not None
    codes = values.Codes(numbers, scales)
    widened = values.widen_values(codes, groups, header.value_type, zeros=zeros)
    return widened if rule is None else rule.entries_of(widened)
