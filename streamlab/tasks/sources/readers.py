"""Readers of one split in one path, in memory: no cache is shared with other providers.

A path is a JSONL, CSV, TSV, Parquet or CoNLL file, a folder written by `Dataset.save_to_disk`, or a
folder of class folders: one sub-folder per class, named by its label, one text file per example.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from streamlab.errors import DataError, SourceError
from streamlab.locations import near_by
from streamlab.tasks.sources.api import RawSplit, Record
from streamlab.units import counted

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

_DOCUMENT: Final = "-DOCSTART-"
_TEXT_SUFFIXES: Final = frozenset({"", ".txt"})


def read_split(path: Path, header: Sequence[str] = ()) -> RawSplit:
    """Read the records of one split; lines that are no record are in its `malformed`.

    `header`: the columns of a CSV or TSV file without a header line; a first line with two of
    these names is one, and is used. Raises SourceError where there is nothing at `path`, DataError
    where it cannot be read.
    """
    if path.is_dir():
        if is_saved_split(path):
            return from_dataset(_load_from_disk(path), str(path))
        if has_class_folders(path):
            return _read_class_folders(path)
        raise DataError(
            f"The folder {str(path)!r} holds no data: it is neither a `save_to_disk` folder of one "
            "split nor a folder with one sub-folder of text files per class. Name a file in it."
        )
    reader = _reader(path)
    try:
        return reader(path, tuple(header))
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{str(path)!r} is not UTF-8 text{_first_undecodable(path)}. Save it as UTF-8."
        ) from error


def _first_undecodable(path: Path) -> str:
    """Name the line of the first byte that is not UTF-8; an empty text where it was not found."""
    data = path.read_bytes()
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = 1 + data.count(b"\n", 0, error.start)
        return f" at line {number}"
    return ""


Reader = Callable[[Path, tuple[str, ...]], RawSplit]


def _reader(path: Path) -> Reader:
    if not path.exists():
        advice = near_by(path) or "Check the path."
        raise SourceError(f"The file {str(path)!r} does not exist. {advice}")
    reader = READERS.get(path.suffix)
    if reader is None:
        raise DataError(
            f"The file {str(path)!r} ends in {path.suffix!r}, an unknown format. Known: "
            f"{', '.join(READERS)}. Convert it, or rename it."
        )
    if not path.is_file():  # a pipe or a device might never end
        raise DataError(f"{str(path)!r} is not a regular file. Save the data in one.")
    return reader


def _read_jsonl(path: Path, _header: tuple[str, ...]) -> RawSplit:
    records: list[Record] = []
    lines: list[int] = []
    malformed: dict[int, str] = {}
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.isspace():
                continue
            try:
                records.append(json_record(line))
                lines.append(number)
            except ValueError as error:
                malformed[number] = str(error)
    return RawSplit(str(path), records, lines=lines, malformed=malformed)


def json_record(line: str) -> Record:
    """Read one line of JSON Lines. Raises ValueError unless it is an object with unique keys."""
    try:
        record = json.loads(line, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON ({error}); write one JSON object per line") from error
    if not isinstance(record, dict):
        kind = type(record).__name__
        raise ValueError(f"it holds {kind}, not an object; write one JSON object per line")
    return record


def _unique(pairs: list[tuple[str, Any]]) -> Record:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it has {max(names, key=names.count)!r} twice")
    return record


def _read_table(path: Path, header: tuple[str, ...], **dialect: Any) -> RawSplit:
    csv.field_size_limit(sys.maxsize)  # of the process; a text may be longer than 128 KiB
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(_numbered(path, csv.reader(file, **dialect)))
    if not header or (rows and len({*rows[0][1]} & {*header}) > 1):
        header = tuple(rows.pop(0)[1]) if rows else ()
    if len(set(header)) < len(header):
        raise DataError(
            f"The header of {str(path)!r} names a column twice: {', '.join(header)}. Rename one of "
            "them, or if the file has no header line, name its columns in `header`."
        )
    records: list[Record] = []
    lines: list[int] = []
    malformed: dict[int, str] = {}
    for number, row in rows:
        if len(row) == len(header):
            records.append(dict(zip(header, row, strict=True)))
            lines.append(number)
        else:
            malformed[number] = (
                f"it has {counted(len(row), 'field')} and the header {len(header)}; quote fields "
                "that hold separators (CSV), or take the separators out of them (TSV)"
            )
    return RawSplit(str(path), records, lines=lines, malformed=malformed, is_table=True)


def _numbered(path: Path, rows: Any) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a `csv.reader` with the lines that they begin in, but for empty ones."""
    number = 1
    try:
        for row in rows:
            if row:
                yield number, row
            number = rows.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{str(path)!r}, line {number}: it is malformed ({error}). Correct it."
        ) from error


def _read_conll(path: Path, _header: tuple[str, ...]) -> RawSplit:
    """Read sentences with a word a line and its tag in the last column; empty lines between."""
    records: list[Record] = []
    lines: list[int] = []
    malformed: dict[int, str] = {}
    words: list[list[str]] = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate([*file, ""], start=1):
            fields = line.split()
            if fields and fields[0] != _DOCUMENT and not line.startswith("# "):
                words.append(fields)
                if len(words) == 1:
                    lines.append(number)
                if len(fields) < 2:
                    malformed.setdefault(
                        lines[-1], f"its word {fields[0]!r} has no tag; put one in the last column"
                    )
            elif words and not fields:
                tokens, tags = [one[0] for one in words], [one[-1] for one in words]
                records.append({"tokens": tokens, "tags": tags})
                words = []
    kept = [place for place, line in enumerate(lines) if line not in malformed]
    split = RawSplit(str(path), records, lines=lines, malformed=malformed)
    return split.of(kept, split.origin)


def _read_parquet(path: Path, _header: tuple[str, ...]) -> RawSplit:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as file:
            records: list[Record] = pq.read_table(file).to_pylist()
    except pa.ArrowException as error:
        raise DataError(
            f"{str(path)!r} cannot be read as Parquet ({error}). Write it again."
        ) from error
    return RawSplit(str(path), records, names_by_column=_class_names(path))


def _class_names(path: Path) -> Mapping[str, tuple[str, ...]]:
    """Return the class names that `datasets` writes beside the class numbers of a Parquet file."""
    import pyarrow.parquet as pq

    written = (pq.read_schema(path).metadata or {}).get(b"huggingface", b"{}")
    try:
        features = json.loads(written).get("info", {}).get("features", {}).items()
        return {
            column: tuple(map(str, feature["names"]))
            for column, given in features
            for feature in _with_element(given)
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{str(path)!r} describes its columns otherwise than `datasets` does. Write it again."
        ) from error


READERS: Final[Mapping[str, Reader]] = MappingProxyType(
    {
        ".jsonl": _read_jsonl,
        ".csv": partial(_read_table, strict=True),
        # As GLUE and its kin are published: a quote is a character like any other.
        ".tsv": partial(_read_table, delimiter="\t", quoting=csv.QUOTE_NONE),
        ".parquet": _read_parquet,
        ".conll": _read_conll,
    }
)


def _with_element(feature: Any) -> list[Any]:
    """Return a column's feature, and that of the elements of a list."""
    return [feature, feature.get("feature")] if isinstance(feature, dict) else [feature]


def is_saved_split(folder: Path) -> bool:
    """Tell whether `Dataset.save_to_disk` wrote the folder."""
    return (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()


def is_saved_task(folder: Path) -> bool:
    """Tell whether `DatasetDict.save_to_disk` wrote the folder: several splits."""
    return (folder / "dataset_dict.json").is_file()


def read_saved_task(folder: Path) -> dict[str, RawSplit]:
    """Read every split of a folder that `DatasetDict.save_to_disk` wrote. Raises DataError."""
    splits: DatasetDict = _load_from_disk(folder)
    return {name: from_dataset(split, f"{folder}/{name}") for name, split in splits.items()}


def _load_from_disk(folder: Path) -> Any:
    import pyarrow as pa
    from datasets import load_from_disk

    try:
        return load_from_disk(str(folder))
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"The `save_to_disk` folder {str(folder)!r} cannot be read: {reason}. Save it again."
        ) from error


def from_dataset(dataset: Dataset, origin: str) -> RawSplit:
    """Take the records of a `datasets.Dataset`, with its class names where it has any."""
    named = {
        column: tuple(names)
        for column, given in dataset.features.items()
        for feature in (given, getattr(given, "feature", None))
        if (names := getattr(feature, "names", None))
    }
    return RawSplit(origin, dataset.to_list(), names_by_column=named)


def has_class_folders(folder: Path) -> bool:
    """Tell whether the folder has sub-folders that hold text files."""
    return any(_texts_in(child) for child in _children(folder))


def _read_class_folders(folder: Path) -> RawSplit:
    records: list[Record] = []
    n_legacy = 0
    for child in _children(folder):
        for path in _texts_in(child):
            text, legacy = _read_text(path)
            records.append({"text": text, "label": child.name})
            n_legacy += legacy
    note = f"text files that are not UTF-8, read as Windows-1252: {n_legacy}" if n_legacy else ""
    return RawSplit(str(folder), records, note=note)


def _children(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and _is_data(path)]


def _texts_in(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.iterdir())
        if path.suffix in _TEXT_SUFFIXES and path.is_file() and _is_data(path)
    ]


def _is_data(path: Path) -> bool:
    return not path.name.startswith((".", "__"))


def _read_text(path: Path) -> tuple[str, bool]:
    """Return a file's text, and whether it was Windows-1252, which old corpora mix with UTF-8."""
    data = path.read_bytes()
    for encoding in ("utf-8-sig", "cp1252"):
        with suppress(UnicodeDecodeError):
            return data.decode(encoding), encoding == "cp1252"
    raise DataError(f"{str(path)!r} is neither UTF-8 nor Windows-1252 text. Save it as UTF-8.")
