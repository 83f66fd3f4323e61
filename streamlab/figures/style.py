"""What all figures share: style, layout of panels, rows of tasks, and files.

A figure is as wide as one text column (89 mm). matplotlib's constrained layout makes room for
labels and legend; `fit_panels` then sets the height so that the panels have theirs, whatever there
is to show. The caption belongs to the page around the figure: it is no part of the picture, and
goes along in the files' metadata. The same numbers give the same bytes on one machine.
"""

from __future__ import annotations

import base64
import html
import io
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
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
from streamlab.units import bytes_unit
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
_BETWEEN, _AROUND = 0.8, 2.5  # inches between and around panels before they are fitted: ample
SMALL = 7.0  # points
_SHOWN_DPI = 130  # of a notebook's page
MOST_NAMED = 40  # rows
_UNNAMED_HEIGHT = 4.0  # inches of a panel whose rows are counted
_N_COUNTS = 4  # ticks on a panel whose rows are counted, after the first
_FONT = "DejaVu Sans"  # comes with matplotlib, so it is the same on every machine
_STYLE: dict[Any, Any] = {
    "font.family": ["sans-serif"],
    "font.sans-serif": [_FONT],
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
    # Text stays text, which can be searched and edited.
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}
# Ticks as plain numbers below a million, and in powers of ten beyond.
PLAIN_NUMBERS = FuncFormatter(
    lambda value, _: f"{value:,.10g}" if value < 1e6 else f"{value:.2g}".replace("e+0", "e")
)


BYTES = FuncFormatter(lambda value, _: _short_bytes(value))


class NotebookFigure(Figure):
    """A figure that shows itself in a notebook, whether or not pyplot was imported."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """Return the PNG, to be shown at the size of the page."""
        png = io.BytesIO()
        self.savefig(png, format="png")
        width, height = (round(_SHOWN_DPI * inches) for inches in self.get_size_inches())
        return png.getvalue(), {"width": width, "height": height}

    def _repr_html_(self) -> str:
        """Return the PNG above its caption."""
        png, size = self._repr_png_()
        return (
            f'<figure><img src="data:image/png;base64,{base64.b64encode(png).decode()}" '
            f'width="{size["width"]}" height="{size["height"]}" alt="">'
            f"<figcaption>{html.escape(caption_of(self))}</figcaption></figure>"
        )


@contextmanager
def house_style() -> Iterator[None]:
    """Draw with matplotlib's defaults and our style, whatever this machine's settings are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def new_figure(
    caption: str, heights: Sequence[float], n_columns: int = 1, *, wide: Collection[int] = ()
) -> tuple[Figure, list[Axes]]:
    """Return a figure with its caption beside it, and its panels row by row.

    `heights`: of each row of panels, in inches, once `fit_panels` was called. `wide`: rows of one
    panel across all columns.
    """
    size = (WIDTH, sum(heights) + len(heights) * _BETWEEN + _AROUND)
    figure = NotebookFigure(figsize=size, dpi=300, layout="constrained")
    figure.set_label(plain(caption))
    layout: Any = figure.get_layout_engine()
    layout.set(w_pad=0.04, h_pad=0.04, wspace=0.04, hspace=0.04)
    grid = figure.add_gridspec(len(heights), n_columns, height_ratios=heights)
    panels = []
    for row in range(len(heights)):
        places = [grid[row, :]] if row in wide else [grid[row, at] for at in range(n_columns)]
        panels += [figure.add_subplot(place) for place in places]
    return figure, panels


def fit_panels(figure: Figure) -> Figure:
    """Set the figure's height so that each panel has its own, and fix the layout."""
    lay_out(figure)
    grid: Any = figure.axes[0].get_gridspec()
    heights: Sequence[float] = grid.get_height_ratios()
    scale = panel_size(figure.axes[0])[1] / heights[0]
    figure.set_figheight(figure.get_figheight() + (1 - scale) * sum(heights))
    lay_out(figure)
    figure.set_layout_engine("none")
    return figure


def lay_out(figure: Figure) -> None:
    """Place the panels, with room for all that is around them."""
    layout = figure.get_layout_engine()
    assert layout is not None  # noqa: S101 - for types: `new_figure` sets it
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

    def write(self, folder: Path) -> tuple[Path, ...]:
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
    *,
    pdf: bool = False,
) -> tuple[Path, ...]:
    """Write NAME.png, NAME.svg and the numbers as NAME.csv, each atomically; return their paths.

    With `pdf` also NAME.pdf. `draw` is called in the house style. Raises StoreError where the disk
    refuses.
    """
    with house_style():
        figure = draw()
        kinds = ("png", "svg", *(["pdf"] if pdf else []))
        pictures = {folder / f"{name}.{kind}": _saved(figure, kind) for kind in kinds}
    for path, picture in pictures.items():
        write_atomically(path, picture)
    numbers = folder / f"{name}.csv"
    write_csv(numbers, header, rows)
    return (*pictures, numbers)


def drawn(draw: Callable[[], Figure]) -> Figure:
    """Return what `draw` draws in the house style."""
    with house_style():
        return draw()


def drawn_svg(draw: Callable[[], Figure]) -> tuple[bytes, str]:
    """Return a figure as SVG, and its caption. `draw` is called in the house style."""
    with house_style():
        figure = draw()
        return _saved(figure, "svg"), caption_of(figure)


def caption_of(figure: Figure) -> str:
    """Return the caption of a figure as one line."""
    return " ".join(str(figure.get_label()).split())


# What a file says of itself: nothing that differs between two writings of one figure.
_NAMELESS: Mapping[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def _saved(figure: Figure, kind: str) -> bytes:
    """Return a figure as a file of this kind, with its caption in the metadata."""
    name = "Subject" if kind == "pdf" else "Description"
    file = io.BytesIO()
    metadata: Any = {**_NAMELESS[kind], name: caption_of(figure) or None}
    figure.savefig(file, format=kind, metadata=metadata)
    return file.getvalue()


def plain(text: str, most: int | None = None) -> str:
    """Return text the font can show, a box for any other character, cut to `most` of them."""
    shown = "".join(sign if sign == " " or _is_drawn(sign) else "\u25a1" for sign in text)
    return shown if most is None or len(shown) <= most else shown[: most - 1] + "\u2026"


def _short_bytes(value: float) -> str:
    """Return bytes as the label of a tick.

    >>> _short_bytes(0), _short_bytes(250_000), _short_bytes(1e9)
    ('0', '250 kB', '1 GB')
    """
    unit, size = bytes_unit(value)
    return f"{value / size:,.4g} {unit}" if value else "0"


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
