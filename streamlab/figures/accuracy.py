"""The figure `accuracy`: each task's score by the run's own method and by full finetuning.

Large markers are means over seeds, small ones single seeds, bars one sample standard deviation
each way. Too many tasks to be named are sorted by their score, best first.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streamlab.errors import RegistryError
from streamlab.figures.style import (
    COLOURS,
    MARKERS,
    MOST_NAMED,
    add_legend,
    fit_panels,
    lay_out_rows,
    new_page,
    plain,
    rows_height,
    widened,
    write_figure,
)
from streamlab.views.run_source import RunSource
from streamlab.views.table import Cell
from streamlab.views.task_scores import TaskScore, task_scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BASELINE = "full_finetuning"
_COLUMNS = (
    "run", "task", "method", "metric", "split", "source", "seeds", "mean", "spread", "seed", "value"
)  # fmt: skip
_ROW = 0.26  # inches a task


@dataclass(frozen=True)
class AccuracyFigure:
    """The scores of a run, the own method's first."""

    run: str
    methods: tuple[str, ...]
    scores: tuple[TaskScore, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        """Return the tasks in the order of arrival."""
        return tuple(dict.fromkeys(score.task for score in self.scores))

    @property
    def is_crowded(self) -> bool:
        """Return whether the tasks are too many to be named."""
        return len(self.tasks) > MOST_NAMED


def read(source: RunSource) -> AccuracyFigure:
    """Read a run's scores by its own method, and by full finetuning where it was a baseline.

    Raises NotInRegistryError for an unknown run, RegistryError where nothing has a score yet.
    """
    record = source.registry.runs.get(source.run)
    found = require_scores(record.name, task_scores(source.registry.scores.list(run=record.id)))
    own = record.settings.primary_method
    wanted = dict.fromkeys((own, BASELINE))
    scores = [score for method in wanted for score in found if score.method == method]
    require_scores(record.name, scores)
    methods = tuple(dict.fromkeys(score.method for score in scores))
    return AccuracyFigure(record.name, methods, tuple(scores))


def require_scores(run: str, scores: list[TaskScore]) -> list[TaskScore]:
    """Return the scores. Raises RegistryError where there is none."""
    if not scores:
        raise RegistryError(
            f"In the run `{run}` no finished arrival has a score, so there is nothing to show. "
            "Resume the run, or name another one with `--run`."
        )
    return scores


def write(data: AccuracyFigure, folder: Path) -> tuple[Path, ...]:
    """Write accuracy.png, .svg and .csv, a row a seed. Raises StoreError where the disk refuses."""
    rows: list[tuple[Cell, ...]] = [
        (
            *(data.run, score.task, score.method, score.metric, score.split, score.source),
            *(len(score.by_seed), score.mean, score.spread, seed, value),
        )
        for score in data.scores
        for seed, value in score.by_seed.items()
    ]
    return write_figure(folder, "accuracy", lambda: draw(data), _COLUMNS, rows)


def draw(data: AccuracyFigure) -> Figure:
    """Draw a row a task, the first on top; call it in `house_style`."""
    tasks = _best_first(data) if data.is_crowded else data.tasks
    height = rows_height(len(tasks), _ROW)
    figure, (axes,) = new_page([_caption(data)], height)
    apart = 0.3 if len(data.methods) > 1 else 0.0
    for number, method in enumerate(data.methods):
        places = {task: place + apart * (number - 0.5) for place, task in enumerate(tasks)}
        _method(axes, data, method, number, places)
    metrics = {score.task: score.metric for score in data.scores}
    axes.margins(x=0.06)
    axes.set_xlim(widened(axes.get_xlim(), 0.05))
    names = [f"{plain(task, 14)} ({metrics[task]})" for task in tasks]
    lay_out_rows(axes, names, "score (1 is perfect)", order="best first")
    add_legend(figure, 2)
    return fit_panels(figure, height)


def _best_first(data: AccuracyFigure) -> tuple[str, ...]:
    """Sort tasks by their score by the first method."""
    means = {score.task: score.mean for score in reversed(data.scores)}
    return tuple(sorted(data.tasks, key=lambda task: -means[task]))


def _method(
    axes: Axes, data: AccuracyFigure, method: str, number: int, places: dict[str, float]
) -> None:
    scores = [score for score in data.scores if score.method == method]
    colour, marker = COLOURS[number], MARKERS[number]
    for score in () if data.is_crowded else scores:
        if len(score.by_seed) > 1:
            y = [places[score.task]] * len(score.by_seed)
            axes.plot(
                list(score.by_seed.values()), y, linestyle="", color=colour, marker=marker,
                markersize=2.0, alpha=0.5,
            )  # fmt: skip
    axes.errorbar(
        [score.mean for score in scores],
        [places[score.task] for score in scores],
        xerr=[score.spread or 0.0 for score in scores],
        linestyle="", color=colour, marker=marker, label=plain(method),
        markersize=1.2 if data.is_crowded else 4.5,
        elinewidth=0.3 if data.is_crowded else 1.0,
        zorder=2 + (number == 0),  # the own method's markers stay in sight
    )  # fmt: skip


def _caption(data: AccuracyFigure) -> str:
    splits = ", ".join(sorted({score.split for score in data.scores}))
    n_synthetic = len({s.task for s in data.scores if s.source == "synthetic"})
    rows = f"; data of {n_synthetic} of {len(data.tasks)} tasks synthetic" if n_synthetic else ""
    most = max(len(score.by_seed) for score in data.scores)
    small = "" if data.is_crowded else "Small markers: seeds; "
    bars = f" {small}bars: one standard deviation." if most > 1 else " One seed."
    order = ""
    if data.is_crowded:
        order = f" {len(data.tasks):,} tasks, best first; the CSV names them."
    return f"Run {data.run}: measured on {splits} examples{rows}.{bars}{order}"
