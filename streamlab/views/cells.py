"""How a cell is written for people: bytes, seconds and times in units they read."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

from streamlab.views.table import Cell, Kind

# Kinds of which a column stands on the left.
LEFT: tuple[Kind, ...] = ("text", "status", "setting", "flag", "digest", "time", "virtual")
_DIGEST = re.compile("[0-9a-f]{64}")


def readable(value: Cell, kind: Kind) -> str:
    """Write one cell for people; an empty one is a dash."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        digest = kind == "digest" or (kind == "setting" and _DIGEST.fullmatch(value))
        text = value[:12] if digest else value
        text = "STALE" if (kind, text) == ("status", "stale") else text
        # A name from a scenario must not move the cursor or change colours.
        return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return _NUMBERS.get(kind, str)(value)


def readable_bytes(value: float) -> str:
    """Write bytes with a unit of powers of 1,000 and three digits that count."""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} B" if unit == "B" else f"{_three(value)} {unit}"
        value /= 1000
    return f"{_three(value)} TB"


def readable_seconds(value: float) -> str:
    """Write seconds, or minutes and hours where they are many."""
    if value < 99.95:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"


def _three(value: float) -> str:
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def _time(value: float) -> str:
    return f"{datetime.fromtimestamp(value, UTC):%Y-%m-%d %H:%M}"


def _virtual(value: float) -> str:
    """Write a virtual time: on which day, counted from 1, and at what time of it."""
    minutes = round(value) // 60_000_000
    return f"day {1 + minutes // 1440} {minutes % 1440 // 60:02d}:{minutes % 60:02d}"


_NUMBERS: dict[Kind, Callable[[float], str]] = {
    "count": lambda value: f"{value:,}",
    "bytes": readable_bytes,
    "seconds": readable_seconds,
    "time": _time,
    "virtual": _virtual,
    "share": lambda value: f"{value:.2%}",
    "score": lambda value: f"{value:.4f}",
    "change": lambda value: f"{value:+.4f}",
    "ratio": lambda value: f"{value:,.2f}",
    "text": lambda value: f"{value:g}" if isinstance(value, float) else str(value),
}
