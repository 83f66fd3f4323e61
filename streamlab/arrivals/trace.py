"""Trace files: one arrival per line, with its day, provider and task.

    CSV     a header with `day`, `provider` and `task` in any order, then their values
    JSONL   an object with these keys on every line

`day` counts from the start; 0.5 is noon of the first day. Other columns are ignored. Lines may be
in any order; empty ones are skipped.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from streamlab.arrivals.arrival_processes import LAST_DAY
from streamlab.errors import ConfigError
from streamlab.files import read_text

COLUMNS: Final = ("day", "provider", "task")
_MOST_BYTES: Final = 1 << 28


@dataclass(frozen=True)
class TraceLine:
    """One arrival of a trace file."""

    day: float
    provider: str
    task: str


def read_trace(path: Path, known: Mapping[str, Collection[str]]) -> tuple[TraceLine, ...]:
    """Read a trace by its suffix: `.csv` or `.jsonl`.

    `known`: its providers and the tasks of each. Raises ConfigError naming every invalid line.
    """
    try:
        text = read_text(path, most_bytes=_MOST_BYTES)
    except ValueError as error:
        raise ConfigError(str(path), [str(error)]) from error
    return parse_trace(text, path.suffix, known, origin=str(path))


def parse_trace(
    text: str, suffix: str, known: Mapping[str, Collection[str]], *, origin: str
) -> tuple[TraceLine, ...]:
    """Parse the text of a trace; see `read_trace`."""
    readers = {".csv": _csv_records, ".jsonl": _jsonl_records}
    if suffix not in readers:
        raise ConfigError(origin, [f"must end in {' or '.join(readers)}, ends in {suffix!r}."])
    lines: list[TraceLine] = []
    problems: list[str] = []
    for number, record in readers[suffix](text):
        try:
            lines.append(_line(record, known))
        except ValueError as error:
            problems.append(f"line {number}: {error}.")
    if not lines and not problems:
        problems.append("holds no arrivals; write one a line.")
    if problems:
        raise ConfigError(origin, problems)
    return tuple(lines)


# Line number, and the record or the reason why it cannot be read.
Records = Iterator[tuple[int, Mapping[str, Any] | str]]


def _jsonl_records(text: str) -> Records:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        yield number, record if isinstance(record, dict) else "is not a JSON object"


def _csv_records(text: str) -> Records:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    try:
        header = next((cells for cells in reader if cells), [])
        if sorted(name for name in header if name in COLUMNS) != sorted(COLUMNS):
            asked = ", ".join(map(repr, COLUMNS))
            yield max(reader.line_num, 1), f"must have the columns {asked}, each once"
            return
        for cells in filter(None, reader):
            if len(cells) == len(header):
                yield reader.line_num, dict(zip(header, cells, strict=True))
            else:
                yield reader.line_num, f"has {len(cells)} fields, and the header {len(header)}"
    except csv.Error as error:
        yield reader.line_num, f"is not CSV ({error}); later lines were not read"


def _line(record: Mapping[str, Any] | str, known: Mapping[str, Collection[str]]) -> TraceLine:
    """Check one arrival. Raises ValueError."""
    if isinstance(record, str):
        raise ValueError(record)
    missing = [name for name in COLUMNS if name not in record]
    if missing:
        raise ValueError(f"has no {', '.join(map(repr, missing))}")
    provider, task = record["provider"], record["task"]
    if not isinstance(provider, str) or provider not in known:
        names = ", ".join(known)
        raise ValueError(
            f"the provider must be one of those with this trace ({names}), got {provider!r}"
        )
    if not isinstance(task, str) or task not in known[provider]:
        names = ", ".join(known[provider])
        raise ValueError(f"the task must be one of {provider!r} ({names}), got {task!r}")
    return TraceLine(_day(record["day"]), provider, task)


def _day(given: object) -> float:
    try:
        # A JSON number, or the text of a CSV cell.
        day = math.nan if isinstance(given, bool) else float(given)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        day = math.nan
    if not 0 <= day <= LAST_DAY:
        raise ValueError(f"the day must be a number from 0 to {LAST_DAY:,.0f}, got {given!r}")
    return day
