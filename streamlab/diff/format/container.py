"""Encode a diff as the bytes of one file, and decode it, as docs/reference/format.md specifies.

The reader treats its input as hostile: every number is checked before anything of its size is
allocated, and each error names the violated rule.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamlab.diff.format import positions, values
from streamlab.diff.format.code_stream import read_codes, write_codes
from streamlab.diff.format.codec import CODECS, CodecName
from streamlab.diff.format.frame import (
    SECTIONS,
    Frame,
    Header,
    Sections,
    check_header,
    read_frame,
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

# Positions, read-only, by k, codec and the block of a rule: all that decides them in one layout.
Drawn = dict[tuple[int, CodecName, bytes], list[NDArray[np.int64]]]
_MOST_DRAWN = 16  # rules whose positions are held for files to come

_CUTS, _CLASSES = "positions.cuts", "positions.classes"
_COUNTS, _GAPS = "positions.counts", "positions.gaps"
_RULE = "positions.rule"
_CODES, _SCALES = "values.codes", "values.scales"
_HEAD = "head"
_PLACES = (_CUTS, _CLASSES, _COUNTS, _GAPS)


@dataclass(frozen=True)
class Parts:
    """Bytes by part of a file; `metadata` is the rest: the header and the task."""

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
    of the type, as a value of zero does in an integer type. `ternary` has a zero: there explicit
    entries that round to it are left out. A rule is stored in place of the positions. Raises
    DiffError where a value is too large for its type, a replaced weight would be rounded, the rule
    does not regenerate the positions, or the diff exceeds a limit of the format.
    """
    if diff.n_entries > MAX_ENTRIES:
        raise DiffError(f"A diff file holds at most {MAX_ENTRIES} entries, got {diff.n_entries}.")
    diff = _without_lost(diff, value_type)
    codes = values.diff_codes(diff, value_type)
    coding, stream = write_codes(codes.numbers, value_type, codec)
    sections = _position_sections(diff, codec) | {
        _HEAD: write_head(round_head(diff.head, head_type)),
        _SCALES: codes.scales.astype("<f4").tobytes(),
        _CODES: stream,
    }
    header = Header(
        base=diff.layout.fingerprint,
        d=diff.n_gated,
        k=diff.n_entries,
        codec=codec,
        mode=diff.mode,
        value_type=value_type,
        task=diff.task,
        coding=coding,
    )
    check_header(header)
    data = write_frame(header, sections)
    return EncodedDiff(data, hashlib.sha256(data).hexdigest(), _measure(sections, len(data)))


@dataclass(frozen=True)
class DiffFile:
    """A file with valid structure and checksums; decoding its entries needs the base's layout."""

    frame: Frame
    head: Mapping[str, HeadTensor]
    digest: str  # SHA-256 of the file in hex
    n_bytes: int

    @property
    def header(self) -> Header:
        """Return what the file says of itself."""
        return self.frame.header

    @property
    def parts(self) -> Parts:
        """Return the bytes by part."""
        return _measure(self.frame.sections, self.n_bytes)

    @property
    def n_head_entries(self) -> int:
        """Return the number of entries of the head, with those of a first row of zeros."""
        return sum(tensor.size for tensor in self.head.values())

    @property
    def n_values(self) -> int:
        """Return the number of stored values, which entries may share."""
        return n_values_of(bytes(self.frame.sections[_RULE]), self.header.k)

    def decode(self, layout: Layout, drawn: Drawn | None = None) -> DiffVector:
        """Decode the entries against the layout of their base; values are widened to float32.

        `drawn`: positions by rules of other files of this base, which equal rules share. Raises
        DiffFormatError naming the violated rule, and BaseMismatchError for another base.
        """
        frame, header, sections = self.frame, self.header, self.frame.sections
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
        if sections[_RULE]:
            rule = read_rule(bytes(sections[_RULE]), header.k, header.codec, layout)
            # Before the positions, whose number nothing else in the file would prove.
            numbers = _read_codes(frame, self.n_values)
            positions_of = _share(rule, layout, header, bytes(sections[_RULE]), drawn)
        else:
            positions_of = _read_positions(frame, layout)
            numbers = _read_codes(frame, header.k)
        counts = [len(part) for part in positions_of]
        entries = _widen(frame, numbers, rule, counts)
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
    _check_sections(frame)
    return DiffFile(frame, read_head(frame.sections[_HEAD]), digest, len(data))


def decode(data: bytes, layout: Layout, *, expected_digest: str | None = None) -> DiffVector:
    """Decode a file that belongs to the base of `layout`; see `open_diff` and `DiffFile.decode`."""
    return open_diff(data, expected_digest=expected_digest).decode(layout)


def decode_all(
    files: Iterable[bytes], layout: Layout, *, expected_digests: Iterable[str] | None = None
) -> Iterator[DiffVector]:
    """Decode many files of one base, in order and each when it is asked for; see `decode`.

    `expected_digests`: one for each file. Equal rules of files that are near each other share their
    positions in memory. Raises what `decode` raises at the first file that it refuses, and
    ValueError unless there are as many digests as files.
    """
    drawn: Drawn = {}
    digests = itertools.repeat(None) if expected_digests is None else expected_digests
    pairs = zip(files, digests, strict=expected_digests is not None)
    for data, digest in pairs:
        yield open_diff(data, expected_digest=digest).decode(layout, drawn)


def rounded(
    diff: DiffVector, *, value_type: ValueType = "bf16", head_type: HeadType = "fp32"
) -> DiffVector:
    """Return the diff that decoding its file would give, without writing the file.

    Raises DiffError as `encode` does.
    """
    head = {name: one.widen() for name, one in round_head(diff.head, head_type).items()}
    tensors = _rounded_tensors(diff, value_type)
    return DiffVector(diff.layout, tensors, head, diff.task, diff.mode, diff.rule)


def _rounded_tensors(diff: DiffVector, value_type: ValueType) -> tuple[SparseTensor, ...]:
    codes, rule = values.diff_codes(diff, value_type), diff.rule
    groups = values.groups_of(rule, diff.counts)
    entries = values.widen_values(codes, groups, value_type, zeros=True)
    parts = np.split(entries if rule is None else rule.entries_of(entries), np.cumsum(diff.counts))
    return tuple(
        SparseTensor(tensor.shape, tensor.positions, part)
        for tensor, part in zip(diff.tensors, parts[:-1], strict=True)
    )


def _without_lost(diff: DiffVector, value_type: ValueType) -> DiffVector:
    """Return a diff that has no explicit entry whose ternary value is zero."""
    if value_type != "ternary" or diff.mode != "add" or diff.rule is not None:
        return diff
    return replace(diff, tensors=_rounded_tensors(diff, value_type))  # which drops zeros


def _position_sections(diff: DiffVector, codec: CodecName) -> dict[str, bytes]:
    held = [tensor.positions for tensor in diff.tensors]
    if diff.rule is not None:
        pairs = zip(positions_by(diff.rule, diff.layout), held, strict=True)
        if not all(np.array_equal(regenerated, one) for regenerated, one in pairs):
            raise DiffError(
                f"The rule {type(diff.rule).__name__} regenerates other positions than the diff "
                "has. Make the diff from the positions of its rule, or without a rule."
            )
        return {_RULE: write_rule(diff.rule, codec)}
    compress = CODECS[codec].compress
    streams = positions.split(held, diff.layout)
    return {
        _CUTS: streams.cuts,
        _CLASSES: compress(streams.classes, streams.class_pages),
        _COUNTS: streams.counts,
        _GAPS: compress(streams.gaps, streams.pages),
    }


def _measure(sections: Sections, n_bytes: int) -> Parts:
    sizes = dict.fromkeys(("positions", "values", "head"), 0)
    for name in SECTIONS[1:]:  # all but the task
        sizes[name.partition(".")[0]] += len(sections.get(name, b""))
    return Parts(**sizes, metadata=n_bytes - sum(sizes.values()))


def _check_sections(frame: Frame) -> None:
    """Check that there is a rule or positions, no scale without use, and any change at all."""
    header, sections = frame.header, frame.sections
    if sections[_RULE] and any(len(sections[name]) for name in _PLACES):
        raise DiffFormatError("section-table", "a file has positions or a rule, not both.")
    if header.value_type not in values.INTEGER_BITS and len(sections[_SCALES]):
        raise DiffFormatError("section-table", f"{header.value_type} has no scales.")
    if header.k == 0 and not len(sections[_HEAD]):
        raise DiffFormatError("no-change", "the file has no entries and no head.")


def _read_positions(frame: Frame, layout: Layout) -> list[NDArray[np.int64]]:
    """Read sorted positions per tensor; the size of each array is checked before allocation."""
    cuts = read_cuts(bytes(frame.sections[_CUTS]), layout)
    lines = cut_into_lines(cuts, layout)
    stated = frame.sections[_COUNTS]
    if len(stated) > MAX_VARINT_BYTES * lines.total:  # each class has at least one line
        raise DiffFormatError(
            "count-coding", f"{lines.total} lines cannot have {len(stated)} bytes of counts."
        )
    counts = np.array(read_varints(bytes(stated), "count-coding"), np.int64)
    if counts.sum() != frame.header.k:
        raise DiffFormatError(
            "count-sum", f"counts must add up to {frame.header.k}, got {counts.sum()}."
        )
    classes = _expand(frame, _CLASSES, np.uint16, lines.total, "class-stream")
    if classes.max(initial=0) > len(counts):
        raise DiffFormatError(
            "class-range", f"a line is in class {classes.max()} of {len(counts)}."
        )
    gaps = _expand(frame, _GAPS, np.uint32, frame.header.k, "position-stream")
    return positions.join(gaps, counts, classes, lines, layout)


def _share(
    rule: Rule, layout: Layout, header: Header, block: bytes, drawn: Drawn | None
) -> list[NDArray[np.int64]]:
    """Return the positions of a rule, those of an equal one where a recent file had it."""
    if drawn is None:
        return positions_by(rule, layout)
    key = header.k, header.codec, block
    if key not in drawn:
        if len(drawn) == _MOST_DRAWN:
            del drawn[next(iter(drawn))]
        drawn[key] = positions_by(rule, layout)
    return drawn[key]


def _expand(frame: Frame, name: str, dtype: DTypeLike, count: int, rule: str) -> NDArray[Any]:
    return CODECS[frame.header.codec].expand(bytes(frame.sections[name]), dtype, count, rule)


def _read_codes(frame: Frame, count: int) -> NDArray[Any]:
    header = frame.header
    stream = bytes(frame.sections[_CODES])
    return read_codes(header.coding, stream, header.value_type, header.codec, count, "value-stream")


def _widen(
    frame: Frame,
    numbers: NDArray[Any],
    rule: Rule | None,
    counts: Sequence[int],
) -> NDArray[np.float32]:
    """Return the values of all entries; `counts`: the entries of every tensor."""
    header = frame.header
    scales, groups = values.NO_SCALES, values.groups_of(rule, counts)
    if header.value_type in values.INTEGER_BITS:
        section, expected = frame.sections[_SCALES], int(np.count_nonzero(groups))
        if len(section) != 4 * expected:
            raise DiffFormatError(
                "scale-number", f"{expected} scales take 4 bytes each, got {len(section)} bytes."
            )
        scales = np.frombuffer(section, dtype="<f4").astype(np.float32)
    zeros = header.mode != "add" or rule is not None
    codes = values.Codes(numbers, scales)
    widened = values.widen_values(codes, groups, header.value_type, zeros=zeros)
    return widened if rule is None else rule.entries_of(widened)
