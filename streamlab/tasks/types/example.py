"""One example of a task."""

from __future__ import annotations

from dataclasses import dataclass

# A class index or a number; the classes that apply, or the class of every word; a completion.
Label = int | float | str | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """A text or its words, perhaps a second text, and its label."""

    text: str | tuple[str, ...]
    text2: str | None
    label: Label
