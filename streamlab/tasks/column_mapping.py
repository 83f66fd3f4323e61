"""Examples from a source's records: which column is what, and which records are used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from streamlab.errors import DataError
from streamlab.tasks.examples import Example
from streamlab.tasks.glue import Entry
from streamlab.tasks.labels import LabelReader, is_missing
from streamlab.tasks.settings import Columns
from streamlab.tasks.sources.api import RawSplit, Record
from streamlab.units import counted


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
    there = _columns(split)
    text = wanted.text or ("text" if "text" in there or entry is None else entry.text)
    choice = Choice(text, wanted.text2 or _second(split, entry), wanted.label or "label")
    for role, name in (("text", choice.text), ("text2", choice.text2), ("label", choice.label)):
        if name is not None:
            _check_there(name, there, split, f"columns.{role}")
    return choice


def check_alike(splits: Sequence[RawSplit], choices: Sequence[Choice]) -> None:
    """Raise DataError where one split has pairs of texts and another single texts."""
    for split, choice in zip(splits, choices, strict=True):
        if (choice.text2 is None) != (choices[0].text2 is None):
            what = ("pairs", "single texts") if choice.text2 is None else ("single texts", "pairs")
            raise DataError(
                f"The examples of {splits[0].origin} are {what[0]}, and those of {split.origin} "
                f"are {what[1]}. Give both splits the same columns, or name them in `columns`."
            )


def _columns(split: RawSplit) -> Mapping[str, None]:
    """Return the columns of a split, as a set in order."""
    return {name: None for record in split.records for name in record}


def _check_there(name: str, there: Mapping[str, None], split: RawSplit, setting: str) -> None:
    if name not in there:
        raise DataError(
            f"{split.origin} has no column {name!r}; there are: {', '.join(map(repr, there))}. "
            f"Name one of them in `{setting}`."
        )


def _second(split: RawSplit, entry: Entry | None) -> str | None:
    if entry is not None:
        return "text2" if entry.text2 and "text2" in _columns(split) else entry.text2
    filled = any(not is_missing(record.get("text2")) for record in split.records)
    return "text2" if filled else None


def filter_records(split: RawSplit, where: Mapping[str, str | int | bool]) -> RawSplit:
    """Keep the records whose columns hold what `where` asks for, compared as text.

    Raises DataError for a column that no record has, and where nothing is left.
    """
    if not where:
        return split
    there = _columns(split)
    for name in where:
        _check_there(name, there, split, "where")
    wanted = {name: str(value) for name, value in where.items()}
    kept = [
        record
        for record in split.records
        if all(value in split.spellings(record, name) for name, value in wanted.items())
    ]
    if not kept:
        raise DataError(
            f"{split.origin} has no record that matches `where` {dict(where)!r}. Give values that "
            "occur."
        )
    return replace(split, origin=f"{split.origin} (the records that match `where`)", records=kept)


def raw_labels(split: RawSplit, choice: Choice) -> Iterator[Any]:
    """Yield the raw labels of the records that have one."""
    labels = (split.label(record, choice.label) for record in split.records)
    return (label for label in labels if not is_missing(label))


def to_examples(
    split: RawSplit, choice: Choice, reader: LabelReader, *, skip: bool = False
) -> tuple[list[Example], str]:
    """Turn every record into an example, in order, and say how many were skipped, if any.

    `skip`: leave out records without a text or with a label that cannot be read. Otherwise
    raises DataError naming the first.
    """
    examples, problems = [], []
    for number, record in enumerate(split.records, start=1):
        try:
            examples.append(_example(split, record, choice, reader))
        except ValueError as error:
            problem = f"Example {number} of {split.origin}: {error}."
            if not skip:
                raise DataError(
                    f"{problem} (`data.on_bad_example: skip` leaves such examples out.)"
                ) from error
            problems.append(problem)
    if not problems:
        return examples, ""
    return examples, f"{counted(len(problems), 'bad example')} skipped ({problems[0]})"


def _example(split: RawSplit, record: Record, choice: Choice, reader: LabelReader) -> Example:
    text = text_in(record, choice.text)
    text2 = None if choice.text2 is None else text_in(record, choice.text2)
    try:
        return Example(text, text2, reader.read(split.label(record, choice.label)))
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
