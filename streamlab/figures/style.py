"""What all figures share: style, page layout with a caption, rows of tasks, and files.

A page is as wide as one text column (89 mm). matplotlib's constrained layout makes room for
labels, legend and caption; `fit_panels` then sets the page's height so that the panels have theirs,
whatever there is to show. The same numbers give the same bytes on one machine.
"""

from __future__ import annotations

import io
import math
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import FuncFormatter, MaxNLocator

from streamlab.files import write_atomically
from streamlab.registry.records import PrimaryStream
from streamlab.views.export import write_csv
from streamlab.views.table import Cell

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

# Okabe and Ito's palette, which colour-blind readers can tell apart; the darkest hues first.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
GREYS = ("#555555", "#999999")
INK = "#333333"
GRID = "#e4e4e4"

WIDTH = 3.5  # inches
LINE = 0.125  # inches, one line of small text
_BETWEEN, _AROUND = 0.8, 2.5  # inches between and around panels before the page is fitted: ample
SMALL = 7.0  # points
_SHOWN_DPI = 130  # of a notebook's page
MOST_NAMED = 40  # rows
_UNNAMED_HEIGHT = 4.0  # inches of a panel whose rows are counted
_N_COUNTS = 4  # ticks on a panel whose rows are counted, after the first
_FONT = "DejaVu Sans"  # comes with matplotlib, so it is the same on every machine
_CAPTION_WIDTH = 62  # characters
_STYLE: dict[Any, Any] = {
    "font.family": [_FONT],
    "font.size": 8.0,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.titlesize": SMALL,
    "axes.titlelocation": "left",
    "axes.titlepad": 3.0,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "legend.handletextpad": 0.4,
    "legend.borderaxespad": 0.2,
    "legend.columnspacing": 1.0,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "text.parse_math": False,  # a name with two dollars in it is still a name
    "svg.hashsalt": "streamlab",
    "svg.fonttype": "path",
}
# Ticks as plain numbers below a million, and in powers of ten beyond.
PLAIN_NUMBERS = FuncFormatter(
    lambda value, _: f"{value:,.10g}" if value < 1e6 else f"{value:.2g}".replace("e+0", "e")
)


class NotebookFigure(Figure):
    """A figure that shows itself in a notebook, whether or not pyplot was imported."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """Return the PNG, to be shown at the size of the page."""
        png = io.BytesIO()
        self.savefig(png, format="png")
        width, height = (round(_SHOWN_DPI * inches) for inches in self.get_size_inches())
        return png.getvalue(), {"width": width, "height": height}


@contextmanager
def house_style() -> Iterator[None]:
    """Draw with matplotlib's defaults and our style, whatever this machine's settings are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def new_page(
    caption: Sequence[str], height: float, n_rows: int = 1, n_columns: int = 1
) -> tuple[Figure, list[Axes]]:
    """Return a figure above its caption, and its panels row by row, about `height` inches each.

    Each paragraph of the caption begins on a line of its own.
    """
    lines = [line for text in caption for line in textwrap.wrap(plain(text), _CAPTION_WIDTH)]
    size = (WIDTH, n_rows * (height + _BETWEEN) + len(lines) * LINE + _AROUND)
    figure = NotebookFigure(figsize=size, dpi=300, layout="constrained")
    layout: Any = figure.get_layout_engine()
    layout.set(w_pad=0.04, h_pad=0.04, wspace=0.04, hspace=0.04)
    figure.supxlabel("\n".join(lines), x=0.02, ha="left", fontsize=SMALL - 0.5, color=INK)
    return figure, list(figure.subplots(n_rows, n_columns, squeeze=False).flat)


def fit_panels(figure: Figure, height: float) -> Figure:
    """Set the page's height so that each panel is `height` inches high, and fix the layout."""
    lay_out(figure)
    n_rows = figure.axes[0].get_gridspec().nrows  # type: ignore[union-attr]
    grown = height - panel_size(figure.axes[0])[1]
    figure.set_figheight(figure.get_figheight() + n_rows * grown)
    lay_out(figure)
    figure.set_layout_engine("none")
    return figure


def lay_out(figure: Figure) -> None:
    """Place the panels, with room for all that is around them."""
    layout = figure.get_layout_engine()
    assert layout is not None  # noqa: S101 - for types: `new_page` sets it
    layout.execute(figure)


def panel_size(axes: Axes) -> tuple[float, float]:
    """Return the width and the height of a panel in inches, as it was last laid out."""
    figure = axes.get_figure(root=True)
    assert figure is not None  # noqa: S101 - for types: a panel is on a page
    box = axes.get_position(original=True)
    return box.width * figure.get_figwidth(), box.height * figure.get_figheight()


def add_legend(figure: Figure, n_columns: int, handles: Sequence[Artist] | None = None) -> None:
    """Name what is drawn, or `handles`, above the panels."""
    figure.legend(handles=handles, loc="outside upper left", ncols=n_columns)


def rows_height(n_rows: int, each: float) -> float:
    """Return the height in inches of a panel with a row a task; a single row gets that of two.

    Rows keep a fixed height while they are named, up to `MOST_NAMED`; beyond, the panel does.
    """
    return max(n_rows, 2) * each if n_rows <= MOST_NAMED else _UNNAMED_HEIGHT


def lay_out_rows(axes: Axes, names: Sequence[str], unit: str, *, order: str) -> None:
    """Label rows, the first on top, and the axis below them.

    `order`: how rows too many to be named are sorted, as "best first".
    """
    name_rows(axes, names, order=order)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.grid(axis="x")
    axes.set_xlabel(unit)


def name_rows(axes: Axes, names: Sequence[str], *, order: str) -> None:
    """Name the rows at 0, 1, ..., or count them from 1 where they are too many."""
    n_rows = len(names)
    if n_rows <= MOST_NAMED:
        axes.set_yticks(range(n_rows), names)
        return
    counts = [1, *(round(n_rows * number / _N_COUNTS) for number in range(1, _N_COUNTS + 1))]
    axes.set_yticks([count - 1 for count in counts], [f"{count:,}" for count in counts])
    axes.set_ylabel(f"tasks, {order}")


class RunFigure(ABC):
    """A figure of one run, read from its registry.

    Subclasses are frozen dataclasses of what was read, with a class method `read(source)`.
    """

    name: ClassVar[str]  # of its files
    columns: ClassVar[tuple[str, ...]]  # of its CSV file

    @property
    def trivial(self) -> str | None:
        """Return why the figure says nothing about this run; None where it does."""
        return None

    @abstractmethod
    def rows(self) -> Iterable[Sequence[Cell]]:
        """Return the rows of the CSV file."""

    @abstractmethod
    def draw(self) -> Figure:
        """Draw the figure; call it in `house_style`."""

    def write(self, folder: Path) -> tuple[Path, Path, Path]:
        """Write it with its numbers; see `write_figure`."""
        return write_figure(folder, self.name, self.draw, self.columns, self.rows())


@dataclass(frozen=True)
class StreamFigure(RunFigure):
    """A figure of a run's own stream: its first seed by its primary method."""

    stream: PrimaryStream

    @property
    def who(self) -> tuple[str, int]:
        """Return the first cells of each row: the run and the seed."""
        return self.stream.run.name, self.stream.seed

    @property
    def head(self) -> str:
        """Return the start of the caption."""
        return f"Run {self.stream.run.name}, seed {self.stream.seed}"


def write_figure(
    folder: Path,
    name: str,
    draw: Callable[[], Figure],
    header: Sequence[str],
    rows: Iterable[Sequence[Cell]],
) -> tuple[Path, Path, Path]:
    """Write NAME.png, NAME.svg and the numbers as NAME.csv, each atomically; return their paths.

    `draw` is called in the house style. Raises StoreError where the disk refuses.
    """
    png = io.BytesIO()
    with house_style():
        figure = draw()
        figure.savefig(png, format="png", metadata={"Software": None})
        svg = _svg(figure)
    paths = (folder / f"{name}.png", folder / f"{name}.svg", folder / f"{name}.csv")
    for path, picture in zip(paths, (png.getvalue(), svg), strict=False):
        write_atomically(path, picture)
    write_csv(paths[2], header, rows)
    return paths


def drawn_svg(draw: Callable[[], Figure]) -> tuple[bytes, str]:
    """Return a figure as SVG, and its caption. `draw` is called in the house style."""
    with house_style():
        figure = draw()
        return _svg(figure), caption_of(figure)


def caption_of(figure: Figure) -> str:
    """Return the caption of a page as one line."""
    return " ".join(" ".join(text.get_text() for text in figure.texts).split())


def _svg(figure: Figure) -> bytes:
    svg = io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return svg.getvalue()


def plain(text: str, most: int | None = None) -> str:
    """Return text the font can show, a box for any other character, cut to `most` of them."""
    shown = "".join(sign if sign == " " or _is_drawn(sign) else "\u25a1" for sign in text)
    return shown if most is None or len(shown) <= most else shown[: most - 1] + "\u2026"


def widened(limits: tuple[float, float], least: float) -> tuple[float, float]:
    """Return the limits of an axis at least `least` apart, so that its tick labels stay short.

    >>> widened((0.5, 0.5), 0.2), widened((0.1, 0.9), 0.2)
    ((0.4, 0.6), (0.1, 0.9))
    """
    low, high = limits
    more = max(least - (high - low), 0.0) / 2
    return low - more, high + more


def decades(values: Iterable[float], margin: float) -> tuple[float, float]:
    """Return the powers of ten around the positive values, a factor `margin` away from them.

    >>> decades([0, 20, 99], 1.001), decades([0, 20, 99], 1.25)
    ((10.0, 100.0), (10.0, 1000.0))
    """
    sizes = [value for value in values if value > 0]
    low, high = min(sizes) / margin, max(sizes) * margin
    return 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high))


@cache
def _is_drawn(sign: str) -> bool:
    return sign.isprintable() and get_font(findfont(_FONT)).get_char_index(ord(sign)) != 0
