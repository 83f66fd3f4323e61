"""Examples from a source's records: which column is what, and which records are used."""

from __future__ import annotations

from collections.abc import Container, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from streamlab.errors import DataError
from streamlab.tasks.glue import Entry
from streamlab.tasks.labels import LabelReader, checked_text, infer_labels, is_missing
from streamlab.tasks.settings import Columns
from streamlab.tasks.sources.api import RawSplit, Record
from streamlab.tasks.types import TASK_TYPES
from streamlab.tasks.types.contract import TaskKind, TaskType, in_column
from streamlab.tasks.types.example import Example
from streamlab.units import counted

_MOST_SHOWN: Final = 10  # problems of one split
_HEADER_ADVICE: Final = " If the file has no header line, name its columns in `header`."


@dataclass(frozen=True)
class Choice:
    """The columns of one split that are used; `text2` is None for single texts."""

    text: str
    text2: str | None
    label: str
    flags: tuple[str, ...] = ()  # columns of one class each, in place of a column of lists


def infer_kind(split: RawSplit, wanted: Columns) -> tuple[TaskKind, str] | None:
    """Return the kind that the columns of a split show beyond doubt, and which they are.

    None for a text with one label, which may be a class or a number.
    """
    first = next(iter(split.records), {})
    for kind in ("tokens", "causal_lm", "multi_label"):
        of_type = TASK_TYPES[kind]
        text = wanted.text or _known(first, of_type.text_columns)
        label = wanted.label or _known(first, of_type.label_columns)
        if text in first and label in first and _shows(kind, first[text], first[label], label):
            return kind, f"{text!r} and {label!r}"
    return None


def _shows(kind: TaskKind, text: Any, label: Any, column: str) -> bool:
    lists = isinstance(text, (list, tuple)), isinstance(label, (list, tuple))
    if kind == "causal_lm":
        return column == "completion" and isinstance(text, str) and isinstance(label, str)
    return lists == (kind == "tokens", True)


def choose_columns(
    split: RawSplit,
    wanted: Columns,
    entry: Entry | None,
    of_type: TaskType,
    labels: tuple[str, ...] | None = None,
) -> Choice:
    """Find a split's columns: those `wanted`, else the usual ones, else the catalogue's.

    `labels`: the task's own; where the type takes lists of labels and there is no column of them,
    columns with these names flag them. Raises DataError for a column that is not there, listing
    those that are, and for no records.
    """
    if not split.records:
        split.refuse_malformed()
        raise DataError(f"{split.origin} is empty. Give a split with examples in it.")
    there = _columns(split)
    texts, labelled = (entry.text_columns, entry.label_columns) if entry else ((), ())
    choice = Choice(
        text=wanted.text or _known(there, of_type.text_columns, texts),
        text2=wanted.text2 or (_second(split, there, entry) if of_type.takes_pairs else None),
        label=wanted.label or _known(there, of_type.label_columns, labelled),
    )
    if of_type.flags_in_columns and choice.label not in there and {*(labels or ())} <= {*there}:
        choice = replace(choice, flags=labels or ())
    if choice.text2 is not None and not of_type.takes_pairs:
        raise DataError(f"{of_type.title.capitalize()} has no second text. Leave `text2` out.")
    for role, name in (("text", choice.text), ("text2", choice.text2), ("label", choice.label)):
        if name is not None and not (role == "label" and choice.flags):
            _check_there(name, there, split, f"columns.{role}")
    return choice


def _known(there: Container[str], usual: Sequence[str], catalogued: Sequence[str] = ()) -> str:
    """Return the first usual name of a column that is there, else the first of the catalogue's.

    Where none is, return the first of the catalogue's, else the usual one, to be named as missing.
    """
    return next((name for name in (*usual, *catalogued) if name in there), [*catalogued, *usual][0])


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
        return _known(there, ("text2",), entry.text2_columns) if entry.text2 else None
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


def flagged(record: Record, columns: Sequence[str]) -> list[str]:
    """Return the columns that hold 1 or true. Raises ValueError for another value than 0 or 1."""
    found = []
    for name in columns:
        value = str(record.get(name)).strip().lower().removesuffix(".0")
        if value not in ("0", "1", "true", "false"):
            raise ValueError(f"is {record.get(name)!r} in the column {name!r}, and must be 0 or 1")
        if value in ("1", "true"):
            found.append(name)
    return found


def found_labels(split: RawSplit, choice: Choice) -> tuple[str, ...]:
    """Return the class names among the labels of the records that have one.

    Raises DataError for the first label that cannot name a class.
    """
    given: dict[Hashable, tuple[int, Any]] = {}
    for number, record in enumerate(split.records):
        label = split.label(record, choice.label)
        for one in label if isinstance(label, list) else [label]:
            if not is_missing(one):
                given.setdefault(one if isinstance(one, Hashable) else repr(one), (number, one))
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
    split: RawSplit, choice: Choice, reader: LabelReader, of_type: TaskType
) -> tuple[list[Example], BadExamples]:
    """Turn every record into an example, in order, but those that are none.

    These are malformed lines, and records without a text or with a label that cannot be read.
    """
    examples = []
    bad = split.problems
    for number, record in enumerate(split.records):
        try:
            examples.append(_example(split, record, choice, reader, of_type))
        except ValueError as error:
            line = split.lines[number] if split.lines else number
            bad[line] = f"{split.place(number)}: {error}."
    first = tuple(bad[line] for line in sorted(bad)[:_MOST_SHOWN])
    return examples, BadExamples(len(bad), first)


def _example(
    split: RawSplit, record: Record, choice: Choice, reader: LabelReader, of_type: TaskType
) -> Example:
    text = in_column(of_type.read_text, record.get(choice.text), choice.text)
    text2 = None if choice.text2 is None else text_in(record, choice.text2)
    try:
        raw = flagged(record, choice.flags) if choice.flags else split.label(record, choice.label)
        example = Example(text, text2, reader.read(raw))
    except ValueError as error:
        raise ValueError(f"the label in {choice.label!r} {error}") from error
    of_type.check_example(example)
    return example


def text_in(record: Record, column: str) -> str:
    """Return the text in a column. Raises ValueError saying what is wrong with it."""
    return in_column(checked_text, record.get(column), column)
