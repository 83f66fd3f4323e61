"""Quantities and names in text: print and parse bytes, durations, shares and counts.

Everything here works on plain values and raises nothing, so that any package can use it.
"""

from __future__ import annotations

import difflib
import math
import re
import unicodedata
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from fractions import Fraction
from typing import Final

Units = Mapping[str, int | Fraction]  # factor by unit in lower case; "": a bare number

SECOND_US: Final = 1_000_000  # microseconds, the unit of virtual time
MINUTE_US: Final = 60 * SECOND_US
DAY_US: Final = 86_400 * SECOND_US

BYTE_UNITS: Final[Units] = {"": 1, "b": 1} | {
    f"{letter}{i}b": (1024 if i else 1000) ** power
    for power, letter in enumerate("kmgt", start=1)
    for i in ("", "i")
}
SECOND_UNITS: Final[Units] = {
    "": 1, "ms": Fraction(1, 1000), "s": 1, "min": 60, "h": 3600, "d": 86_400,
}  # fmt: skip
MICROSECOND_UNITS: Final[Units] = {"": 1} | {
    unit: SECOND_US * factor for unit, factor in SECOND_UNITS.items() if unit
}
SHARE_UNITS: Final[Units] = {"": 1, "%": Fraction(1, 100)}
COUNT_UNITS: Final[Units] = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}

_NUMBER = r"[+-]?(?:\d[\d_,]*\.?\d*|\.\d+)(?:e[+-]?\d{1,3})?"
_PART = re.compile(rf"({_NUMBER})\s*([a-z%]*)\s*", re.ASCII | re.IGNORECASE)
_BYTES_PER: Final = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
_SECONDS_PER: Final = {"seconds": 1.0, "minutes": 60.0, "hours": 3600.0, "days": 86_400.0}


def format_bytes(value: float) -> str:
    """Return bytes with three significant digits and a unit of powers of 1000.

    >>> format_bytes(999), format_bytes(90_868_376)
    ('999 B', '90.9 MB')
    """
    if value < 999.5:
        return f"{value:.0f} B"
    # 999.5 kB would be printed as 1000 kB.
    unit, size = bytes_unit(value / 0.9995)
    return f"{_three_digits(value / size)} {unit}"


def bytes_unit(largest: float) -> tuple[str, float]:
    """Return the unit in which an axis up to `largest` bytes is read, and its bytes."""
    return [(unit, size) for unit, size in _BYTES_PER.items() if size <= max(largest, 1.0)][-1]


def format_seconds(value: float) -> str:
    """Return a duration in seconds, or in minutes and hours from 100 seconds on.

    >>> format_seconds(8.25), format_seconds(100), format_seconds(7265)
    ('8.2 s', '1 min 40 s', '2 h 01 min')
    """
    if value < 99.95:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"


def seconds_unit(longest: float) -> tuple[str, float]:
    """Return the unit in which an axis up to `longest` seconds is read, and its seconds.

    A unit is used from two of it on.
    """
    return [(unit, n) for unit, n in _SECONDS_PER.items() if 2 * n <= max(longest, 2.0)][-1]


def format_time(seconds: float) -> str:
    """Return a time, given in seconds since the epoch, to the minute in UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"


def format_virtual_time(microseconds: float) -> str:
    """Return a virtual time as a day, counted from 1, and the time of day.

    >>> format_virtual_time(0), format_virtual_time(5 * 86_400_000_000 + 3_600_000_000)
    ('day 1 00:00', 'day 6 01:00')
    """
    minutes = round(microseconds) // MINUTE_US
    return f"day {1 + minutes // 1440} {minutes % 1440 // 60:02d}:{minutes % 60:02d}"


def format_share(value: float) -> str:
    """Return a share as a percentage.

    >>> format_share(0.005)
    '0.50%'
    """
    return f"{value:.2%}"


def format_count(value: float) -> str:
    """Return a count with a comma between thousands."""
    return f"{value:,}"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a count with its noun, whose plural ends in "s" unless `plural` is given.

    >>> counted(1, "task"), counted(1200, "task"), counted(0, "entry", "entries")
    ('1 task', '1,200 tasks', '0 entries')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def parse_amount(text: str, units: Units) -> int | float | None:
    """Return the sum of the numbers with units in `text`; None where it is not one.

    A whole amount is an exact integer. A sum needs a unit for each of its numbers.

    >>> parse_amount("1.5MiB", BYTE_UNITS), parse_amount("1h 30min", SECOND_UNITS)
    (1572864, 5400)
    >>> parse_amount("0.5%", SHARE_UNITS), parse_amount("5 apples", COUNT_UNITS)
    (0.005, None)
    """
    parts = _PART.findall(text)
    named = [unit.lower() for _, unit in parts]
    if not parts or _PART.sub("", text).strip() or any(unit not in units for unit in named):
        return None
    if len(parts) > 1 and not all(named):
        return None
    digits = (number.replace("_", "").replace(",", "") for number, _ in parts)
    amount = sum(
        (Fraction(number) * units[unit] for number, unit in zip(digits, named, strict=True)),
        Fraction(0),
    )
    return _finite(amount)


def printable(text: str, *, keep: str = "") -> str:
    r"""Return text in which no character controls a terminal: they are written as escapes.

    Control, format and private characters, separators of lines and lone surrogates are escaped,
    except those in `keep`.

    >>> printable("a\x1b[31m\u202eb\u3000c\n")
    'a\\x1b[31m\\u202eb\u3000c\\x0a'
    """
    if text.isprintable():
        return text
    return "".join(c if c in keep or _is_shown(c) else _escaped(ord(c)) for c in text)


def _is_shown(sign: str) -> bool:
    return sign.isprintable() or unicodedata.category(sign) == "Zs"


def _escaped(number: int) -> str:
    return rf"\x{number:02x}" if number < 256 else rf"\u{number:04x}"  # as Python writes them


def nearest(name: str, known: Collection[str], *, limit: int = 3) -> str:
    """Return a sentence with the known names most like a mistyped one, or with those there are.

    >>> nearest("acuracy", ["accuracy", "f1"])
    'Did you mean `accuracy`?'
    >>> nearest("x", ["accuracy", "f1"])
    'Known: accuracy, f1.'
    """
    hint = did_you_mean(name, known, limit=limit)
    return hint or (f"Known: {', '.join(known)}." if known else "There is none.")


def did_you_mean(name: str, known: Collection[str], *, limit: int = 3, below: str = "") -> str:
    """Return a question with the known names most like a mistyped one; empty without any.

    `below`: what is written before each name.
    """
    near = difflib.get_close_matches(name, known, n=limit, cutoff=0.5)
    return f"Did you mean {' or '.join(f'`{below}{n}`' for n in near)}?" if near else ""


def _three_digits(value: float) -> str:
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def _finite(amount: Fraction) -> int | float | None:
    try:
        value = float(amount)
    except OverflowError:
        return None
    if amount.denominator == 1:
        return int(amount)
    return value if math.isfinite(value) else None
