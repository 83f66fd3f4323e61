"""A panel with a row a task, the first on top; of very many tasks thin rows without names.

Names need a fixed height each. Beyond `MOST_NAMED` tasks the panel keeps one height, whoever
draws it sorts the rows by what they show, and an axis counts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.ticker import MaxNLocator

from streamlab.figures.style import GRID

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_NAMED = 40
UNNAMED_LEFT = 0.62  # inches to the left of a panel whose rows are counted
_TALL = 4.0  # inches of a panel whose rows are counted
_N_TICKS = 4  # after the first


def rows_height(n_rows: int, each: float) -> float:
    """Return the height of so many rows in inches; one row alone gets the place of two."""
    return max(n_rows, 2) * each if n_rows <= MOST_NAMED else _TALL


def lay_out_rows(axes: Axes, names: Sequence[str], unit: str, *, order: str) -> None:
    """Name the rows and the axis below them, and lay a grid that numbers are read by.

    `order`: by what the rows are sorted where they are too many to be named, as "best first".
    """
    name_rows(axes, names, order=order)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.grid(axis="x", color=GRID, linewidth=0.5)
    axes.set_xlabel(unit)


def name_rows(axes: Axes, names: Sequence[str], *, order: str) -> None:
    """Name the rows at 0, 1, ..., or count them from 1 where they are too many."""
    n_rows = len(names)
    if n_rows <= MOST_NAMED:
        axes.set_yticks(range(n_rows), names)
        return
    counts = [1, *(round(n_rows * number / _N_TICKS) for number in range(1, _N_TICKS + 1))]
    axes.set_yticks([count - 1 for count in counts], [f"{count:,}" for count in counts])
    axes.set_ylabel(f"tasks, {order}")
