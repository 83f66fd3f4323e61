"""What a `--where` expression means on rows: which value a word is under a column, and the term.

A column decides how a value is read: 200kB under bytes, 5min under seconds, 0.5% under a share,
a day or a minute (UTC) under a time. A day is all of that day, and a digest's beginning is every
digest that begins so: both are spans, and so is any value, if only of one point.

An empty cell equals nothing, is like nothing, and is neither less nor more than anything; `not`
is the exact opposite of what follows it, so that `score != 0.5` and `not score > 0.9` keep rows
without a score.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase

from streamlab.errors import UsageError
from streamlab.units import (
    BYTE_UNITS,
    MICROSECOND_UNITS,
    MINUTE_US,
    SECOND_UNITS,
    SHARE_UNITS,
    Units,
    nearest,
    parse_amount,
)
from streamlab.views.table import Cell, Column, Kind, Table
from streamlab.views.where import Not, Term, Tree, Word, parse, refusal

_AT_FIRST = 500  # rows read to find those that match; then four times as many

Row = Sequence[Cell]
Matches = Callable[[Row], bool]
_Holds = Callable[[str | float], bool]

_DAY = re.compile(r"day\s*(\d{1,9})(?:\s+(\d\d):(\d\d))?", re.ASCII | re.IGNORECASE)
_DIGITS = 64  # of a whole digest
_TIMES = {
    "%Y-%m-%d": timedelta(days=1),
    "%Y-%m-%d %H:%M": timedelta(minutes=1),
    "%Y-%m-%d %H:%M:%S": timedelta(seconds=1),
}


@dataclass(frozen=True)
class Span:
    """From `low` up to and without `high`; the one point `low` where they are equal."""

    low: str | float
    high: str | float


@dataclass(frozen=True)
class _Meaning:
    """How the values of a kind of column are read, and what they are called in an error."""

    read: Callable[[str], Span | None]
    holds: str
    write: str
    ordered: bool = True
    written: bool = False  # as text, which can be like a pattern


def filtered(table: Table, text: str) -> Table:
    """Keep the rows that an expression is true of. Raises UsageError."""
    matches = matcher(text, table.columns)
    return table.having(tuple(filter(matches, table.rows)))


def matcher(text: str, columns: Sequence[Column]) -> Matches:
    """Return the test that an expression puts to a row of these columns.

    Raises UsageError for what is no expression, for an unknown column with the nearest name, and
    for a value or a comparison that the column's kind does not have.
    """
    return _bound(parse(text), text, columns)


def first_matching(
    read: Callable[[int | None], tuple[tuple[Cell, ...], ...]], matches: Matches, most: int | None
) -> tuple[tuple[Cell, ...], ...]:
    """Return rows that match: all, or at least `most` of them where there are so many.

    `read` returns the first rows, or the last, as many as it is asked for. No more are read than
    that takes, since there may be a million.
    """
    n_rows = None if most is None else _AT_FIRST
    while True:
        rows = read(n_rows)
        found = tuple(filter(matches, rows))
        if n_rows is None or most is None or len(found) >= most or len(rows) < n_rows:
            return found
        n_rows *= 4


def _bound(tree: Tree, text: str, columns: Sequence[Column]) -> Matches:
    if isinstance(tree, Not):
        inner = _bound(tree.part, text, columns)
        return lambda row: not inner(row)
    if isinstance(tree, Term):
        return _asked(tree, text, columns)
    parts = [_bound(part, text, columns) for part in tree.parts]
    if tree.word == "and":
        return lambda row: all(part(row) for part in parts)
    return lambda row: any(part(row) for part in parts)


def _asked(term: Term, text: str, columns: Sequence[Column]) -> Matches:
    names = [column.name for column in columns]
    name = term.column.text
    if name not in names:
        near = nearest(name, names)
        known = "" if near.startswith("Known") else f" Known: {', '.join(names)}."
        raise refusal(text, term.column.at, f"there is no column `{name}`. {near}{known}")
    place = names.index(name)
    if term.op == "null":
        return lambda row: row[place] is None
    holds = _holding(term, text, columns[place])

    def matches(row: Row) -> bool:
        cell = row[place]
        return cell is not None and holds(cell)

    return matches


def _holding(term: Term, text: str, column: Column) -> _Holds:
    """Return the test of a cell that is not empty."""
    meaning = _MEANINGS[column.kind]
    if term.op == "like":
        if not meaning.written:
            raise _unfit(term, text, column, "has nothing that `like` could be asked of")
        pattern = term.values[0].text
        return lambda cell: fnmatchcase(str(cell), pattern)
    if term.op == "flag":
        if column.kind != "flag":
            raise _unfit(term, text, column, "must be compared with something")
        return bool
    spans = [_span(value, text, column) for value in term.values]
    if term.op == "in":
        return lambda cell: any(_equal(cell, span) for span in spans)
    if term.op != "=" and not meaning.ordered:
        raise _unfit(term, text, column, f"knows no order, so that `{term.op}` means nothing")
    (span,) = spans
    compare = _COMPARISONS[term.op]
    return lambda cell: compare(cell, span)


def _span(value: Word, text: str, column: Column) -> Span:
    meaning = _MEANINGS[column.kind]
    try:
        span = meaning.read(value.text)
    except (ValueError, OverflowError):
        span = None
    if span is None:
        raise refusal(
            text,
            value.at,
            f"`{column.name}` holds {meaning.holds}, got {value.text!r}. Write {meaning.write}.",
        )
    return span


def _unfit(term: Term, text: str, column: Column, problem: str) -> UsageError:
    meaning = _MEANINGS[column.kind]
    asked = f"`{column.name}` holds {meaning.holds} and {problem}."
    return refusal(text, term.column.at, f"{asked} Write {meaning.write}, or `is null`.")


# A column and the value it is held against are of one kind, and compare.
def _below(cell: str | float, span: Span) -> bool:
    return cell < span.low  # type: ignore[operator]


def _up_to(cell: str | float, span: Span) -> bool:
    return cell < span.high or cell <= span.low  # type: ignore[operator]


def _equal(cell: str | float, span: Span) -> bool:
    return _up_to(cell, span) and not _below(cell, span)


_COMPARISONS: Mapping[str, Callable[[str | float, Span], bool]] = {
    "=": _equal,
    "<": _below,
    "<=": _up_to,
    ">": lambda cell, span: not _up_to(cell, span),
    ">=": lambda cell, span: not _below(cell, span),
}


def _text(word: str) -> Span:
    return Span(word, word)


def _status(word: str) -> Span:
    return _text(word.lower())  # a table writes STALE


def _digest(word: str) -> Span | None:
    low = word.lower()
    if not re.fullmatch("[0-9a-f]+", low) or len(low) > _DIGITS:
        return None
    # "g" follows every hexadecimal digit.
    return Span(low, low if len(low) == _DIGITS else f"{low}g")


def _flag(word: str) -> Span | None:
    found = {"yes": True, "true": True, "no": False, "false": False}.get(word.lower())
    return None if found is None else Span(found, found)


def _number(word: str) -> Span | None:
    return _measured({"": 1})(word)


def _measured(units: Units) -> Callable[[str], Span | None]:
    """Return the reader of a sum of numbers with units, or of a bare number."""

    def read(word: str) -> Span | None:
        value = parse_amount(word, units)
        return None if value is None else Span(value, value)

    return read


def _time(word: str) -> Span | None:
    blanked = re.sub(r"(?<=\d)[Tt](?=\d)|\s+", " ", word.strip())
    for form, lasting in _TIMES.items():
        try:
            low = datetime.strptime(blanked, form).replace(tzinfo=UTC)
        except ValueError:
            continue
        return Span(low.timestamp(), low.timestamp() + lasting.total_seconds())
    return _number(word)


def _virtual(word: str) -> Span | None:
    """Read `day 6`, `day 6 05:42`, a time since the start as `5d 4h`, or microseconds."""
    found = _DAY.fullmatch(word.strip())
    if found is None:
        return _measured(MICROSECOND_UNITS)(word)
    day, hour, minute = (int(part or 0) for part in found.groups())
    if day == 0 or hour > 23 or minute > 59:
        return None
    low = ((day - 1) * 1440 + hour * 60 + minute) * MINUTE_US
    return Span(low, low + (1440 if found[2] is None else 1) * MINUTE_US)


_TEXT = _Meaning(_text, "text", 'a word or a "text in quotes"', ordered=False, written=True)
_NUMERIC = _Meaning(_number, "numbers", "one as 12 or 0.9")
_MEANINGS: Mapping[Kind, _Meaning] = {
    "text": _TEXT,
    "setting": _TEXT,
    "status": _Meaning(_status, "states", "one as `finished`", ordered=False, written=True),
    "digest": _Meaning(
        _digest, "digests", "hexadecimal digits, the first few or all", ordered=False, written=True
    ),
    "flag": _Meaning(_flag, "yes or no", "the name alone, or `not` and the name", ordered=False),
    "number": _NUMERIC,
    "count": _NUMERIC,
    "score": _Meaning(_measured(SHARE_UNITS), "numbers", "one as 0.9 or 90%"),
    "ratio": _NUMERIC,
    "change": _Meaning(_measured(SHARE_UNITS), "numbers", "one as -0.01 or 1%"),
    "share": _Meaning(_measured(SHARE_UNITS), "shares", "one as 0.005 or 0.5%"),
    "bytes": _Meaning(_measured(BYTE_UNITS), "bytes", "a number, or one as 200kB or 1.5MiB"),
    "seconds": _Meaning(_measured(SECOND_UNITS), "seconds", "a number, or one as 90s or 5min"),
    "virtual": _Meaning(_virtual, "virtual times", '"day 6", "day 6 05:42", 5d or microseconds'),
    "time": _Meaning(_time, "times", "a day as 2026-01-31 or a time as 2026-01-31T14:05 (UTC)"),
}
