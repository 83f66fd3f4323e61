"""The figure `bytes`: the parts of each task's file, one stacked bar a task.

The tick on the positions is the two-part bound: the fewest bytes for any code that distinguishes
tensors by their counts alone, computed from the stored file. Too many tasks to be named are sorted,
the largest first, and have no bound, which would require decoding each file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streamlab.figures.style import (
    COLOURS,
    MOST_NAMED,
    add_legend,
    fit_panels,
    lay_out_rows,
    new_page,
    plain,
    rows_height,
    write_figure,
)
from streamlab.registry.records import DiffRecord
from streamlab.views.run_source import RunSource
from streamlab.views.size_bounds import find_positions_bound

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = (
    "run", "seed", "place", "task", "provider", "digest", "kind",
    "positions_bytes", "values_bytes", "head_bytes", "metadata_bytes", "file_bytes",
    "positions_bound_bytes",
)  # fmt: skip
_PARTS = ("positions", "values", "head", "metadata")
_PART_COLOURS = (COLOURS[0], COLOURS[4], COLOURS[2], "#bbbbbb")
_BAR = 0.2  # inches a task


@dataclass(frozen=True)
class TaskBar:
    """One task's file; `bound` is None where the file is not in the store, or not a diff."""

    task: str
    provider: str
    diff: DiffRecord
    bound: float | None  # fewest bytes for the positions


@dataclass(frozen=True)
class BytesFigure:
    """One seed's files in the order of arrival."""

    run: str
    seed: int
    method: str
    base: str
    bars: tuple[TaskBar, ...]


def read(source: RunSource) -> BytesFigure:
    """Read the parts of a run's files from the registry, and bounds from the store.

    Raises NotInRegistryError for an unknown run, RegistryError where nothing has finished yet.
    """
    stream = source.registry.primary_stream(source.run)
    bars = []
    few = len(stream.arrivals) <= MOST_NAMED
    for arrival in stream.arrivals:
        diff = stream.diffs[arrival.digest or ""]
        bound = find_positions_bound(diff, source.registry, source.store) if few else None
        bars.append(TaskBar(arrival.task, arrival.provider, diff, bound))
    return BytesFigure(stream.run.name, stream.seed, stream.method, stream.base.model, tuple(bars))


def write(data: BytesFigure, folder: Path) -> tuple[Path, ...]:
    """Write bytes.png, bytes.svg and bytes.csv. Raises StoreError where the disk refuses."""
    rows = [
        (
            *(data.run, data.seed, place, bar.task, bar.provider, bar.diff.digest, bar.diff.kind),
            *_sizes(bar.diff),
            *(bar.diff.file_bytes, bar.bound),
        )
        for place, bar in enumerate(data.bars)
    ]
    return write_figure(folder, "bytes", lambda: draw(data), _COLUMNS, rows)


def draw(data: BytesFigure) -> Figure:
    """Draw a bar a task, the first on top; call it in `house_style`."""
    is_crowded = len(data.bars) > MOST_NAMED
    height = rows_height(len(data.bars), _BAR)
    figure, (axes,) = new_page([_caption(data)], height)
    bars = sorted(data.bars, key=lambda bar: -bar.diff.file_bytes) if is_crowded else data.bars
    places = range(len(bars))
    ends = [0.0] * len(bars)
    for number, (part, colour) in enumerate(zip(_PARTS, _PART_COLOURS, strict=True)):
        sizes = [_sizes(bar.diff)[number] / 1e3 for bar in bars]
        before, ends = ends, [end + size for end, size in zip(ends, sizes, strict=True)]
        if is_crowded:
            axes.fill_betweenx(places, before, ends, step="mid", color=colour, lw=0, label=part)
        else:
            axes.barh(places, sizes, left=before, height=0.7, color=colour, label=part)
    bounds = [
        (place, bar.bound / 1e3) for place, bar in enumerate(data.bars) if bar.bound is not None
    ]
    if bounds:
        axes.vlines(
            [x for _, x in bounds],
            [place - 0.45 for place, _ in bounds],
            [place + 0.45 for place, _ in bounds],
            color="black",
            linewidth=1.2,
            label="bound",
        )
    axes.set_xlim(0, 1.03 * max(ends))
    names = [plain(bar.task, 14) for bar in bars]
    lay_out_rows(axes, names, "file size (kB of 1000 bytes)", order="largest first")
    add_legend(figure, 5)
    return fit_panels(figure, height)


def _sizes(diff: DiffRecord) -> Sequence[int]:
    return (diff.positions_bytes, diff.values_bytes, diff.head_bytes, diff.metadata_bytes)


def _caption(data: BytesFigure) -> str:
    bound = " Tick: two-part bound of the positions." if any(b.bound for b in data.bars) else ""
    order = ""
    if len(data.bars) > MOST_NAMED:
        order = f" {len(data.bars):,} tasks, largest first; the CSV names them."
    return (
        f"Run {data.run}, seed {data.seed}: files by {data.method} on {data.base}, measured."
        f"{bound}{order}"
    )
