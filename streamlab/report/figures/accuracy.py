"""The figure `accuracy`: each task's score by the own method and by full finetuning.

Large markers are means over seeds, small ones single seeds, bars one sample standard deviation
each way.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streamlab.errors import RegistryError
from streamlab.registry.registry import Registry
from streamlab.registry.streams import own_method
from streamlab.report.figures.sheet import (
    COLOURS,
    MARKERS,
    WIDTH,
    Sheet,
    plain,
    write_with_numbers,
)
from streamlab.report.figures.task_rows import lay_out_rows, rows_height
from streamlab.report.scores import TaskScore, task_scores
from streamlab.report.table import Cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RIVAL = "full_finetuning"
_COLUMNS = (
    "run", "task", "method", "metric", "split", "source", "seeds", "mean", "spread", "seed", "value"
)  # fmt: skip
_LEFT, _RIGHT, _BELOW, _ABOVE = 1.25, 0.14, 0.42, 0.3  # inches around the panel
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


def read_accuracy(registry: Registry, run: str) -> AccuracyFigure:
    """Read a run's scores by its own method, and by full finetuning where that was a rival.

    Raises NotInRegistryError for an unknown run, RegistryError where nothing has a score yet.
    """
    record = registry.run(run)
    found = require_scores(record.name, task_scores(registry.scores(run=record.id)))
    own = own_method(record)
    wanted = dict.fromkeys((own, RIVAL))
    scores = [score for method in wanted for score in found if score.method == method]
    require_scores(record.name, scores)
    methods = tuple(dict.fromkeys(score.method for score in scores))
    return AccuracyFigure(record.name, methods, tuple(scores))


def require_scores(run: str, scores: list[TaskScore]) -> list[TaskScore]:
    """Return the scores. Raises RegistryError where there is none."""
    if not scores:
        raise RegistryError(
            f"In the run `{run}` no finished arrival has a score, so there is nothing to show. "
            "Let the run go on, or name another one with `--run`."
        )
    return scores


def write_accuracy(data: AccuracyFigure, folder: Path) -> tuple[Path, ...]:
    """Write accuracy.png, .svg and .csv, a row a seed. Raises StoreError where the disk refuses."""
    rows: list[tuple[Cell, ...]] = [
        (
            *(data.run, score.task, score.method, score.metric, score.split, score.source),
            *(len(score.by_seed), score.mean, score.spread, seed, value),
        )
        for score in data.scores
        for seed, value in score.by_seed.items()
    ]
    return write_with_numbers(folder, "accuracy", lambda: draw(data), _COLUMNS, rows)


def draw(data: AccuracyFigure) -> Figure:
    """Draw a row a task, the first on top; call it in `house_style`."""
    tasks = data.tasks
    height = rows_height(len(tasks), _ROW)
    sheet = Sheet(height + _BELOW + _ABOVE, [_caption(data)])
    axes = sheet.panel(_LEFT, _BELOW, WIDTH - _LEFT - _RIGHT, height)
    apart = 0.3 if len(data.methods) > 1 else 0.0
    for number, method in enumerate(data.methods):
        places = {task: place + apart * (number - 0.5) for place, task in enumerate(tasks)}
        _method(axes, data, method, number, places)
    metrics = {score.task: score.metric for score in data.scores}
    axes.margins(x=0.06)
    names = [f"{plain(task, 14)} ({metrics[task]})" for task in tasks]
    lay_out_rows(axes, names, "score (1 is perfect)")
    sheet.legend(2)
    return sheet.figure


def _method(
    axes: Axes, data: AccuracyFigure, method: str, number: int, places: dict[str, float]
) -> None:
    scores = [score for score in data.scores if score.method == method]
    colour, marker = COLOURS[number], MARKERS[number]
    for score in scores:
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
        linestyle="", color=colour, marker=marker, markersize=4.5, elinewidth=1.0,
        label=plain(method),
    )  # fmt: skip


def _caption(data: AccuracyFigure) -> str:
    splits = ", ".join(sorted({score.split for score in data.scores}))
    n_generated = len({s.task for s in data.scores if s.source == "generated"})
    rows = f"; rows of {n_generated} of {len(data.tasks)} tasks generated" if n_generated else ""
    most = max(len(score.by_seed) for score in data.scores)
    bars = " Small markers: seeds; bars: one standard deviation." if most > 1 else " One seed."
    return f"Run {data.run}: measured on {splits} rows{rows}.{bars}"
