"""The storage figure as files: PNG, SVG and the numbers behind them as CSV."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from streamlab.registry.aside import written_aside
from streamlab.report.csv_file import write_csv
from streamlab.report.storage import StorageSeries

_COLUMNS = (
    "run", "seed", "n_tasks", "task", "provider",
    "diff_bytes", "head_bytes", "ours_bytes", "full_bytes", "ratio",
)  # fmt: skip


@dataclass(frozen=True)
class StorageFiles:
    """What was written."""

    png: Path
    svg: Path
    csv: Path


def write_storage(series: Sequence[StorageSeries], folder: Path) -> StorageFiles:
    """Write storage.png, storage.svg and storage.csv; the same series give the same bytes.

    Each file is written aside and renamed. Raises StoreError where the disk refuses.
    """
    # Here, because matplotlib takes a second that no other command should pay.
    from streamlab.report.storage_figure import house_style, storage_figure

    files = StorageFiles(*(folder / f"storage.{ending}" for ending in ("png", "svg", "csv")))
    png, svg = io.BytesIO(), io.BytesIO()
    with house_style():
        figure = storage_figure(series)
        figure.savefig(png, format="png", metadata={"Software": None})
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    for path, picture in ((files.png, png), (files.svg, svg)):
        with written_aside(path) as file:
            file.write(picture.getvalue())
    write_csv(files.csv, _COLUMNS, [row for one in series for row in _rows(one)])
    return files


def _rows(series: StorageSeries) -> list[tuple[str | int | float | None, ...]]:
    return [
        (
            series.run,
            series.seed,
            row.n_tasks,
            row.task,
            row.provider,
            row.diff_bytes,
            row.head_bytes,
            row.ours_bytes,
            row.full_bytes,
            row.ratio,
        )
        for row in series.rows
    ]
