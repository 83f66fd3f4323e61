"""Text laid out in a number of columns: broken between words, and never within one."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.cells import cell_len

_FEWEST = 20  # columns that are laid out for; a narrower terminal breaks lines itself
_INDENT = 2  # of the lines that a line goes on in
# A blank between words; a number and its unit are one word.
_BLANK = re.compile(r"(?<![0-9]) | (?!(?:[kMGT]?i?B|ms|s|min|h|d)(?![A-Za-z]))")


def wrapped(text: str, width: int) -> list[str]:
    """Break a text between words into lines of at most `width` columns.

    A word that is longer has a line of its own. Lines of the text stay apart.
    """
    lines: list[str] = []
    for line in text.split("\n") or [""]:
        current = ""
        for word in _BLANK.split(line):
            joined = f"{current} {word}" if current else word
            if current.strip() and cell_len(joined) > width:
                lines.append(current.rstrip())
                current = word
            else:
                current = joined
        lines.append(current.rstrip())
    return lines


def wrapped_note(text: str, width: int) -> str:
    """Break the lines of a note, each going on with more indentation than it began with.

    A line with a mark below it stays as it is.
    """
    lines, found = text.split("\n"), []
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if cell_len(line) <= width or below.strip() == "^":
            found.append(line)
            continue
        body = line.lstrip(" ")
        indent = len(line) - len(body)
        first, *rest = wrapped(body, max(width - indent, _FEWEST))
        found.append(" " * indent + first)
        if rest:
            again = wrapped(" ".join(rest), max(width - indent - _INDENT, _FEWEST))
            found += [" " * (indent + _INDENT) + more for more in again]
    return "\n".join(found)


def padded(text: str, width: int, *, right: bool) -> str:
    """Return a text with blanks up to `width` columns."""
    blanks = " " * (width - cell_len(text))
    return blanks + text if right else text + blanks


def fitted_widths(
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Sequence[bool],
    *,
    width: int,
    gap: int,
) -> list[int] | None:
    """Return the widths of a table's columns, None where words do not fit beside one another.

    Columns are broken between words; numbers with their units (`right`) stay on one line.
    """
    least, wanted = [], []
    for name, is_right, cells in zip(names, right, zip(*rows, strict=True), strict=True):
        longest = max(map(cell_len, cells))
        word = longest if is_right else max(map(_longest_word, cells))
        least.append(max(word, _longest_word(name)))
        wanted.append(max(longest, cell_len(name), least[-1]))
    spare = width - gap * (len(names) - 1) - sum(least)
    if spare < 0:
        return None
    # Columns that lack least are filled first: most of them then have one line.
    for place in sorted(range(len(names)), key=lambda n: wanted[n] - least[n]):
        more = min(spare, wanted[place] - least[place])
        least[place] += more
        spare -= more
    return least


def _longest_word(text: str) -> int:
    return max(map(cell_len, _BLANK.split(text)))


def table_lines(
    rows: Sequence[Sequence[str]], right: Sequence[bool], widths: Sequence[int], *, gap: int
) -> list[list[str]]:
    """Return the lines of each row of a table."""
    found = []
    for row in rows:
        cells = [wrapped(text, width) for text, width in zip(row, widths, strict=True)]
        lines = []
        for number in range(max(map(len, cells))):
            parts = [
                padded(cell[number] if number < len(cell) else "", width, right=is_right)
                for cell, width, is_right in zip(cells, widths, right, strict=True)
            ]
            lines.append((" " * gap).join(parts).rstrip())
        found.append(lines)
    return found


def fact_lines(
    facts: Sequence[tuple[str, str]], width: int, *, indent: int
) -> list[tuple[str, list[str]]]:
    """Return for each name, indented and padded, the lines beside it.

    A value with a word that does not fit there stands below its name: the first line is empty.
    """
    column = min(max(indent + cell_len(name) for name, _ in facts), max(width // 2, _FEWEST))
    found = []
    for name, value in facts:
        label = padded(" " * indent + name, column, right=False)
        room = width - max(column, cell_len(label)) - 2
        if _longest_word(value.replace("\n", " ")) <= room:
            found.append((label, wrapped(value, room)))
        else:
            below = wrapped(value, max(width - indent - _INDENT, _FEWEST))
            found.append((label.rstrip(), ["", *(" " * (indent + _INDENT) + b for b in below)]))
    return found
