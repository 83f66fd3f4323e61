"""A heat map with named rows and columns, for the figures `matrix`, `layers` and `overlap`.

Rows too many to be named are counted. Columns always have names: callers with very many show
`MOST_COLUMNS` of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.ticker import FuncFormatter, MaxNLocator

from streamlab.figures.style import (
    MOST_NAMED,
    SMALL,
    fit_panels,
    lay_out,
    name_rows,
    new_figure,
    panel_size,
    rows_height,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW = 0.22  # inches
_WIDEST = 4 * _ROW  # inches a column, so that one task is no banner
_N_COLOURS = 64
MOST_NUMBERS = 16  # columns wide enough for numbers
MOST_COLUMNS = 20  # columns wide enough for names


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Mapping[tuple[int, int], float],
    limits: tuple[float, float],
    *,
    write: Callable[[float], str],
    title: str,
    caption: str,
    split: int | None = None,
) -> Figure:
    """Draw a cell for each (row, column), dark at the lower of `limits`, under a bar of colours.

    Names must be plain already. `write` formats a cell's number, `title` names the bar, and a line
    is drawn before the column `split`.
    """
    is_crowded = len(rows) > MOST_NAMED
    height = rows_height(len(rows), _ROW)
    figure, (axes,) = new_figure(caption, [height])
    grid = np.full((len(rows), len(columns)), np.nan)
    for place, value in cells.items():
        grid[place] = value
    mesh = axes.pcolormesh(
        np.arange(len(columns) + 1) - 0.5, np.arange(len(rows) + 1) - 0.5,
        np.ma.masked_invalid(grid), cmap=colormaps["cividis"].resampled(_N_COLOURS),
        vmin=limits[0], vmax=limits[1],
        edgecolors="none" if is_crowded else "white", linewidth=0.5, rasterized=is_crowded,
    )  # fmt: skip
    if not is_crowded and len(columns) <= MOST_NUMBERS:
        _write_numbers(axes, cells, limits, write, SMALL if len(columns) < 7 else SMALL - 1.5)
    if split is not None and split < len(columns):
        axes.axvline(split - 0.5, color="black", linewidth=1.0)
    name_rows(axes, rows, order="in the order of arrival")
    axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=SMALL - 1)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(length=0)
    bar = figure.colorbar(
        mesh, ax=axes, location="top", aspect=40, pad=0.02, format=FuncFormatter(_colour_tick)
    )
    colours: Any = bar.solids
    colours.set_rasterized(False)  # few enough to be drawn one by one
    colours.set_edgecolor("face")
    bar.set_label(title, fontsize=SMALL, loc="left")
    bar.ax.xaxis.set_major_locator(MaxNLocator(nbins=5))
    bar.ax.tick_params(length=2, pad=1)
    bar.outline.set_visible(False)
    return _fit(figure, axes, len(columns))


def _fit(figure: Figure, axes: Axes, n_columns: int) -> Figure:
    """Fit the figure to the panel; no column is wider than `_WIDEST`, no name than its column."""
    lay_out(figure)
    width = panel_size(axes)[0]
    n_places = max(n_columns, width / _WIDEST)  # few columns leave the right side blank
    axes.set_xlim(-0.5, n_places - 0.5)
    axes.spines.bottom.set_bounds(-0.5, n_columns - 0.5)
    axes.tick_params(axis="x", labelsize=min(SMALL - 1, 72 * width / n_places))
    return fit_panels(figure)


def evenly(n_all: int, n_some: int = MOST_COLUMNS) -> list[int]:
    """Return `n_some` indices evenly spaced from 0 to n_all - 1, both included; all of a few.

    >>> evenly(1000, 5), evenly(3, 5)
    ([0, 250, 500, 749, 999], [0, 1, 2])
    """
    places = np.linspace(0, n_all - 1, min(n_all, n_some)).round()
    return [int(place) for place in places]


def _colour_tick(value: float, _place: int | None) -> str:
    return f"{value:.3g}"


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
