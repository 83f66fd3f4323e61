"""A heat map of shares with names on both sides, for the figures that are one.

Rows that are too many to be named are counted. Columns always have names: whoever has very many
shows `MOST_COLUMNS` of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps

from streamlab.figures.style import (
    MOST_NAMED,
    SMALL,
    UNNAMED_LEFT,
    WIDTH,
    Sheet,
    name_rows,
    rows_height,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_RIGHT, _BELOW, _ABOVE = 0.1, 0.3, 0.1  # inches around the panel, names apart
_ROW = 0.22  # inches
_LETTER = 0.053  # inches, of a small name that stands upright
_NAME = 0.072  # inches, of a letter to the left
MOST_NUMBERS = 16  # columns that numbers fit in
MOST_COLUMNS = 20  # columns of a square that names fit below


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Mapping[tuple[int, int], float],
    limits: tuple[float, float],
    *,
    write: Callable[[float], str],
    title: str,
    caption: Sequence[str],
    split: int | None = None,
) -> Figure:
    """Draw a cell for each (row, column), dark at the lower of `limits`; names are plain already.

    `write`: how a number reads in its cell. `title`: of what is shown, on one line. `split`: the
    column that a line stands before.
    """
    is_crowded = len(rows) > MOST_NAMED
    height = rows_height(len(rows), _ROW)
    below = _BELOW + _LETTER * max(map(len, columns))
    left = UNNAMED_LEFT if is_crowded else 0.15 + _NAME * max(map(len, rows))
    sheet = Sheet(height + below + _ABOVE, caption)
    # No cell is wider than four are high, so that one task is no banner.
    width = min(WIDTH - left - _RIGHT, 4 * _ROW * len(columns))
    axes = sheet.panel(left, below, width, height)
    grid = np.full((len(rows), len(columns)), np.nan)
    for place, value in cells.items():
        grid[place] = value
    axes.pcolormesh(
        np.arange(len(columns) + 1) - 0.5, np.arange(len(rows) + 1) - 0.5,
        np.ma.masked_invalid(grid), cmap=colormaps["cividis"], vmin=limits[0], vmax=limits[1],
        edgecolors="none" if is_crowded else "white", linewidth=0.5, rasterized=is_crowded,
    )  # fmt: skip
    if not is_crowded and len(columns) <= MOST_NUMBERS:
        _write_numbers(axes, cells, limits, write, SMALL if len(columns) < 7 else SMALL - 1.5)
    if split is not None and split < len(columns):
        axes.axvline(split - 0.5, color="black", linewidth=1.0)
    name_rows(axes, rows, order="in the order of arrival")
    # No name is wider than its column.
    size = min(SMALL - 1, 72 * width / len(columns))
    axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=size)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(length=0)
    # Below the longest of the names.
    sheet.figure.text(
        1 - _RIGHT / WIDTH, sheet.share(0.04), title, fontsize=SMALL, va="bottom", ha="right"
    )
    return sheet.figure


def evenly(n_all: int, n_some: int = MOST_COLUMNS) -> list[int]:
    """Choose places from 0 to n_all - 1 as evenly as may be, both ends included; all of a few.

    >>> evenly(1000, 5), evenly(3, 5)
    ([0, 250, 500, 749, 999], [0, 1, 2])
    """
    if n_all <= n_some:
        return list(range(n_all))
    return [round(number * (n_all - 1) / (n_some - 1)) for number in range(n_some)]


def _write_numbers(
    axes: Axes,
    cells: Mapping[tuple[int, int], float],
    limits: tuple[float, float],
    write: Callable[[float], str],
    size: float,
) -> None:
    low, high = limits
    for (row, column), value in cells.items():
        axes.text(
            column, row, write(value), ha="center", va="center_baseline", fontsize=size,
            color="white" if (value - low) / (high - low) < 0.55 else "black",
        )  # fmt: skip
