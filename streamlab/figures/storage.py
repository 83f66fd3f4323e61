"""The figure `storage`: bytes stored after each task, with the base and without it.

    ours(N) = base file + sum of the first N artifacts' files
    full(N) = sum of the first N tasks' full checkpoints
    adapters(N) = base file + sum of the first N adapters' files, where a baseline stored them
    exact(N) = base file + sum of the first N exact differences of whole models, likewise
    coo(N)  = base file + sum of the first N diffs as plain coordinates, computed
    lora(N) = base file + N LoRA adapters of rank 8 in fp16, computed where none was stored

One panel shows the totals, the other what each task adds to them, on a logarithmic scale.

Full finetuning keeps N checkpoints and needs no base, so full(0) = 0 while ours(0) is the base.
Every byte counted belongs to a file: headers, positions, values and heads. A file shared by two
arrivals counts once for each, as a checkpoint does. Markers are measured; dashed lines are
extrapolated by the storage model of `streamlab.planning`, in blocks of one byte and without a
registry, so that they start at the last measured point.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from streamlab.errors import RegistryError, UsageError
from streamlab.figures.style import (
    BYTES,
    COLOURS,
    GREYS,
    INK,
    LINE,
    PLAIN_NUMBERS,
    SMALL,
    RunFigure,
    decades,
    fit_panels,
    new_figure,
    plain,
)
from streamlab.planning.alternatives import (
    FP16_BYTES,
    RANK,
    find_coordinate_files,
    find_n_adapter_entries,
)
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

MOST_RUNS = 4
_PANEL = 1.9  # inches
_NAME_WIDTH = 0.4  # of the panel, at most, of what is written beside a crossing
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
    difference_bytes: int | None = None  # None where no baseline stored exact differences
    basis: Literal["measured", "extrapolated"] = "measured"
    low_bytes: int | None = None  # of an interval for what is extrapolated from two tasks or more
    high_bytes: int | None = None
    coo_computed_bytes: int | None = None  # None where one of the artifacts is no diff
    lora_computed_bytes: int | None = None  # None where adapters were stored, or for another model

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
    adapters, differences, coo = _others(measured)
    lora = _lora_bytes(measured)
    rows = [
        replace(
            row,
            adapter_bytes=_after(base, adapters, row.n_tasks),
            difference_bytes=_after(base, differences, row.n_tasks),
            coo_computed_bytes=base + coo[row.n_tasks] if coo else None,
            lora_computed_bytes=None if lora is None else base + row.n_tasks * lora,
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


def _after(base: int, upto: Sequence[int], n_tasks: int) -> int | None:
    """Return the bytes of a base and of the files of so many tasks; None where fewer have one."""
    return base + upto[n_tasks] if n_tasks < len(upto) else None


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
    adapters, differences, coo = _others(measured)
    lora = _lora_bytes(measured)

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
            difference_bytes=model.base + grown(differences, n_tasks) if differences else None,
            coo_computed_bytes=model.base + grown(coo, n_tasks) if coo else None,
            lora_computed_bytes=None if lora is None else model.base + n_tasks * lora,
        )

    ratio = n_tasks / first
    steps = {round(first * ratio ** (step / _N_STEPS)) for step in range(1, _N_STEPS)}
    return tuple(at(place) for place in sorted({*steps, n_tasks} - {first}))


def _others(measured: Measured) -> tuple[tuple[int, ...], ...]:
    """Return the bytes of 0, 1, ... adapters, exact differences, and tasks as coordinates.

    Empty where none was stored, or one artifact is no diff.
    """
    baselines = (measured.adapters, measured.differences)
    stored = (None if files is None else files.sizes for files in baselines)
    sizes = (*stored, find_coordinate_files(measured.tasks))
    return tuple(running(one) if one else () for one in sizes)


def _lora_bytes(measured: Measured) -> int | None:
    """Return the computed bytes of a LoRA adapter; None where adapters were stored."""
    n_entries = find_n_adapter_entries(measured.base.layout)
    return None if n_entries is None or measured.adapters else FP16_BYTES * n_entries


@dataclass(frozen=True)
class StorageFigure(RunFigure):
    """The storage of one run, or of several on common axes; `budget`: bytes of a line across."""

    name = "storage"
    columns = (
        "run", "seed", "n_tasks", "task", "provider",
        "diff_bytes", "head_bytes", "ours_bytes", "full_bytes", "ratio",
        "adapter_bytes", "difference_bytes", "basis", "low_bytes", "high_bytes",
        "coo_computed_bytes", "lora_computed_bytes",
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
        """Draw the total above what each task adds to it."""
        totals = _totals(self.series)
        n_last = max(line.points[-1][0] for line in totals)
        figure, (total, added) = new_figure(self._caption(), [_PANEL, _PANEL])
        if self.budget is not None:
            ends = [(0, self.budget), (1, self.budget), (n_last, self.budget)]
            budget = _Line("budget", INK, "", ends, 3)
            _panel(total, [*totals, budget], n_last, is_log=_is_projected(totals))
            _mark_crossings(total, totals, self.budget)
        else:
            _panel(total, totals, n_last, is_log=_is_projected(totals))
        total.set_title("In total, with the base", color=INK)
        _panel(added, _additions(self.series), n_last, is_log=True)
        added.set_title("Added by each task, without the base", color=INK)
        added.set_xlabel("tasks arrived")
        return fit_panels(figure)

    def _caption(self) -> str:
        parts = [*map(_caption, self.series), _basis(self.series)]
        if self.budget is not None:
            parts += [_describe_budget(one, self.budget) for one in self.series]
        return " ".join(parts)


@dataclass(frozen=True)
class _Line:
    label: str
    colour: str
    marker: str  # none for what is computed, or given
    points: Sequence[tuple[int, float]]  # tasks and bytes
    n_measured: int  # of the points; the others are extrapolated
    band: Sequence[tuple[int, float, float]] = ()  # tasks, and bytes from and to
    shown: float | None = None  # bytes named at its end, where not those of its last point

    @property
    def measured(self) -> Sequence[tuple[int, float]]:
        """Return the points that are not extrapolated."""
        return self.points[: self.n_measured]

    @property
    def later(self) -> Sequence[tuple[int, float]]:
        """Return the extrapolated points, from the last measured one on."""
        return self.points[self.n_measured - 1 :] if self.n_measured < len(self.points) else ()

    @property
    def sizes(self) -> list[float]:
        """Return every height of the line and its band."""
        return [*(y for _, y in self.points), *(y for _, *both in self.band for y in both)]

    def find_crossing(self, budget: int) -> int | None:
        """Return how many tasks a budget holds; None where it holds all that are shown.

        -1 where it does not even hold what is stored before the first task.
        """
        over = next((place for place, (_, y) in enumerate(self.points) if y > budget), None)
        if over is None:
            return None
        if over == 0:
            return -1
        (n_before, before), (n_after, after) = self.points[over - 1], self.points[over]
        share = (budget - before) / (after - before)
        return n_before + int(share * (n_after - n_before))


def _is_projected(lines: Sequence[_Line]) -> bool:
    return any(line.later for line in lines)


def _totals(series: Sequence[StorageSeries]) -> list[_Line]:
    """Return the totals of each run, and each total of full checkpoints that is no part of another.

    A single run also has that of the adapters of a baseline.
    """
    if len(series) == 1:
        (one,) = series
        adapters = plain(one.adapter_method or "", 20)
        lines = [
            _line(one, "ours_bytes", "base + diffs", COLOURS[0], "o"),
            _line(one, "adapter_bytes", f"base + {adapters}", COLOURS[2], "^"),
            _line(one, "difference_bytes", "base + exact differences", COLOURS[3], "D"),
        ]
    else:
        lines = [
            _line(one, "ours_bytes", plain(one.run), colour, "o")
            for one, colour in zip(series, COLOURS, strict=False)
        ]
    full: list[_Line] = []
    for one in sorted(series, key=lambda s: -len(s.rows)):
        line = _line(one, "full_bytes", "full checkpoints", _grey(len(full)), "s")
        if all(longer.points[: len(line.points)] != line.points for longer in full):
            full.append(line)
    return [line for line in (*lines, *full) if line.points]


def _additions(series: Sequence[StorageSeries]) -> list[_Line]:
    """Return what each task adds to the total of its run, and would add if stored otherwise."""
    if len(series) > 1:
        found = [
            _added(_line(one, "ours_bytes", plain(one.run), colour, "o"))
            for one, colour in zip(series, COLOURS, strict=False)
        ]
        longest = max(series, key=lambda one: len(one.rows))
        found.append(_added(_line(longest, "full_bytes", "full checkpoint", _grey(0), "s")))
        return found
    (one,) = series
    ways = (
        _line(one, "ours_bytes", "diff", COLOURS[0], "o"),
        _line(one, "adapter_bytes", plain(one.adapter_method or "", 20), COLOURS[2], "^"),
        _line(one, "lora_computed_bytes", f"LoRA, rank {RANK} (computed)", COLOURS[2], ""),
        _line(one, "coo_computed_bytes", "coordinates (computed)", COLOURS[1], ""),
        _line(one, "difference_bytes", "exact difference", COLOURS[3], "D"),
        _line(one, "full_bytes", "full checkpoint", _grey(0), "s"),
    )
    return [_added(way) for way in ways if way.points]


def _added(total: _Line) -> _Line:
    """Return what each task adds to a total, on average where several are added."""
    pairs = itertools.pairwise(total.points)
    points = [(n, (after - before) / (n - first)) for (first, before), (n, after) in pairs]
    n_measured = total.n_measured - 1
    mean = fmean(size for _, size in points[:n_measured])
    return replace(total, points=points, n_measured=n_measured, band=(), shown=mean)


def _grey(number: int) -> str:
    return GREYS[min(number, len(GREYS) - 1)]


def _line(series: StorageSeries, name: str, label: str, colour: str, marker: str) -> _Line:
    """Return the line of one field of the rows, without points where no row has it."""
    rows = [row for row in series.rows if getattr(row, name) is not None]
    points = [(row.n_tasks, getattr(row, name)) for row in rows]
    n_measured = sum(row.basis == "measured" for row in rows)
    band: list[tuple[int, float, float]] = []
    if name == "ours_bytes":
        band = [
            (row.n_tasks, row.low_bytes, row.high_bytes)
            for row in rows
            if row.low_bytes is not None and row.high_bytes is not None
        ]
    if band:
        x, y = points[n_measured - 1]
        band.insert(0, (x, y, y))
    return _Line(label, colour, marker, points, n_measured, band)


def _panel(axes: Axes, lines: Sequence[_Line], n_last: int, *, is_log: bool) -> None:
    """Draw lines over the number of tasks, which is logarithmic too where it is extrapolated."""
    n_measured = max(line.measured[-1][0] for line in lines if line.marker)
    for line in lines:
        _draw(axes, line, is_log=is_log, crowded=n_measured > 40)
    axes.set_xlim(0, n_last)
    axes.grid(axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5 if n_last < 10_000 else 2, integer=True))
    sizes = [size for line in lines for size in line.sizes]
    if is_log:
        axes.set_yscale("log")
        axes.set_ylim(decades(sizes, 1.001))
        axes.yaxis.set_major_locator(LogLocator(numticks=7))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(0, 1.05 * max(sizes))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
    if _is_projected(lines):
        axes.set_xscale("log", nonpositive="mask")
        axes.set_xlim(1, n_last)
        axes.xaxis.set_major_locator(LogLocator(numticks=4))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(PLAIN_NUMBERS)
    axes.yaxis.set_major_formatter(BYTES)
    _label(axes, lines)


def _draw(axes: Axes, line: _Line, *, is_log: bool, crowded: bool) -> None:
    """Draw one line; a logarithmic scale has no place for nothing."""
    axes.plot(
        *zip(*[(x, y) for x, y in line.measured if y > 0 or not is_log], strict=True),
        color=line.colour,
        marker=line.marker or ("_" if line.n_measured == 1 else ""),
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


def _mark_crossings(axes: Axes, lines: Sequence[_Line], budget: int) -> None:
    """Mark the last task of each line that a budget holds, where it is among those shown."""
    to_axes = axes.transData + axes.transAxes.inverted()
    low, high = axes.get_xlim()
    found = []
    for line in lines:
        n_tasks = line.find_crossing(budget)
        if n_tasks is not None and n_tasks >= 0:
            x = min(max(n_tasks, low), high)
            found.append((float(to_axes.transform((x, budget))[0]), n_tasks, line.colour))
    above, before = 0, -1.0
    for share, n_tasks, colour in sorted(found):
        # Names of crossings near one another are stacked.
        above = above + 1 if share - before < _NAME_WIDTH else 0
        before = share
        axes.plot(
            share, budget, linestyle="", marker="o", markersize=6, markerfacecolor="none",
            color=colour, clip_on=False, zorder=4, transform=axes.get_yaxis_transform(),
        )  # fmt: skip
        is_left = share < 0.5
        axes.annotate(
            f"{n_tasks:,} fit", (share, budget), xycoords=axes.get_yaxis_transform(), color=colour,
            xytext=(5 if is_left else -5, 4 + 9.5 * above), textcoords="offset points",
            fontsize=SMALL, ha="left" if is_left else "right", va="bottom", zorder=5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.3, "alpha": 0.8},
        )  # fmt: skip


def _label(axes: Axes, lines: Sequence[_Line]) -> None:
    """Name every line at its right end, moved apart where names would overlap."""
    ends = [line.points[-1] for line in lines]
    texts = [
        [
            *textwrap.wrap(line.label, 16)[:2],
            format_bytes(y if line.shown is None else line.shown),
        ]
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
    text = "Markers: measured, the sizes of files. A task adds its mean file at the right."
    rows = series[0].rows
    computed = [
        f"{name} ({what})"
        for field, name, what in (
            ("lora_computed_bytes", "LoRA", "fp16, no head"),
            ("coo_computed_bytes", "coordinates", "int32 positions and the values"),
        )
        if len(series) == 1 and getattr(rows[-1], field) is not None
    ]
    if computed:
        text += f" Dotted: computed, {' and '.join(computed)}."
    if rows[-1].basis == "extrapolated":
        band = "" if rows[-1].low_bytes is None else "; band: 95% interval"
        text += f" Dashed: extrapolated to {rows[-1].n_tasks:,} tasks by their mean{band}."
    return text


def _describe_budget(series: StorageSeries, budget: int) -> str:
    n_tasks = _line(series, "ours_bytes", "", INK, "o").find_crossing(budget)
    if n_tasks is None:
        return f"{format_bytes(budget)} hold all {series.rows[-1].n_tasks:,} tasks of {series.run}."
    if n_tasks < 0:
        return f"{format_bytes(budget)} do not hold the base of {series.run}."
    return f"{format_bytes(budget)} hold {n_tasks:,} tasks of {series.run}, the base included."
