"""The storage figure: bytes kept against tasks arrived, once linear and once logarithmic.

Markers are what is stored, point by point; nothing is drawn beyond the last arrival. One run
or several may be drawn; runs whose full checkpoints take the same share one line for them.
Sizes are in MB of 10^6 bytes. The figure is one text column wide (89 mm).
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from streamlab.errors import UsageError
from streamlab.report.storage import StorageSeries

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MB = 1e6
# Okabe and Ito's palette, told apart by the colour-blind; the darkest hues first.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
_FULL_COLOURS = ("#555555", "#999999")
MOST_RUNS = len(_COLOURS)

_SIZE = (3.5, 5.0)  # inches
_LEFT, _RIGHT, _TOP, _GAP = 0.56, 1.02, 0.26, 0.52  # inches around the panels
_LINE = 0.125  # inches, one line of small text
_SMALL = 7.0  # points
_STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib, so the same on every machine
    "font.size": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.titlesize": 8.0,
    "svg.hashsalt": "streamlab",
    "svg.fonttype": "path",
}


@dataclass(frozen=True)
class _Line:
    label: str
    colour: str
    marker: str
    x: tuple[int, ...]
    y: tuple[float, ...]  # MB


@contextmanager
def house_style() -> Iterator[None]:
    """Draw by matplotlib's own defaults with ours on top, whatever this machine's settings are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def storage_figure(series: Sequence[StorageSeries]) -> Figure:
    """Draw the storage of one run, or of a few on common axes; call it in `house_style`.

    Raises UsageError for no run, or for more runs than the palette has colours.
    """
    if not 1 <= len(series) <= MOST_RUNS:
        raise UsageError(f"The figure shows 1 to {MOST_RUNS} runs, got {len(series)}.")
    caption = [line for one in series for line in textwrap.wrap(_caption(one), 62)]
    bottom = 0.52 + _LINE * len(caption)
    width, height = _SIZE[0], _SIZE[1] + _LINE * (len(caption) - 2)
    panel = (height - _TOP - _GAP - bottom) / 2
    figure = Figure(figsize=(width, height), dpi=300)
    lines = list(_lines(series))
    for place, scale in ((bottom + panel + _GAP, "linear"), (bottom, "log")):
        axes = figure.add_axes(
            (_LEFT / width, place / height, 1 - (_LEFT + _RIGHT) / width, panel / height)
        )
        _panel(axes, lines, scale, panel)
    axes.set_xlabel("tasks arrived")
    for number, text in enumerate(caption):
        y = (len(caption) - number - 0.6) * _LINE / height
        figure.text(0.06 / width, y, text, fontsize=_SMALL - 0.5, color="#333333", va="baseline")
    return figure


def _lines(series: Sequence[StorageSeries]) -> Iterator[_Line]:
    """Yield every run's line, then each line of full checkpoints that is no part of another."""
    several = len(series) > 1
    for one, colour in zip(series, _COLOURS, strict=False):
        x = tuple(row.n_tasks for row in one.rows)
        y = tuple(row.ours_bytes / MB for row in one.rows)
        label = one.run if several else "base + diffs"
        yield _Line(label, colour, "o", x, y)
    full: list[tuple[float, ...]] = []
    for one in sorted(series, key=lambda s: -len(s.rows)):
        y = tuple(row.full_bytes / MB for row in one.rows)
        if not any(longer[: len(y)] == y for longer in full):
            full.append(y)
    for number, y in enumerate(full):
        colour = _FULL_COLOURS[min(number, len(_FULL_COLOURS) - 1)]
        yield _Line("full checkpoints", colour, "s", tuple(range(len(y))), y)


def _panel(axes: Axes, lines: Sequence[_Line], scale: str, panel: float) -> None:
    longest = max(line.x[-1] for line in lines)
    crowded = longest > 40
    for line in lines:
        # The logarithm has no place for the nothing that full finetuning keeps before a task.
        points = [(x, y) for x, y in zip(line.x, line.y, strict=True) if y > 0 or scale == "linear"]
        axes.plot(
            [x for x, _ in points],
            [y for _, y in points],
            color=line.colour,
            marker=line.marker,
            markersize=1.2 if crowded else 3.5,
            linewidth=0.8 if crowded else 1.2,
            clip_on=False,
            zorder=3,
        )
    axes.set_xlim(0, longest)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.tick_params(width=0.6, labelsize=_SMALL)
    axes.tick_params(which="minor", width=0.4)
    # Above the panel, where no length of a tick's label can push it off the page.
    axes.set_title(f"Stored (MB), {scale} scale", loc="left", x=-0.2, color="#333333")
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.5)
    axes.set_axisbelow(True)
    if scale == "log":
        axes.set_yscale("log")
        _decades(axes, lines)
    else:
        axes.set_ylim(0, 1.05 * max(line.y[-1] for line in lines))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    _label(axes, lines, panel)


def _decades(axes: Axes, lines: Sequence[_Line]) -> None:
    """Let the logarithmic axis span whole powers of ten, at least one."""
    positive = [y for line in lines for y in line.y if y > 0]
    low = math.floor(math.log10(min(positive) * 0.999))
    high = math.ceil(math.log10(max(positive) * 1.001))
    axes.set_ylim(10.0**low, 10.0**high)


def _label(axes: Axes, lines: Sequence[_Line], panel: float) -> None:
    """Name every line at its right end, moved apart where names would overlap.

    `panel`: the height of the axes in inches.
    """
    texts = [[*textwrap.wrap(line.label, 16)[:2], f"{megabytes(line.y[-1])} MB"] for line in lines]
    ends = [float(axes.transAxes.inverted().transform(
        axes.transData.transform((line.x[-1], line.y[-1])))[1]) for line in lines]  # fmt: skip
    heights = [len(text) * _LINE / panel for text in texts]
    for line, text, y in zip(lines, texts, spread(ends, heights), strict=True):
        axes.text(
            1.06, y, "\n".join(text), transform=axes.transAxes, color=line.colour,
            fontsize=_SMALL, va="center", ha="left", linespacing=1.15,
        )  # fmt: skip


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


def megabytes(value: float) -> str:
    """Write MB with three digits that count, or all digits before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 1:
        return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
    return f"{value:.2g}"


def _caption(series: StorageSeries) -> str:
    n_tasks = len(series.rows) - 1
    rows = {
        0: "",
        n_tasks: "; rows generated",
    }.get(series.n_generated, f"; rows of {series.n_generated} of {n_tasks} tasks generated")
    low, high = (f"{100 * d:.2g}%" for d in (min(series.densities), max(series.densities)))
    density = low if low == high else f"{low} to {high}"
    base = series.base
    layers = "" if base.layers is None else f", {base.layers} layers"
    return (
        f"Run {series.run}, seed {series.seed}: {series.method} at density {density} "
        f"on {base.model}{layers}{rows}."
    )
