"""Long lists in pieces, since a database takes a limited number of values with one statement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

_MOST = 500  # of up to six values each: far below the 32,766 that SQLite takes
FILES_AT_ONCE = 100  # that are deleted in one transaction

Item = TypeVar("Item")


def in_pieces(items: Sequence[Item], most: int = _MOST) -> Iterator[Sequence[Item]]:
    """Yield the items in order, a few hundred at a time; nothing for none."""
    for start in range(0, len(items), most):
        yield items[start : start + most]
