"""Texts to predict for, from lines or from records with the columns of the training."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from streamlab.errors import DataError
from streamlab.inference.stored_task import TaskDescription, Text
from streamlab.tasks.column_mapping import text_in
from streamlab.tasks.glue import GLUE
from streamlab.tasks.sources.api import Record


def read_lines(lines: Iterable[str], *, origin: str) -> list[Record]:
    """Read one text per line, a pair separated by a tab, or one JSON object per line.

    The format is JSON if the first line begins with a brace. Raises DataError for an invalid
    line, and without any.
    """
    numbered = [(n, line.rstrip("\r\n")) for n, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise DataError(f"{origin} has no text. Give one text per line, or JSON Lines.")
    if numbered[0][1].lstrip().startswith("{"):
        return [_object(line, f"Line {number} of {origin}") for number, line in numbered]
    return [dict(zip(("text", "text2"), line.split("\t", 1), strict=False)) for _, line in numbered]


def texts_in(
    records: Sequence[Record],
    description: TaskDescription,
    columns: Mapping[str, str | None],
    *,
    origin: str,
) -> list[Text]:
    """Return the text or pair of texts of every record.

    Columns are those in `columns`, the task's settings, else `text` and `text2`, else those of its
    dataset in the catalogue. Raises DataError naming the first invalid record.
    """
    entry = GLUE.get(description.dataset)
    first = _known("text", columns, entry.text if entry else None)
    second = _known("text2", columns, entry.text2 if entry else None)
    texts: list[Text] = []
    for number, record in enumerate(records, start=1):
        try:
            text = text_in(record, _column(record, first))
            pairs = description.takes_pairs
            if pairs is None:  # decided by the record
                pairs = any(record.get(name) is not None for name in second)
            texts.append((text, text_in(record, _column(record, second))) if pairs else text)
        except ValueError as error:
            raise DataError(f"Row {number} of {origin}: {error}.") from error
    return texts


def _object(line: str, where: str) -> Record:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{where} is not JSON ({error}). Write one JSON object per line."
        ) from error
    if not isinstance(record, dict):
        raise DataError(f"{where} must be a JSON object, got {type(record).__name__}.")
    return record


def _known(role: str, columns: Mapping[str, str | None], catalogued: str | None) -> list[str]:
    """Return the possible names of a column, in order of preference."""
    return list(dict.fromkeys(name for name in (columns.get(role), role, catalogued) if name))


def _column(record: Record, names: Sequence[str]) -> str:
    found = next((name for name in names if record.get(name) is not None), None)
    if found is None:
        wanted = " or ".join(map(repr, names))
        there = ", ".join(map(repr, record)) or "none"
        raise ValueError(f"it has no column {wanted}; its columns: {there}")
    return found
