"""The storage figure as files: PNG, SVG and the numbers behind them as CSV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streamlab.figures.storage_data import StorageSeries
from streamlab.views.table import Cell

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = (
    "run", "seed", "n_tasks", "task", "provider",
    "diff_bytes", "head_bytes", "ours_bytes", "full_bytes", "ratio",
    "lora_bytes", "basis", "low_bytes", "high_bytes", "coo_computed_bytes",
)  # fmt: skip


@dataclass(frozen=True)
class StorageFiles:
    """What was written."""

    png: Path
    svg: Path
    csv: Path


def write_storage(
    series: Sequence[StorageSeries], folder: Path, *, budget: int | None = None
) -> StorageFiles:
    """Write storage.png, storage.svg and storage.csv; the same series give the same bytes.

    `budget`: bytes to draw a line at. Each file is written aside and renamed. Raises StoreError
    where the disk refuses.
    """
    # Here, because matplotlib takes a second that no other command should pay.
    from streamlab.figures.storage import storage_figure
    from streamlab.figures.style import write_with_numbers

    def draw() -> Figure:
        return storage_figure(series, budget=budget)

    rows = (row for one in series for row in _rows(one))
    return StorageFiles(*write_with_numbers(folder, "storage", draw, _COLUMNS, rows))


def _rows(series: StorageSeries) -> Iterator[tuple[Cell, ...]]:
    who = (series.run, series.seed)
    lora, coo = (dict(enumerate(sizes)) for sizes in (series.lora_bytes, series.coo_bytes))
    for row in series.rows:
        yield (
            *(*who, row.n_tasks, row.task, row.provider, row.diff_bytes, row.head_bytes),
            *(row.ours_bytes, row.full_bytes, row.ratio),
            *(lora.get(row.n_tasks), "measured", None, None, coo.get(row.n_tasks)),
        )
    for later in series.projected:
        yield (
            *(*who, later.n_tasks, None, None, None, None),
            *(later.ours_bytes, later.full_bytes, later.full_bytes / later.ours_bytes),
            *(later.lora_bytes, "extrapolated", later.low_bytes, later.high_bytes),
            later.coo_bytes,
        )
