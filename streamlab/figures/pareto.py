"""The figure `pareto`: score against stored bytes, a small panel a task, a marker a method.

Up and to the left is better. Bytes are those of the stored file, on a logarithmic axis; several
seeds are several markers. Too many tasks for panels of their own share one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from streamlab.figures.accuracy import require_scores
from streamlab.figures.style import (
    COLOURS,
    MARKERS,
    PLAIN_NUMBERS,
    SMALL,
    add_legend,
    fit_panels,
    new_page,
    plain,
    widened,
    write_figure,
)
from streamlab.registry.records import ArrivalRecord, DiffRecord, ScoreRecord
from streamlab.views.run_source import RunSource
from streamlab.views.task_scores import own_scores, task_scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = ("run", "seed", "task", "method", "kind", "digest", "file_bytes", "metric", "value")
_ACROSS = 2  # panels beside each other
_MOST_PANELS = 40
_PANEL, _ONE_PANEL = 0.8, 2.4  # inches


@dataclass(frozen=True)
class Point:
    """One stored artifact and its score."""

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

    @property
    def trivial(self) -> str | None:
        """Return why there is nothing to compare; None where there is."""
        if len({(point.arrival.method, point.arrival.seed) for point in self.points}) > 1:
            return None
        return "With one method and one seed there is nothing to compare."


def read(source: RunSource) -> ParetoFigure:
    """Read scores and bytes of a run, baselines and seeds included.

    Raises NotInRegistryError for an unknown run, RegistryError where nothing has a score yet.
    """
    registry = source.registry
    record = registry.runs.get(source.run)
    scores = registry.scores.list(run=record.id)
    require_scores(record.name, task_scores(scores))
    own = own_scores(scores)
    diffs = {diff.digest: diff for diff in registry.artifacts.list(run=record.id)}
    points = []
    for arrival in registry.arrivals.list(run=record.id, status="finished"):
        score, diff = own.get(arrival.id), diffs.get(arrival.digest or "")
        if score is not None and diff is not None:
            points.append(Point(arrival, diff, score))
    points.sort(key=lambda point: (point.arrival.sequence, point.arrival.id))
    first = record.settings.primary_method
    methods = sorted({point.arrival.method for point in points}, key=lambda m: (m != first, m))
    return ParetoFigure(record.name, tuple(methods), tuple(points))


def write(data: ParetoFigure, folder: Path) -> tuple[Path, ...]:
    """Write pareto.png, pareto.svg and pareto.csv. Raises StoreError where the disk refuses."""
    rows = [
        (
            *(data.run, p.arrival.seed, p.arrival.task, p.arrival.method, p.diff.kind),
            *(p.diff.digest, p.diff.file_bytes, p.score.metric, p.score.value),
        )
        for p in data.points
    ]
    return write_figure(folder, "pareto", lambda: draw(data), _COLUMNS, rows)


def draw(data: ParetoFigure) -> Figure:
    """Draw a panel a task, two beside each other; call it in `house_style`."""
    sizes = [point.diff.file_bytes / 1e6 for point in data.points]
    # Whole powers of ten, and no marker on the edge.
    limits = (
        10.0 ** math.floor(math.log10(min(sizes) * 0.8)),
        10.0 ** math.ceil(math.log10(max(sizes) * 1.25)),
    )
    is_crowded = len(data.tasks) > _MOST_PANELS
    figure = (_one_panel if is_crowded else _panels)(data, limits)
    marks = [
        Line2D(
            [], [], linestyle="", color=COLOURS[n % 6], marker=MARKERS[n % 6], markersize=4.8,
            label=plain(name),
        )
        for n, name in enumerate(data.methods)
    ]  # fmt: skip
    add_legend(figure, 2, marks)
    return fit_panels(figure, _ONE_PANEL if is_crowded else _PANEL)


def _panels(data: ParetoFigure, limits: tuple[float, float]) -> Figure:
    """Draw a panel a task."""
    tasks = data.tasks
    n_rows = math.ceil(len(tasks) / _ACROSS)
    figure, panels = new_page([_caption(data)], _PANEL, n_rows, _ACROSS)
    for number, (task, axes) in enumerate(zip(tasks, panels, strict=False)):
        points = [point for point in data.points if point.arrival.task == task]
        _panel(axes, data.methods, points, limits, size=4.0)
        axes.set_title(f"{plain(task, 14)} ({points[0].score.metric})")
        if number + _ACROSS >= len(tasks):
            axes.set_xlabel("file size (MB)", fontsize=SMALL)
    for axes in panels[len(tasks) :]:
        axes.remove()
    return figure


def _one_panel(data: ParetoFigure, limits: tuple[float, float]) -> Figure:
    """Draw one panel for all tasks."""
    note = f"{len(data.tasks):,} tasks in one panel; the CSV names them and their metrics."
    figure, (axes,) = new_page([_caption(data), note], _ONE_PANEL)
    _panel(axes, data.methods, data.points, limits, size=1.5)
    axes.set_title("score")
    axes.set_xlabel("file size (MB)", fontsize=SMALL)
    return figure


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
    axes.xaxis.set_major_formatter(PLAIN_NUMBERS)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(y=0.2)
    axes.set_ylim(widened(axes.get_ylim(), 0.03))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=3))
    axes.grid()


def _caption(data: ParetoFigure) -> str:
    splits = ", ".join(sorted({point.score.split for point in data.points}))
    seeds = sorted({point.arrival.seed for point in data.points})
    named = f"{'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}"
    synthetic = {point.score.synthetic for point in data.points}
    examples = f"{splits} examples"
    if True in synthetic:
        examples += " (some synthetic)" if False in synthetic else " (synthetic)"
    return (
        f"Run {data.run}, {named}: score on {examples} against the size of the stored file, "
        "both measured. Up and left is better. The base is not counted."
    )
