"""The figure `storage`: bytes stored after each task, on a linear and on a logarithmic scale.

    ours(N) = base file + sum of the first N artifacts' files
    full(N) = sum of the first N tasks' full checkpoints
    lora(N) = base file + sum of the first N adapters' files, where a baseline stored them
    coo(N)  = base file + sum of the first N diffs as plain coordinates, computed

Full finetuning keeps N checkpoints and needs no base, so full(0) = 0 while ours(0) is the base.
Every byte counted belongs to a file: headers, positions, values and heads. A file shared by two
arrivals counts once for each, as a checkpoint does. Markers are measured; dashed lines are
extrapolated by the storage model of `streamlab.planning`, in blocks of one byte and without a
registry, so that they start at the last measured point. Sizes are in MB of 10^6 bytes.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from streamlab.errors import RegistryError, UsageError
from streamlab.figures.style import (
    COLOURS,
    GREYS,
    INK,
    LINE,
    SMALL,
    fit_panels,
    new_page,
    plain,
    write_figure,
)
from streamlab.planning.alternatives import find_coordinate_files
from streamlab.planning.measured import Measured, measure
from streamlab.planning.storage_model import StorageModel, grown, running
from streamlab.registry.records import ArrivalRecord, BaseRecord, DiffRecord
from streamlab.registry.registry import Registry
from streamlab.views.run_source import RunSource
from streamlab.views.table import Cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MB = 1e6
MOST_RUNS = 4
_COLUMNS = (
    "run", "seed", "n_tasks", "task", "provider",
    "diff_bytes", "head_bytes", "ours_bytes", "full_bytes", "ratio",
    "lora_bytes", "basis", "low_bytes", "high_bytes", "coo_computed_bytes",
)  # fmt: skip
_PANEL = 1.74  # inches
_MOST_PROJECTED = 10**9  # tasks
_N_STEPS = 24  # extrapolated points, evenly spaced on a logarithmic axis


@dataclass(frozen=True)
class StorageRow:
    """The storage after `n_tasks` arrivals; the last of them is `task`, None for the base alone."""

    n_tasks: int
    task: str | None
    provider: str | None
    diff_bytes: int  # the arrival's file
    head_bytes: int  # of which the head
    ours_bytes: int
    full_bytes: int

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
    rows: tuple[StorageRow, ...]  # n_tasks = 0, 1, ..., N
    lora_bytes: tuple[int, ...] = ()  # after 0, 1, ... adapters; empty where none was stored
    coo_bytes: tuple[int, ...] = ()  # after 0, 1, ..., N tasks; empty where one is no diff
    projected: tuple[ProjectedRow, ...] = ()


def storage_rows(
    base: BaseRecord, arrivals: Iterable[ArrivalRecord], diffs: Iterable[DiffRecord]
) -> list[StorageRow]:
    """Add up bytes after 0, 1, ..., N arrivals, in the order of arrival.

    `arrivals` are those of one seed and one method; failed ones keep nothing and are left out.
    Raises RegistryError where an arrival's artifact is not among `diffs`.
    """
    known = {diff.digest: diff for diff in diffs}
    rows = [StorageRow(0, None, None, 0, 0, base.file_bytes, 0)]
    finished = [arrival for arrival in arrivals if arrival.status == "finished"]
    for arrival in sorted(finished, key=lambda a: (a.sequence, a.id)):
        diff = known.get(arrival.digest or "")
        if diff is None:
            raise RegistryError(
                f"The artifact {arrival.digest} of arrival {arrival.id} has no record. "
                "The registry is damaged; restore it from a copy."
            )
        last = rows[-1]
        rows.append(
            StorageRow(
                n_tasks=last.n_tasks + 1,
                task=arrival.task,
                provider=arrival.provider,
                diff_bytes=diff.file_bytes,
                head_bytes=diff.head_bytes,
                ours_bytes=last.ours_bytes + diff.file_bytes,
                full_bytes=last.full_bytes + diff.full_checkpoint_bytes,
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
    adapters = running(measured.adapter_files) if measured.adapter_files else ()
    plain = find_coordinate_files(measured.tasks)
    coordinates = () if plain is None else running(plain)
    return StorageSeries(
        run=stream.run.name,
        seed=stream.seed,
        method=stream.method,
        base=stream.base,
        densities=tuple(
            stream.diffs[a.digest].density for a in stream.arrivals if a.digest in stream.diffs
        ),
        n_synthetic=sum(arrival.source == "synthetic" for arrival in stream.arrivals),
        rows=tuple(storage_rows(stream.base, stream.arrivals, stream.diffs.values())),
        lora_bytes=tuple(stream.base.file_bytes + size for size in adapters),
        coo_bytes=tuple(stream.base.file_bytes + size for size in coordinates),
        projected=() if project_to is None else project(measured, project_to),
    )


@dataclass(frozen=True)
class ProjectedRow:
    """Bytes after `n_tasks` arrivals, more than there were; no interval from one task alone."""

    n_tasks: int
    ours_bytes: int
    low_bytes: int | None
    high_bytes: int | None
    full_bytes: int
    lora_bytes: int | None
    coo_bytes: int | None  # computed


def project(measured: Measured, n_tasks: int) -> tuple[ProjectedRow, ...]:
    """Extrapolate to `n_tasks`, in steps. Raises UsageError where no more than were measured."""
    first = len(measured.tasks)
    if not first < n_tasks <= _MOST_PROJECTED:
        raise UsageError(
            f"The run `{measured.run}` measured {first} tasks, so `--project` takes {first + 1} "
            f"to {_MOST_PROJECTED:,}, got {n_tasks}."
        )
    model = StorageModel(base=measured.base.file_bytes, tasks=measured.tasks, block_bytes=1)
    full = running([task.full_checkpoint for task in measured.tasks])
    lora = running(measured.adapter_files) if measured.adapter_files else None
    plain = find_coordinate_files(measured.tasks)
    coo = None if plain is None else running(plain)
    ratio = n_tasks / first
    steps = {round(first * ratio ** (step / _N_STEPS)) for step in range(1, _N_STEPS)}
    places = sorted({*steps, n_tasks} - {first})
    return tuple(_projected(model, full, lora, coo, place) for place in places)


def _projected(
    model: StorageModel,
    full: tuple[int, ...],
    lora: tuple[int, ...] | None,
    coo: tuple[int, ...] | None,
    n_tasks: int,
) -> ProjectedRow:
    storage, interval = model.at(n_tasks), model.interval(n_tasks)
    return ProjectedRow(
        n_tasks=n_tasks,
        ours_bytes=storage.files,
        # The figure counts a shared file for each of its arrivals, the model's total once.
        low_bytes=None if interval is None else interval.low - storage.shared,
        high_bytes=None if interval is None else interval.high - storage.shared,
        full_bytes=grown(full, n_tasks),
        lora_bytes=None if lora is None else model.base + grown(lora, n_tasks),
        coo_bytes=None if coo is None else model.base + grown(coo, n_tasks),
    )


@dataclass(frozen=True)
class StorageFigure:
    """The storage of one run, or of several on common axes; `budget`: bytes of a line across."""

    series: tuple[StorageSeries, ...]
    budget: int | None = None

    def __post_init__(self) -> None:
        """Refuse no run, or more than can be told apart."""
        if not 1 <= len(self.series) <= MOST_RUNS:
            raise UsageError(f"The figure shows 1 to {MOST_RUNS} runs, got {len(self.series)}.")

    @property
    def run(self) -> str:
        """Return the name of the first run."""
        return self.series[0].run


def read(
    source: RunSource, *, project_to: int | None = None, budget: int | None = None
) -> StorageFigure:
    """Read the storage of one run; see `storage_series`."""
    return StorageFigure(
        (storage_series(source.registry, source.run, project_to=project_to),), budget
    )


def write(data: StorageFigure, folder: Path) -> tuple[Path, ...]:
    """Write storage.png, .svg and .csv, a row a task. Raises StoreError where the disk refuses."""
    rows = (row for one in data.series for row in _rows(one))
    return write_figure(folder, "storage", lambda: draw(data), _COLUMNS, rows)


def draw(data: StorageFigure) -> Figure:
    """Draw both scales, one above the other; call it in `house_style`."""
    lines = list(_lines(data.series))
    if data.budget is not None:
        longest = max(line.last[0] for line in lines)
        lines.append(_Line("budget", INK, "", (0, longest), _mb([data.budget] * 2)))
    caption = [*map(_caption, data.series), _basis(data.series)]
    figure, panels = new_page(caption, _PANEL, n_rows=2)
    for axes, scale in zip(panels, ("linear", "log"), strict=True):
        _panel(axes, lines, scale)
    axes.set_xlabel("tasks arrived")
    return fit_panels(figure, _PANEL)


def _rows(series: StorageSeries) -> Iterator[tuple[Cell, ...]]:
    who = (series.run, series.seed)
    lora, coo = (dict(enumerate(sizes)) for sizes in (series.lora_bytes, series.coo_bytes))
    for row in series.rows:
        yield (
            *(*who, row.n_tasks, row.task, row.provider, row.diff_bytes, row.head_bytes),
            *(row.ours_bytes, row.full_bytes, row.ratio),
            *(lora.get(row.n_tasks), "measured", None, None, coo.get(row.n_tasks)),
        )
    for later in series.projected:
        yield (
            *(*who, later.n_tasks, None, None, None, None),
            *(later.ours_bytes, later.full_bytes, later.full_bytes / later.ours_bytes),
            *(later.lora_bytes, "extrapolated", later.low_bytes, later.high_bytes),
            later.coo_bytes,
        )


@dataclass(frozen=True)
class _Line:
    label: str
    colour: str
    marker: str  # none for what is computed, or given
    x: tuple[int, ...]
    y: tuple[float, ...]  # MB
    later_x: tuple[int, ...] = ()  # extrapolated, from the last measured point on
    later_y: tuple[float, ...] = ()
    low: tuple[float, ...] = ()  # of the band; empty where there is none
    high: tuple[float, ...] = ()

    @property
    def last(self) -> tuple[int, float]:
        """Return the end of the line."""
        return (self.later_x or self.x)[-1], (self.later_y or self.y)[-1]


def _lines(series: Sequence[StorageSeries]) -> Iterator[_Line]:
    """Yield every run's line, then each line of full checkpoints that is no part of another."""
    several = len(series) > 1
    for one, colour in zip(series, COLOURS, strict=False):
        label = plain(one.run) if several else "base + diffs"
        yield _ours(one, label, colour)
        if not several:
            yield from _baselines(one)
    full: list[tuple[float, ...]] = []
    for one in sorted(series, key=lambda s: -len(s.rows)):
        y = _mb([row.full_bytes for row in one.rows])
        if any(longer[: len(y)] == y for longer in full):
            continue
        colour = GREYS[min(len(full), len(GREYS) - 1)]
        full.append(y)
        line = _Line("full checkpoints", colour, "s", tuple(range(len(y))), y)
        yield _longer(line, one, [row.full_bytes for row in one.projected])


def _baselines(series: StorageSeries) -> Iterator[_Line]:
    rows = series.projected
    for label, colour, marker, sizes, later in (
        ("base + LoRA", COLOURS[2], "^", series.lora_bytes, [row.lora_bytes for row in rows]),
        ("COO (computed)", COLOURS[1], "", series.coo_bytes, [row.coo_bytes for row in rows]),
    ):
        if sizes:
            line = _Line(label, colour, marker, tuple(range(len(sizes))), _mb(sizes))
            yield _longer(line, series, [size for size in later if size is not None])


def _ours(series: StorageSeries, label: str, colour: str) -> _Line:
    x = tuple(row.n_tasks for row in series.rows)
    y = _mb([row.ours_bytes for row in series.rows])
    rows = series.projected
    line = _longer(_Line(label, colour, "o", x, y), series, [row.ours_bytes for row in rows])
    low = [row.low_bytes for row in rows if row.low_bytes is not None]
    high = [row.high_bytes for row in rows if row.high_bytes is not None]
    if not low:
        return line
    return replace(line, low=(y[-1], *_mb(low)), high=(y[-1], *_mb(high)))


def _longer(line: _Line, series: StorageSeries, later: Sequence[int]) -> _Line:
    if not later:
        return line
    places = (line.x[-1], *(row.n_tasks for row in series.projected))
    return replace(line, later_x=places, later_y=(line.y[-1], *_mb(later)))


def _mb(sizes: Sequence[int]) -> tuple[float, ...]:
    return tuple(size / MB for size in sizes)


def _panel(axes: Axes, lines: Sequence[_Line], scale: str) -> None:
    longest = max(line.last[0] for line in lines)
    crowded = max(line.x[-1] for line in lines if line.marker) > 40
    logs = (scale == "log" and any(line.later_x for line in lines), scale == "log")
    for line in lines:
        _draw(axes, line, logs, crowded=crowded)
    axes.set_xlim(0, longest)
    axes.set_title(f"Stored (MB), {scale} scale", color=INK)
    axes.grid(axis="y")
    if scale == "log":
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
        _decades(axes, lines)
    else:
        axes.set_ylim(0, 1.05 * max(max(*line.y, *line.later_y, *line.high) for line in lines))
    if logs[0]:
        axes.set_xscale("log")
        axes.set_xlim(1, longest)
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5 if longest < 10_000 else 2, integer=True))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    _label(axes, lines)


def _draw(axes: Axes, line: _Line, logs: tuple[bool, bool], *, crowded: bool) -> None:
    """Draw one line; `logs`: whether the axes of tasks and of bytes have no place for nothing."""
    points = [
        (x, y)
        for x, y in zip(line.x, line.y, strict=True)
        if (x > 0 or not logs[0] or not line.marker) and (y > 0 or not logs[1])
    ]
    axes.plot(
        [x for x, _ in points],
        [y for _, y in points],
        color=line.colour,
        marker=line.marker,
        markersize=1.2 if crowded else 3.5,
        linewidth=0.8 if crowded or not line.marker else 1.2,
        linestyle="-" if line.marker else ":",
        clip_on=not line.marker,
        zorder=3,
    )
    if line.later_x:
        axes.plot(
            line.later_x, line.later_y, color=line.colour, linewidth=1.0, linestyle=(0, (4, 2)),
            zorder=2.5,
        )  # fmt: skip
    if line.low:
        axes.fill_between(
            line.later_x, line.low, line.high, color=line.colour, alpha=0.2, linewidth=0
        )


def _short(value: float) -> str:
    """Write a tick's number: whole below a million, in powers of ten beyond."""
    return f"{value:,.10g}" if value < 1e6 else f"{value:.2g}".replace("e+0", "e")


def _decades(axes: Axes, lines: Sequence[_Line]) -> None:
    """Let the logarithmic axis span whole powers of ten, at least one."""
    sizes = [y for line in lines for y in (*line.y, *line.later_y, *line.high) if y > 0]
    low = math.floor(math.log10(min(sizes) * 0.999))
    high = math.ceil(math.log10(max(sizes) * 1.001))
    axes.set_ylim(10.0**low, 10.0**high)


def _label(axes: Axes, lines: Sequence[_Line]) -> None:
    """Name every line at its right end, moved apart where names would overlap."""
    texts = [
        [*textwrap.wrap(line.label, 16)[:2], f"{megabytes(line.last[1])} MB"] for line in lines
    ]
    to_axes = axes.transData + axes.transAxes.inverted()
    ends = [float(to_axes.transform(line.last)[1]) for line in lines]
    heights = [len(text) * LINE / _PANEL for text in texts]
    for line, text, y in zip(lines, texts, separate(ends, heights), strict=True):
        axes.text(
            1.06, y, "\n".join(text), transform=axes.transAxes, color=line.colour,
            fontsize=SMALL, va="center", ha="left", linespacing=1.15,
        )  # fmt: skip


def separate(places: Sequence[float], heights: Sequence[float]) -> list[float]:
    """Return the centres of boxes along a line, moved as little as possible so that none overlap.

    `places` and `heights` are shares of the axis. The order is kept, and nothing goes below 0.
    """
    order = sorted(range(len(places)), key=lambda i: (places[i], -i))
    groups: list[tuple[list[int], float]] = []  # boxes that touch, and their common bottom
    for index in order:
        members, bottom = [index], max(places[index] - heights[index] / 2, 0.0)
        while groups and _top(groups[-1], heights) > bottom:
            before, _ = groups.pop()
            members = before + members
            centre = sum(places[i] for i in members) / len(members)
            bottom = max(centre - sum(heights[i] for i in members) / 2, 0.0)
        groups.append((members, bottom))
    moved = [0.0] * len(places)
    for members, bottom in groups:
        for index in members:
            moved[index] = bottom + heights[index] / 2
            bottom += heights[index]
    return moved


def _top(group: tuple[list[int], float], heights: Sequence[float]) -> float:
    return group[1] + sum(heights[i] for i in group[0])


def megabytes(value: float) -> str:
    """Write MB with three digits that count, or all digits before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 1:
        return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
    return f"{value:.2g}"


def _caption(series: StorageSeries) -> str:
    n_tasks = len(series.rows) - 1
    rows = {
        0: "",
        n_tasks: "; synthetic data",
    }.get(series.n_synthetic, f"; data of {series.n_synthetic} of {n_tasks} tasks synthetic")
    low, high = (f"{100 * d:.2g}%" for d in (min(series.densities), max(series.densities)))
    density = low if low == high else f"{low} to {high}"
    base = series.base
    layers = "" if base.layers is None else f", {base.layers} layers"
    return (
        f"Run {series.run}, seed {series.seed}: {series.method} at density {density} "
        f"on {base.model}{layers}{rows}."
    )


def _basis(series: Sequence[StorageSeries]) -> str:
    text = "Markers: measured, the sizes of files."
    if len(series) == 1 and series[0].coo_bytes:
        text += " Dotted: base + diffs as int32 positions and values (COO), computed."
    rows = [row for one in series for row in one.projected]
    if rows:
        band = "; band: 95% interval" if any(row.low_bytes is not None for row in rows) else ""
        text += f" Dashed: extrapolated to {rows[-1].n_tasks:,} tasks by their mean{band}."
    return text
