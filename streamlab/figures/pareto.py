"""The figure `pareto`: score against stored bytes, as a mean over tasks and for each task.

A marker is a method, and the staircase the Pareto front: up and to the left is better. Bytes are
those of the stored file, on a logarithmic axis; several seeds of a task are several markers. Too
many tasks for panels of their own are small markers behind the means.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from streamlab.figures.accuracy import require_scores
from streamlab.figures.front import find_front
from streamlab.figures.style import (
    BYTES,
    COLOURS,
    INK,
    MARKERS,
    SMALL,
    RunFigure,
    add_legend,
    decades,
    fit_panels,
    new_figure,
    plain,
    widened,
)
from streamlab.registry.records import ArrivalRecord, DiffRecord, ScoreRecord
from streamlab.units import counted
from streamlab.views.run_source import RunSource
from streamlab.views.table import Cell
from streamlab.views.task_scores import own_scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_PAIRS = 6  # tasks in panels of half the width; more are in panels of a third
_MOST_PANELS = 18
_PANEL, _SUMMARY = 0.65, 1.6  # inches
_FRONT: dict[str, Any] = {"color": INK, "linewidth": 0.7, "linestyle": ":"}


@dataclass(frozen=True)
class Point:
    """One stored artifact and its score."""

    arrival: ArrivalRecord
    diff: DiffRecord
    score: ScoreRecord

    @property
    def place(self) -> tuple[float, float]:
        """Return its bytes and its score."""
        return self.diff.file_bytes, self.score.value


@dataclass(frozen=True)
class ParetoFigure(RunFigure):
    """All scored artifacts of a run; the own method is the first of its methods."""

    name = "pareto"
    columns = (
        "run", "seed", "task", "method", "kind", "digest", "file_bytes", "metric", "value",
        "on_front",
    )  # fmt: skip

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
        """Yield a row an artifact, then one a method with the means over tasks."""
        front = set[int]()
        for points in self._by_task().values():
            front |= {points[at].arrival.id for at in find_front([point.place for point in points])}
        for p in self.points:
            yield (
                *(self.run, p.arrival.seed, p.arrival.task, p.arrival.method, p.diff.kind),
                *(p.diff.digest, p.diff.file_bytes, p.score.metric, p.score.value),
                p.arrival.id in front,
            )
        means = self.summary()
        best = {list(means)[at] for at in find_front(list(means.values()))}
        for method, (n_bytes, score) in means.items():
            yield (
                *(self.run, None, None, method, None),
                *(None, n_bytes, "mean over tasks", score, method in best),
            )

    def draw(self) -> Figure:
        """Draw a panel of means over tasks, and below it one for each task if they are few."""
        by_task = self._by_task()
        # A single task is the summary itself.
        few = len(by_task) if 1 < len(by_task) <= _MOST_PANELS else 0
        n_across = 2 if few <= _MOST_PAIRS else 3
        n_rows = math.ceil(few / n_across)
        figure, panels = new_figure(
            self._caption(), [_SUMMARY, *[_PANEL] * n_rows], n_across, wide={0}
        )
        # No marker on the edge.
        limits = decades((point.diff.file_bytes for point in self.points), 1.25)
        summary = self.summary()
        if not few:
            self._draw_points(panels[0], self.points, size=1.5, alpha=0.35)
        self._draw_means(panels[0], summary)
        panels[0].set_title(f"mean score of {counted(len(by_task), 'task')}")
        _lay_out(panels[0], limits, n_ticks=6)
        panels[0].set_xlabel("size of a task's file", fontsize=SMALL)
        for number, (axes, (task, points)) in enumerate(
            zip(panels[1:], by_task.items() if few else (), strict=False)
        ):
            self._draw_points(axes, points, size=3.5, alpha=0.85)
            _draw_front(axes, [point.place for point in points])
            _lay_out(axes, limits, n_ticks=3)
            width = 45 // n_across
            title = f"{plain(task, width)} ({plain(points[0].score.metric, 12)})"
            axes.set_title(title if len(title) <= width else plain(task, width), pad=6)
            axes.tick_params(labelbottom=number + n_across >= few)
        for axes in panels[1 + few :]:
            axes.remove()
        marks = [self._mark(method) for method in self.methods]
        front = Line2D([], [], **_FRONT, label="Pareto front")
        add_legend(figure, 2, [*marks, front])
        return fit_panels(figure)

    def summary(self) -> dict[str, tuple[float, float]]:
        """Return the mean bytes and score of each method that has every task of the own one.

        Seeds of a task are averaged first.
        """
        tasks = {p.arrival.task for p in self.points if p.arrival.method == self.methods[0]}
        found = {}
        for method in self.methods:
            own = [
                [p.place for p in points if p.arrival.method == method]
                for task, points in self._by_task().items()
                if task in tasks
            ]
            if own and all(own):
                means = [[fmean(values) for values in zip(*task, strict=True)] for task in own]
                n_bytes, score = (fmean(values) for values in zip(*means, strict=True))
                found[method] = (n_bytes, score)
        return found

    def _by_task(self) -> dict[str, list[Point]]:
        by_task: dict[str, list[Point]] = {}
        for point in self.points:
            by_task.setdefault(point.arrival.task, []).append(point)
        return by_task

    def _mark(self, method: str, *, size: float = 4.8) -> Line2D:
        number = self.methods.index(method)
        return Line2D(
            [], [], linestyle="", color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)], markersize=size, label=plain(method),
            clip_on=False, zorder=3,
        )  # fmt: skip

    def _draw_points(
        self, axes: Axes, points: Sequence[Point], *, size: float, alpha: float
    ) -> None:
        for method in self.methods:
            mine = [point.place for point in points if point.arrival.method == method]
            if mine:
                mark = self._mark(method, size=size)
                mark.set_data(*zip(*mine, strict=True))
                mark.set_alpha(alpha)
                axes.add_line(mark)

    def _draw_means(self, axes: Axes, summary: Mapping[str, tuple[float, float]]) -> None:
        for method, (n_bytes, score) in summary.items():
            mark = self._mark(method, size=6)
            mark.set_data([n_bytes], [score])
            axes.add_line(mark)
        _draw_front(axes, list(summary.values()))

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
            "both measured. Up and left is better; the dotted line is the Pareto front. The base "
            f"is not counted.{self._missing()}"
        )

    def _missing(self) -> str:
        missing = [method for method in self.methods if method not in self.summary()]
        if not missing:
            return ""
        return f" Without a mean, for want of a task: {', '.join(missing)}."


def _draw_front(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    """Draw the front as a staircase up to the largest file."""
    front = [points[at] for at in find_front(points)]
    if front:
        last = max(n_bytes for n_bytes, _ in points)
        x, y = zip(*front, (last, front[-1][1]), strict=True)
        axes.plot(x, y, drawstyle="steps-post", zorder=2, **_FRONT)


def _lay_out(axes: Axes, limits: tuple[float, float], *, n_ticks: int) -> None:
    """Set the limits of a panel: scores end at 1 where none is above."""
    axes.set_xscale("log")
    axes.margins(y=0.15)
    axes.relim()
    axes.autoscale_view()
    low, high = widened(axes.get_ylim(), 0.1)
    most = max(float(np.max(line.get_ydata())) for line in axes.get_lines())
    if high > 1 >= most:
        low, high = low - (high - 1) if low == high else low, 1.0
    axes.set_ylim(low, high)
    axes.set_xlim(*limits)
    axes.xaxis.set_major_locator(LogLocator(numticks=n_ticks))
    axes.xaxis.set_major_formatter(BYTES)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(MaxNLocator(nbins=3))
    axes.grid()
