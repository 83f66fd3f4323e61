"""The figure `queue`: how many arrivals wait, and how many are being learnt, over time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.ticker import MaxNLocator

from streamlab.figures.stream_timeline import Stay, StreamTimes
from streamlab.figures.style import COLOURS, GRID, WIDTH, Sheet, write_with_numbers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = ("run", "seed", "clock", "seconds", "n_waiting", "n_training")
_LEFT, _RIGHT, _BELOW, _ABOVE = 0.5, 0.14, 0.42, 0.3  # inches around the panel
_PANEL = 1.7  # inches


def queue_lengths(stays: Sequence[Stay]) -> list[tuple[float, int, int]]:
    """Return every time at which something changes, with who waits and who is learnt from then on.

    In seconds from the start of the stream; what begins as something ends takes its place.
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


def write_queue(data: StreamTimes, folder: Path) -> tuple[Path, ...]:
    """Write queue.png, queue.svg and queue.csv, a row a change. Raises StoreError."""
    rows = [
        (data.stream.run.name, data.stream.seed, data.clock, *row)
        for row in queue_lengths(data.stays)
    ]
    return write_with_numbers(folder, "queue", lambda: draw(data), _COLUMNS, rows)


def draw(data: StreamTimes) -> Figure:
    """Draw both lengths as steps; call it in `house_style`."""
    rows = queue_lengths(data.stays)
    times = [at / data.unit[1] for at, _, _ in rows]
    sheet = Sheet(_PANEL + _BELOW + _ABOVE, [_caption(data, rows)])
    axes = sheet.panel(_LEFT, _BELOW, WIDTH - _LEFT - _RIGHT, _PANEL)
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
    axes.grid(axis="y", color=GRID, linewidth=0.5)
    axes.set_xlabel(data.axis)
    axes.set_ylabel("arrivals")
    sheet.legend(2)
    return sheet.figure


def _caption(data: StreamTimes, rows: Sequence[tuple[float, int, int]]) -> str:
    longest = max(n_waiting for _, n_waiting, _ in rows)
    waited = [stay.began - stay.arrived for stay in data.stays]
    name, seconds = data.unit
    mean = sum(waited) / len(waited) / seconds
    return (
        f"{data.head} At most {longest:,} waiting at once; "
        f"mean wait {mean:.3g} {name} of {len(waited):,} attempts."
    )
