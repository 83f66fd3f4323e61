"""The figure `bytes`: the parts of each task's file, one stacked bar a task.

The tick on the positions is the two-part bound: the fewest bytes for any code that distinguishes
tensors by their counts alone, computed from the stored file. Too many tasks to be named are sorted,
the largest first, and have no bound, which would require decoding each file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from streamlab.figures.style import (
    BYTES,
    COLOURS,
    MOST_NAMED,
    StreamFigure,
    add_legend,
    fit_panels,
    lay_out_rows,
    new_figure,
    plain,
    rows_height,
)
from streamlab.registry.records import DiffRecord
from streamlab.views.run_source import RunSource
from streamlab.views.size_bounds import find_positions_bound
from streamlab.views.table import Cell

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PARTS = ("positions", "values", "head", "metadata")
_PART_COLOURS = (COLOURS[0], COLOURS[4], COLOURS[2], "#bbbbbb")
_BAR = 0.2  # inches a task


@dataclass(frozen=True)
class BytesFigure(StreamFigure):
    """One seed's files in the order of arrival."""

    name = "bytes"
    columns = (
        "run", "seed", "place", "task", "provider", "digest", "kind",
        *(f"{part}_bytes" for part in _PARTS), "file_bytes", "positions_bound_bytes",
    )  # fmt: skip

    # Fewest bytes for the positions of each file; None where it is not in the store, or no diff.
    bounds: tuple[float | None, ...]

    @classmethod
    def read(cls, source: RunSource) -> Self:
        """Read the parts of a run's files from the registry, and bounds from the store.

        Raises NotInRegistryError for an unknown run, RegistryError where nothing has finished yet.
        """
        stream, registry, store = source.stream, source.registry, source.store
        few = len(stream.arrivals) <= MOST_NAMED
        bounds = (
            find_positions_bound(diff, registry, store) if few else None for _, diff in stream.files
        )
        return cls(stream, tuple(bounds))

    def rows(self) -> Iterator[Sequence[Cell]]:
        """Yield a row a file."""
        files = zip(self.stream.files, self.bounds, strict=True)
        for place, ((arrival, diff), bound) in enumerate(files):
            about = (place, arrival.task, arrival.provider, diff.digest, diff.kind)
            yield (*self.who, *about, *_sizes(diff), diff.file_bytes, bound)

    def draw(self) -> Figure:
        """Draw a bar a task, the first on top."""
        files = self.stream.files
        is_crowded = len(files) > MOST_NAMED
        height = rows_height(len(files), _BAR)
        figure, (axes,) = new_figure(self._caption(), [height])
        if is_crowded:
            files = tuple(sorted(files, key=lambda pair: -pair[1].file_bytes))
        places = range(len(files))
        ends = [0.0] * len(files)
        for number, (part, colour) in enumerate(zip(_PARTS, _PART_COLOURS, strict=True)):
            sizes = [float(_sizes(diff)[number]) for _, diff in files]
            before, ends = ends, [end + size for end, size in zip(ends, sizes, strict=True)]
            if is_crowded:
                axes.fill_betweenx(places, before, ends, step="mid", color=colour, lw=0, label=part)
            else:
                axes.barh(places, sizes, left=before, height=0.7, color=colour, label=part)
        bounds = [(y, bound) for y, bound in enumerate(self.bounds) if bound is not None]
        if bounds:
            y, x = zip(*bounds, strict=True)
            low, high = ([place + way for place in y] for way in (-0.45, 0.45))
            axes.vlines(x, low, high, color="black", linewidth=1.2)
        axes.set_xlim(0, 1.03 * max(ends))
        axes.xaxis.set_major_formatter(BYTES)
        names = [plain(arrival.versioned_task, 14) for arrival, _ in files]
        lay_out_rows(axes, names, "file size", order="largest first")
        handles = [
            Patch(color=colour, label=part)
            for part, colour in zip(_PARTS, _PART_COLOURS, strict=True)
        ]
        bound = Line2D(
            [], [], linestyle="", marker="|", color="black", markersize=9, markeredgewidth=1.2,
            label="bound",
        )  # fmt: skip
        add_legend(figure, 5, [*handles, *([bound] if bounds else [])])
        return fit_panels(figure)

    def _caption(self) -> str:
        n_files = len(self.bounds)
        bound = " Tick: two-part bound of the positions." if any(self.bounds) else ""
        order = ""
        if n_files > MOST_NAMED:
            order = f" {n_files:,} tasks, largest first; the CSV names them."
        return (
            f"{self.head}: files by {self.stream.method} on {self.stream.base.model}, measured."
            f"{bound}{order}"
        )


def _sizes(diff: DiffRecord) -> Sequence[int]:
    return [getattr(diff, f"{part}_bytes") for part in _PARTS]
