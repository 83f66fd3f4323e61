"""Whole tables as files: CSV or JSON by the file's ending, raw values in every column."""

from __future__ import annotations

import json
from pathlib import Path

from streamlab.errors import UsageError
from streamlab.files import atomic_write, disk_errors
from streamlab.views.csv_file import write_csv
from streamlab.views.table import Table

ENDINGS = (".csv", ".json")


def check_ending(path: Path) -> None:
    """Raise UsageError for a file whose ending names no format."""
    if path.suffix not in ENDINGS:
        raise UsageError(
            f"A table is written as {' or '.join(ENDINGS)}, by the ending of the file; got "
            f"{str(path)!r}."
        )


def write_table(table: Table, path: Path) -> None:
    """Write a table aside and rename it. Raises UsageError, StoreError."""
    check_ending(path)
    if path.suffix == ".csv":
        write_csv(path, [column.name for column in table.columns], table.rows)
        return
    text = json.dumps(table.records(), indent=2, allow_nan=False) + "\n"
    with atomic_write(path) as file, disk_errors(path):
        file.write(text.encode())
