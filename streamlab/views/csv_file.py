"""CSV files that are whole or not there."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from streamlab.files import atomic_write
from streamlab.views.table import Cell


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Write rows as CSV under a header: raw numbers, empty cells for None, lines ending in LF."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Write a CSV file aside and rename it. Raises StoreError where the disk refuses."""
    with atomic_write(path) as file:
        file.write(csv_text(header, rows).encode())
