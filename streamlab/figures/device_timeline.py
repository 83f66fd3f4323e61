"""The figure `device`: the bytes on the run's device over time, with its budget.

The line is the device's log; evictions and rejections are marked. Without a simulated device every
file is kept, and the line adds them up as their arrivals ended. The base is not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.ticker import MaxNLocator

from streamlab.errors import RegistryError
from streamlab.figures.stream_timeline import StreamTimes, read_times
from streamlab.figures.style import (
    COLOURS,
    INK,
    add_legend,
    fit_panels,
    new_page,
    write_figure,
)
from streamlab.registry.records import PlacementRecord
from streamlab.units import SECOND_US, bytes_unit
from streamlab.views.run_source import RunSource

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = (
    "run", "seed", "clock", "seconds", "arrival", "provider", "task", "version", "action",
    "device_bytes", "budget_bytes", "note",
)  # fmt: skip
_MARKS = (
    ("evicted", "v", COLOURS[3]),
    ("rejected", "x", COLOURS[1]),
    ("superseded", "s", COLOURS[5]),
)
_PANEL = 1.7  # inches


@dataclass(frozen=True)
class Change:
    """One event of one artifact, and the bytes on the device after it."""

    seconds: float  # from the start of the stream
    arrival_id: int
    provider: str
    task: str
    version: int
    action: str
    device_bytes: int
    note: str


@dataclass(frozen=True)
class DeviceFigure:
    """A device over time; `budget` is None where there is no limit."""

    times: StreamTimes
    is_simulated: bool
    budget: int | None
    changes: tuple[Change, ...]

    @property
    def run(self) -> str:
        """Return the name of the run."""
        return self.times.stream.run.name


def read(source: RunSource) -> DeviceFigure:
    """Read the device's log of a run's own stream; without one, add up its files.

    Raises NotInRegistryError for an unknown run, RegistryError where nothing has finished yet.
    """
    times = read_times(source.registry, source.run)
    stream = times.stream
    log = [
        line
        for line in source.registry.placements.list(stream.run.id)
        if (line.seed, line.method) == (stream.seed, stream.method)
    ]
    if not log and stream.run.settings.device_budget is not None:
        raise RegistryError(
            f"The device of `{stream.run.name}` is logged once all arrivals of the first seed have "
            "completed, which they have not. Resume with `streamlab run SCENARIO --resume`."
        )
    changes = tuple(map(_change, log)) if log else tuple(_kept(times))
    return DeviceFigure(times, bool(log), stream.run.settings.device_budget, changes)


def _change(line: PlacementRecord) -> Change:
    return Change(
        line.at_us / SECOND_US, line.arrival_id, line.provider, line.task, line.version,
        line.action, line.device_bytes, line.note,
    )  # fmt: skip


def _kept(times: StreamTimes) -> Sequence[Change]:
    changes = []
    total = 0
    for stay in sorted(times.stays, key=lambda stay: (stay.ended, stay.arrival.id)):
        one = stay.arrival
        if one.status == "finished":
            total += times.stream.diffs[one.digest or ""].file_bytes
            changes.append(
                Change(stay.ended, one.id, one.provider, one.task, one.version, "stored", total, "")
            )
    return changes


def write(data: DeviceFigure, folder: Path) -> tuple[Path, ...]:
    """Write device.png, device.svg and device.csv, a row a change. Raises StoreError."""
    clock = data.times.clock
    rows = [
        (
            *(data.run, data.times.stream.seed, clock, one.seconds, one.arrival_id, one.provider),
            *(one.task, one.version, one.action, one.device_bytes, data.budget, one.note),
        )
        for one in data.changes
    ]
    return write_figure(folder, "device", lambda: draw(data), _COLUMNS, rows)


def draw(data: DeviceFigure) -> Figure:
    """Draw the bytes as steps, the budget as a line; call it in `house_style`."""
    scale = data.times.unit[1]
    most = max([data.budget or 0, *(one.device_bytes for one in data.changes)])
    unit, size = bytes_unit(most)
    figure, (axes,) = new_page([_caption(data)], _PANEL)
    end = max(stay.ended for stay in data.times.stays) / scale
    x = [0.0, *(one.seconds / scale for one in data.changes)]
    y = [0.0, *(one.device_bytes / size for one in data.changes)]
    axes.step([*x, max(end, x[-1])], [*y, y[-1]], where="post", color=COLOURS[0], linewidth=1.0,
              label="on the device")  # fmt: skip
    if data.budget is not None:
        axes.axhline(data.budget / size, color=INK, linewidth=0.8, linestyle=":", label="budget")
    for action, marker, colour in _MARKS:
        marked = [one for one in data.changes if one.action == action]
        if marked:
            axes.plot(
                [one.seconds / scale for one in marked],
                [one.device_bytes / size for one in marked],
                linestyle="", marker=marker, color=colour, markersize=3.0, label=action, zorder=3,
            )  # fmt: skip
    axes.set_xlim(0, 1.02 * max(end, x[-1]))
    axes.set_ylim(0, 1.1 * max([*y, (data.budget or 0) / size]))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=5))
    axes.grid(axis="y")
    axes.set_xlabel(data.times.axis)
    axes.set_ylabel(f"files ({unit})")
    add_legend(figure, 3)
    return fit_panels(figure, _PANEL)


def _caption(data: DeviceFigure) -> str:
    totals = {action: sum(one.action == action for one in data.changes) for action, _, _ in _MARKS}
    counts = [f"{count:,} {action}" for action, count in totals.items() if count]
    events = f" {', '.join(counts).capitalize()}." if counts else ""
    if not data.is_simulated:
        events = " No device was simulated: every file is kept."
    return f"{data.times.head}{events} The base is not counted."
