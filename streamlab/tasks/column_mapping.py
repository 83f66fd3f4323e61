"""Examples from a source's records: which column is what, and which records are used."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from streamlab.errors import DataError
from streamlab.tasks.examples import Example
from streamlab.tasks.glue import Entry
from streamlab.tasks.labels import LabelReader, infer_labels, is_missing
from streamlab.tasks.settings import Columns
from streamlab.tasks.sources.api import RawSplit, Record
from streamlab.units import counted

_MOST_SHOWN: Final = 10  # problems of one split
_HEADER_ADVICE: Final = " If the file has no header line, name its columns in `header`."


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
        split.refuse_malformed()
        raise DataError(f"{split.origin} is empty. Give a split with examples in it.")
    there = _columns(split)
    choice = Choice(
        text=wanted.text or _known(there, "text", entry.text_columns if entry else ()),
        text2=wanted.text2 or _second(split, there, entry),
        label=wanted.label or _known(there, "label", entry.label_columns if entry else ()),
    )
    for role, name in (("text", choice.text), ("text2", choice.text2), ("label", choice.label)):
        if name is not None:
            _check_there(name, there, split, f"columns.{role}")
    return choice


def _known(there: Mapping[str, None], usual: str, others: Sequence[str]) -> str:
    """Return the usual name of a column if it is there, else the first of the others that is.

    Where none is, return the first of the others, if there are any, to be named as missing.
    """
    return next((name for name in (usual, *others) if name in there), [*others, usual][0])


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
            f"Name one of them in `{setting}`.{_HEADER_ADVICE * split.is_table}"
        )


def _second(split: RawSplit, there: Mapping[str, None], entry: Entry | None) -> str | None:
    if entry is not None:
        return _known(there, "text2", entry.text2_columns) if entry.text2 else None
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
        number
        for number, record in enumerate(split.records)
        if all(value in split.spellings(record, name) for name, value in wanted.items())
    ]
    if not kept:
        raise DataError(
            f"{split.origin} has no record that matches `where` {dict(where)!r}. Give values that "
            "occur."
        )
    return split.of(kept, f"{split.origin} (the records that match `where`)")


def found_labels(split: RawSplit, choice: Choice) -> tuple[str, ...]:
    """Return the class names among the labels of the records that have one.

    Raises DataError for the first label that cannot name a class.
    """
    given: dict[Hashable, tuple[int, Any]] = {}
    for number, record in enumerate(split.records):
        label = split.label(record, choice.label)
        if not is_missing(label):
            given.setdefault(label if isinstance(label, Hashable) else repr(label), (number, label))
    try:
        return infer_labels(label for _, label in given.values())
    except ValueError:
        for number, label in given.values():
            try:
                infer_labels([label])
            except ValueError as error:
                place = split.place(number)
                raise DataError(f"{place}: the label in {choice.label!r} {error}.") from error
        raise


@dataclass(frozen=True)
class BadExamples:
    """The records of a split that are no examples: how many, and what is wrong with the first."""

    n: int
    first: tuple[str, ...]  # with file and line

    @property
    def note(self) -> str:
        """Say how many were skipped; nothing without any."""
        return f"{counted(self.n, 'bad example')} skipped ({self.first[0]})" if self.n else ""


def to_examples(
    split: RawSplit, choice: Choice, reader: LabelReader
) -> tuple[list[Example], BadExamples]:
    """Turn every record into an example, in order, but those that are none.

    These are malformed lines, and records without a text or with a label that cannot be read.
    """
    examples = []
    bad = split.problems
    for number, record in enumerate(split.records):
        try:
            examples.append(_example(split, record, choice, reader))
        except ValueError as error:
            line = split.lines[number] if split.lines else number
            bad[line] = f"{split.place(number)}: {error}."
    first = tuple(bad[line] for line in sorted(bad)[:_MOST_SHOWN])
    return examples, BadExamples(len(bad), first)


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
