"""Texts to predict for, from lines or from records with the columns of the training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from streamlab.errors import DataError
from streamlab.inference.stored_task import TaskDescription, Text
from streamlab.tasks.column_mapping import text_in
from streamlab.tasks.glue import GLUE
from streamlab.tasks.sources.api import Record
from streamlab.tasks.sources.readers import json_record
from streamlab.tasks.types.contract import in_column

# Control characters and separators of lines other than LF, which a tokenizer may delete together
# with the space between two words.
_SPACES = dict.fromkeys([0, *range(0x0B, 0x0E), *range(0x1C, 0x20), 0x85, 0x2028, 0x2029], " ")


def read_lines(lines: Iterable[str], *, origin: str, pairs: bool | None = None) -> list[Record]:
    """Read one text per line, a pair separated by a tab, or one JSON object per line.

    `pairs`: what the task takes, None if unknown. Other separators, in a single text a tab too, are
    spaces. The format is JSON if the first line begins with a brace. Empty lines are skipped.
    Raises DataError for an invalid line, and without any.
    """
    numbered = [(n, line.rstrip("\r\n")) for n, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise DataError(f"{origin} has no text. Give one text per line, or JSON Lines.")
    if numbered[0][1].lstrip().startswith("{"):
        return [_json(line, f"Line {number} of {origin}") for number, line in numbered]
    numbered = [(number, line.translate(_SPACES)) for number, line in numbered]
    if pairs is False:
        return [{"text": line.replace("\t", " ")} for _, line in numbered]
    return [_pair(line, f"Line {number} of {origin}") for number, line in numbered]


def _json(line: str, place: str) -> Record:
    try:
        return json_record(line)
    except ValueError as error:
        raise DataError(f"{place}: {error}.") from error


def texts_in(
    records: Sequence[Record],
    description: TaskDescription,
    columns: Mapping[str, str | None],
    *,
    origin: str,
) -> list[Text]:
    """Return the text, pair of texts or words of every record.

    Columns are those in `columns`, the task's settings, else the usual ones of its type, else those
    of its dataset in the catalogue. Raises DataError naming the first invalid record.
    """
    entry = GLUE.get(description.dataset)
    of_type = description.type
    first = _known(
        (*of_type.text_columns, "text"), columns.get("text"), entry.text if entry else None
    )
    second = _known(("text2",), columns.get("text2"), entry.text2 if entry else None)
    texts: list[Text] = []
    for number, record in enumerate(records, start=1):
        try:
            column = _column(record, first)
            text = in_column(of_type.read_asked, record.get(column), column)
            pairs = description.takes_pairs
            if pairs is None:  # decided by the record
                pairs = any(record.get(name) is not None for name in second)
            elif not pairs:
                _check_single(record, second)
            if pairs and isinstance(text, str):
                texts.append((text, text_in(record, _column(record, second))))
            else:
                texts.append(text)
        except ValueError as error:
            raise DataError(f"Row {number} of {origin}: {error}.") from error
    return texts


def _pair(line: str, where: str) -> Record:
    texts = line.split("\t")
    if len(texts) > 2:
        raise DataError(
            f"{where} has {len(texts)} parts between tabs, and a pair has two. Use JSON Lines for "
            "texts that hold tabs."
        )
    return dict(zip(("text", "text2"), texts, strict=False))


def _check_single(record: Record, second: Sequence[str]) -> None:
    """Raise ValueError for a second text, which the answer would ignore."""
    name = next((name for name in second if record.get(name) not in (None, "")), None)
    if name is not None:
        raise ValueError(
            f"it has a second text in {name!r}, and the task takes single texts; leave the column "
            "out"
        )


def _known(usual: Sequence[str], own: str | None, catalogued: str | None) -> list[str]:
    """Return the possible names of a column, in order of preference."""
    return list(dict.fromkeys(name for name in (own, *usual, catalogued) if name))


def _column(record: Record, names: Sequence[str]) -> str:
    found = next((name for name in names if record.get(name) is not None), None)
    if found is None:
        wanted = " or ".join(map(repr, names))
        there = ", ".join(map(repr, record)) or "none"
        raise ValueError(f"it has no column {wanted}; its columns: {there}")
    return found
