"""The file of an exact difference: what turns the tensors of one checkpoint into another's.

    8 bytes: magic and version | 32: SHA-256 of all others | 32, 32: fingerprints of base and result
    length of the description | description: canonical JSON by zlib | the changes of all tensors

The description says which files the result has, with their tensors, which tensors are new, and what
else lies beside them. Changes follow in the order of the tensors' names. Base and result are read
and written one tensor at a time.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from streamlab.errors import BaseMismatchError, DiffError, DiffFormatError, SourceError
from streamlab.exact.coder import Bytes, ChangeReader, ChangeWriter, Kind
from streamlab.exact.tensor_files import (
    TENSOR_SUFFIX,
    Fingerprint,
    TensorFile,
    TensorFolder,
    Tensors,
    TensorsInMemory,
    checked_kind,
    open_tensors,
    parse_header,
    standard_header,
)
from streamlab.files import atomic_folder, atomic_write, disk_errors
from streamlab.hashing import canonical_json, parse_json

SUFFIX: Final = ".slexact"
MAGIC: Final = b"\xd1SLEXCT"
VERSION: Final = 1
MAX_DESCRIPTION_BYTES: Final = 64 << 20
MAX_NEW_BYTES: Final = 64 << 20  # of new tensors, or the bytes of the base where these are more
OTHERS: Final = frozenset({".json", ".txt", ".model", ".jinja"})  # beside weights, by suffix
MAX_OTHER_BYTES: Final = 16 << 20
_START = MAGIC + bytes([VERSION])
_DIGEST = slice(len(_START), len(_START) + 32)
_BASE = slice(_DIGEST.stop, _DIGEST.stop + 32)
_RESULT = slice(_BASE.stop, _BASE.stop + 32)
_LENGTH = slice(_RESULT.stop, _RESULT.stop + 4)
_PIECE: Final = 1 << 20
_ONE_FILE: Final = f"model{TENSOR_SUFFIX}"

Tree = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """What a file says of itself: fingerprints and its SHA-256 in hex, and its bytes."""

    base: str
    result: str
    digest: str
    n_bytes: int
    description_bytes: int


@dataclass(frozen=True)
class Written:
    """A file that was written, how many weights it changes, and the bytes of both checkpoints."""

    change: Change
    n_weights: int
    n_changed: int
    base_bytes: int
    result_bytes: int


@dataclass(frozen=True)
class _Other:
    """A file beside the tensors; `content`: None where the base has the same."""

    digest: str
    content: bytes | None


@dataclass(frozen=True)
class _Result:
    """What a change leads to: files of tensors, and others by name."""

    files: tuple[TensorFile, ...]
    others: Mapping[str, _Other]

    @property
    def kinds(self) -> dict[str, Kind]:
        return {name: kind for file in self.files for name, (kind, _) in file.tensors.items()}


def write_change(base: Path, tuned: Path, path: Path) -> Written:
    """Write the file that turns one checkpoint into another, and verify it by reading it back.

    Each is a safetensors file or a folder of them; tensors are read one at a time. Raises
    SourceError where one cannot be read, DiffError where a tensor of both differs in type or shape,
    and StoreError where the file cannot be written.
    """
    before, after = open_tensors(base), open_tensors(tuned)
    others = _describe_others(before.folder, after.folder) if after.is_folder else {}
    description = _describe(before.kinds, after.kinds, after.files, others)
    with atomic_write(path, opener=_open_both) as file, disk_errors(path):
        n_changed = _write_file(before, after, description, file)
        change = _verify(before, Path(file.name))
    n_weights = sum(kind.n_numbers for kind in after.kinds.values())
    return Written(change, n_weights, n_changed, before.n_bytes, after.n_bytes)


def encode_change(before: Tensors, after: Tensors) -> bytes:
    """Return the bytes of a file whose result is one file of tensors, without others.

    Raises DiffError where a tensor of both differs in type or shape.
    """
    header = standard_header(after.kinds, None)
    description = _describe(before.kinds, after.kinds, [parse_header(_ONE_FILE, header)], {})
    file = io.BytesIO()
    _write_file(before, after, description, file)
    return file.getvalue()


def decode_change(before: Tensors, data: bytes) -> tuple[Change, TensorsInMemory]:
    """Return the tensors that a file's bytes give. Raises what `apply_change` does."""
    change, description, stream = _open(np.frombuffer(data, dtype=np.uint8))
    result = _parse(description, before)
    found: dict[str, tuple[Kind, Bytes]] = {}

    def keep(name: str, tensor: Bytes) -> None:
        found[name] = kinds[name], tensor

    kinds = result.kinds
    _read_stream(before, change, result, stream, keep)
    return change, TensorsInMemory(found)


def read_change(path: Path) -> Change:
    """Check everything in a file that can be checked without its base.

    Raises DiffFormatError naming the violated rule, and SourceError where it cannot be read.
    """
    return _open(_mapped(path))[0]


def apply_change(base: Path, path: Path, folder: Path) -> Change:
    """Write the result of a change to a base into a new folder, verified by its fingerprint.

    The files of tensors are those that the change was made from, byte for byte. Raises
    BaseMismatchError for another base, DiffFormatError for an invalid file, and StoreError where
    the folder cannot be written; nothing is left then.
    """
    before = open_tensors(base)
    change, description, stream = _open(_mapped(path))
    result = _parse(description, before)
    with atomic_folder(folder) as temporary, disk_errors(folder):
        with closing(TensorFolder(temporary, result.files)) as files:
            _read_stream(before, change, result, stream, files.write)
        for name, other in result.others.items():
            _write_other(before.folder / name, other, temporary / name)
    return change


def _open_both(path: Path) -> BinaryIO:
    return path.open("x+b")


def _write_file(before: Tensors, after: Tensors, description: bytes, file: BinaryIO) -> int:
    """Write a whole file, and return how many weights change."""
    file.write(_START + bytes(_LENGTH.start - len(_START)))  # the rest is known at the end
    file.write(len(description).to_bytes(4, "little") + description)
    of_base, of_result, writer = Fingerprint(), Fingerprint(), ChangeWriter()
    n_changed = 0
    for name, old, kind in _in_order(before, after.kinds, of_base):
        new = after.read(name)
        of_result.add(name, kind, new)
        if writer.write(old, new, kind):
            n_changed += kind.n_numbers if old is None else _n_changed(old, new, kind)
        file.write(writer.take())
    file.write(writer.finish())
    _sign(file, of_base.digest(), of_result.digest())
    return n_changed


def _in_order(
    before: Tensors, kinds: Mapping[str, Kind], of_base: Fingerprint
) -> Iterator[tuple[str, Bytes | None, Kind]]:
    """Yield the result's tensors as the stream has them, each with the base's, if there is one.

    `of_base` gets all tensors of the base, also those that the result lacks.
    """
    old_kinds = before.kinds
    for name in sorted(old_kinds.keys() | kinds.keys()):
        old = None
        if name in old_kinds:
            old = before.read(name)
            of_base.add(name, old_kinds[name], old)
        if name in kinds:
            yield name, old, kinds[name]


def _n_changed(old: Bytes, new: Bytes, kind: Kind) -> int:
    """Return how many numbers differ in their bits."""
    return int(np.count_nonzero(kind.numbers(old) != kind.numbers(new)))


def _sign(file: BinaryIO, base: bytes, result: bytes) -> None:
    """Fill in the fingerprints and the digest of all else."""
    file.seek(_BASE.start)
    file.write(base + result)
    running = hashlib.sha256(_START)
    file.seek(_BASE.start)
    for piece in iter(lambda: file.read(_PIECE), b""):
        running.update(piece)
    file.seek(_DIGEST.start)
    file.write(running.digest())
    file.flush()


def _read_stream(
    before: Tensors,
    change: Change,
    result: _Result,
    stream: Bytes,
    write: Callable[[str, Bytes], None],
) -> None:
    """Read the changes of all tensors, and verify both fingerprints."""
    of_base, of_result, reader = Fingerprint(), Fingerprint(), ChangeReader(stream)
    for name, old, kind in _in_order(before, result.kinds, of_base):
        new = reader.read(old, kind)
        of_result.add(name, kind, new)
        write(name, new)
    _check_base(of_base.digest().hex(), change)
    if not reader.is_done:
        raise DiffFormatError("change-stream", "the changes do not end where the file does.")
    found = of_result.digest().hex()
    if found != change.result:
        raise DiffFormatError(
            "result-fingerprint", f"the result must be {change.result}, got {found}."
        )


def _check_base(found: str, change: Change) -> None:
    if found != change.base:
        raise BaseMismatchError(
            f"The difference belongs to the checkpoint {change.base}, not to {found}. Apply it to "
            "the one that it was made from."
        )


def _verify(before: Tensors, path: Path) -> Change:
    """Read a file back, without keeping what it gives, and return what it says of itself."""
    change, description, stream = _open(_mapped(path))
    _read_stream(before, change, _parse(description, before), stream, lambda *_: None)
    return change


def _mapped(path: Path) -> Bytes:
    """Return the bytes of a file, which are read when they are needed."""
    try:
        if not path.stat().st_size:  # which cannot be mapped
            return np.zeros(0, dtype=np.uint8)
        return np.memmap(path, dtype=np.uint8, mode="r")
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}.") from error


def _open(data: Bytes) -> tuple[Change, bytes, Bytes]:
    """Check the digest, and return what a file says of itself, its description and its stream."""
    start = data[: _LENGTH.stop].tobytes()
    if start[: len(_START)] != _START:
        raise DiffFormatError(
            "format-name", f"must begin with {_START!r}, got {start[: len(_START)]!r}."
        )
    running = hashlib.sha256(start[: _DIGEST.start])
    running.update(data[_DIGEST.stop :].data)
    if start[_DIGEST] != running.digest():
        raise DiffFormatError(
            "content-digest",
            f"the SHA-256 must be {running.hexdigest()}, got {start[_DIGEST].hex()}.",
        )
    length, n_left = int.from_bytes(start[_LENGTH], "little"), len(data) - _LENGTH.stop
    if length > n_left:
        raise DiffFormatError(
            "description-length", f"{length} bytes are stated, and {n_left} are left."
        )
    digest = hashlib.sha256(data.data).hexdigest()
    change = Change(start[_BASE].hex(), start[_RESULT].hex(), digest, len(data), length)
    stream = data[_LENGTH.stop + length :]
    return change, data[_LENGTH.stop : _LENGTH.stop + length].tobytes(), stream


# ------------------------------------------------------------------------------- the description


def _describe(
    old: Mapping[str, Kind], kinds: Mapping[str, Kind], files: Iterable[TensorFile], others: Tree
) -> bytes:
    """Return the description of a result, compressed."""
    for name in old.keys() & kinds.keys():
        if old[name] != kinds[name]:
            raise DiffError(
                f"`{name}` is {_said(old[name])} in the base and {_said(kinds[name])} in the "
                "other. An exact difference is between checkpoints of one architecture and type."
            )
    known = old.keys() | kinds.keys()
    tree = {
        "files": [_describe_file(file, known) for file in files],
        "new": {n: [k.dtype, list(k.shape)] for n, k in kinds.items() if n not in old},
        "others": others,
    }
    return zlib.compress(canonical_json(tree).encode(), 9)


def _said(kind: Kind) -> str:
    return f"{kind.dtype} of shape {kind.shape}"


def _describe_file(file: TensorFile, known: Collection[str]) -> Tree:
    """Describe a file by metadata and tensors, None for all; by its header if that is another."""
    tree = parse_json(file.header)
    metadata = tree.get("__metadata__")
    kinds = {name: kind for name, (kind, _) in file.tensors.items()}
    if standard_header(kinds, metadata) != file.header:
        return {"name": file.name, "header": base64.b64encode(file.header).decode()}
    names = None if kinds.keys() == known else sorted(kinds)
    return {"name": file.name, "metadata": metadata, "tensors": names}


def describing_files(folder: Path) -> list[Path]:
    """Return the files beside tensors that say how to use them."""
    return sorted(path for path in folder.iterdir() if path.suffix in OTHERS and path.is_file())


def _describe_others(before: Path, after: Path) -> Tree:
    """Describe the files that say how to use the tensors, with those that the base lacks."""
    described: Tree = {}
    n_bytes = 0
    for path in describing_files(after):
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        beside = before / path.name
        if beside.is_file() and hashlib.sha256(beside.read_bytes()).hexdigest() == digest:
            described[path.name] = [digest, None]
            continue
        n_bytes += len(content)
        described[path.name] = [digest, base64.b64encode(content).decode()]
    if n_bytes > MAX_OTHER_BYTES:
        raise DiffError(
            f"The files beside the tensors in {after} that the base lacks take {n_bytes:,} bytes, "
            f"and may take {MAX_OTHER_BYTES:,}. Leave out what is not needed to load the model."
        )
    return described


def _parse(description: bytes, before: Tensors) -> _Result:
    """Read a description from outside; everything in it is checked before it is used."""
    expander = zlib.decompressobj()
    try:
        text = expander.decompress(description, MAX_DESCRIPTION_BYTES)
        tree = parse_json(text)
    except (zlib.error, ValueError) as error:
        raise DiffFormatError("description-json", f"it is no JSON: {error}.") from error
    if not expander.eof or expander.unused_data or canonical_json(tree).encode() != text:
        raise DiffFormatError("description-json", "it is not canonical JSON, or goes on after it.")
    try:
        new = {name: checked_kind(*kind) for name, kind in tree["new"].items()}
        known = {**before.kinds, **new}
        files = tuple(_parse_file(file, known) for file in tree["files"])
        others = {name: _parse_other(*entry) for name, entry in tree["others"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DiffFormatError("description-content", f"{error}.") from error
    result = _Result(files, others)
    _check_result(result, before, new)
    return result


def _parse_file(tree: Tree, known: Mapping[str, Kind]) -> TensorFile:
    if "header" in tree:
        return parse_header(tree["name"], base64.b64decode(tree["header"], validate=True))
    names = known.keys() if tree["tensors"] is None else tree["tensors"]
    missing = [name for name in names if name not in known]
    if missing:
        raise ValueError(f"there is no tensor `{missing[0]}`")
    header = standard_header({name: known[name] for name in names}, tree["metadata"])
    return parse_header(tree["name"], header)


def _parse_other(digest: str, content: str | None) -> _Other:
    data = None if content is None else base64.b64decode(content, validate=True)
    if not isinstance(digest, str) or (
        data is not None and hashlib.sha256(data).hexdigest() != digest
    ):
        raise ValueError("a file beside the tensors has another SHA-256")
    return _Other(digest, data)


def _check_result(result: _Result, before: Tensors, new: Mapping[str, Kind]) -> None:
    """Check names, kinds and sizes of a result. Raises DiffFormatError."""
    _check_names([file.name for file in result.files], {TENSOR_SUFFIX})
    _check_names(list(result.others), OTHERS)
    kinds, old = result.kinds, before.kinds
    if sum(len(file.tensors) for file in result.files) != len(kinds):
        raise DiffFormatError("tensor-name", "two files have one tensor.")
    for name, kind in kinds.items():
        if kind != old.get(name, new.get(name)):
            raise DiffFormatError("tensor-kind", f"`{name}` is no {_said(kind)}.")
    most = max(MAX_NEW_BYTES, before.n_bytes)
    if sum(kind.n_bytes for name, kind in kinds.items() if name not in old) > most:
        raise DiffFormatError("new-size", f"new tensors may take {most:,} bytes.")


def _check_names(names: list[str], suffixes: Collection[str]) -> None:
    for name in names:
        if not isinstance(name, str) or name != Path(name).name:
            raise DiffFormatError("file-name", f"{name!r:.80} is no name of a file.")
        if Path(name).suffix not in suffixes:
            raise DiffFormatError("file-name", f"{name!r:.80} must end in {sorted(suffixes)}.")
    if len(set(names)) < len(names):
        raise DiffFormatError("file-name", "two files have one name.")


def _write_other(beside: Path, other: _Other, path: Path) -> None:
    content = other.content
    if content is None:
        try:
            content = beside.read_bytes()
        except OSError as error:
            raise BaseMismatchError(
                f"The result has {path.name} as it is beside the base, and {beside} cannot be "
                f"read: {error.strerror}."
            ) from error
        if hashlib.sha256(content).hexdigest() != other.digest:
            raise BaseMismatchError(
                f"The result has {path.name} as it was beside the base, and {beside} is another. "
                "Apply the difference to the folder that it was made from."
            )
    path.write_bytes(content)
