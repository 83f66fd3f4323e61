"""The figure `pareto`: score against stored bytes, one small panel a task, one marker a method.

Up and to the left is better. Bytes are of the file that the registry holds, on a logarithmic
axis; several seeds are several markers. More tasks than panels are readable share one panel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from streamlab.figures.accuracy import require_scores
from streamlab.figures.style import (
    COLOURS,
    GRID,
    LINE,
    MARKERS,
    SMALL,
    WIDTH,
    Sheet,
    plain,
    widened,
    write_with_numbers,
)
from streamlab.registry.records import ArrivalRecord, DiffRecord, ScoreRecord
from streamlab.registry.registry import Registry
from streamlab.views.task_scores import by_arrival, find_own_score, task_scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = ("run", "seed", "task", "method", "kind", "digest", "file_bytes", "metric", "value")
_ACROSS = 2  # panels beside each other
_MOST_PANELS = 40
_LEFT, _BETWEEN, _RIGHT, _BELOW = 0.42, 0.5, 0.12, 0.42  # inches around the panels
_ONE_PANEL = 2.4  # inches
_PANEL, _TITLE, _TICKS = 0.8, 0.2, 0.22  # inches: a panel's height, and what it has round it


@dataclass(frozen=True)
class Point:
    """One stored artifact and what it scores."""

    arrival: ArrivalRecord
    diff: DiffRecord
    score: ScoreRecord


@dataclass(frozen=True)
class ParetoFigure:
    """All scored artifacts of a run; the own method is the first of its methods."""

    run: str
    methods: tuple[str, ...]
    points: tuple[Point, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        """Return the tasks in the order of arrival."""
        return tuple(dict.fromkeys(point.arrival.task for point in self.points))


def read_pareto(registry: Registry, run: str) -> ParetoFigure:
    """Read scores and bytes of a run, baselines and seeds included.

    Raises NotInRegistryError for an unknown run, RegistryError where nothing has a score yet.
    """
    record = registry.runs.get(run)
    scores = registry.scores.list(run=record.id)
    require_scores(record.name, task_scores(scores))
    own = by_arrival(scores)
    diffs = {diff.digest: diff for diff in registry.artifacts.list(run=record.id)}
    points = []
    for arrival in registry.arrivals.list(run=record.id, status="finished"):
        score = find_own_score(own.get(arrival.id, ()))
        diff = diffs.get(arrival.digest or "")
        if score is not None and diff is not None:
            points.append(Point(arrival, diff, score))
    points.sort(key=lambda point: (point.arrival.sequence, point.arrival.id))
    first = record.settings.primary_method
    methods = sorted({point.arrival.method for point in points}, key=lambda m: (m != first, m))
    return ParetoFigure(record.name, tuple(methods), tuple(points))


def write_pareto(data: ParetoFigure, folder: Path) -> tuple[Path, ...]:
    """Write pareto.png, pareto.svg and pareto.csv. Raises StoreError where the disk refuses."""
    rows = [
        (
            *(data.run, p.arrival.seed, p.arrival.task, p.arrival.method, p.diff.kind),
            *(p.diff.digest, p.diff.file_bytes, p.score.metric, p.score.value),
        )
        for p in data.points
    ]
    return write_with_numbers(folder, "pareto", lambda: draw(data), _COLUMNS, rows)


def draw(data: ParetoFigure) -> Figure:
    """Draw a panel a task, two beside each other; call it in `house_style`."""
    above = LINE * 1.4 * math.ceil(len(data.methods) / 2) + 0.1
    sizes = [point.diff.file_bytes / 1e6 for point in data.points]
    # Whole powers of ten, and no marker at the very edge.
    limits = (
        10.0 ** math.floor(math.log10(min(sizes) * 0.8)),
        10.0 ** math.ceil(math.log10(max(sizes) * 1.25)),
    )
    n_tasks = len(data.tasks)
    sheet = (_together if n_tasks > _MOST_PANELS else _apart)(data, above, limits)
    marks = [
        Line2D(
            [], [], linestyle="", color=COLOURS[n % 6], marker=MARKERS[n % 6], markersize=4.8,
            label=plain(name),
        )
        for n, name in enumerate(data.methods)
    ]  # fmt: skip
    sheet.legend(2, marks)
    return sheet.figure


def _apart(data: ParetoFigure, above: float, limits: tuple[float, float]) -> Sheet:
    """Lay out a panel a task."""
    tasks = data.tasks
    n_rows = math.ceil(len(tasks) / _ACROSS)
    step = _PANEL + _TITLE + _TICKS
    sheet = Sheet(n_rows * step + _BELOW - _TICKS + above, [_caption(data)])
    width = (WIDTH - _LEFT - _BETWEEN - _RIGHT) / _ACROSS
    for number, task in enumerate(tasks):
        row, column = divmod(number, _ACROSS)
        bottom = _BELOW + (n_rows - 1 - row) * step
        axes = sheet.panel(_LEFT + column * (width + _BETWEEN), bottom, width, _PANEL)
        points = [point for point in data.points if point.arrival.task == task]
        _panel(axes, data.methods, points, limits, size=4.0)
        axes.set_title(
            f"{plain(task, 14)} ({points[0].score.metric})", loc="left", fontsize=SMALL, pad=3
        )
        if number + _ACROSS >= len(tasks):
            axes.set_xlabel("file (MB)", fontsize=SMALL)
    return sheet


def _together(data: ParetoFigure, above: float, limits: tuple[float, float]) -> Sheet:
    """Lay out one panel for all tasks."""
    note = f"{len(data.tasks):,} tasks in one panel; the CSV names them and their metrics."
    sheet = Sheet(_ONE_PANEL + _BELOW + _TITLE + above, [_caption(data), note])
    axes = sheet.panel(_LEFT, _BELOW, WIDTH - _LEFT - _RIGHT, _ONE_PANEL)
    _panel(axes, data.methods, data.points, limits, size=1.5)
    axes.set_title("score", loc="left", fontsize=SMALL, pad=3)
    axes.set_xlabel("file (MB)", fontsize=SMALL)
    return sheet


def _panel(
    axes: Axes,
    methods: Sequence[str],
    points: Sequence[Point],
    limits: tuple[float, float],
    *,
    size: float,
) -> None:
    for number, method in enumerate(methods):
        mine = [point for point in points if point.arrival.method == method]
        axes.plot(
            [point.diff.file_bytes / 1e6 for point in mine],
            [point.score.value for point in mine],
            linestyle="", color=COLOURS[number % 6], marker=MARKERS[number % 6], markersize=size,
            alpha=0.85,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(*limits)
    axes.xaxis.set_major_locator(LogLocator(numticks=4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(y=0.2)
    axes.set_ylim(widened(axes.get_ylim(), 0.03))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=3))
    axes.grid(color=GRID, linewidth=0.5)


def _caption(data: ParetoFigure) -> str:
    splits = ", ".join(sorted({point.score.split for point in data.points}))
    seeds = sorted({point.arrival.seed for point in data.points})
    named = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    synthetic = {point.score.synthetic for point in data.points}
    rows = f"{splits} rows"
    if True in synthetic:
        rows += " (some synthetic)" if False in synthetic else " (synthetic)"
    return (
        f"Run {data.run}, {named}: score on {rows} against the stored file's size, both "
        "measured. Up and left is better. The base is not counted."
    )
