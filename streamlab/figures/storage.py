"""The figure `storage`: bytes stored after each task, on a linear and on a logarithmic scale.

    ours(N) = base file + sum of the first N artifacts' files
    full(N) = sum of the first N tasks' full checkpoints
    adapters(N) = base file + sum of the first N adapters' files, where a baseline stored them
    coo(N)  = base file + sum of the first N diffs as plain coordinates, computed

Full finetuning keeps N checkpoints and needs no base, so full(0) = 0 while ours(0) is the base.
Every byte counted belongs to a file: headers, positions, values and heads. A file shared by two
arrivals counts once for each, as a checkpoint does. Markers are measured; dashed lines are
extrapolated by the storage model of `streamlab.planning`, in blocks of one byte and without a
registry, so that they start at the last measured point. Sizes are in MB of 10^6 bytes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from matplotlib.ticker import MaxNLocator, NullFormatter

from streamlab.errors import RegistryError, UsageError
from streamlab.figures.style import (
    COLOURS,
    GREYS,
    INK,
    LINE,
    PLAIN_NUMBERS,
    SMALL,
    RunFigure,
    decades,
    fit_panels,
    new_page,
    plain,
)
from streamlab.planning.alternatives import find_coordinate_files
from streamlab.planning.measured import Measured, measure
from streamlab.planning.storage_model import StorageModel, grown, running
from streamlab.registry.records import ArrivalRecord, BaseRecord, DiffRecord
from streamlab.registry.registry import Registry
from streamlab.units import format_bytes
from streamlab.views.run_source import RunSource
from streamlab.views.table import Cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MB = 1e6
MOST_RUNS = 4
_PANEL = 1.74  # inches
_MOST_PROJECTED = 10**9  # tasks
_N_STEPS = 24  # extrapolated points, evenly spaced on a logarithmic axis


@dataclass(frozen=True, kw_only=True)
class StorageRow:
    """The storage after `n_tasks` arrivals; the last of them is `task`, None for the base alone."""

    n_tasks: int
    task: str | None = None
    provider: str | None = None
    diff_bytes: int | None = None  # the arrival's file; None where it is extrapolated
    head_bytes: int | None = None  # of which the head
    ours_bytes: int
    full_bytes: int
    adapter_bytes: int | None = None  # None where no baseline stored adapters
    basis: Literal["measured", "extrapolated"] = "measured"
    low_bytes: int | None = None  # of an interval for what is extrapolated from two tasks or more
    high_bytes: int | None = None
    coo_computed_bytes: int | None = None  # None where one of the artifacts is no diff

    @property
    def ratio(self) -> float:
        """Return how many times our storage full finetuning takes; 0 for the base alone."""
        return self.full_bytes / self.ours_bytes


@dataclass(frozen=True)
class StorageSeries:
    """One seed's stream of one run, with what a figure has to say about it."""

    run: str
    seed: int
    method: str
    base: BaseRecord
    densities: tuple[float, ...]  # of each artifact, in the order of arrival
    n_synthetic: int  # arrivals whose data were synthetic
    rows: tuple[StorageRow, ...]  # n_tasks = 0, 1, ..., N, then those extrapolated
    adapter_method: str | None = None  # which stored the adapters


def storage_rows(
    base: BaseRecord, arrivals: Iterable[ArrivalRecord], diffs: Iterable[DiffRecord]
) -> list[StorageRow]:
    """Add up bytes after 0, 1, ..., N arrivals, in the order of arrival.

    `arrivals` are those of one seed and one method; failed ones keep nothing and are left out.
    Raises RegistryError where an arrival's artifact is not among `diffs`.
    """
    known = {diff.digest: diff for diff in diffs}
    ours, full = base.file_bytes, 0
    rows = [StorageRow(n_tasks=0, diff_bytes=0, head_bytes=0, ours_bytes=ours, full_bytes=full)]
    finished = [arrival for arrival in arrivals if arrival.status == "finished"]
    for arrival in sorted(finished, key=lambda a: (a.sequence, a.id)):
        diff = known.get(arrival.digest or "")
        if diff is None:
            raise RegistryError(
                f"The artifact {arrival.digest} of arrival {arrival.id} has no record. "
                "The registry is damaged; restore it from a copy."
            )
        ours += diff.file_bytes
        full += diff.full_checkpoint_bytes
        rows.append(
            StorageRow(
                n_tasks=len(rows),
                task=arrival.task,
                provider=arrival.provider,
                diff_bytes=diff.file_bytes,
                head_bytes=diff.head_bytes,
                ours_bytes=ours,
                full_bytes=full,
            )
        )
    return rows


def storage_series(registry: Registry, run: str, *, project_to: int | None = None) -> StorageSeries:
    """Read the storage of one run: its first seed's stream, by the scenario's own method.

    `project_to`: extrapolate to that many tasks. Raises NotInRegistryError for an unknown run,
    RegistryError where nothing has finished yet, UsageError for a projection into the past.
    """
    stream = registry.primary_stream(run)
    measured = measure(registry, run)
    base = stream.base.file_bytes
    adapters, coo = _baselines(measured)
    rows = [
        replace(
            row,
            adapter_bytes=base + adapters[row.n_tasks] if row.n_tasks < len(adapters) else None,
            coo_computed_bytes=base + coo[row.n_tasks] if coo else None,
        )
        for row in storage_rows(stream.base, stream.arrivals, stream.diffs.values())
    ]
    return StorageSeries(
        run=stream.run.name,
        seed=stream.seed,
        method=stream.method,
        base=stream.base,
        densities=tuple(diff.density for _, diff in stream.files),
        n_synthetic=sum(arrival.source == "synthetic" for arrival in stream.arrivals),
        rows=(*rows, *(() if project_to is None else project(measured, project_to))),
        adapter_method=measured.adapters.method if measured.adapters else None,
    )


def project(measured: Measured, n_tasks: int) -> tuple[StorageRow, ...]:
    """Extrapolate to `n_tasks`, in steps. Raises UsageError where no more than were measured."""
    first = len(measured.tasks)
    if not first < n_tasks <= _MOST_PROJECTED:
        raise UsageError(
            f"The run `{measured.run}` measured {first} tasks, so `--project` takes {first + 1} "
            f"to {_MOST_PROJECTED:,}, got {n_tasks}."
        )
    model = StorageModel(base=measured.base.file_bytes, tasks=measured.tasks, block_bytes=1)
    full = running([task.full_checkpoint_bytes for task in measured.tasks])
    adapters, coo = _baselines(measured)

    def at(n_tasks: int) -> StorageRow:
        storage, interval = model.at(n_tasks), model.interval(n_tasks)
        return StorageRow(
            n_tasks=n_tasks,
            basis="extrapolated",
            ours_bytes=storage.files,
            # The figure counts a shared file for each of its arrivals, the model's total once.
            low_bytes=None if interval is None else interval.low - storage.shared,
            high_bytes=None if interval is None else interval.high - storage.shared,
            full_bytes=grown(full, n_tasks),
            adapter_bytes=model.base + grown(adapters, n_tasks) if adapters else None,
            coo_computed_bytes=model.base + grown(coo, n_tasks) if coo else None,
        )

    ratio = n_tasks / first
    steps = {round(first * ratio ** (step / _N_STEPS)) for step in range(1, _N_STEPS)}
    return tuple(at(place) for place in sorted({*steps, n_tasks} - {first}))


def _baselines(measured: Measured) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the bytes of 0, 1, ... adapters, and of as many tasks as coordinates.

    Empty where no adapter was stored, or one artifact is no diff.
    """
    stored = measured.adapters.sizes if measured.adapters else None
    adapters, coo = (
        running(sizes) if sizes else () for sizes in (stored, find_coordinate_files(measured.tasks))
    )
    return adapters, coo


@dataclass(frozen=True)
class StorageFigure(RunFigure):
    """The storage of one run, or of several on common axes; `budget`: bytes of a line across."""

    name = "storage"
    columns = (
        "run", "seed", "n_tasks", "task", "provider",
        "diff_bytes", "head_bytes", "ours_bytes", "full_bytes", "ratio",
        "adapter_bytes", "basis", "low_bytes", "high_bytes", "coo_computed_bytes",
    )  # fmt: skip

    series: tuple[StorageSeries, ...]
    budget: int | None = None

    def __post_init__(self) -> None:
        """Refuse no run, or more than can be told apart."""
        if not 1 <= len(self.series) <= MOST_RUNS:
            raise UsageError(f"The figure shows 1 to {MOST_RUNS} runs, got {len(self.series)}.")

    @classmethod
    def read(
        cls, source: RunSource, *, project_to: int | None = None, budget: int | None = None
    ) -> Self:
        """Read the storage of one run; see `storage_series`."""
        series = storage_series(source.registry, source.run, project_to=project_to)
        return cls((series,), budget)

    def rows(self) -> Iterator[Sequence[Cell]]:
        """Yield a row a task."""
        for one in self.series:
            for row in one.rows:
                yield (one.run, one.seed, *(getattr(row, name) for name in self.columns[2:]))

    def draw(self) -> Figure:
        """Draw both scales, one above the other."""
        lines = _lines(self.series)
        longest = max(line.points[-1][0] for line in lines)
        if self.budget is not None:
            limit = self.budget / MB
            lines.append(_Line("budget", INK, "", [(0, limit), (1, limit), (longest, limit)], 3))
        caption = [*map(_caption, self.series), _basis(self.series)]
        figure, (linear, log) = new_page(caption, _PANEL, n_rows=2)
        _panel(linear, lines, "linear", longest)
        _panel(log, lines, "log", longest)
        log.set_xlabel("tasks arrived")
        return fit_panels(figure, _PANEL)


@dataclass(frozen=True)
class _Line:
    label: str
    colour: str
    marker: str  # none for what is computed, or given
    points: Sequence[tuple[int, float]]  # tasks and MB
    n_measured: int  # of the points; the others are extrapolated
    band: Sequence[tuple[int, float, float]] = ()  # tasks, and MB from and to

    @property
    def later(self) -> Sequence[tuple[int, float]]:
        """Return the extrapolated points, from the last measured one on."""
        return self.points[self.n_measured - 1 :] if self.n_measured < len(self.points) else ()

    @property
    def sizes(self) -> list[float]:
        """Return every height of the line and its band."""
        return [*(y for _, y in self.points), *(y for _, *both in self.band for y in both)]


def _lines(series: Sequence[StorageSeries]) -> list[_Line]:
    """Return each run's line, and each line of full checkpoints that is no part of another.

    A single run also has those of adapters and of coordinates.
    """
    if len(series) == 1:
        (one,) = series
        lines = [
            _line(one, "ours_bytes", "base + diffs", COLOURS[0], "o"),
            _line(
                one, "adapter_bytes", f"base + {plain(one.adapter_method or '')}", COLOURS[2], "^"
            ),
            _line(one, "coo_computed_bytes", "COO (computed)", COLOURS[1], ""),
        ]
    else:
        lines = [
            _line(one, "ours_bytes", plain(one.run), colour, "o")
            for one, colour in zip(series, COLOURS, strict=False)
        ]
    full: list[_Line] = []
    for one in sorted(series, key=lambda s: -len(s.rows)):
        colour = GREYS[min(len(full), len(GREYS) - 1)]
        line = _line(one, "full_bytes", "full checkpoints", colour, "s")
        if all(longer.points[: len(line.points)] != line.points for longer in full):
            full.append(line)
    return [line for line in (*lines, *full) if line.points]


def _line(series: StorageSeries, name: str, label: str, colour: str, marker: str) -> _Line:
    """Return the line of one field of the rows, without points where no row has it."""
    rows = [row for row in series.rows if getattr(row, name) is not None]
    points = [(row.n_tasks, getattr(row, name) / MB) for row in rows]
    n_measured = sum(row.basis == "measured" for row in rows)
    band: list[tuple[int, float, float]] = []
    if name == "ours_bytes":
        band = [
            (row.n_tasks, row.low_bytes / MB, row.high_bytes / MB)
            for row in rows
            if row.low_bytes is not None and row.high_bytes is not None
        ]
    if band:
        x, y = points[n_measured - 1]
        band.insert(0, (x, y, y))
    return _Line(label, colour, marker, points, n_measured, band)


def _panel(axes: Axes, lines: Sequence[_Line], scale: str, longest: int) -> None:
    n_measured = max(line.points[line.n_measured - 1][0] for line in lines if line.marker)
    for line in lines:
        _draw(axes, line, scale, crowded=n_measured > 40)
    axes.set_xlim(0, longest)
    axes.set_title(f"Stored (MB), {scale} scale", color=INK)
    axes.grid(axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5 if longest < 10_000 else 2, integer=True))
    sizes = [size for line in lines for size in line.sizes]
    if scale == "linear":
        axes.set_ylim(0, 1.05 * max(sizes))
    else:
        axes.set_yscale("log")
        axes.set_ylim(decades(sizes, 1.001))
        if any(line.later for line in lines):
            axes.set_xscale("log", nonpositive="mask")
            axes.set_xlim(1, longest)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PLAIN_NUMBERS)
        axis.set_minor_formatter(NullFormatter())
    _label(axes, lines)


def _draw(axes: Axes, line: _Line, scale: str, *, crowded: bool) -> None:
    """Draw one line; a logarithmic scale has no place for nothing."""
    measured = [(x, y) for x, y in line.points[: line.n_measured] if y > 0 or scale == "linear"]
    axes.plot(
        *zip(*measured, strict=True),
        color=line.colour,
        marker=line.marker,
        markersize=1.2 if crowded else 3.5,
        linewidth=0.8 if crowded or not line.marker else 1.2,
        linestyle="-" if line.marker else ":",
        clip_on=not line.marker,
        zorder=3,
    )
    if line.later:
        axes.plot(
            *zip(*line.later, strict=True), color=line.colour, linewidth=1.0,
            linestyle=(0, (4, 2)), zorder=2.5,
        )  # fmt: skip
    if line.band:
        x, low, high = zip(*line.band, strict=True)
        axes.fill_between(x, low, high, color=line.colour, alpha=0.2, linewidth=0)


def _label(axes: Axes, lines: Sequence[_Line]) -> None:
    """Name every line at its right end, moved apart where names would overlap."""
    ends = [line.points[-1] for line in lines]
    texts = [
        [*textwrap.wrap(line.label, 16)[:2], format_bytes(MB * y)]
        for line, (_, y) in zip(lines, ends, strict=True)
    ]
    to_axes = axes.transData + axes.transAxes.inverted()
    places = [float(to_axes.transform(end)[1]) for end in ends]
    heights = [len(text) * LINE / _PANEL for text in texts]
    for line, text, y in zip(lines, texts, separate(places, heights), strict=True):
        axes.text(
            1.06, y, "\n".join(text), transform=axes.transAxes, color=line.colour,
            fontsize=SMALL, va="center", ha="left", linespacing=1.15,
        )  # fmt: skip


def separate(places: Sequence[float], heights: Sequence[float]) -> list[float]:
    """Return the centres of boxes along a line, moved as little as possible so that none overlap.

    `places` and `heights` are shares of the axis. The order is kept, and nothing goes below 0.
    """
    from scipy.optimize import isotonic_regression  # deferred: takes half a second

    order = sorted(range(len(places)), key=lambda i: (places[i], -i))
    tall = np.array(heights)[order]
    packed = np.cumsum(tall) - tall / 2  # centres of the boxes without any gap, from 0 on
    gaps = isotonic_regression(np.array(places)[order] - packed).x  # below each box, together
    moved = np.empty(len(places))
    moved[order] = packed + np.maximum(gaps, 0.0)
    return [float(place) for place in moved]


def _caption(series: StorageSeries) -> str:
    n_tasks = len(series.densities)
    rows = {
        0: "",
        n_tasks: "; synthetic data",
    }.get(series.n_synthetic, f"; data of {series.n_synthetic} of {n_tasks} tasks synthetic")
    ends = (min(series.densities), max(series.densities))
    density = " to ".join(dict.fromkeys(f"{100 * density:.2g}%" for density in ends))
    layers = "" if series.base.layers is None else f", {series.base.layers} layers"
    return (
        f"Run {series.run}, seed {series.seed}: {series.method} at density {density} "
        f"on {series.base.model}{layers}{rows}."
    )


def _basis(series: Sequence[StorageSeries]) -> str:
    text = "Markers: measured, the sizes of files."
    last = series[0].rows[-1]
    if len(series) == 1 and last.coo_computed_bytes is not None:
        text += " Dotted: base + diffs as int32 positions and values (COO), computed."
    if last.basis == "extrapolated":
        band = "" if last.low_bytes is None else "; band: 95% interval"
        text += f" Dashed: extrapolated to {last.n_tasks:,} tasks by their mean{band}."
    return text
