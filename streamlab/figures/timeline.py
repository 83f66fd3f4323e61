"""The figure `timeline`: one row a provider with its arrivals, their waiting and their training.

A tick is an arrival, a thin bar its waiting, a thick one its training. What failed or was
quarantined is marked where it ended.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from streamlab.figures.stream_times import Stay, StreamTimes
from streamlab.figures.style import (
    COLOURS,
    INK,
    WIDTH,
    Sheet,
    plain,
    write_with_numbers,
)
from streamlab.figures.task_rows import MOST_NAMED, lay_out_rows, rows_height

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = (
    "run", "seed", "arrival", "provider", "task", "version", "attempt", "status", "clock",
    "arrived_us", "began_us", "ended_us", "started_at", "finished_at",
)  # fmt: skip
_MARKS = (("failed", "x", COLOURS[1]), ("quarantined", "D", COLOURS[3]))
_LEFT, _RIGHT, _BELOW, _ABOVE = 1.1, 0.14, 0.42, 0.42  # inches around the panel
_ROW = 0.26  # inches a provider
_LEAST = 1 / 400  # of the axis: what is shorter is drawn as long


def write_timeline(data: StreamTimes, folder: Path) -> tuple[Path, ...]:
    """Write timeline.png, .svg and .csv, a row an attempt. Raises StoreError."""
    rows = [
        (
            *(data.stream.run.name, data.stream.seed, one.id, one.provider, one.task),
            *(one.version, one.attempt, one.status, data.clock),
            *(one.arrived_us, one.began_us, one.ended_us, one.started_at, one.finished_at),
        )
        for one in (stay.arrival for stay in data.stays)
    ]
    return write_with_numbers(folder, "timeline", lambda: draw(data), _COLUMNS, rows)


def draw(data: StreamTimes) -> Figure:
    """Draw a row a provider, the first to bring something on top; call it in `house_style`."""
    rows = {name: row for row, name in enumerate(_shown(data))}
    stays = [stay for stay in data.stays if stay.arrival.provider in rows]
    height = rows_height(len(rows), _ROW)
    sheet = Sheet(height + _BELOW + _ABOVE, [_caption(data, len(rows))])
    axes = sheet.panel(_LEFT, _BELOW, WIDTH - _LEFT - _RIGHT, height)
    span = max(stay.ended for stay in stays) / data.unit[1]
    _bars(axes, data, stays, rows, span * _LEAST)
    axes.set_xlim(-0.01 * span, 1.02 * span)
    lay_out_rows(axes, [plain(name, 14) for name in rows], data.axis, order="")
    sheet.legend(3)
    return sheet.figure


def _shown(data: StreamTimes) -> list[str]:
    """Return the providers in the order of their first arrivals; of very many the busiest."""
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
