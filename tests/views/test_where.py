"""The language of `--where`: what is read, what is refused and where, and what it is true of."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sqlalchemy import literal, select

from streamlab.errors import UsageError
from streamlab.registry.backends import backend_of
from streamlab.registry.conditions import Both, Comparison, Condition, Not, Span, compile_condition
from streamlab.views.listings import SUBJECTS, columns_of
from streamlab.views.table import Cell, Column, Kind, Table
from streamlab.views.where import parse_condition

COLUMNS = (
    Column("task"),
    Column("score", "score"),
    Column("file_bytes", "bytes"),
    Column("seconds", "seconds"),
    Column("density", "share"),
    Column("started_at", "time"),
    Column("digest", "digest"),
    Column("is_primary", "flag"),
    Column("status", "status"),
    Column("at_us", "virtual"),
)
DAY = datetime(2026, 1, 31, tzinfo=UTC).timestamp()
ROW: tuple[Cell, ...] = (
    "sst2", 0.9, 200_000, 100.0, 0.005, DAY + 50_700.5, "31f65eaf" * 8, True, "stale",
    5 * 86_400_000_000 + 20_520_000_000,  # day 6 05:42
)  # fmt: skip
EMPTY: tuple[Cell, ...] = (None,) * len(COLUMNS)
BACKEND = backend_of("sqlite://")


def matcher(text: str, columns: Sequence[Column]) -> Callable[[Sequence[Cell]], bool]:
    """Return the test of a row that an expression is compiled to, carried out by a database."""
    condition = parse_condition(text, columns)

    def matches(row: Sequence[Cell]) -> bool:
        cells = {column.name: literal(cell) for column, cell in zip(columns, row, strict=True)}
        query = select(literal(1)).where(compile_condition(condition, cells, BACKEND.like))
        with BACKEND.engine.begin() as connection:
            return connection.execute(query).scalar() is not None

    return matches


def filtered(table: Table, text: str) -> Table:
    """Keep the rows that an expression is true of."""
    return table.having(tuple(filter(matcher(text, table.columns), table.rows)))


@pytest.mark.parametrize(
    "text",
    [
        "task = sst2 and score > 0.8",
        "task == 'sst2' AND NOT score < 0.9",
        'task <> mrpc and task != "it""s"',
        "task in (mrpc, sst2)",
        "task not in (mrpc)",
        'task like "ss*" and task like ss?2',
        "task not like S*",
        "not (task = mrpc or score = 0.5)",
        "file_bytes <= 200kB and file_bytes = 200 kB and file_bytes = 0.2MB",
        "file_bytes > 195 KiB and file_bytes < 196KiB",
        "seconds = 1 min 40 s and seconds = 100 and seconds = 1min40s and seconds >= 90s",
        "density = 0.5% and density = 0.005 and density = 5e-3",
        'at_us = "day 6" and at_us = "Day 6 05:42" and at_us > "day 5" and at_us < "day 7"',
        "at_us > 5d and at_us = 452520000000 and at_us <= 125 h 42 min and at_us < 6 d",
        'not at_us = "day 6 05:41" and at_us in ("day 6", "day 8") and not at_us > "day 6"',
        "started_at = 2026-01-31 and started_at <= 2026-01-31 and started_at >= 2026-01-31",
        "not started_at > 2026-01-31 and started_at > 2026-01-30 and started_at < 2026-02-01",
        "started_at = 2026-01-31 14:05 and started_at = 2026-01-31T14:05:00",
        "started_at != 2026-01-31T14:06 and started_at > 1700000000",
        "digest = 31F65E and digest like 31f* and digest != 32 and digest in (00, 31f65eaf)",
        "is_primary and is_primary = yes and not is_primary = no and is_primary != false",
        "status = STALE",
        "task is not null and not task is null",
        "score = .9 and score < 1_000 and score >= -1e-3",
    ],
)
def test_these_are_true_of_the_row(text: str) -> None:
    assert matcher(text, COLUMNS)(ROW)
    assert not matcher(f"not ({text})", COLUMNS)(ROW)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("task is null", True),
        ("task = sst2", False),
        ("task != sst2", True),
        ("task like *", False),
        ("task not in (sst2)", True),
        ("score > 0", False),
        ("score <= 0", False),
        ("not score > 0", True),
        ("is_primary", False),
        ("not is_primary", True),
    ],
)
def test_an_empty_cell_equals_nothing_and_not_is_the_opposite(text: str, expected: bool) -> None:
    assert matcher(text, COLUMNS)(EMPTY) is expected


@pytest.mark.parametrize(
    ("text", "at", "problem"),
    [
        ("", 0, "expected a column, got the end."),
        ("task =", 6, "expected a value, got the end."),
        ("task = sst2 and", 15, "expected a column, got the end."),
        ("task = sst2 score > 1", 12, "expected `and`, `or` or the end, got 'score'."),
        ("(task = sst2", 12, "expected `)`, got the end."),
        ("task = sst2)", 11, "expected `and`, `or` or the end, got ')'."),
        ("task in sst2", 8, "expected `(`, got 'sst2'."),
        ("task in ()", 9, "expected a value, got ')'."),
        ("task not sst2", 9, "expected `in` or `like`, got 'sst2'."),
        ("task is sst2", 8, "expected `null`, got 'sst2'."),
        ("task = 'sst2", 7, "this quote is never closed."),
        ("task ! sst2", 5, "what is '!'?"),
        ("task = null", 7, "write `is null` or `is not null`."),
        ("'task' = sst2", 0, "expected a column, got 'task'."),
        ("and = 1", 0, "expected a column, got 'and'."),
        ("task sst2", 5, "expected a comparison after `task`, as in `task = ...`, got 'sst2'."),
        ("n_entries > 60,040", 14, "expected `and`, `or` or the end, got ','."),
        ("tusk = 1", 0, "there is no column `tusk`. Did you mean `task` or `at_us` or `status`?"),
        ("x9 = red", 0, "there is no column `x9`. Known: task, score, file_bytes,"),
        ("score > high", 8, "`score` holds numbers, got 'high'. Write one as 0.9 or 90%."),
        ("score = nan", 8, "`score` holds numbers, got 'nan'."),
        ("score < 1e999999", 8, "`score` holds numbers, got '1e999999'."),
        ("score < 1.5e400", 8, "`score` holds numbers"),
        ("score in (0.5, x)", 15, "`score` holds numbers, got 'x'. Write one as 0.9 or 90%."),
        ("file_bytes > 5XB", 13, "`file_bytes` holds bytes, got '5XB'. Write a number, or one as"),
        ("file_bytes > 5 6", 15, "expected `and`, `or` or the end, got '6'."),
        ("seconds < 5kB", 10, "`seconds` holds seconds, got '5kB'."),
        ("density < 5%%", 10, "`density` holds shares, got '5%%'."),
        ("started_at > 2026-02-30", 13, "`started_at` holds times, got '2026-02-30'."),
        ('at_us = "day 0"', 8, "`at_us` holds virtual times, got 'day 0'. Write \"day 6\","),
        ('at_us = "day 6 24:00"', 8, "`at_us` holds virtual times, got 'day 6 24:00'."),
        ("at_us = soon", 8, "`at_us` holds virtual times, got 'soon'."),
        ("digest = xyz", 9, "`digest` holds digests, got 'xyz'."),
        ("is_primary = 1", 13, "`is_primary` holds yes or no, got '1'."),
        ("task > sst2", 0, "`task` holds text and knows no order, so that `>` means nothing."),
        ("score like 0*", 0, "`score` holds numbers and has nothing that `like` could be asked"),
        ("task", 0, "`task` holds text and must be compared with something."),
        ("not " * 51 + "is_primary", 200, "more than 50 levels; use fewer."),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(text: str, at: int, problem: str) -> None:
    text = text.replace("n_entries", "file_bytes") if "60,040" in text else text
    place = text.index(",") if "60,040" in text else at

    with pytest.raises(UsageError) as caught:
        matcher(text, COLUMNS)

    told = str(caught.value)
    if len(text) <= 70:
        message, shown, mark = told.split("\n")
        assert message.startswith(f"`--where`: {problem}")
        assert (shown, mark) == (f"  {text}", f"  {' ' * place}^")
    else:
        assert told == f"`--where`, at character {place + 1}: {problem}"


def test_what_cannot_be_shown_is_told_by_its_number() -> None:
    with pytest.raises(UsageError, match=r"^`--where`, at character 13: ") as caught:
        matcher("task = \x1b[31m'", COLUMNS)

    assert "\x1b" not in str(caught.value)


KEYWORDS = {"and", "or", "not", "in", "like", "is", "null"}
KINDS: dict[str, Kind] = {"t": "text", "n": "number", "f": "flag"}  # by a name's first letter
words = st.text(min_size=1, max_size=8) | st.sampled_from(
    ["null", "and", "NOT", "3 s", "2026-01-31 14:05", "200kB", 'a"b', "a b", "(", "=", "ss*", ""]
)


def named(letter: str) -> st.SearchStrategy[str]:
    name = st.from_regex(rf"{letter}[a-z0-9_.]{{0,8}}", fullmatch=True)
    return name.filter(lambda name: name not in KEYWORDS)


def spans(values: st.SearchStrategy[str | float]) -> st.SearchStrategy[tuple[Span, ...]]:
    return values.map(lambda value: (Span(value, value),))


def comparisons() -> st.SearchStrategy[Condition]:
    text = spans(words)
    several = st.lists(text, min_size=1, max_size=3).map(lambda found: sum(found, ()))
    number = spans(st.integers() | st.floats(-1e9, 1e9).filter(lambda n: not n.is_integer()))
    return st.one_of(
        st.builds(Comparison, named("f"), st.just("flag")),
        st.builds(Comparison, named("t"), st.just("null")),
        st.builds(Comparison, named("t"), st.sampled_from(["=", "like"]), text),
        st.builds(Comparison, named("t"), st.just("in"), several),
        st.builds(Comparison, named("n"), st.sampled_from(["=", "<", "<=", ">", ">="]), number),
    )


def wider(inner: st.SearchStrategy[Condition]) -> st.SearchStrategy[Condition]:
    parts = st.lists(inner, min_size=2, max_size=3).map(tuple)
    return st.builds(Not, inner) | st.builds(Both, st.sampled_from(["and", "or"]), parts)


def written(value: str | float) -> str:
    """Return a value as a bare word where it is one, else in quotes."""
    text = str(value)
    bare = re.fullmatch(r"[^ \t\n\r\f\v\"'(),<>=!]+", text) and text.lower() not in KEYWORDS
    return text if bare else quoted(text)


def printed(condition: Condition) -> str:
    """Return a condition as text, with no more parentheses than it needs."""
    if isinstance(condition, Not):
        inner = printed(condition.part)
        return f"not ({inner})" if isinstance(condition.part, Both) else f"not {inner}"
    if isinstance(condition, Both):
        loose = {"or": ("or",), "and": ("or", "and")}[condition.word]  # `and` binds closer
        inner = (
            f"({printed(part)})" if isinstance(part, Both) and part.word in loose else printed(part)
            for part in condition.parts
        )
        return f" {condition.word} ".join(inner)
    values = [written(span.low) for span in condition.values]
    ends = {"flag": "", "null": " is null", "in": f" in ({', '.join(values)})"}
    return condition.column + ends.get(
        condition.operator, f" {condition.operator} {' '.join(values)}"
    )


def columns_in(condition: Condition) -> set[Column]:
    if isinstance(condition, Comparison):
        return {Column(condition.column, KINDS[condition.column[0]])}
    parts = condition.parts if isinstance(condition, Both) else (condition.part,)
    return set().union(*map(columns_in, parts))


@settings(deadline=None)
@given(st.recursive(comparisons(), wider, max_leaves=12))
def test_a_printed_condition_is_read_as_the_same_condition(condition: Condition) -> None:
    assert parse_condition(printed(condition), tuple(columns_in(condition))) == condition


pieces = st.lists(
    st.sampled_from(
        (
            *("task", "n", "f", "started_at", "=", "<=", "!=", "!", "(", ")", ","),
            *("and", "or", "not", "in", "like", "is", "null", "5", "kB", "5 kB", "2026-01-31"),
            *("'", '"', "%"),
        )
    )
).map(" ".join)
NAMED = (Column("task"), Column("n", "number"), Column("f", "flag"), Column("started_at"))


@settings(deadline=None)
@given(st.text() | pieces)
def test_any_text_is_read_or_refused_and_what_is_read_can_be_printed(text: str) -> None:
    try:
        condition = parse_condition(text, NAMED)
    except UsageError:
        return
    assert parse_condition(printed(condition), NAMED) == condition


@settings(deadline=None)
@given(st.sampled_from([column.name for column in COLUMNS]), st.text())
def test_any_value_is_understood_or_refused(name: str, value: str) -> None:
    try:
        matches = matcher(f"{name} = {written(value)}", COLUMNS)
    except UsageError:
        return
    assert matches(ROW) in {True, False}


Said = tuple[str, Callable[[dict[str, Cell]], bool]]
NUMBERS = st.integers(-3, 3) | st.floats(-3, 3)
TEXTS = st.text("ab*?", max_size=3)
SIGNS = {"=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


@st.composite
def said(draw: st.DrawFn) -> Said:
    """Draw an expression and what plain Python makes of it."""
    kind = draw(st.sampled_from(["compare", "equal", "in", "like", "null"]))
    if kind == "compare":
        sign, number = draw(st.sampled_from(sorted(SIGNS))), draw(NUMBERS)
        held = SIGNS[sign]
        return (
            f"score {sign} {number!r}",
            lambda row: row["score"] is not None and bool(held(row["score"], number)),
        )
    if kind == "in":
        some = draw(st.lists(NUMBERS, min_size=1, max_size=3))
        listed = ", ".join(map(repr, some))
        return f"score not in ({listed})", lambda row: row["score"] not in some
    text = draw(TEXTS)
    if kind == "equal":
        return f"task != {quoted(text)}", lambda row: row["task"] != text
    if kind == "like":
        return (
            f"task like {quoted(text)}",
            lambda row: isinstance(row["task"], str) and fnmatchcase(row["task"], text),
        )
    return "task is null", lambda row: row["task"] is None


def joined(inner: st.SearchStrategy[Said]) -> st.SearchStrategy[Said]:
    def both(one: Said, other: Said) -> Said:
        return f"({one[0]}) and ({other[0]})", lambda row: one[1](row) and other[1](row)

    def either(one: Said, other: Said) -> Said:
        return f"({one[0]}) or ({other[0]})", lambda row: one[1](row) or other[1](row)

    opposite = inner.map(lambda one: (f"not ({one[0]})", lambda row: not one[1](row)))
    return st.builds(both, inner, inner) | st.builds(either, inner, inner) | opposite


rows = st.lists(st.tuples(st.none() | TEXTS, st.none() | NUMBERS), max_size=6)


@settings(deadline=None)
@given(st.recursive(said(), joined, max_leaves=8), rows)
def test_what_is_kept_is_what_plain_python_keeps(one: Said, cells: list[tuple[Cell, Cell]]) -> None:
    text, true_of = one
    columns = (Column("task"), Column("score", "score"))
    table = Table("rows", "Rows", columns, tuple(cells))

    kept = filtered(table, text)

    expected = [row for row in cells if true_of(dict(zip(("task", "score"), row, strict=True)))]
    assert list(kept.rows) == expected
    assert kept.columns == columns


@settings(deadline=None)
@given(st.integers(0, 10**12), st.sampled_from(["", "k", "M", "G"]), st.booleans())
def test_units_are_exact(number: int, letter: str, binary: bool) -> None:
    unit = f"{letter}{'i' if binary and letter else ''}B"
    step = 1024 if binary else 1000
    size = number * step ** ("", "k", "M", "G").index(letter)
    assume(size < 2**63 - 1)  # no database holds larger ones

    for text in (f"{number}{unit}", f"{number} {unit.upper()}"):
        is_it = matcher(f"size = {text}", (Column("size", "bytes"),))
        assert is_it((size,))
        assert not is_it((size + 1,))


DOCUMENT = (Path(__file__).parents[2] / "docs" / "reference" / "where.md").read_text(
    encoding="utf-8"
)


def test_every_condition_of_the_document_is_one_of_some_listing() -> None:
    (block,) = re.findall(r"```\n(.*?)```", DOCUMENT, re.DOTALL)
    for line in block.splitlines():
        subject, text = line.split(":", 1)
        known = columns_of(next(known for known in SUBJECTS if known == subject))
        assert matcher(text.split("  #")[0], known)((None,) * len(known)) in {True, False}


@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_kind_of_column_can_be_asked_of(kind: Kind) -> None:
    in_order = matcher("x = 1 or x is null", (Column("x", kind),)) if kind != "flag" else None

    assert in_order is None or in_order((None,))
    with pytest.raises(UsageError, match="`x` holds "):
        matcher("x" if kind != "flag" else "x > 1", (Column("x", kind),))
