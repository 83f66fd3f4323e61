"""The figure `costs`: bytes of a task by every method of a run, beside what is computed.

A row each, the dearest first, on a logarithmic axis. Filled markers are measured, open ones
computed; the text beside them is what a million tasks take, the base included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from streamlab.errors import RegistryError
from streamlab.figures.style import (
    BYTES,
    COLOURS,
    GREYS,
    INK,
    SMALL,
    RunFigure,
    add_legend,
    decades,
    fit_panels,
    lay_out_rows,
    new_figure,
    plain,
    rows_height,
)
from streamlab.units import format_bytes
from streamlab.views.run_source import RunSource
from streamlab.views.table import Cell
from streamlab.views.task_costs import TaskCost, task_costs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROW = 0.3  # inches


@dataclass(frozen=True)
class CostsFigure(RunFigure):
    """What a task costs by every method of a run, the dearest first."""

    name = "costs"
    columns = ("run", "stored", "one_task", "million_tasks", "times_smaller", "basis")

    run: str
    costs: tuple[TaskCost, ...]

    @classmethod
    def read(cls, source: RunSource) -> Self:
        """Read what a run stored.

        Raises NotInRegistryError for an unknown run, RegistryError where it has no artifact yet.
        """
        record = source.registry.runs.get(source.run)
        base = source.registry.bases.get(record.base_fingerprint)
        costs = task_costs(base, source.registry.totals.by_method(record.id))
        if not costs:
            raise RegistryError(f"Run {record.name} has stored no artifact yet: nothing to show.")
        return cls(record.name, tuple(costs))

    def rows(self) -> Iterator[Sequence[Cell]]:
        """Yield a row each."""
        for cost in self.costs:
            yield (
                self.run, cost.name, cost.task_bytes, cost.million_bytes, cost.ratio, cost.basis,
            )  # fmt: skip

    def draw(self) -> Figure:
        """Draw a row each, the dearest on top."""
        height = rows_height(len(self.costs), _ROW)
        figure, (axes,) = new_figure(self._caption(), [height])
        lay_out_rows(
            axes, [plain(cost.name, 24) for cost in self.costs], "bytes of a task", order="dearest"
        )
        axes.set_xscale("log")
        low, high = decades((cost.task_bytes for cost in self.costs), 1.5)
        axes.set_xlim(low, high)
        axes.xaxis.set_major_locator(LogLocator(numticks=6))
        axes.xaxis.set_major_formatter(BYTES)
        axes.xaxis.set_minor_formatter(NullFormatter())
        for place, cost in enumerate(self.costs):
            mark = _mark(cost.basis)
            mark.set_data([cost.task_bytes], [place])
            axes.plot([low, cost.task_bytes], [place, place], color=mark.get_color(), linewidth=0.8)
            axes.add_line(mark)
            axes.annotate(
                f"{format_bytes(cost.task_bytes)}; a million: {format_bytes(cost.million_bytes)}",
                (low, place), xytext=(2, 4), textcoords="offset points",
                fontsize=SMALL, color=INK, va="bottom",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
            )  # fmt: skip
        bases = sorted({cost.basis for cost in self.costs}, reverse=True)
        add_legend(figure, 2, [_mark(basis) for basis in bases])
        return fit_panels(figure)

    def _caption(self) -> str:
        computed = any(cost.basis == "computed" for cost in self.costs)
        hollow = " Open markers: computed, without head." if computed else ""
        return (
            f"Run {self.run}. Filled markers: mean size of the files, measured.{hollow} A million "
            "tasks with the base that they need."
        )


def _mark(basis: str) -> Line2D:
    """Return the marker of what is measured, filled, or computed, open."""
    measured = basis == "measured"
    colour = COLOURS[0] if measured else GREYS[0]
    return Line2D(
        [], [], linestyle="", marker="o", color=colour, markersize=5, label=basis, zorder=3,
        markerfacecolor=colour if measured else "white",
    )  # fmt: skip
