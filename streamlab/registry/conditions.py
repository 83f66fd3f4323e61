"""Conditions on the rows of a listing, and the SQL that they are compiled to.

An empty cell (NULL) equals nothing, is like nothing, and is neither less nor more than anything.
`Not` is the exact opposite of its part, so that it keeps the rows with an empty cell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, and_, false, func, not_, or_, select

Operator = Literal["flag", "null", "=", "<", "<=", ">", ">=", "in", "like"]
Like = Callable[[ColumnElement[Any], str], ColumnElement[bool]]

_INT64 = 1 << 63


@dataclass(frozen=True)
class Span:
    """The values from `low` up to and without `high`; `low` alone where the two are equal."""

    low: str | float
    high: str | float


@dataclass(frozen=True)
class Comparison:
    """A column compared with values: none for `flag` and `null`, several for `in` only."""

    column: str
    operator: Operator
    values: tuple[Span, ...] = ()


@dataclass(frozen=True)
class Not:
    """The opposite; `!=`, `not in`, `not like` and `is not null` are read as this."""

    part: Condition


@dataclass(frozen=True)
class Both:
    """Two or more parts, of which all hold (`and`), or one at least (`or`)."""

    word: Literal["and", "or"]
    parts: tuple[Condition, ...]


Condition = Comparison | Not | Both


@dataclass(frozen=True)
class Joined:
    """A column of another table, found by its key, so that an index on the key can be used."""

    key: ColumnElement[Any]
    id: ColumnElement[Any]
    column: ColumnElement[Any]  # never NULL


Columns = Mapping[str, ColumnElement[Any] | Joined]


def compile_condition(
    condition: Condition, columns: Columns, like: Like, *, negated: bool = False
) -> ColumnElement[bool]:
    """Return a condition as SQL with bound values. `negated`: below an odd number of `Not`.

    There what is NULL becomes false, so that its opposite is true. Elsewhere NULL keeps no row
    anyway, and the bare comparison can use an index.
    """
    if isinstance(condition, Not):
        return not_(compile_condition(condition.part, columns, like, negated=not negated))
    if isinstance(condition, Both):
        parts = [compile_condition(p, columns, like, negated=negated) for p in condition.parts]
        return and_(*parts) if condition.word == "and" else or_(*parts)
    found = _compare(condition, columns[condition.column], like)
    return func.coalesce(found, false()) if negated else found


def _compare(
    asked: Comparison, column: ColumnElement[Any] | Joined, like: Like
) -> ColumnElement[bool]:
    if isinstance(column, Joined):
        if asked.operator == "null":
            return column.key.is_(None)
        if asked.operator == "=" and asked.values[0].low == asked.values[0].high:
            # One key at most, so that an index gives the order as well.
            wanted = select(column.id).where(column.column == asked.values[0].low)
            return column.key == wanted.scalar_subquery()
        return column.key.in_(select(column.id).where(_compare(asked, column.column, like)))
    if asked.operator == "null":
        return column.is_(None)
    if asked.operator == "flag":
        return column
    if asked.operator == "like":
        return like(column, str(asked.values[0].low))
    if asked.operator == "in":
        return or_(*(_compare_span(column, "=", span) for span in asked.values))
    return _compare_span(column, asked.operator, asked.values[0])


def _bound(value: str | float) -> str | float:
    # No database holds a larger integer, and compared as a float it is as far away.
    return float(value) if isinstance(value, int) and not -_INT64 <= value < _INT64 else value


def _compare_span(
    column: ColumnElement[Any], operator: Operator, span: Span
) -> ColumnElement[bool]:
    low, high = _bound(span.low), _bound(span.high)
    is_point = span.low == span.high
    if operator == "<":
        return column < low
    if operator == ">=":
        return column >= low
    if operator == "<=":
        return column <= low if is_point else column < high
    if operator == ">":
        return column > low if is_point else column >= high
    return column == low if is_point else and_(column >= low, column < high)
