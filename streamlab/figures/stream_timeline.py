"""The figure `timeline`: a row a provider, with its arrivals, their waiting and their training.

A tick is an arrival, a thin bar its waiting, a thick one its training; failed and quarantined
attempts are marked where they ended. The clock is the run's virtual one where it was recorded, else
the machine's: then an arrival comes when its training begins, and nothing waits. A further attempt
at an arrival waits from the end of the previous attempt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from streamlab.figures.style import (
    COLOURS,
    INK,
    MOST_NAMED,
    add_legend,
    fit_panels,
    lay_out_rows,
    new_page,
    plain,
    rows_height,
    write_figure,
)
from streamlab.registry.records import ArrivalRecord, PrimaryStream
from streamlab.registry.registry import Registry
from streamlab.units import SECOND_US, seconds_unit
from streamlab.views.run_source import RunSource

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Clock = Literal["virtual", "real"]


@dataclass(frozen=True)
class Stay:
    """One attempt at an arrival; times in seconds from the start of the stream."""

    arrival: ArrivalRecord
    arrived: float
    began: float
    ended: float


@dataclass(frozen=True)
class StreamTimes:
    """A run's own stream in time; `n_untimed` attempts are not on its clock."""

    stream: PrimaryStream
    clock: Clock
    start: float  # seconds on the clock; 0 on a virtual one
    stays: tuple[Stay, ...]  # in the order of arrival
    n_untimed: int

    @property
    def run(self) -> str:
        """Return the name of the run."""
        return self.stream.run.name

    @property
    def trivial(self) -> str | None:
        """Return why nothing waits; None on a virtual clock."""
        if self.clock == "virtual":
            return None
        return "The run has no virtual time: its tasks arrived one after another."

    @property
    def head(self) -> str:
        """Return the start of a caption: the run, and which clock its times are from."""
        known = "in virtual time, simulated"
        if self.clock == "real":
            known = "in real time, measured; no virtual time was recorded, so nothing waits"
        missing = f"; {self.n_untimed} attempts have no virtual time" if self.n_untimed else ""
        return f"Run {self.stream.run.name}, seed {self.stream.seed}, {known}{missing}."

    @property
    def unit(self) -> tuple[str, float]:
        """Return the unit of the axis of time, and its seconds."""
        return seconds_unit(max(stay.ended for stay in self.stays))

    @property
    def axis(self) -> str:
        """Return the name of the axis of time."""
        return f"{self.clock} {self.unit[0]} from the start"


def read_times(registry: Registry, run: str) -> StreamTimes:
    """Read the times of a run's own stream, failed and quarantined attempts included.

    Raises NotInRegistryError for an unknown run, RegistryError where nothing has finished yet.
    """
    stream = registry.primary_stream(run)
    found = registry.arrivals.list(run=stream.run.id, method=stream.method, seed=stream.seed)
    return stream_times(stream, found)


def stream_times(stream: PrimaryStream, arrivals: Iterable[ArrivalRecord]) -> StreamTimes:
    """Put arrivals on one clock: the virtual one where any of them has its times."""
    found = tuple(arrivals)
    virtual = [stay for stay in map(_find_virtual, found) if stay is not None]
    if virtual:
        ordered = sorted(virtual, key=lambda stay: (stay.arrived, stay.began, stay.arrival.id))
        return StreamTimes(
            stream, "virtual", 0.0, tuple(_after_attempts(ordered)), len(found) - len(virtual)
        )
    start = min(arrival.started_at for arrival in found)
    real = [
        Stay(a, a.started_at - start, a.started_at - start, a.finished_at - start) for a in found
    ]
    ordered = sorted(real, key=lambda stay: (stay.arrived, stay.arrival.id))
    return StreamTimes(stream, "real", start, tuple(ordered), 0)


def _find_virtual(arrival: ArrivalRecord) -> Stay | None:
    arrived, began, ended = arrival.arrived_us, arrival.began_us, arrival.ended_us
    if arrived is None or began is None or ended is None:
        return None
    return Stay(arrival, arrived / SECOND_US, began / SECOND_US, ended / SECOND_US)


def _after_attempts(stays: Iterable[Stay]) -> Iterable[Stay]:
    ended: dict[tuple[str, str, int], float] = {}
    for stay in stays:
        one = (stay.arrival.provider, stay.arrival.task, stay.arrival.version)
        before = ended.get(one, stay.arrived)
        yield replace(stay, arrived=min(max(stay.arrived, before), stay.began))
        ended[one] = stay.ended


_COLUMNS = (
    "run", "seed", "arrival", "provider", "task", "version", "attempt", "status", "clock",
    "arrived_us", "began_us", "ended_us", "started_at", "finished_at",
)  # fmt: skip
_MARKS = (("failed", "x", COLOURS[1]), ("quarantined", "D", COLOURS[3]))
_ROW = 0.26  # inches a provider
_SHORTEST = 1 / 400  # of the axis: shorter trainings are drawn as long


def read(source: RunSource) -> StreamTimes:
    """Read a run's own stream; see `read_times`."""
    return read_times(source.registry, source.run)


def write(data: StreamTimes, folder: Path) -> tuple[Path, ...]:
    """Write timeline.png, .svg and .csv, a row an attempt. Raises StoreError."""
    rows = [
        (
            *(data.stream.run.name, data.stream.seed, one.id, one.provider, one.task),
            *(one.version, one.attempt, one.status, data.clock),
            *(one.arrived_us, one.began_us, one.ended_us, one.started_at, one.finished_at),
        )
        for one in (stay.arrival for stay in data.stays)
    ]
    return write_figure(folder, "timeline", lambda: draw(data), _COLUMNS, rows)


def draw(data: StreamTimes) -> Figure:
    """Draw a row a provider, the first to submit on top; call it in `house_style`."""
    rows = {name: row for row, name in enumerate(_shown(data))}
    stays = [stay for stay in data.stays if stay.arrival.provider in rows]
    height = rows_height(len(rows), _ROW)
    figure, (axes,) = new_page([_caption(data, len(rows))], height)
    span = max(stay.ended for stay in stays) / data.unit[1]
    _bars(axes, data, stays, rows, span * _SHORTEST)
    axes.set_xlim(-0.01 * span, 1.02 * span)
    lay_out_rows(axes, [plain(name, 14) for name in rows], data.axis, order="")
    add_legend(figure, 3)
    return fit_panels(figure, height)


def _shown(data: StreamTimes) -> list[str]:
    """Return the providers in the order of their first arrivals; of very many, the busiest."""
    counts = Counter(stay.arrival.provider for stay in data.stays)
    busiest = {name for name, _ in counts.most_common(MOST_NAMED)}
    return [name for name in counts if name in busiest]


def _bars(
    axes: Axes, data: StreamTimes, stays: list[Stay], rows: dict[str, int], least: float
) -> None:
    scale = data.unit[1]
    y = [rows[stay.arrival.provider] for stay in stays]
    arrived = [stay.arrived / scale for stay in stays]
    began = [stay.began / scale for stay in stays]
    ended = [
        max(stay.ended / scale, start + least) for stay, start in zip(stays, began, strict=True)
    ]
    axes.hlines(y, arrived, began, color=COLOURS[4], linewidth=1.5, label="waiting")
    axes.hlines(y, began, ended, color=COLOURS[0], linewidth=6.0, label="training")
    axes.vlines(
        arrived, [row - 0.42 for row in y], [row - 0.2 for row in y], color=INK, linewidth=0.6,
        label="arrival",
    )  # fmt: skip
    for status, marker, colour in _MARKS:
        marked = [place for place, stay in enumerate(stays) if stay.arrival.status == status]
        if marked:
            axes.plot(
                [ended[place] for place in marked], [y[place] + 0.3 for place in marked],
                linestyle="", marker=marker, color=colour, markersize=2.8, label=status, zorder=4,
            )  # fmt: skip


def _caption(data: StreamTimes, n_shown: int) -> str:
    n_all = len({stay.arrival.provider for stay in data.stays})
    some = f" The {n_shown} busiest of {n_all:,} providers." if n_shown < n_all else ""
    return f"{data.head} {data.stream.method}, {len(data.stays):,} attempts.{some}"
