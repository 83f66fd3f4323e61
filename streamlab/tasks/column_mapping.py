"""Examples from a source's records: which column is what, and which records are used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from streamlab.errors import DataError
from streamlab.tasks.examples import Example
from streamlab.tasks.glue import Entry
from streamlab.tasks.labels import LabelReader
from streamlab.tasks.settings import Columns
from streamlab.tasks.sources.api import RawSplit, Record


@dataclass(frozen=True)
class Choice:
    """The columns of one split that are used; `text2` is None for single texts."""

    text: str
    text2: str | None
    label: str


def choose_columns(split: RawSplit, wanted: Columns, entry: Entry | None) -> Choice:
    """Find a split's columns: those `wanted`, else `text`, `text2`, `label`, else the catalogue's.

    Raises DataError for a column that is not there, listing those that are, and for no records.
    """
    if not split.records:
        raise DataError(f"{split.origin} is empty. Give a split with examples in it.")
    there = {name: None for record in split.records for name in record}  # a set in order
    text = wanted.text or ("text" if "text" in there or entry is None else entry.text)
    choice = Choice(text, _second(split, there, wanted, entry), wanted.label or "label")
    for role, name in (("text", choice.text), ("text2", choice.text2), ("label", choice.label)):
        if name is not None and name not in there:
            raise DataError(
                f"{split.origin} has no column {name!r}; there are: "
                f"{', '.join(map(repr, there))}. Name one of them in `columns.{role}`."
            )
    return choice


def _second(
    split: RawSplit, there: Mapping[str, None], wanted: Columns, entry: Entry | None
) -> str | None:
    if wanted.text2:
        return wanted.text2
    if entry is not None:
        return "text2" if entry.text2 and "text2" in there else entry.text2
    filled = any(record.get("text2") not in (None, "") for record in split.records)
    return "text2" if filled else None


def filter_records(split: RawSplit, where: Mapping[str, str | int | bool]) -> RawSplit:
    """Keep the records whose columns hold what `where` asks for, compared as text.

    Raises DataError for a column that no record has, and where nothing is left.
    """
    if not where:
        return split
    for name in where:
        if not any(name in record for record in split.records):
            there = {column: None for record in split.records for column in record}
            raise DataError(
                f"{split.origin} has no column {name!r} for `where`; there are: "
                f"{', '.join(map(repr, there))}. Name one of them."
            )
    wanted = {name: str(value) for name, value in where.items()}
    kept = [
        record
        for record in split.records
        if all(str(record.get(name)) == value for name, value in wanted.items())
    ]
    if not kept:
        raise DataError(
            f"{split.origin} has no record that matches `where` {dict(where)!r}. Give values that "
            "occur."
        )
    return replace(split, origin=f"{split.origin} (the records that match `where`)", records=kept)


def raw_labels(split: RawSplit, choice: Choice) -> Iterator[Any]:
    """Yield the raw labels of a split; None where a record has none."""
    return (record.get(choice.label) for record in split.records)


def to_examples(split: RawSplit, choice: Choice, reader: LabelReader) -> list[Example]:
    """Turn every record into an example, in order.

    Raises DataError naming the first record without a text or with a label that cannot be read.
    """
    examples = []
    for number, record in enumerate(split.records, start=1):
        try:
            examples.append(_example(record, choice, reader))
        except ValueError as error:
            raise DataError(f"Example {number} of {split.origin}: {error}.") from error
    return examples


def _example(record: Record, choice: Choice, reader: LabelReader) -> Example:
    text = text_in(record, choice.text)
    text2 = None if choice.text2 is None else text_in(record, choice.text2)
    try:
        return Example(text, text2, reader.read(record.get(choice.label)))
    except ValueError as error:
        raise ValueError(f"the label in {choice.label!r} {error}") from error


def text_in(record: Record, column: str) -> str:
    """Return the text in a column. Raises ValueError saying what is wrong with it."""
    value = record.get(column)
    if value is None:
        raise ValueError(f"the text in {column!r} is missing; give every example a text")
    if not isinstance(value, str):
        raise ValueError(
            f"the text in {column!r} must be a string, got {type(value).__name__} ({value!r:.60}); "
            "write it in quotes"
        )
    if not value.strip():
        raise ValueError(f"the text in {column!r} is empty; remove the example, or give it a text")
    if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
        raise ValueError(
            f"the text in {column!r} holds half a surrogate pair, which is not a character; "
            "save it as UTF-8"
        )
    return value
