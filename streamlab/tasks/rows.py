"""One row of a task."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One example: a text, perhaps a second one, and its label."""

    text: str
    text2: str | None
    label: int | float
