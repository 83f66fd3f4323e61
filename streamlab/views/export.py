"""Tables as CSV, JSON and Markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from streamlab.errors import UsageError
from streamlab.files import write_atomically
from streamlab.units import printable
from streamlab.views.table import Cell, Table

_FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")  # and their forms of full width


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Return rows as CSV with a header: raw numbers, empty cells for None, lines ending in LF.

    Texts that a spreadsheet would take for a formula begin with an apostrophe, and characters
    that control a terminal are escaped.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([_harmless(cell) for cell in row] for row in (header, *rows))
    return text.getvalue()


def _harmless(cell: Cell) -> Cell:
    if not isinstance(cell, str):
        return cell
    shown = printable(cell, keep="\t\n")
    is_formula = shown.lstrip(" \t\n'\u3000\xa0")[:1] in _FORMULA and not _is_number(shown)
    return f"'{shown}" if shown and is_formula else shown


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Write a CSV file atomically. Raises StoreError where the disk refuses."""
    write_atomically(path, csv_text(header, rows).encode())


ENDINGS = (".csv", ".json")


def check_ending(path: Path) -> None:
    """Raise UsageError for a file name that does not end in a known format."""
    if path.suffix not in ENDINGS:
        raise UsageError(f"The file must end in {' or '.join(ENDINGS)}, got {str(path)!r}.")


def write_table(table: Table, path: Path) -> None:
    """Write a table atomically as CSV or JSON, by its ending. Raises UsageError, StoreError."""
    check_ending(path)
    if path.suffix == ".csv":
        write_csv(path, [column.name for column in table.columns], table.rows)
        return
    text = json.dumps(table.records(), indent=2, allow_nan=False) + "\n"
    write_atomically(path, text.encode())


def markdown_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, right: Collection[str] = ()
) -> str:
    """Return a Markdown table of text cells; columns named in `right` are aligned right.

    >>> print(markdown_table(["task", "score"], [["cola", "12.3"]], right=["score"]))
    | task | score |
    | --- | ---: |
    | cola | 12.3 |
    """
    lines = (header, ["---:" if name in right else "---" for name in header], *rows)
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join("| " + " | ".join(line) + " |" for line in escaped)
