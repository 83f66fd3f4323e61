"""Tensors in safetensors files, read and written one at a time, and the digest of all of them.

Written here: a reader of headers and a writer of one tensor at a time, which the library lacks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import numpy as np

from streamlab.errors import SourceError
from streamlab.exact.coder import WIDTHS, Bytes, Kind
from streamlab.hashing import canonical_json, parse_json

TENSOR_SUFFIX: Final = ".safetensors"
MAX_HEADER_BYTES: Final = 100_000_000  # the library's own limit
_ALIGNMENT: Final = 8


@dataclass(frozen=True)
class TensorFile:
    """One file: its header, byte for byte, and its tensors with where each begins in the file."""

    name: str
    header: bytes
    tensors: Mapping[str, tuple[Kind, int]]

    @property
    def n_bytes(self) -> int:
        """Return the bytes of the file."""
        return _START + len(self.header) + sum(kind.n_bytes for kind, _ in self.tensors.values())


_START: Final = 8  # bytes that hold the length of the header


class Tensors(Protocol):
    """Tensors by name, whose bytes are asked for one tensor at a time."""

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """Return what each tensor is of."""
        ...

    @property
    def n_bytes(self) -> int:
        """Return the bytes of all."""
        ...

    def read(self, name: str) -> Bytes:
        """Return the bytes of a tensor."""
        ...


@dataclass(frozen=True)
class TensorsInMemory:
    """Tensors by name: what each is of, and its bytes."""

    tensors: Mapping[str, tuple[Kind, Bytes]]

    @property
    def kinds(self) -> dict[str, Kind]:
        """See `Tensors`."""
        return {name: kind for name, (kind, _) in self.tensors.items()}

    @property
    def n_bytes(self) -> int:
        """See `Tensors`."""
        return sum(kind.n_bytes for kind, _ in self.tensors.values())

    def read(self, name: str) -> Bytes:
        """See `Tensors`."""
        return self.tensors[name][1]


@dataclass(frozen=True)
class TensorsOnDisk:
    """The tensors of one file, or of all files of a folder."""

    folder: Path
    files: tuple[TensorFile, ...]
    is_folder: bool

    @property
    def kinds(self) -> dict[str, Kind]:
        """Return what each tensor is of, by name in order."""
        found = {name: kind for file in self.files for name, (kind, _) in file.tensors.items()}
        return dict(sorted(found.items()))

    @property
    def n_bytes(self) -> int:
        """Return the bytes of all files."""
        return sum(file.n_bytes for file in self.files)

    def read(self, name: str) -> Bytes:
        """Return the bytes of a tensor. Raises SourceError."""
        for file in self.files:
            if name in file.tensors:
                kind, at = file.tensors[name]
                path = self.folder / file.name
                try:
                    found = np.fromfile(path, dtype=np.uint8, count=kind.n_bytes, offset=at)
                except OSError as error:
                    raise SourceError(f"{path} cannot be read: {error.strerror}.") from error
                if len(found) < kind.n_bytes:
                    raise SourceError(f"{path} ends inside `{name}`. Copy it again.")
                return found
        raise KeyError(name)


class Fingerprint:
    """The SHA-256 of the names, types, shapes and bytes of tensors, added in order of the names.

    It does not depend on how they are distributed over files.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, name: str, kind: Kind, data: Bytes) -> None:
        """Add a tensor."""
        self._hash.update(canonical_json([name, kind.dtype, list(kind.shape)]).encode())
        self._hash.update(data.data)

    def digest(self) -> bytes:
        """Return the SHA-256."""
        return self._hash.digest()


def fingerprint(tensors: TensorsOnDisk) -> str:
    """Return the `Fingerprint` of a checkpoint, in hex."""
    found = Fingerprint()
    for name, kind in tensors.kinds.items():
        found.add(name, kind, tensors.read(name))
    return found.digest().hex()


def open_tensors(place: Path) -> TensorsOnDisk:
    """Read the headers of a safetensors file, or of all in a folder.

    Raises SourceError where there is none, one is not valid, or two have a tensor of one name.
    """
    if place.is_dir():
        paths = sorted(p for p in place.iterdir() if p.suffix == TENSOR_SUFFIX and p.is_file())
        folder = place
    else:
        paths, folder = [place], place.parent
    if not paths:
        raise SourceError(
            f"{place} has no safetensors file. Give a folder that has, or a file itself."
        )
    files = tuple(map(_read_header, paths))
    known: set[str] = set()
    for file in files:
        if twice := known & file.tensors.keys():
            raise SourceError(f"Two files in {folder} have the tensor `{min(twice)}`.")
        known |= file.tensors.keys()
    return TensorsOnDisk(folder, files, is_folder=place.is_dir())


def _read_header(path: Path) -> TensorFile:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_START), "little")
            n_bytes = path.stat().st_size
            if not 2 <= length <= min(MAX_HEADER_BYTES, n_bytes - _START):
                raise SourceError(f"{path} is no safetensors file.")
            header = file.read(length)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}.") from error
    try:
        found = parse_header(path.name, header)
    except ValueError as error:
        raise SourceError(f"{path} is no safetensors file: {error}.") from error
    if found.n_bytes != n_bytes:
        raise SourceError(
            f"{path} has {n_bytes:,} bytes, and its header needs {found.n_bytes:,}. Copy it again."
        )
    return found


def parse_header(name: str, header: bytes) -> TensorFile:
    """Parse the header of a file whose tensors fill it without gaps. Raises ValueError."""
    tree = parse_json(header)
    if not isinstance(tree, dict):
        raise ValueError("its header is no JSON object")
    tensors, spans = {}, []
    for tensor, entry in tree.items():
        if tensor == "__metadata__":
            continue
        kind, (start, end) = _parse_entry(tensor, entry)
        tensors[tensor] = kind, _START + len(header) + start
        spans.append((start, end))
    reached = 0
    for start, end in sorted(spans):
        if start != reached:
            raise ValueError(f"its bytes {reached} to {start} belong to no tensor, or to two")
        reached = end
    return TensorFile(name, header, tensors)


def _parse_entry(name: str, entry: Any) -> tuple[Kind, tuple[int, int]]:
    try:
        dtype, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        kind = checked_kind(dtype, shape)
        numbers_are_valid = all(type(n) is int and n >= 0 for n in (start, end))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"its entry of `{name}` is not valid") from error
    if not numbers_are_valid or end - start != kind.n_bytes:
        raise ValueError(f"its entry of `{name}` has not {kind.n_bytes} bytes")
    return kind, (start, end)


def checked_kind(dtype: Any, shape: Any) -> Kind:
    """Return a kind from outside. Raises ValueError."""
    if dtype not in WIDTHS:
        raise ValueError(f"{dtype!r:.40} is not a known type of numbers")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"{shape!r:.40} is not a shape")
    return Kind(dtype, tuple(shape))


def standard_header(kinds: Mapping[str, Kind], metadata: Mapping[str, str] | None) -> bytes:
    """Return the header that the library writes for tensors, padded."""
    tree: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    end = 0
    for name in in_file_order(kinds):
        kind = kinds[name]
        offsets = [end, end := end + kind.n_bytes]
        tree[name] = {"dtype": kind.dtype, "shape": list(kind.shape), "data_offsets": offsets}
    text = json.dumps(tree, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b" " * (-len(text) % _ALIGNMENT)


def file_start(header: bytes) -> bytes:
    """Return what precedes the tensors in a file."""
    return len(header).to_bytes(_START, "little") + header


def in_file_order(kinds: Mapping[str, Kind]) -> list[str]:
    """Return the names of tensors as the library orders them in a file: by type, then by name."""
    return sorted(kinds, key=lambda name: (-_TYPES.index(kinds[name].dtype), name))


_TYPES: Final = (  # the last ones come first
    "BOOL", "F4", "F6_E2M3", "F6_E3M2", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "I16", "U16",
    "F16", "BF16", "I32", "U32", "F32", "C64", "F64", "I64", "U64",
)  # fmt: skip


class TensorFolder:
    """Files that are written one tensor at a time, in any order; see `TensorFile`."""

    def __init__(self, folder: Path, files: Iterable[TensorFile]) -> None:
        self._place: dict[str, tuple[BinaryIO, int]] = {}
        self._open: list[BinaryIO] = []
        for layout in files:
            file = (folder / layout.name).open("xb")
            self._open.append(file)
            file.write(file_start(layout.header))
            file.truncate(layout.n_bytes)
            self._place |= {name: (file, at) for name, (_, at) in layout.tensors.items()}

    def write(self, name: str, data: Bytes) -> None:
        """Write the bytes of a tensor."""
        file, at = self._place[name]
        file.seek(at)
        file.write(data.data)

    def close(self) -> None:
        """Close all files."""
        for file in self._open:
            file.close()
