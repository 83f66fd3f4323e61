"""Rows to be answered: from lines, or from records whose columns are found as in training."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from streamlab.errors import DataError
from streamlab.tasks.column_mapping import text_in
from streamlab.tasks.glue import find_entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from streamlab.inference.stored_task import TaskDescription, Text
    from streamlab.tasks.sources.api import Record


def read_lines(lines: Iterable[str], *, origin: str) -> list[Record]:
    """Read one text a line, two of a pair with a tab between, or one JSON object a line.

    A first line that begins with a brace decides for JSON. Raises DataError for a line that is
    neither, and where there is none.
    """
    numbered = [(n, line.rstrip("\r\n")) for n, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise DataError(f"{origin} holds no text. Give one a line, or JSON Lines.")
    if numbered[0][1].lstrip().startswith("{"):
        return [_object(line, f"Line {number} of {origin}") for number, line in numbered]
    return [dict(zip(("text", "text2"), line.split("\t", 1), strict=False)) for _, line in numbered]


def texts_in(
    records: Sequence[Record],
    facts: TaskDescription,
    columns: Mapping[str, str | None],
    *,
    origin: str,
) -> list[Text]:
    """Take the text, or the pair of texts, out of every record.

    A column is the one that the task's settings name in `columns`, else `text` and `text2`, else
    the one its dataset is known to have. Raises DataError naming the first row at fault.
    """
    entry = find_entry(facts.dataset)
    first = _known("text", columns, entry.text if entry else None)
    second = _known("text2", columns, entry.text2 if entry else None)
    texts: list[Text] = []
    for number, record in enumerate(records, start=1):
        try:
            text = text_in(record, _column(record, first))
            pairs = facts.takes_pairs
            if pairs is None:  # the row decides
                pairs = any(record.get(name) is not None for name in second)
            texts.append((text, text_in(record, _column(record, second))) if pairs else text)
        except ValueError as error:
            raise DataError(f"Row {number} of {origin}: {error}.") from error
    return texts


def _object(line: str, where: str) -> Record:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON ({error}). Write one JSON object a line.") from error
    if not isinstance(record, dict):
        raise DataError(f"{where} holds {type(record).__name__}, no object.")
    return record


def _known(role: str, columns: Mapping[str, str | None], catalogued: str | None) -> list[str]:
    """Return the names a column may have, the likeliest first."""
    return list(dict.fromkeys(name for name in (columns.get(role), role, catalogued) if name))


def _column(record: Record, names: Sequence[str]) -> str:
    found = next((name for name in names if record.get(name) is not None), None)
    if found is None:
        wanted = " or ".join(map(repr, names))
        there = ", ".join(map(repr, record)) or "none"
        raise ValueError(f"it has no column {wanted}; there are: {there}")
    return found
