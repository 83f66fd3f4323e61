"""How do one task's score and bytes depend on the density of its diff?

Reads every run of one scenario in a home, each with another target density, and plots the score and
the bytes of the task's diffs against the density reached, with full finetuning's score as a line;
writes the numbers as CSV. `scenarios/density_sweep.yaml` says how to make the runs:

    python analysis/density_sweep.py sweep
    python analysis/density_sweep.py sweep --scenario density_sweep --task polarity -o figures
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.ticker import MaxNLocator, NullFormatter

from streamlab.errors import RegistryError, StreamlabError
from streamlab.figures.style import (
    COLOURS,
    GREYS,
    PLAIN_NUMBERS,
    add_legend,
    fit_panels,
    new_figure,
    plain,
    widened,
    write_figure,
)
from streamlab.registry.records import ArrivalRecord, DiffRecord, RunRecord, ScoreRecord
from streamlab.registry.registry import Registry
from streamlab.views.run_source import open_source
from streamlab.views.task_scores import own_scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BASELINE = "full_finetuning"
_COLUMNS = (
    "run", "seed", "task", "method", "target_density", "density", "digest", "file_bytes",
    "metric", "split", "source", "value",
)  # fmt: skip
_PANEL = 1.3  # inches


@dataclass(frozen=True)
class Point:
    """One seed of one run; `target` is None for the baseline."""

    run: str
    target: float | None
    arrival: ArrivalRecord
    diff: DiffRecord
    score: ScoreRecord


@dataclass(frozen=True)
class SweepFigure:
    """One task's diffs by density, in ascending order, and the baseline's checkpoints."""

    task: str
    method: str
    points: tuple[Point, ...]
    baselines: tuple[Point, ...]


def read_sweep(registry: Registry, scenario: str, task: str | None = None) -> SweepFigure:
    """Read one task of every run of a scenario; `task` is the first that arrived by default.

    Runs of a method without a target density are left out. Raises RegistryError where nothing of
    it has a score, or where the runs differ in base, data or metric.
    """
    runs = [run for run in registry.runs.list() if run.scenario_name == scenario]
    bases = {run.name: run.base_fingerprint for run in runs}
    found = [point for run in runs for point in _points(registry, run)]
    task = task or next((point.arrival.task for point in found), None)
    mine = [point for point in found if point.arrival.task == task]
    points = sorted(
        (point for point in mine if point.target is not None),
        key=lambda p: (p.target or 0.0, p.arrival.seed, p.run),
    )
    if task is None or not points:
        raise RegistryError(
            f"Of the scenario `{scenario}` no run here has a score"
            f"{'' if task is None else f' of the task `{task}`'}, so there is nothing to show. "
            "Its file says how to make the runs."
        )
    alike = {(point.score.metric, point.score.source, bases[point.run]) for point in mine}
    if len(alike) > 1:
        raise RegistryError(
            f"The runs of `{scenario}` differ in more than density: their base, data or metric are "
            "not the same. Keep the runs of one sweep in a home of their own."
        )
    baselines = tuple(point for point in mine if point.target is None)
    return SweepFigure(task, points[0].arrival.method, tuple(points), baselines)


def _points(registry: Registry, run: RunRecord) -> list[Point]:
    own = own_scores(registry.scores.list(run=run.id))
    diffs = {diff.digest: diff for diff in registry.artifacts.list(run=run.id)}
    target = run.settings.target_density
    if target is None:
        return []  # a method without a target density
    points = []
    for arrival in registry.arrivals.list(run=run.id, status="finished"):
        score, diff = own.get(arrival.id), diffs.get(arrival.digest or "")
        if score is None or diff is None:
            continue
        if arrival.method == run.settings.primary_method:
            points.append(Point(run.name, float(target), arrival, diff, score))
        elif arrival.method == BASELINE:
            points.append(Point(run.name, None, arrival, diff, score))
    return points


def write_sweep(data: SweepFigure, folder: Path) -> tuple[Path, ...]:
    """Write density_sweep.png, .svg and .csv, a row a seed and run. Raises StoreError."""
    rows = [
        (
            *(p.run, p.arrival.seed, data.task, p.arrival.method, p.target, p.diff.density),
            *(p.diff.digest, p.diff.file_bytes, p.score.metric, p.score.split, p.score.source),
            p.score.value,
        )
        for p in (*data.points, *data.baselines)
    ]
    return write_figure(folder, "density_sweep", lambda: draw(data), _COLUMNS, rows)


def draw(data: SweepFigure) -> Figure:
    """Draw the score above and the bytes below, over one axis of density."""
    figure, (score, size) = new_figure(_caption(data), [_PANEL, _PANEL])
    _line(score, data.points, lambda point: point.score.value)
    _line(size, data.points, lambda point: point.diff.file_bytes / 1e3)
    if data.baselines:
        mean = statistics.fmean(point.score.value for point in data.baselines)
        score.axhline(mean, color=GREYS[0], linewidth=1.0, linestyle="--", label="full finetuning")
    score.margins(y=0.12)
    score.set_ylim(widened(score.get_ylim(), 0.05))
    score.yaxis.set_major_locator(MaxNLocator(nbins=5))
    metric = data.points[0].score.metric
    score.set_title(f"{plain(data.task, 20)}: {metric}")
    size.set_yscale("log")
    sizes = [math.log10(point.diff.file_bytes / 1e3) for point in data.points]
    # Whole powers of ten, so that ticks have labels.
    size.set_ylim(10.0 ** math.floor(min(sizes) - 0.1), 10.0 ** math.ceil(max(sizes) + 0.1))
    size.set_title("file size (kB of 1000 bytes)")
    size.set_xlabel("retained weights (% of the base's)")
    places = sorted({100 * (point.target or 0.0) for point in data.points})
    for axes in (score, size):
        axes.set_xscale("log")
        axes.set_xticks(places, [f"{place:g}" for place in places])
        axes.set_xticks([], minor=True)
        axes.grid()
    size.yaxis.set_major_formatter(PLAIN_NUMBERS)
    size.yaxis.set_minor_formatter(NullFormatter())
    add_legend(figure, 2, score.get_legend_handles_labels()[0])
    return fit_panels(figure)


def _line(axes: Axes, points: Sequence[Point], of: Callable[[Point], float]) -> None:
    """Draw every point, and a line through the means over seeds."""
    by_target: Mapping[float, list[Point]] = defaultdict(list)
    for point in points:
        by_target[point.target or 0.0].append(point)
    ordered = sorted(by_target)
    x = [100 * statistics.fmean(p.diff.density for p in by_target[one]) for one in ordered]
    y = [statistics.fmean(map(of, by_target[one])) for one in ordered]
    axes.plot(x, y, color=COLOURS[0], marker="o", markersize=4.0, linewidth=1.0,
              label=plain(points[0].arrival.method))  # fmt: skip
    axes.plot(
        [100 * point.diff.density for point in points], list(map(of, points)),
        linestyle="", marker="o", color=COLOURS[0], markersize=2.0, alpha=0.5,
    )  # fmt: skip


def _caption(data: SweepFigure) -> str:
    runs = list(dict.fromkeys(point.run for point in data.points))
    seeds = sorted({point.arrival.seed for point in data.points})
    synthetic = " (synthetic)" if any(p.score.synthetic for p in data.points) else ""
    splits = ", ".join(sorted({point.score.split for point in data.points}))
    return (
        f"Runs {', '.join(runs)}; {len(seeds)} seeds, small markers; large ones: their means. "
        f"Scores on {splits} examples{synthetic} and files, both measured."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the figure and its numbers, print their paths and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("home", help="where the runs are")
    parser.add_argument("--scenario", default="density_sweep", help="the runs' scenario by name")
    parser.add_argument("--task", help="default: the first that arrived")
    parser.add_argument("-o", "--output", type=Path, default=Path("figures"), metavar="DIR")
    options = parser.parse_args(arguments)
    try:
        with open_source(options.home) as source:
            data = read_sweep(source.registry, options.scenario, options.task)
        files = write_sweep(data, options.output)
    except StreamlabError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    for path in files:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
