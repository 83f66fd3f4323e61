"""How a cell is written for people: bytes, seconds and times in units they read."""

from __future__ import annotations

import re
from collections.abc import Callable

from streamlab.units import (
    format_bytes,
    format_count,
    format_seconds,
    format_share,
    format_time,
    format_virtual_time,
)
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


_NUMBERS: dict[Kind, Callable[[float], str]] = {
    "count": format_count,
    "bytes": format_bytes,
    "seconds": format_seconds,
    "time": format_time,
    "virtual": format_virtual_time,
    "share": format_share,
    "score": lambda value: f"{value:.4f}",
    "change": lambda value: f"{value:+.4f}",
    "ratio": lambda value: f"{value:,.2f}",
    "text": lambda value: f"{value:g}" if isinstance(value, float) else str(value),
}
