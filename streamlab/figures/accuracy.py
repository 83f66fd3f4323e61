"""The figure `accuracy`: each task's score by the run's own method and by every baseline.

Large markers are means over seeds, small ones single seeds, bars one sample standard deviation
each way; a line across each task's row is what the majority class scores. Too many tasks to be
named are sorted by their score, best first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from matplotlib.lines import Line2D

from streamlab.errors import RegistryError
from streamlab.figures.style import (
    COLOURS,
    GREYS,
    MARKERS,
    MOST_NAMED,
    RunFigure,
    add_legend,
    fit_panels,
    lay_out_rows,
    new_figure,
    plain,
    rows_height,
)
from streamlab.views.run_source import RunSource
from streamlab.views.table import Cell
from streamlab.views.task_scores import TaskScore, task_scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BASELINE = "full_finetuning"
_ROW, _ROW_MORE = 0.2, 0.07  # inches a task, and more for each method


@dataclass(frozen=True)
class AccuracyFigure(RunFigure):
    """The scores of a run, the own method's first."""

    name = "accuracy"
    columns = (
        "run", "task", "method", "metric", "split", "source", "seeds", "mean", "spread",
        "majority", "seed", "value",
    )  # fmt: skip

    run: str
    scores: tuple[TaskScore, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        """Return the tasks in the order of arrival; too many to be named, best first."""
        # In reverse, so that the first method's score of a task counts.
        means = {score.task: score.mean for score in reversed(self.scores)}
        tasks = tuple(dict.fromkeys(score.task for score in self.scores))
        best_first = sorted(tasks, key=lambda task: -means[task])
        return tuple(best_first) if len(tasks) > MOST_NAMED else tasks

    @classmethod
    def read(cls, source: RunSource) -> Self:
        """Read a run's scores by its own method and by its baselines.

        Raises NotInRegistryError for an unknown run, RegistryError where nothing has a score yet.
        """
        record = source.registry.runs.get(source.run)
        found = task_scores(source.registry.scores.list(run=record.id))
        own = record.settings.primary_method
        scores = tuple(sorted(found, key=lambda score: score.method != own))
        require_scores(record.name, scores)
        return cls(record.name, scores)

    def rows(self) -> Iterator[Sequence[Cell]]:
        """Yield a row a seed."""
        for score in self.scores:
            about = (score.task, score.method, score.metric, score.split, score.source)
            for seed, value in score.by_seed.items():
                spread = (len(score.by_seed), score.mean, score.spread)
                yield (self.run, *about, *spread, score.majority, seed, value)

    def draw(self) -> Figure:
        """Draw a row a task, the first on top."""
        tasks = self.tasks
        methods = list(dict.fromkeys(score.method for score in self.scores))
        height = rows_height(len(tasks), _ROW + _ROW_MORE * len(methods))
        figure, (axes,) = new_figure(self._caption(tasks), [height])
        apart = 0.6 / len(methods)
        for number, method in enumerate(methods):
            way = apart * (number - (len(methods) - 1) / 2)
            places = {task: place + way for place, task in enumerate(tasks)}
            scores = [score for score in self.scores if score.method == method]
            _draw(axes, scores, number, places)
        majority = {score.task: score.majority for score in reversed(self.scores)}
        _draw_majority(axes, [majority[task] for task in tasks])
        metrics = {score.task: score.metric for score in self.scores}
        _set_score_limits(axes, self.scores)
        names = [f"{plain(task, 14)} ({plain(metrics[task], 14)})" for task in tasks]
        lay_out_rows(axes, names, "score (1 is perfect)", order="best first")
        add_legend(figure, 2, _legend(methods, has_majority=set(majority.values()) != {None}))
        return fit_panels(figure)

    def _caption(self, tasks: Sequence[str]) -> str:
        splits = ", ".join(sorted({score.split for score in self.scores}))
        n_synthetic = len({s.task for s in self.scores if s.source == "synthetic"})
        rows = f"; data of {n_synthetic} of {len(tasks)} tasks synthetic" if n_synthetic else ""
        is_crowded = len(tasks) > MOST_NAMED
        order = f" {len(tasks):,} tasks, best first; the CSV names them." if is_crowded else ""
        small = "" if is_crowded else "Small markers: seeds; "
        several = any(len(score.by_seed) > 1 for score in self.scores)
        bars = f" {small}bars: one standard deviation." if several else " One seed."
        return f"Run {self.run}: measured on {splits} examples{rows}.{bars}{order}"


def _draw(
    axes: Axes, scores: Sequence[TaskScore], number: int, places: Mapping[str, float]
) -> None:
    """Draw one method's scores at the heights of their tasks."""
    colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
    is_crowded = len(places) > MOST_NAMED
    for score in () if is_crowded else scores:
        if len(score.by_seed) > 1:
            y = [places[score.task]] * len(score.by_seed)
            axes.plot(
                list(score.by_seed.values()), y, linestyle="", color=colour, marker=marker,
                markersize=2.0, alpha=0.5, clip_on=False,
            )  # fmt: skip
    axes.errorbar(
        [score.mean for score in scores],
        [places[score.task] for score in scores],
        xerr=[score.spread or 0.0 for score in scores],
        linestyle="", color=colour, marker=marker,
        markersize=1.2 if is_crowded else 4.5,
        elinewidth=0.3 if is_crowded else 1.0,
        zorder=2 + (number == 0),  # the own method's markers stay in sight
        clip_on=False,  # nor is one at the end of the axis cut in two
    )  # fmt: skip


def _legend(methods: Sequence[str], *, has_majority: bool) -> list[Line2D]:
    """Return a marker for each method as it is drawn, and the line of the majority class."""
    marks = [
        Line2D(
            [], [], linestyle="", color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)], markersize=4.5, label=plain(method),
        )
        for number, method in enumerate(methods)
    ]  # fmt: skip
    majority = Line2D(
        [], [], linestyle="", color=GREYS[0], marker="|", markersize=9, markeredgewidth=1.2,
        label="majority class",
    )  # fmt: skip
    return [*marks, *[majority] * has_majority]


def _set_score_limits(axes: Axes, scores: Sequence[TaskScore]) -> None:
    """End the axis at 1, the perfect score, or at what exceeds it; begin below the lowest one."""
    found = [v for s in scores for v in (*s.by_seed.values(), s.majority) if v is not None]
    high = max(1.0, *found)
    low = min(found)
    axes.set_xlim(-0.02 * high if 0 <= low < 0.1 * high else low - 0.05 * (high - low + 0.1), high)


def _draw_majority(axes: Axes, values: Sequence[float | None]) -> None:
    """Draw what the majority class scores, by task from the top, as a line across its row."""
    known = [(place, value) for place, value in enumerate(values) if value is not None]
    if known:
        places, scores = zip(*known, strict=True)
        axes.plot(
            scores, places, linestyle="", color=GREYS[0], marker="|",
            markersize=3 if len(values) > MOST_NAMED else 11, markeredgewidth=1.2, zorder=1,
            clip_on=False,
        )  # fmt: skip


def require_scores(run: str, scores: Sequence[object]) -> None:
    """Raise RegistryError where there is no score."""
    if not scores:
        raise RegistryError(
            f"In the run `{run}` no finished arrival has a score, so there is nothing to show. "
            "Resume the run, or name another one with `--run`."
        )
