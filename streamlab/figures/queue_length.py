"""The figure `queue`: how many arrivals wait, and how many are in training, over time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.ticker import MaxNLocator

from streamlab.figures.stream_timeline import Stay, StreamTimes, read_times
from streamlab.figures.style import (
    COLOURS,
    add_legend,
    fit_panels,
    new_page,
    write_figure,
)
from streamlab.views.run_source import RunSource

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = ("run", "seed", "clock", "seconds", "n_waiting", "n_training")
_PANEL = 1.7  # inches


def queue_lengths(stays: Sequence[Stay]) -> list[tuple[float, int, int]]:
    """Return (seconds, waiting, training) at every change, from the start of the stream.

    An arrival that begins as another one ends takes its place.
    """
    waiting: Counter[float] = Counter()
    training: Counter[float] = Counter()
    for stay in stays:
        waiting[stay.arrived] += 1
        waiting[stay.began] -= 1
        training[stay.began] += 1
        training[stay.ended] -= 1
    rows = []
    n_waiting = n_training = 0
    for at in sorted({*waiting, *training}):
        n_waiting += waiting[at]
        n_training += training[at]
        rows.append((at, n_waiting, n_training))
    return rows


def read(source: RunSource) -> StreamTimes:
    """Read the times of a run's own stream, as the figure `timeline` does."""
    return read_times(source.registry, source.run)


def write(data: StreamTimes, folder: Path) -> tuple[Path, ...]:
    """Write queue.png, queue.svg and queue.csv, a row a change. Raises StoreError."""
    rows = [
        (data.stream.run.name, data.stream.seed, data.clock, *row)
        for row in queue_lengths(data.stays)
    ]
    return write_figure(folder, "queue", lambda: draw(data), _COLUMNS, rows)


def draw(data: StreamTimes) -> Figure:
    """Draw both lengths as steps; call it in `house_style`."""
    rows = queue_lengths(data.stays)
    times = [at / data.unit[1] for at, _, _ in rows]
    figure, (axes,) = new_page([_caption(data, rows)], _PANEL)
    training = [n_training for _, _, n_training in rows]
    waiting = [n_waiting for _, n_waiting, _ in rows]
    axes.fill_between(
        times, training, step="post", color=COLOURS[0], alpha=0.35, linewidth=0, label="training"
    )
    axes.step(times, waiting, where="post", color=COLOURS[1], linewidth=1.0, label="waiting")
    axes.set_xlim(0, max(times))
    axes.set_ylim(0, 1.08 * max(1, *waiting, *training))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.grid(axis="y")
    axes.set_xlabel(data.axis)
    axes.set_ylabel("arrivals")
    add_legend(figure, 2)
    return fit_panels(figure, _PANEL)


def _caption(data: StreamTimes, rows: Sequence[tuple[float, int, int]]) -> str:
    longest = max(n_waiting for _, n_waiting, _ in rows)
    waited = [stay.began - stay.arrived for stay in data.stays]
    name, seconds = data.unit
    mean = sum(waited) / len(waited) / seconds
    return (
        f"{data.head} At most {longest:,} waiting at once; "
        f"mean wait {mean:.3g} {name} of {len(waited):,} attempts."
    )
