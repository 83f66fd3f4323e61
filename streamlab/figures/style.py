"""What all figures share: the style, the page of one text column with its caption, the files.

A page is 89 mm wide. Its panels are placed in inches, so that text keeps its size whatever
there is to show. The same numbers give the same bytes on one machine.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import MaxNLocator

from streamlab.files import write_atomically
from streamlab.views.export import write_csv
from streamlab.views.table import Cell

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

# Okabe and Ito's palette, told apart by the colour-blind; the darkest hues first.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
GREYS = ("#555555", "#999999")
INK = "#333333"
GRID = "#e4e4e4"

WIDTH = 3.5  # inches
LINE = 0.125  # inches, one line of small text
SMALL = 7.0  # points
_FONT = "DejaVu Sans"  # comes with matplotlib, so the same on every machine
_CAPTION_LETTERS = 62  # in a line
_STYLE: dict[Any, Any] = {
    "font.family": [_FONT],
    "font.size": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.titlesize": 8.0,
    "text.parse_math": False,  # a name with two dollars in it is still a name
    "svg.hashsalt": "streamlab",
    "svg.fonttype": "path",
}


@contextmanager
def house_style() -> Iterator[None]:
    """Draw by matplotlib's own defaults with ours on top, whatever this machine's settings are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


class Sheet:
    """A figure of one column: `height` inches of panels above the caption's lines."""

    def __init__(self, height: float, caption: Sequence[str]) -> None:
        """Lay out the page; every paragraph of the caption begins on a line of its own."""
        lines = [line for text in caption for line in textwrap.wrap(plain(text), _CAPTION_LETTERS)]
        self._bottom = LINE * (len(lines) + 0.4)  # inches below the panels' place
        self._height = height + self._bottom
        self.figure = Figure(figsize=(WIDTH, self._height), dpi=300)
        for number, text in enumerate(lines):
            y = (len(lines) - number - 0.6) * LINE / self._height
            self.figure.text(0.06 / WIDTH, y, text, fontsize=SMALL - 0.5, color=INK, va="baseline")

    def panel(self, left: float, bottom: float, width: float, height: float) -> Axes:
        """Add axes, in inches from the left and from the bottom of the panels' place."""
        axes = self.figure.add_axes(
            (
                *(left / WIDTH, (bottom + self._bottom) / self._height),
                *(width / WIDTH, height / self._height),
            )
        )
        axes.tick_params(width=0.6, labelsize=SMALL)
        axes.tick_params(which="minor", width=0.4)
        axes.set_axisbelow(True)
        return axes

    def legend(self, n_columns: int, handles: Sequence[Artist] | None = None) -> None:
        """Name what is drawn, or `handles`, in the top left corner of the page."""
        self.figure.legend(
            handles=handles, loc="upper left", bbox_to_anchor=(0.0, 1.0), ncols=n_columns,
            fontsize=SMALL, frameon=False, handletextpad=0.2, borderaxespad=0.2,
        )  # fmt: skip

    def share(self, above: float) -> float:
        """Return the place of what is so many inches above the caption, as matplotlib takes it."""
        return (above + self._bottom) / self._height


def write_figure(folder: Path, name: str, draw: Callable[[], Figure]) -> tuple[Path, Path]:
    """Write NAME.png and NAME.svg, each aside and renamed; return their paths.

    `draw` is called in the house's style. Raises StoreError where the disk refuses.
    """
    png = io.BytesIO()
    with house_style():
        figure = draw()
        figure.savefig(png, format="png", metadata={"Software": None})
        svg = _svg(figure)
    paths = (folder / f"{name}.png", folder / f"{name}.svg")
    for path, picture in zip(paths, (png.getvalue(), svg), strict=True):
        write_atomically(path, picture)
    return paths


def write_with_numbers(
    folder: Path,
    name: str,
    draw: Callable[[], Figure],
    header: Sequence[str],
    rows: Iterable[Sequence[Cell]],
) -> tuple[Path, Path, Path]:
    """Write a figure as `write_figure` does, and NAME.csv beside it; return the three paths."""
    pictures = write_figure(folder, name, draw)
    numbers = folder / f"{name}.csv"
    write_csv(numbers, header, rows)
    return (*pictures, numbers)


def drawn_svg(draw: Callable[[], Figure]) -> tuple[bytes, str]:
    """Return a figure as SVG, and the words that stand around its panels as one text.

    `draw` is called in the house's style.
    """
    with house_style():
        figure = draw()
        return _svg(figure), " ".join(text.get_text() for text in figure.texts)


def _svg(figure: Figure) -> bytes:
    svg = io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return svg.getvalue()


def plain(text: str, most: int | None = None) -> str:
    """Return a name as the font can show it, a box for every other sign; `most` letters of it."""
    shown = "".join(sign if sign == " " or _is_drawn(sign) else "\u25a1" for sign in text)
    return shown if most is None or len(shown) <= most else shown[: most - 1] + "\u2026"


def widened(limits: tuple[float, float], least: float) -> tuple[float, float]:
    """Return the ends of an axis, `least` apart at least, so that its numbers stay short.

    >>> widened((0.5, 0.5), 0.2), widened((0.1, 0.9), 0.2)
    ((0.4, 0.6), (0.1, 0.9))
    """
    low, high = limits
    more = max(least - (high - low), 0.0) / 2
    return low - more, high + more


@cache
def _is_drawn(sign: str) -> bool:
    return sign.isprintable() and get_font(findfont(_FONT)).get_char_index(ord(sign)) != 0


def spread(places: Sequence[float], heights: Sequence[float]) -> list[float]:
    """Move the centres of boxes on a line apart until none overlaps, each as little as may be.

    `places` and `heights` are in shares of the axis; the order is kept and nothing goes below 0.
    """
    order = sorted(range(len(places)), key=lambda i: (places[i], -i))
    groups: list[tuple[list[int], float]] = []  # boxes that touch, and their common bottom
    for index in order:
        members, bottom = [index], max(places[index] - heights[index] / 2, 0.0)
        while groups and _top(groups[-1], heights) > bottom:
            before, _ = groups.pop()
            members = before + members
            centre = sum(places[i] for i in members) / len(members)
            bottom = max(centre - sum(heights[i] for i in members) / 2, 0.0)
        groups.append((members, bottom))
    moved = [0.0] * len(places)
    for members, bottom in groups:
        for index in members:
            moved[index] = bottom + heights[index] / 2
            bottom += heights[index]
    return moved


def _top(group: tuple[list[int], float], heights: Sequence[float]) -> float:
    return group[1] + sum(heights[i] for i in group[0])


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
