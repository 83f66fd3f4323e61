"""The figure `curves`: loss and density over the steps of each task's training.

Stages follow one another on one axis of steps, separated by thin lines. Density is the expected
share of weights that the gates retain, in stages that record it. Of too many tasks for rows of
their own, the median and the spread over tasks are shown, step by step.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from streamlab.errors import RegistryError, StoreError
from streamlab.figures.style import (
    COLOURS,
    PLAIN_NUMBERS,
    SMALL,
    fit_panels,
    new_page,
    plain,
    write_figure,
)
from streamlab.home.curves import read_curve, recorded_curve_path
from streamlab.registry.records import ArrivalRecord
from streamlab.views.run_source import RunSource

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = ("run", "seed", "place", "task", "total_step", "stage", "step", "loss", "density")
_MOST_ROWS = 24  # tasks with panels of their own
_PANEL, _ONE_PANEL = 0.5, 1.6  # inches


@dataclass(frozen=True)
class Curve:
    """One arrival's curve, a point a step."""

    arrival: ArrivalRecord
    points: tuple[dict[str, Any], ...]  # stage, step, loss and density; the last may be None

    def series(self, name: str) -> tuple[list[int], list[float]]:
        """Return the steps that have a value, counted from 1 through all stages, and the values."""
        known = [(x, p.get(name)) for x, p in enumerate(self.points, start=1)]
        found = [(x, float(y)) for x, y in known if isinstance(y, (int, float))]
        return [x for x, _ in found], [y for _, y in found]

    def starts(self) -> list[int]:
        """Return the first step of each stage after the first."""
        stages = [point.get("stage") for point in self.points]
        return [i + 1 for i in range(1, len(stages)) if stages[i] != stages[i - 1]]


@dataclass(frozen=True)
class CurvesFigure:
    """One seed's curves in the order of arrival; `n_missing` arrivals have none."""

    run: str
    seed: int
    method: str
    curves: tuple[Curve, ...]
    n_missing: int


def read(source: RunSource) -> CurvesFigure:
    """Read the curves of a run's own stream.

    Raises NotInRegistryError for an unknown run, RegistryError where the home has no curve of it.
    """
    stream, folder = source.registry.primary_stream(source.run), source.home.curves
    curves = tuple(_read(stream.arrivals, folder, stream.run.name))
    if not curves:
        raise RegistryError(
            f"Of the run `{stream.run.name}` no curve lies in {folder}, so there is nothing to "
            "show. Curves stay in the home in which a run was made; name it with `--home`."
        )
    n_missing = len(stream.arrivals) - len(curves)
    return CurvesFigure(stream.run.name, stream.seed, stream.method, curves, n_missing)


def _read(arrivals: Iterable[ArrivalRecord], folder: Path, run: str) -> Iterable[Curve]:
    for one in arrivals:
        path = recorded_curve_path(folder, run, one)
        try:
            points = read_curve(path)
        except StoreError:
            continue  # the caption says how many are missing
        if points:
            yield Curve(one, points)


def write(data: CurvesFigure, folder: Path) -> tuple[Path, ...]:
    """Write curves.png, curves.svg and curves.csv. Raises StoreError where the disk refuses."""
    rows = [
        (
            *(data.run, data.seed, curve.arrival.sequence, curve.arrival.task, number),
            *(point.get(name) for name in ("stage", "step", "loss", "density")),
        )
        for curve in data.curves
        for number, point in enumerate(curve.points, start=1)
    ]
    return write_figure(folder, "curves", lambda: draw(data), _COLUMNS, rows)


def draw(data: CurvesFigure) -> Figure:
    """Draw a row a task, loss on the left and density on the right; call it in `house_style`."""
    if len(data.curves) > _MOST_ROWS:
        return _draw_spread(data)
    figure, panels = new_page([_caption(data)], _PANEL, len(data.curves), 2)
    for curve, loss, density in zip(data.curves, panels[::2], panels[1::2], strict=True):
        _panel(loss, curve, "loss", COLOURS[0])
        _panel(density, curve, "density", COLOURS[1])
        loss.set_title(f"{plain(curve.arrival.task, 14)}: loss")
        density.set_title("density (%)")
    for axes in panels[-2:]:
        axes.set_xlabel("training step", fontsize=SMALL)
    return fit_panels(figure, _PANEL)


def _draw_spread(data: CurvesFigure) -> Figure:
    """Draw the median over tasks and a band that holds 90% of them, step by step."""
    note = (
        f"{len(data.curves):,} tasks. Line: median over tasks with that many steps; band: 5% to "
        "95% of them. The CSV has every curve."
    )
    figure, panels = new_page([_caption(data), note], _ONE_PANEL, n_columns=2)
    n_steps = max(len(curve.points) for curve in data.curves)
    titles = (("loss", "loss"), ("density", "density (%)"))
    for axes, colour, (name, title) in zip(panels, COLOURS, titles, strict=False):
        by_step: dict[int, list[float]] = defaultdict(list)
        for curve in data.curves:
            for step, value in zip(*_shown(curve, name), strict=True):
                by_step[step].append(value)
        steps = sorted(by_step)
        spread = [np.quantile(by_step[step], (0.05, 0.5, 0.95)).tolist() for step in steps]
        low, middle, high = ([three[which] for three in spread] for which in range(3))
        axes.plot(steps, middle, color=colour, linewidth=0.9)
        axes.fill_between(steps, low, high, color=colour, alpha=0.25, linewidth=0)
        _lay_out(axes, name, [*low, *high], n_steps)
        axes.set_title(title)
        axes.set_xlabel("training step", fontsize=SMALL)
    return fit_panels(figure, _ONE_PANEL)


def _panel(axes: Axes, curve: Curve, name: str, colour: str) -> None:
    x, y = _shown(curve, name)
    axes.plot(x, y, color=colour, linewidth=0.7)
    for start in curve.starts():
        axes.axvline(start - 0.5, color="#777777", linewidth=0.4)
    _lay_out(axes, name, y, len(curve.points))


def _shown(curve: Curve, name: str) -> tuple[list[int], list[float]]:
    """Return a curve as drawn: a density in percent, without zeros."""
    x, y = curve.series(name)
    if name != "density":
        return x, y
    points = [(a, 100 * b) for a, b in zip(x, y, strict=True) if b > 0]
    return [a for a, _ in points], [b for _, b in points]


def _lay_out(axes: Axes, name: str, y: Sequence[float], n_steps: int) -> None:
    if name == "density":
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=4))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(PLAIN_NUMBERS)
        low, high = (min(y, default=1.0), max(y, default=100.0))
        axes.set_ylim(min(low * 0.7, high / 20), high * 1.5)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(nbins=3))
    if not y:
        axes.text(
            0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", va="center",
            fontsize=SMALL - 1,
        )  # fmt: skip
    axes.set_xlim(0, n_steps)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    axes.grid(axis="y")


def _caption(data: CurvesFigure) -> str:
    stages = list(dict.fromkeys(p.get("stage") for c in data.curves for p in c.points))
    named = ", ".join(str(stage) for stage in stages if stage is not None)
    several = len(stages) > 1 and len(data.curves) <= _MOST_ROWS
    lines = f" Grey lines: stages ({named})." if several else ""
    missing = f" {data.n_missing} arrivals have no curve here." if data.n_missing else ""
    return (
        f"Run {data.run}, seed {data.seed}, {data.method}: measured during training, per step."
        f"{lines}{missing}"
    )
