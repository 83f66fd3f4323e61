"""The figures of a study: scores by bytes, by density and by the settings that were tuned.

Scores are means over tasks, times 100. A row that lacks a task of the reference is left out, since
its mean would be over other tasks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from streamlab.figures.front import find_front
from streamlab.figures.style import (
    COLOURS,
    GREYS,
    INK,
    MARKERS,
    PLAIN_NUMBERS,
    add_legend,
    fit_panels,
    new_figure,
    plain,
)
from streamlab.stats.differences import known
from streamlab.stats.study_comparison import ComparedRow, compare_rows, seed_means
from streamlab.study.results import Results, Trial
from streamlab.study.study import LoadedStudy
from streamlab.units import counted
from streamlab.views.table import Cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL, _SMALL_PANEL = 2.6, 1.1  # inches
_ACROSS = 2  # panels beside each other
_KB = 1000


@dataclass(frozen=True)
class Reference:
    """The method that the others are compared with."""

    name: str
    tasks: frozenset[str]
    means: tuple[float, ...]  # over tasks, under each seed

    def draw(self, axes: Axes) -> None:
        """Draw its means from the lowest seed's to the highest as a band."""
        low, high = 100 * min(self.means), 100 * max(self.means)
        axes.axhspan(low, high, color=GREYS[1], alpha=0.35, linewidth=0)
        mean = 100 * sum(self.means) / len(self.means)
        axes.axhline(mean, color=GREYS[0], linewidth=0.8, label=plain(self.name))


@dataclass(frozen=True)
class StudyRows:
    """The rows of a study that have every task of the reference, and the reference."""

    study: str
    reference: Reference
    rows: tuple[ComparedRow, ...]  # without the reference
    n_left_out: int

    @classmethod
    def read(cls, loaded: LoadedStudy, results: Results) -> Self | None:
        """Return what can be drawn; None before the reference has a score."""
        rows = compare_rows(loaded, results)
        own = next((row for row in rows if row.row.method == loaded.study.reference), None)
        if own is None:
            return None
        means = seed_means(loaded, results, own.row)
        reference = Reference(own.row.label, frozenset(own.scores), tuple(means or [own.mean]))
        others = [row for row in rows if row is not own]
        whole = tuple(row for row in others if row.scores.keys() >= reference.tasks)
        return cls(loaded.study.name, reference, whole, len(others) - len(whole))

    @property
    def by_method(self) -> Mapping[str, list[ComparedRow]]:
        """Return the rows of each method, smallest files first."""
        found: dict[str, list[ComparedRow]] = {}
        for row in sorted(self.rows, key=lambda row: row.file_bytes):
            found.setdefault(row.row.method, []).append(row)
        return {method: found[method] for method in sorted(found)}

    def front(self) -> list[ComparedRow]:
        """Return the rows that no smaller one equals or exceeds in score, smallest first."""
        return [self.rows[at] for at in find_front([(r.file_bytes, r.mean) for r in self.rows])]

    def caption(self, what: str) -> str:
        """Return a caption that begins with what is shown."""
        tasks = counted(len(self.reference.tasks), "task")
        seeds = counted(len(self.reference.means), "seed")
        band = f"{self.reference.name}: from its lowest to its highest of {seeds}"
        out = f" Not shown, for want of a task: {counted(self.n_left_out, 'row')}."
        return f"Study {self.study}, {tasks}: {what} Band, {band}.{out if self.n_left_out else ''}"


@dataclass(frozen=True)
class Frontier:
    """Mean score against the bytes of a task's file, a line a method, and the Pareto front."""

    shown: StudyRows

    name = "frontier"
    columns = ("row", "method", "seeds", "file_bytes", "head_bytes", "mean", "on_front")

    @property
    def caption(self) -> str:
        """Return the caption."""
        return self.shown.caption(
            "mean score on dev against the bytes of a task's file, head included; the Pareto "
            "front is dotted."
        )

    def rows(self) -> Iterator[Sequence[Cell]]:
        """Yield a line a row."""
        front = self.shown.front()
        for row in self.shown.rows:
            yield (
                *(row.row.label, row.row.method, row.n_seeds, row.file_bytes, row.head_bytes),
                *(row.mean, row in front),
            )

    def draw(self) -> Figure:
        """Draw one panel, bytes on a logarithmic axis."""
        figure, (axes,) = new_figure(self.caption, [_PANEL])
        self.shown.reference.draw(axes)
        _draw_methods(axes, self.shown, lambda row: row.file_bytes / _KB)
        front = self.shown.front()
        axes.plot(
            [row.file_bytes / _KB for row in front], [100 * row.mean for row in front],
            linestyle=":", color=INK, linewidth=0.8,
        )  # fmt: skip
        axes.set_xlabel("bytes of a task (kB)")
        return _finished(figure, axes)


@dataclass(frozen=True)
class ByDensity:
    """Mean score against the share of weights that change, a line a method."""

    shown: StudyRows

    name = "density"
    columns = ("row", "method", "seeds", "density", "entries", "difference", "low", "high")

    @property
    def caption(self) -> str:
        """Return the caption."""
        return self.shown.caption(
            "mean score on dev against the share of the base's weights that change, with the 95% "
            "interval of the difference over seeds where there are several."
        )

    def rows(self) -> Iterator[Sequence[Cell]]:
        """Yield a line a row with its difference from the reference."""
        for row in self._sparse():
            found = row.difference
            ends: tuple[Cell, ...] = (None, None, None)
            if found is not None:
                ends = (found.mean, known(found.low), known(found.high))
            yield (
                *(row.row.label, row.row.method, row.n_seeds, row.density, row.n_entries),
                *ends,
            )

    def draw(self) -> Figure:
        """Draw one panel, densities on a logarithmic axis."""
        figure, (axes,) = new_figure(self.caption, [_PANEL])
        self.shown.reference.draw(axes)
        sparse = StudyRows(self.shown.study, self.shown.reference, tuple(self._sparse()), 0)
        _draw_methods(axes, sparse, lambda row: 100 * row.density, intervals=True)
        axes.set_xlabel("weights that change (%)")
        return _finished(figure, axes)

    def _sparse(self) -> list[ComparedRow]:
        return [row for row in self.shown.rows if 0 < row.density < 1]


@dataclass(frozen=True)
class Sensitivity:
    """Mean validation score against a tuned number, a panel a method and a line a size."""

    study: str
    trials: Mapping[str, Mapping[str, Sequence[Trial]]]  # by method and row

    name = "sensitivity"
    columns = ("method", "row", "setting", "value", "validation")

    @property
    def caption(self) -> str:
        """Return the caption."""
        return (
            f"Study {self.study}: mean score on validation examples against the tuned setting, "
            "first seed. A star marks the chosen value."
        )

    @classmethod
    def read(cls, loaded: LoadedStudy, results: Results) -> Self:
        """Return the trials of every method that is tuned over one number."""
        found: dict[str, dict[str, Sequence[Trial]]] = {}
        for row in loaded.rows():
            trials = [t for t in results.trials(loaded, row) if math.isfinite(t.score)]
            numbers = [_number(trial) for trial in trials]
            if len(trials) > 1 and None not in numbers:
                ordered = sorted(trials, key=lambda trial: _number(trial) or 0.0)
                found.setdefault(row.method, {})[row.label] = ordered
        return cls(loaded.study.name, found)

    def rows(self) -> Iterator[Sequence[Cell]]:
        """Yield a line a trial."""
        for method, by_row in self.trials.items():
            for label, trials in by_row.items():
                for trial in trials:
                    yield method, label, trial.setting[0][0], _number(trial), trial.score

    def draw(self) -> Figure:
        """Draw a panel a method, two beside each other."""
        n_rows = math.ceil(len(self.trials) / _ACROSS)
        figure, panels = new_figure(self.caption, [_SMALL_PANEL] * n_rows, _ACROSS)
        for axes, (method, by_row) in zip(panels, self.trials.items(), strict=False):
            for number, (label, trials) in enumerate(by_row.items()):
                size = label.removeprefix(method).removeprefix("-")
                colour = COLOURS[number % len(COLOURS)]
                points = [(_number(t) or 0.0, 100 * t.score) for t in trials]
                axes.plot(*zip(*points, strict=True), color=colour, linewidth=0.9, label=size)
                best = max(points, key=lambda point: point[1])
                axes.plot(*best, marker="*", markersize=6, color=colour, linestyle="")
            axes.set_title(plain(method, 24))
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(PLAIN_NUMBERS)
            axes.xaxis.set_major_locator(LogLocator(numticks=4))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.yaxis.set_major_locator(MaxNLocator(nbins=3))
            axes.grid()
            if any(label != method for label in by_row):
                axes.legend(loc="best", fontsize=5.5)
        for axes in panels[len(self.trials) :]:
            axes.remove()
        return fit_panels(figure)


def study_figures(
    loaded: LoadedStudy, results: Results
) -> list[Frontier | ByDensity | Sensitivity]:
    """Return every figure that the recorded cells suffice for."""
    shown = StudyRows.read(loaded, results)
    figures: list[Frontier | ByDensity | Sensitivity] = []
    if shown is not None and shown.rows:
        figures += [Frontier(shown), ByDensity(shown)]
    sensitivity = Sensitivity.read(loaded, results)
    if sensitivity.trials:
        figures.append(sensitivity)
    return figures


def _draw_methods(
    axes: Axes,
    shown: StudyRows,
    place: Callable[[ComparedRow], float],
    *,
    intervals: bool = False,
) -> None:
    """Draw a line a method over its rows, with intervals of the differences where wanted."""
    for number, (method, rows) in enumerate(shown.by_method.items()):
        colour = COLOURS[number % len(COLOURS)]
        marker = MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]
        x, y = [place(row) for row in rows], [100 * row.mean for row in rows]
        axes.plot(
            x,
            y,
            color=colour,
            marker=marker,
            markersize=3.5,
            linewidth=0.9,
            label=plain(method, 24),
        )
        for row in rows if intervals else ():
            found = row.difference
            if found is not None and not math.isnan(found.low):
                ends = [100 * (row.mean + end - found.mean) for end in (found.low, found.high)]
                axes.vlines(place(row), ends[0], ends[1], color=colour, linewidth=0.7)


def _finished(figure: Figure, axes: Axes) -> Figure:
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(PLAIN_NUMBERS)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("mean score x 100")
    axes.grid()
    add_legend(figure, 3)
    return fit_panels(figure)


def _number(trial: Trial) -> float | None:
    """Return the value of the one setting that was tuned, where it is a positive number."""
    values = [value for _, value in trial.setting]
    if len(values) != 1 or isinstance(values[0], str | bool) or values[0] <= 0:
        return None
    return float(values[0])
