"""A panel with a row a task, the first on top."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.ticker import MaxNLocator

from streamlab.report.figures.sheet import GRID

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def rows_height(n_rows: int, each: float) -> float:
    """Return the height of so many rows in inches; one row alone gets the place of two."""
    return max(n_rows, 2) * each


def lay_out_rows(axes: Axes, names: Sequence[str], unit: str) -> None:
    """Name the rows and the axis below them, and lay a grid that numbers are read by."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.grid(axis="x", color=GRID, linewidth=0.5)
    axes.set_xlabel(unit)
