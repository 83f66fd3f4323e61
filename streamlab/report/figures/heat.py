"""A heat map of shares with names on both sides, for the figures that are one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib import colormaps

from streamlab.report.figures.sheet import SMALL, WIDTH, Sheet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_RIGHT, _BELOW, _ABOVE = 0.1, 0.3, 0.1  # inches around the panel, names apart
_ROW = 0.22  # inches
_LETTER = 0.053  # inches, of a small name that stands upright
_NAME = 0.072  # inches, of a letter to the left
MOST_NUMBERS = 16  # columns that numbers fit in


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
    height = max(len(rows), 2) * _ROW
    below = _BELOW + _LETTER * max(map(len, columns))
    left = 0.15 + _NAME * max(map(len, rows))
    sheet = Sheet(height + below + _ABOVE, caption)
    # No cell is wider than four are high, so that one task is no banner.
    width = min(WIDTH - left - _RIGHT, 4 * _ROW * len(columns))
    axes = sheet.panel(left, below, width, height)
    low, high = limits
    for (row, column), value in cells.items():
        share = (value - low) / (high - low)
        axes.bar(
            column, 1.0, width=1.0, bottom=row - 0.5, color=colormaps["cividis"](share),
            edgecolor="white", linewidth=0.5,
        )  # fmt: skip
        if len(columns) <= MOST_NUMBERS:
            axes.text(
                column, row, write(value), ha="center", va="center_baseline",
                fontsize=SMALL if len(columns) < 7 else SMALL - 1.5,
                color="white" if share < 0.55 else "black",
            )  # fmt: skip
    if split is not None and split < len(columns):
        axes.axvline(split - 0.5, color="black", linewidth=1.0)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=SMALL - 1)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(length=0)
    # Below the longest of the names.
    sheet.figure.text(
        1 - _RIGHT / WIDTH, sheet.share(0.04), title, fontsize=SMALL, va="bottom", ha="right"
    )
    return sheet.figure
