"""The figure `curves`: loss, density and held-back scores over the steps of each task's training.

Stages follow one another on one axis of steps, separated by thin lines. Density is the expected
share of weights that the gates retain, in stages that record it. Losses are shown step by step and
as a running median, with points for those on the held-back examples. Of too many tasks for panels
of their own, the median and the spread over tasks are shown, step by step.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from streamlab.errors import RegistryError, StoreError
from streamlab.figures.style import (
    COLOURS,
    GREYS,
    PLAIN_NUMBERS,
    SMALL,
    StreamFigure,
    add_legend,
    fit_panels,
    new_figure,
    plain,
)
from streamlab.home.curves import read_curve, recorded_curve_path
from streamlab.registry.records import ArrivalRecord
from streamlab.views.run_source import RunSource
from streamlab.views.table import Cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_PANELS = 18  # tasks with panels of their own
_PANEL, _SHARED_PANEL, _ONE_PANEL = 0.5, 0.9, 1.6  # inches
_FEWEST_SMOOTHED = 30  # steps
_LINE: dict[str, Any] = {"color": COLOURS[0], "linewidth": 0.9}
_FAINT: dict[str, Any] = {"color": COLOURS[0], "linewidth": 0.5, "alpha": 0.35}
_HELD_BACK: dict[str, Any] = {
    "color": COLOURS[2], "linestyle": "", "marker": "o", "markersize": 2.2, "clip_on": False,
}  # fmt: skip
_POINT = ("stage", "step", "loss", "density", "held_back_loss", "held_back_score")
_TITLES = (("loss", "loss", COLOURS[0]), ("density", "density (%)", COLOURS[1]))
# Of all tasks in one panel: what is drawn, its title and its line.
_SHARED: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("density", "density of all tasks (%)", {"color": COLOURS[1]}),
    (
        "held_back_score",
        "score of all tasks on held-back examples",
        {"color": COLOURS[2], "marker": "o", "markersize": 1.8, "clip_on": False},
    ),
)


@dataclass(frozen=True)
class Curve:
    """One arrival's curve, a point a step."""

    arrival: ArrivalRecord
    points: tuple[dict[str, Any], ...]  # what `_POINT` names; all but the first three may be None

    def series(self, name: str) -> dict[int, float]:
        """Return values by step, counted from 1 through all stages; densities in percent above 0.

        Of what is measured at some steps only, those alone.
        """
        known = ((x, point.get(name)) for x, point in enumerate(self.points, start=1))
        found = {x: float(y) for x, y in known if isinstance(y, (int, float))}
        return {x: 100 * y for x, y in found.items() if y > 0} if name == "density" else found

    def starts(self) -> list[int]:
        """Return the first step of each stage after the first."""
        stages = [point.get("stage") for point in self.points]
        return [i + 1 for i in range(1, len(stages)) if stages[i] != stages[i - 1]]


@dataclass(frozen=True)
class CurvesFigure(StreamFigure):
    """One seed's curves in the order of arrival; some arrivals may have none."""

    name = "curves"
    columns = ("run", "seed", "place", "task", "total_step", *_POINT)

    curves: tuple[Curve, ...]

    @classmethod
    def read(cls, source: RunSource) -> Self:
        """Read the curves of a run's own stream.

        Raises NotInRegistryError for an unknown run, RegistryError where the home has no curve.
        """
        stream, folder = source.stream, source.home.curves
        curves = tuple(_read(stream.arrivals, folder, stream.run.name))
        if not curves:
            raise RegistryError(
                f"Of the run `{stream.run.name}` no curve lies in {folder}, so there is nothing to "
                "show. Curves stay in the home in which a run was made; name it with `--home`."
            )
        return cls(stream, curves)

    def rows(self) -> Iterator[Sequence[Cell]]:
        """Yield a row a point."""
        for curve in self.curves:
            who = (*self.who, curve.arrival.sequence, curve.arrival.task)
            for number, point in enumerate(curve.points, start=1):
                yield (*who, number, *(point.get(name) for name in _POINT))

    def draw(self) -> Figure:
        """Draw the loss of each task in a panel, below density and score of all in one each."""
        if len(self.curves) > _MOST_PANELS:
            return self._draw_spread()
        n_across = min(len(self.curves), 3 if len(self.curves) > 4 else 2)
        shared = [of for of in _SHARED if any(curve.series(of[0]) for curve in self.curves)]
        heights = [_SHARED_PANEL] * len(shared) + [_PANEL] * math.ceil(len(self.curves) / n_across)
        wide = range(len(shared))
        figure, panels = new_figure(self._caption(), heights, n_across, wide=wide)
        for axes, (name, title, line) in zip(panels, shared, strict=False):
            self._draw_all(axes, name, line)
            axes.set_title(title)
        losses = panels[len(shared) :]
        for axes, curve in zip(losses, self.curves, strict=False):
            _draw_loss(axes, curve)
            axes.set_title(plain(curve.arrival.versioned_task, 48 // n_across))
        for axes in losses[len(self.curves) :]:
            axes.remove()
        for axes in losses[: len(self.curves)][-n_across:]:
            axes.set_xlabel("training step", fontsize=SMALL)
        add_legend(figure, 2, _legend(self.curves))
        return fit_panels(figure)

    def _draw_all(self, axes: Axes, name: str, line: Mapping[str, Any]) -> None:
        """Draw a value of every task into one panel."""
        every: list[float] = []
        for curve in self.curves:
            values = curve.series(name)
            every += values.values()
            if values:
                axes.plot(
                    list(values), list(values.values()), linewidth=0.8,
                    alpha=1.0 if len(self.curves) == 1 else 0.5, **line,
                )  # fmt: skip
        n_steps = max(len(curve.points) for curve in self.curves)
        _lay_out(axes, name, every, n_steps, n_ticks=6)

    def _draw_spread(self) -> Figure:
        """Draw the median over tasks and a band that holds 90% of them, step by step."""
        note = (
            f"{len(self.curves):,} tasks. Line: median over tasks with that many steps; band: 5% "
            "to 95% of them. The CSV has every curve."
        )
        figure, panels = new_figure(f"{self._caption()} {note}", [_ONE_PANEL], 2)
        n_steps = max(len(curve.points) for curve in self.curves)
        for axes, (name, title, colour) in zip(panels, _TITLES, strict=True):
            by_step: dict[int, list[float]] = defaultdict(list)
            for curve in self.curves:
                for step, value in curve.series(name).items():
                    by_step[step].append(value)
            steps = sorted(by_step)
            spread = [np.quantile(by_step[step], (0.05, 0.5, 0.95)).tolist() for step in steps]
            low, middle, high = ([three[which] for three in spread] for which in range(3))
            axes.plot(steps, middle, color=colour, linewidth=0.9)
            axes.fill_between(steps, low, high, color=colour, alpha=0.25, linewidth=0)
            if name == "loss":
                _mark_held_back(axes, self._held_back_medians())
            _lay_out(axes, name, [*low, *high], n_steps)
            axes.set_title(title)
            axes.set_xlabel("training step", fontsize=SMALL)
        return fit_panels(figure)

    def _held_back_medians(self) -> dict[int, float]:
        """Return the median loss on held-back examples at the steps that most tasks have it at."""
        by_step: dict[int, list[float]] = defaultdict(list)
        for curve in self.curves:
            for step, value in curve.series("held_back_loss").items():
                by_step[step].append(value)
        most = len(self.curves) / 2
        return {at: float(np.median(by_step[at])) for at in by_step if len(by_step[at]) > most}

    def _caption(self) -> str:
        stages = list(dict.fromkeys(p.get("stage") for c in self.curves for p in c.points))
        named = ", ".join(str(stage) for stage in stages if stage is not None)
        several = len(stages) > 1 and len(self.curves) <= _MOST_PANELS
        lines = f" Stages, one after another: {named}." if several else ""
        n_missing = len(self.stream.arrivals) - len(self.curves)
        missing = f" {n_missing} arrivals have no curve here." if n_missing else ""
        held_back = " Points: on examples held back from training, at every tenth of the steps."
        return (
            f"{self.head}, {self.stream.method}: measured during training, per step."
            f"{held_back * _has_held_back(self.curves)}{lines}{missing}"
        )


def _read(arrivals: Iterable[ArrivalRecord], folder: Path, run: str) -> Iterator[Curve]:
    for one in arrivals:
        # The caption says how many are missing.
        with suppress(StoreError):
            points = read_curve(recorded_curve_path(folder, run, one))
            if points:
                yield Curve(one, points)


def _draw_loss(axes: Axes, curve: Curve) -> None:
    """Draw the loss of each step, faintly under its running median where steps are many."""
    values = curve.series("loss")
    steps, losses = list(values), list(values.values())
    smoothed = len(losses) >= _FEWEST_SMOOTHED
    axes.plot(steps, losses, **(_FAINT if smoothed else _LINE))
    if smoothed:
        axes.plot(steps, running_median(losses), **_LINE)
    _mark_held_back(axes, curve.series("held_back_loss"))
    for start in curve.starts():
        axes.axvline(start - 0.5, color=GREYS[0], linewidth=0.5, zorder=1)
    _lay_out(axes, "loss", losses, len(curve.points))


def _mark_held_back(axes: Axes, values: Mapping[int, float]) -> None:
    if values:  # an empty line that is not clipped has no size, and upsets the layout
        axes.plot(list(values), list(values.values()), **_HELD_BACK)


def running_median(values: Sequence[float]) -> list[float]:
    """Return the median of the values around each, of a tenth of them; fewer at both ends."""
    reach = len(values) // 20
    return [
        float(np.median(values[max(0, at - reach) : at + reach + 1])) for at in range(len(values))
    ]


def _has_held_back(curves: Iterable[Curve]) -> bool:
    return any(curve.series("held_back_loss") for curve in curves)


def _legend(curves: Sequence[Curve]) -> list[Line2D]:
    marks = [
        Line2D([], [], **_FAINT, label="loss"),
        Line2D([], [], **_LINE, label="running median"),
    ]
    if _has_held_back(curves):
        marks.append(Line2D([], [], **_HELD_BACK, label="loss on held-back examples"))
    start = Line2D(
        [], [], linestyle="", marker="|", markersize=8, markeredgewidth=0.5, color=GREYS[0],
        label="a stage begins",
    )  # fmt: skip
    return [*marks, *[start] * any(curve.starts() for curve in curves)]


def _lay_out(axes: Axes, name: str, y: Sequence[float], n_steps: int, *, n_ticks: int = 3) -> None:
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
    axes.xaxis.set_major_locator(MaxNLocator(nbins=n_ticks, integer=True))
    axes.grid(axis="y")
