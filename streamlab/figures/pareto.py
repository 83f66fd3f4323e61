"""The figure `pareto`: score against stored bytes, a small panel a task, a marker a method.

Up and to the left is better. Bytes are those of the stored file, on a logarithmic axis; several
seeds are several markers. Too many tasks for panels of their own share one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from streamlab.figures.accuracy import require_scores
from streamlab.figures.style import (
    COLOURS,
    MARKERS,
    PLAIN_NUMBERS,
    SMALL,
    RunFigure,
    add_legend,
    decades,
    fit_panels,
    new_page,
    plain,
    widened,
)
from streamlab.registry.records import ArrivalRecord, DiffRecord, ScoreRecord
from streamlab.views.run_source import RunSource
from streamlab.views.table import Cell
from streamlab.views.task_scores import own_scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
class ParetoFigure(RunFigure):
    """All scored artifacts of a run; the own method is the first of its methods."""

    name = "pareto"
    columns = ("run", "seed", "task", "method", "kind", "digest", "file_bytes", "metric", "value")

    run: str
    methods: tuple[str, ...]
    points: tuple[Point, ...]  # in the order of arrival

    @property
    def trivial(self) -> str | None:
        """Return why there is nothing to compare; None where there is."""
        if len({(point.arrival.method, point.arrival.seed) for point in self.points}) > 1:
            return None
        return "With one method and one seed there is nothing to compare."

    @classmethod
    def read(cls, source: RunSource) -> Self:
        """Read scores and bytes of a run, baselines and seeds included.

        Raises NotInRegistryError for an unknown run, RegistryError where nothing has a score yet.
        """
        registry = source.registry
        record = registry.runs.get(source.run)
        own = own_scores(registry.scores.list(run=record.id))
        diffs = {diff.digest: diff for diff in registry.artifacts.list(run=record.id)}
        points = []
        for arrival in registry.arrivals.list(run=record.id, status="finished"):
            score, diff = own.get(arrival.id), diffs.get(arrival.digest or "")
            if score is not None and diff is not None:
                points.append(Point(arrival, diff, score))
        require_scores(record.name, points)
        points.sort(key=lambda point: (point.arrival.sequence, point.arrival.id))
        first = record.settings.primary_method
        methods = sorted({point.arrival.method for point in points}, key=lambda m: (m != first, m))
        return cls(record.name, tuple(methods), tuple(points))

    def rows(self) -> Iterator[Sequence[Cell]]:
        """Yield a row an artifact."""
        for p in self.points:
            yield (
                *(self.run, p.arrival.seed, p.arrival.task, p.arrival.method, p.diff.kind),
                *(p.diff.digest, p.diff.file_bytes, p.score.metric, p.score.value),
            )

    def draw(self) -> Figure:
        """Draw a panel a task, two beside each other; of too many tasks one for all."""
        # No marker on the edge.
        limits = decades((point.diff.file_bytes / 1e6 for point in self.points), 1.25)
        by_task: dict[str, list[Point]] = {}
        for point in self.points:
            by_task.setdefault(point.arrival.task, []).append(point)
        if len(by_task) > _MOST_PANELS:
            note = f"{len(by_task):,} tasks in one panel; the CSV names them and their metrics."
            height, size = _ONE_PANEL, 1.5
            figure, panels = new_page([self._caption(), note], height)
            titled: list[tuple[str, Sequence[Point]]] = [("score", self.points)]
        else:
            height, size = _PANEL, 4.0
            n_rows = math.ceil(len(by_task) / _ACROSS)
            figure, panels = new_page([self._caption()], height, n_rows, _ACROSS)
            titled = [
                (f"{plain(task, 14)} ({plain(points[0].score.metric, 14)})", points)
                for task, points in by_task.items()
            ]
        for number, (axes, (title, points)) in enumerate(zip(panels, titled, strict=False)):
            _panel(axes, self.methods, points, limits, size=size)
            axes.set_title(title)
            if number + _ACROSS >= len(titled):
                axes.set_xlabel("file size (MB)", fontsize=SMALL)
        for axes in panels[len(titled) :]:
            axes.remove()
        marks = [
            Line2D(
                [], [], linestyle="", color=COLOURS[n % 6], marker=MARKERS[n % 6], markersize=4.8,
                label=plain(name),
            )
            for n, name in enumerate(self.methods)
        ]  # fmt: skip
        add_legend(figure, 2, marks)
        return fit_panels(figure, height)

    def _caption(self) -> str:
        splits = ", ".join(sorted({point.score.split for point in self.points}))
        seeds = sorted({point.arrival.seed for point in self.points})
        named = f"{'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}"
        synthetic = {point.score.synthetic for point in self.points}
        examples = f"{splits} examples"
        if True in synthetic:
            examples += " (some synthetic)" if False in synthetic else " (synthetic)"
        return (
            f"Run {self.run}, {named}: score on {examples} against the size of the stored file, "
            "both measured. Up and left is better. The base is not counted."
        )


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
