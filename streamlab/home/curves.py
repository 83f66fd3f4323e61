"""Loss and density curves: one JSON Lines file per arrival, one point per line.

The name of a file encodes the identity of its arrival.
"""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

from streamlab.errors import StoreError
from streamlab.files import Opener, atomic_write, disk_errors, open_new, read_beneath, refuse_link
from streamlab.hashing import canonical_json, parse_json

if TYPE_CHECKING:
    from streamlab.registry.records import NewArrival

MAX_CURVE_BYTES = 2**26
_N_PARTS = 5  # of a name: seed, provider, task, version, method
_SUFFIX = ".jsonl"
_LONGEST_NAME = 200  # bytes; file systems stop at 255


def curve_path(
    folder: Path,
    *,
    run: str,
    seed: int,
    provider: str,
    task: str,
    version: int,
    method: str,
    suffix: str = _SUFFIX,
) -> Path:
    """Return the path of one arrival's curve below the home's folder of curves.

    With an empty `suffix`, that of its folder below the folder of a tracker.
    """
    # Commas inside parts are quoted, so that no two arrivals share a name.
    name = ",".join(
        quote(part, safe="") for part in (str(seed), provider, task, str(version), method)
    )
    return folder / short_name(quote(run, safe="")) / f"{short_name(name)}{suffix}"


def recorded_curve_path(
    folder: Path, run: str, arrival: NewArrival, *, suffix: str = _SUFFIX
) -> Path:
    """Return the path of a recorded arrival's curve; see `curve_path`."""
    names = ("seed", "provider", "task", "version", "method")
    known = {name: getattr(arrival, name) for name in names}
    return curve_path(folder, run=run, suffix=suffix, **known)


def curves_of(
    folder: Path, provider: str | None = None, *, run: str | None = None, suffix: str = _SUFFIX
) -> Iterator[Path]:
    """Yield the curves of a provider or a run by name, in order.

    Of a provider, hashed names cannot be assigned. `suffix`: empty for the folders of a tracker.
    """
    own = "*" if run is None else glob.escape(short_name(quote(run, safe="")))
    for path in sorted(folder.glob(f"{own}/*{suffix}")):
        parts = path.name.removesuffix(suffix).split(",")
        named = len(parts) == _N_PARTS and parts[1] == quote(provider or "", safe="")
        if named or provider is None:
            yield path


class CurveWriter:
    """Append points to a curve; see `writing_curve`."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path
        self._n_points = 0

    def append(self, point: Mapping[str, Any]) -> None:
        """Append one point of finite numbers and text. Raises StoreError for anything else."""
        try:
            line = canonical_json(dict(point))
        except (TypeError, ValueError) as error:
            raise StoreError(
                f"Point {self._n_points} of the curve {self._path} cannot be written as JSON: "
                f"{error}. Use finite numbers, text or null."
            ) from error
        with disk_errors(self._path):
            self._file.write(line.encode() + b"\n")
        self._n_points += 1


@contextmanager
def writing_curve(path: Path, *, opener: Opener = open_new) -> Iterator[CurveWriter]:
    """Write one curve atomically: it appears at `path` when the block ends without an error.

    The curve of an earlier attempt is replaced. Raises StoreError where the disk is full or not
    writable.
    """
    refuse_link(path.parent)
    with atomic_write(path, opener=opener) as file:
        yield CurveWriter(file, path)


def read_curve(path: Path) -> tuple[dict[str, Any], ...]:
    """Return every point of a curve in order. Raises StoreError if it is missing or damaged."""
    try:
        data = read_beneath(path.parents[1], path, most_bytes=MAX_CURVE_BYTES)
    except OSError as error:
        raise StoreError(f"The curve {path} cannot be read: {error}.") from error
    return parse_curve(path, data)


def parse_curve(path: Path, data: bytes) -> tuple[dict[str, Any], ...]:
    """Return every point of the curve that a file holds. Raises StoreError if it is damaged."""
    try:
        lines = data.decode().splitlines()
    except UnicodeDecodeError as error:
        raise StoreError(f"The curve {path} cannot be read: {error}.") from error
    return tuple(_point(path, number, line) for number, line in enumerate(lines, start=1))


def _point(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        point = parse_json(line)
    except ValueError as error:
        raise StoreError(
            f"Line {number} of the curve {path} is not JSON: {error}. The file was altered."
        ) from error
    if not isinstance(point, dict):
        raise StoreError(
            f"Line {number} of the curve {path} is not a JSON object: {point!r}. The file was "
            "altered."
        )
    return point


def short_name(name: str) -> str:
    """Return a file name unchanged, or its SHA-256 if it is too long for file systems."""
    if len(name) <= _LONGEST_NAME:
        return name
    return hashlib.sha256(name.encode()).hexdigest()
