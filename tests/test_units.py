"""Quantities are printed with few digits, and read with the units people write."""

from __future__ import annotations

import doctest

import pytest

from streamlab import units
from streamlab.units import (
    BYTE_UNITS,
    COUNT_UNITS,
    MICROSECOND_UNITS,
    SECOND_UNITS,
    SHARE_UNITS,
    Units,
    bytes_unit,
    counted,
    format_bytes,
    format_seconds,
    format_virtual_time,
    nearest,
    parse_amount,
    seconds_unit,
)


def test_the_examples_in_the_docstrings_hold() -> None:
    result = doctest.testmod(units)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (9_999, "10.0 kB"),
        (99_950, "100 kB"),
        (999_499, "999 kB"),
        (999_600, "1.00 MB"),
        (90_868_376, "90.9 MB"),
        (18_174_000_000, "18.2 GB"),
        (5_000_000_000_000, "5.00 TB"),
    ],
)
def test_bytes_are_printed_with_three_significant_digits(value: int, text: str) -> None:
    assert format_bytes(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(8.25, "8.2 s"), (99.96, "1 min 40 s"), (7265, "2 h 01 min")]
)
def test_durations_are_printed_in_units_that_fit(value: float, text: str) -> None:
    assert format_seconds(value) == text


def test_a_virtual_time_is_a_day_counted_from_one_and_the_time_of_day() -> None:
    assert format_virtual_time(0) == "day 1 00:00"
    assert format_virtual_time(86_400_000_000 * 6 - 1) == "day 6 23:59"
    assert format_virtual_time(86_400_000_000 * 6 + 3_600_000_000) == "day 7 01:00"


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [(0, "task", "0 tasks"), (1, "task", "1 task"), (1200, "task", "1,200 tasks")],
)
def test_a_noun_agrees_with_its_count(number: int, noun: str, text: str) -> None:
    assert counted(number, noun) == text


@pytest.mark.parametrize(
    ("text", "of", "value"),
    [
        ("64MB", BYTE_UNITS, 64_000_000),
        ("1.5 GiB", BYTE_UNITS, 1_610_612_736),
        ("64_000,000", BYTE_UNITS, 64_000_000),
        ("1e3kB", BYTE_UNITS, 1_000_000),
        ("340M", COUNT_UNITS, 340_000_000),
        ("0.1%", SHARE_UNITS, 0.001),
        (".5", SHARE_UNITS, 0.5),
        ("1h 30min", SECOND_UNITS, 5400),
        ("250ms", SECOND_UNITS, 0.25),
        ("1d", MICROSECOND_UNITS, units.DAY_US),
        ("-3", COUNT_UNITS, -3),
    ],
)
def test_an_amount_is_read_exactly(text: str, of: Units, value: float) -> None:
    found = parse_amount(text, of)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "text", ["", "MB", "64 apples", "1h 30", "64MB!", "1.5e400", "1e999999", "nan", "1.2.3"]
)
def test_what_is_no_amount_is_none(text: str) -> None:
    assert parse_amount(text, BYTE_UNITS | SECOND_UNITS) is None


def test_an_axis_takes_the_largest_unit_that_fits() -> None:
    assert [bytes_unit(n)[0] for n in (0, 999, 5e3, 5e6, 5e9, 5e15)] == [
        "B", "B", "kB", "MB", "GB", "TB",
    ]  # fmt: skip
    assert [seconds_unit(n)[0] for n in (1, 119, 120, 7200, 200_000)] == [
        "seconds", "seconds", "minutes", "hours", "days",
    ]  # fmt: skip


def test_a_mistyped_name_is_answered_with_the_nearest_or_with_all() -> None:
    known = ["accuracy", "f1", "matthews"]
    assert nearest("acuracy", known) == "Did you mean `accuracy`?"
    assert nearest("zzz", known) == "Known: accuracy, f1, matthews."
    assert nearest("zzz", []) == "There is none."
    assert nearest("ab", ["abc", "abd"], limit=1).count("`") == 2
