"""Tables and pages of raw values under typed columns, and their text for people.

A cell holds a raw number (bytes, seconds, a share of one). `readable` formats it by its column's
kind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal, cast, get_args

from streamlab.errors import UsageError
from streamlab.units import (
    format_bytes,
    format_count,
    format_seconds,
    format_share,
    format_time,
    format_virtual_time,
    nearest,
    printable,
)

Cell = str | int | float | bool | None
Kind = Literal[
    "text",
    "status",
    "setting",  # a value as written in a scenario
    "flag",  # yes or no
    "digest",  # hexadecimal, shown as its first twelve digits
    "number",  # an identifier: a seed, an arrival
    "count",
    "bytes",
    "seconds",
    "time",  # seconds since the epoch, UTC
    "virtual",  # microseconds of a run's virtual clock
    "share",  # of one
    "score",
    "change",  # of a score
    "ratio",
]


@dataclass(frozen=True)
class Column:
    """One column; unless `default`, it is shown on request only."""

    name: str
    kind: Kind = "text"
    default: bool = True
    attribute: str = ""  # of the records that it shows, where its name is another

    @property
    def path(self) -> str:
        """Return the attribute of the records that the column shows."""
        return self.attribute or self.name.replace(" ", "_")


def columns(text: str) -> tuple[Column, ...]:
    """Return the columns in a list of `name`, `name: kind` or `name = attribute: kind`.

    One in brackets is shown on request only.

    >>> columns("task, [steps = n_steps: count]")[1]
    Column(name='steps', kind='count', default=False, attribute='n_steps')
    """
    return tuple(_column(part.strip()) for part in text.split(","))


def _column(text: str) -> Column:
    shown, _, kind = text.strip("[]").partition(": ")
    name, _, attribute = shown.partition(" = ")
    assert kind in ("", *get_args(Kind)), text  # noqa: S101 - a table of ours
    return Column(name, cast("Kind", kind or "text"), not text.startswith("["), attribute)


@dataclass(frozen=True)
class Table:
    """Rows under columns; each row has a cell for each column."""

    key: str  # its name in JSON
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.columns) for row in self.rows), self.key  # noqa: S101

    def records(self) -> list[dict[str, Cell]]:
        """Return every row as a mapping from column to raw value."""
        names = [column.name for column in self.columns]
        return [dict(zip(names, row, strict=True)) for row in self.rows]

    def select(self, names: tuple[str, ...]) -> Table:
        """Keep these columns, in this order. Raises UsageError for a column it lacks."""
        places = [self._place(name) for name in names]
        known = tuple(self.columns[place] for place in places)
        rows = tuple(tuple(row[place] for place in places) for row in self.rows)
        return Table(self.key, self.title, known, rows)

    def brief(self) -> Table:
        """Keep the default columns."""
        return self.select(tuple(column.name for column in self.columns if column.default))

    def sort(self, name: str, *, descending: bool) -> Table:
        """Sort the rows by one column, stably, empty cells last. Raises UsageError."""
        place = self._place(name)
        filled = [row for row in self.rows if row[place] is not None]
        empty = [row for row in self.rows if row[place] is None]
        # A column holds values of one kind, which compare.
        filled.sort(key=lambda row: row[place], reverse=descending)  # type: ignore[arg-type,return-value]
        return self.having((*filled, *empty))

    def having(self, rows: tuple[tuple[Cell, ...], ...]) -> Table:
        """Return the table with these rows."""
        return Table(self.key, self.title, self.columns, rows)

    def _place(self, name: str) -> int:
        names = [column.name for column in self.columns]
        if name not in names:
            raise UsageError(f"There is no column `{name}` here. {nearest(name, names)}")
        return names.index(name)


def tabulate(key: str, title: str, known: tuple[Column, ...], records: Iterable[object]) -> Table:
    """Return a table of two columns or more, a row for each record."""
    read = attrgetter(*(column.path for column in known))
    return Table(key, title, known, tuple(map(read, records)))


@dataclass(frozen=True)
class Fact:
    """One named value."""

    name: str
    value: Cell
    kind: Kind = "text"


def facts_of(record: object, known: Iterable[Column]) -> tuple[Fact, ...]:
    """Return the record's attributes as facts with the names and kinds of the columns."""
    return tuple(Fact(c.name, attrgetter(c.path)(record), c.kind) for c in known)


@dataclass(frozen=True)
class Facts:
    """Named values under a title."""

    key: str
    title: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class Page:
    """One record with sections that present it."""

    kind: str
    name: str
    record: Mapping[str, Any]
    sections: tuple[Facts | Table, ...]

    def tree(self) -> dict[str, Any]:
        """Return the page as JSON values: the raw record, and every section under its key."""
        tree: dict[str, Any] = {"kind": self.kind, "name": self.name, "record": dict(self.record)}
        for section in self.sections:
            if isinstance(section, Table):
                tree[section.key] = section.records()
            else:
                tree[section.key] = {fact.name: fact.value for fact in section.facts}
        return tree


# Kinds whose columns are aligned left.
LEFT: tuple[Kind, ...] = ("text", "status", "setting", "flag", "digest", "time", "virtual")
_DIGEST = re.compile("[0-9a-f]{64}")


def readable(value: Cell, kind: Kind) -> str:
    """Return one cell as text; an empty one is a dash."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        digest = kind == "digest" or (kind in ("setting", "text") and _DIGEST.fullmatch(value))
        text = value[:12] if digest else value
        text = "STALE" if (kind, text) == ("status", "stale") else text
        return printable(text)
    return _NUMBERS.get(kind, str)(value)


_NUMBERS: dict[Kind, Callable[[float], str]] = {
    "count": format_count,
    "bytes": format_bytes,
    "seconds": format_seconds,
    "time": format_time,
    "virtual": format_virtual_time,
    "share": format_share,
    "score": lambda value: f"{value:.4f}",
    "change": lambda value: f"{value:+.4f}",
    "ratio": lambda value: f"{value:,.2f}" if value < 100 else f"{value:,.0f}",
    "text": lambda value: f"{value:g}" if isinstance(value, float) else str(value),
}
