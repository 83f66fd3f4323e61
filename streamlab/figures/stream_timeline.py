"""The figures of a stream in time: `timeline`, `queue` and `device`.

The clock is the run's virtual one where it was recorded, else the machine's: then an arrival comes
when its training begins, and nothing waits. A further attempt at an arrival waits from the end of
the previous attempt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self

from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from streamlab.errors import RegistryError
from streamlab.figures.style import (
    BYTES,
    COLOURS,
    GREYS,
    INK,
    MOST_NAMED,
    SMALL,
    StreamFigure,
    add_legend,
    fit_panels,
    lay_out_rows,
    new_figure,
    plain,
    rows_height,
)
from streamlab.registry.records import (
    ArrivalRecord,
    DeviceRequests,
    PlacementAction,
    PlacementRecord,
    PrimaryStream,
)
from streamlab.units import SECOND_US, seconds_unit
from streamlab.views.run_source import RunSource
from streamlab.views.table import Cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW = 0.19  # inches a task or a provider
_PANEL = 1.7  # inches
_AFTER = 1.03  # of the last change: so far the axis goes, and the last step with it
_SHORTEST = 1 / 400  # of the axis: shorter trainings are drawn as long
_STATUS_MARKS = (("failed", "x", COLOURS[1]), ("quarantined", "D", COLOURS[3]))
_ACTION_MARKS: tuple[tuple[PlacementAction, str, str], ...] = (
    ("evicted", "v", COLOURS[3]),
    ("rejected", "x", COLOURS[1]),
    ("superseded", "s", COLOURS[5]),
)
_ARRIVAL: dict[str, Any] = {
    "linestyle": "", "marker": "|", "markersize": 8, "markeredgewidth": 0.9, "color": INK,
}  # fmt: skip
_TIMES = ("arrived_us", "began_us", "ended_us", "started_at", "finished_at")


@dataclass(frozen=True)
class Stay:
    """One attempt at an arrival; times in seconds from the start of the stream."""

    arrival: ArrivalRecord
    arrived: float
    began: float
    ended: float


@dataclass(frozen=True)
class StreamTimes(StreamFigure):
    """A run's own stream in time; `n_untimed` attempts are not on its clock."""

    clock: Literal["virtual", "real"]
    stays: tuple[Stay, ...]  # in the order of arrival
    n_untimed: int

    @classmethod
    def read(cls, source: RunSource) -> Self:
        """Read the times of a run's own stream, failed and quarantined attempts included.

        Raises NotInRegistryError for an unknown run, RegistryError where nothing has finished yet.
        """
        stream = source.stream
        run, method, seed = stream.run.id, stream.method, stream.seed
        return cls.of(stream, source.registry.arrivals.list(run=run, method=method, seed=seed))

    @classmethod
    def of(cls, stream: PrimaryStream, arrivals: Sequence[ArrivalRecord]) -> Self:
        """Put arrivals on one clock: the virtual one where any of them has its times."""
        stays = [stay for stay in map(_find_virtual, arrivals) if stay is not None]
        if stays:
            stays.sort(key=lambda stay: (stay.arrived, stay.began, stay.arrival.id))
            waiting = tuple(_after_attempts(stays))
            return cls(stream, "virtual", waiting, len(arrivals) - len(stays))
        start = min(arrival.started_at for arrival in arrivals)
        stays = [
            Stay(a, a.started_at - start, a.started_at - start, a.finished_at - start)
            for a in arrivals
        ]
        stays.sort(key=lambda stay: (stay.arrived, stay.arrival.id))
        return cls(stream, "real", tuple(stays), 0)

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
        return f"{super().head}, {known}{missing}."

    @property
    def unit(self) -> tuple[str, float]:
        """Return the unit of the axis of time, and its seconds."""
        return seconds_unit(max(stay.ended for stay in self.stays))

    @property
    def axis(self) -> str:
        """Return the name of the axis of time."""
        return f"{self.clock} {self.unit[0]} from the start"


def _find_virtual(arrival: ArrivalRecord) -> Stay | None:
    arrived, began, ended = arrival.arrived_us, arrival.began_us, arrival.ended_us
    if arrived is None or began is None or ended is None:
        return None
    return Stay(arrival, arrived / SECOND_US, began / SECOND_US, ended / SECOND_US)


def _after_attempts(stays: Iterable[Stay]) -> Iterator[Stay]:
    ended: dict[tuple[str, str, int], float] = {}
    for stay in stays:
        one = (stay.arrival.provider, stay.arrival.task, stay.arrival.version)
        before = ended.get(one, stay.arrived)
        yield replace(stay, arrived=min(max(stay.arrived, before), stay.began))
        ended[one] = stay.ended


class TimelineFigure(StreamTimes):
    """A row a task below its provider, with its arrivals, their waiting and their training.

    A tick is an arrival, a thin bar its waiting, a thick one its training; failed and quarantined
    attempts are marked where they ended.
    """

    name = "timeline"
    columns = (
        "run", "seed", "arrival", "provider", "task", "version", "attempt", "status", "clock",
        *_TIMES,
    )  # fmt: skip

    def rows(self) -> Iterator[Sequence[Cell]]:
        """Yield a row an attempt."""
        for one in (stay.arrival for stay in self.stays):
            about = (one.id, one.provider, one.task, one.version, one.attempt, one.status)
            yield (*self.who, *about, self.clock, *(getattr(one, name) for name in _TIMES))

    def draw(self) -> Figure:
        """Draw a row a task below the name of its provider; of many tasks, a row a provider."""
        tasks: dict[str, dict[str, None]] = {}
        for stay in self.stays:
            tasks.setdefault(stay.arrival.provider, {})[stay.arrival.task] = None
        if sum(1 + len(own) for own in tasks.values()) <= MOST_NAMED:
            keys = [(who, what) for who, own in tasks.items() for what in (None, *own)]
            some = ""
        else:
            counts = Counter(stay.arrival.provider for stay in self.stays)
            busiest = {name for name, _ in counts.most_common(MOST_NAMED)}
            keys = [(name, None) for name in counts if name in busiest]
            some = f" The {len(keys)} busiest of {len(counts):,} providers." if (
                len(keys) < len(counts)
            ) else ""  # fmt: skip
        rows = {key: row for row, key in enumerate(keys)}
        named = any(task is not None for _, task in keys)
        stays = [(stay, rows.get(_row_of(stay, named=named))) for stay in self.stays]
        drawn = [(stay, row) for stay, row in stays if row is not None]
        caption = f"{self.head} {self.stream.method}, {len(self.stays):,} attempts.{some}"
        height = rows_height(len(rows), _ROW)
        figure, (axes,) = new_figure(caption, [height])
        span = max(stay.ended for stay, _ in drawn) / self.unit[1]
        marks = self._bars(axes, drawn, span * _SHORTEST)
        axes.set_xlim(-0.02 * span, span)  # an arrival at 0 is beside the axis
        names = [plain(provider if task is None else task, 16) for provider, task in keys]
        lay_out_rows(axes, names, self.axis, order="")
        for label, (_, task) in zip(axes.get_yticklabels(), keys, strict=True):
            label.set_fontweight("bold" if named and task is None else "normal")
        axes.tick_params(axis="y", length=0)
        add_legend(figure, 3, marks)
        return fit_panels(figure)

    def _bars(
        self, axes: Axes, drawn: Sequence[tuple[Stay, int]], least: float
    ) -> list[Line2D | Patch]:
        """Draw what happened to each attempt, and return what the legend has of it."""
        scale = self.unit[1]
        for stay, row in drawn:
            arrived, began = stay.arrived / scale, stay.began / scale
            ended = max(stay.ended / scale, began + least)
            axes.barh(row, began - arrived, left=arrived, height=0.12, color=COLOURS[4])
            axes.barh(row, ended - began, left=began, height=0.5, color=COLOURS[0])
            axes.plot(arrived, row, clip_on=False, zorder=4, **_ARRIVAL)
        waits = any(stay.began > stay.arrived for stay, _ in drawn)
        statuses = [(stay.ended / scale, float(row), stay.arrival.status) for stay, row in drawn]
        marks = _mark(axes, statuses, _STATUS_MARKS, size=4.0)
        return [
            Line2D([], [], **_ARRIVAL, label="arrival"),
            *[Line2D([], [], color=COLOURS[4], linewidth=2.0, label="waiting")] * waits,
            Patch(color=COLOURS[0], label="training"),
            *marks,
        ]


def _row_of(stay: Stay, *, named: bool) -> tuple[str, str | None]:
    return stay.arrival.provider, stay.arrival.task if named else None


def _mark(
    axes: Axes,
    points: Sequence[tuple[float, float, str]],
    marks: Sequence[tuple[str, str, str]],
    *,
    size: float,
) -> list[Line2D]:
    """Mark each point (x, y, label) whose label has a (label, marker, colour) among `marks`.

    Returns what was drawn, for the legend.
    """
    drawn = []
    for label, marker, colour in marks:
        marked = [(x, y) for x, y, name in points if name == label]
        if marked:
            drawn += axes.plot(
                *zip(*marked, strict=True), linestyle="", marker=marker, color=colour,
                markersize=size, label=label, zorder=4, clip_on=False,
            )  # fmt: skip
    return drawn


class QueueFigure(StreamTimes):
    """How many arrivals wait, and how many are in training, over time."""

    name = "queue"
    columns = ("run", "seed", "clock", "seconds", "n_waiting", "n_training")

    def lengths(self) -> list[tuple[float, int, int]]:
        """Return (seconds, waiting, training) at every change, from the start of the stream.

        An arrival that begins as another one ends takes its place.
        """
        waiting: Counter[float] = Counter()
        training: Counter[float] = Counter()
        for stay in self.stays:
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

    def rows(self) -> Iterator[Sequence[Cell]]:
        """Yield a row a change."""
        return ((*self.who, self.clock, *row) for row in self.lengths())

    def draw(self) -> Figure:
        """Draw both lengths as steps."""
        unit, scale = self.unit
        seconds, waiting, training = zip(*self.lengths(), strict=True)
        times = [0.0, *(at / scale for at in seconds), _AFTER * seconds[-1] / scale]
        mean = sum(stay.began - stay.arrived for stay in self.stays) / len(self.stays) / scale
        caption = (
            f"{self.head} At most {max(waiting):,} waiting at once; "
            f"mean wait {mean:.3g} {unit} of {len(self.stays):,} attempts."
        )
        figure, (axes,) = new_figure(caption, [_PANEL])
        axes.fill_between(
            times, [0, *training, 0], step="post", color=COLOURS[0], alpha=0.35, linewidth=0,
            label="training",
        )  # fmt: skip
        axes.step(
            times, [0, *waiting, 0], where="post", color=COLOURS[1], linewidth=1.0, label="waiting",
            clip_on=False,
        )  # fmt: skip
        axes.set_xlim(0, max(times))
        axes.set_ylim(0, 1.08 * max(1, *waiting, *training))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
        axes.grid(axis="y")
        axes.set_xlabel(self.axis)
        axes.set_ylabel("arrivals")
        add_legend(figure, 2)
        return fit_panels(figure)


@dataclass(frozen=True)
class DeviceFigure(StreamTimes):
    """The bytes on the run's device over time, and the hit rate of every eviction policy.

    The base is not counted. The line is the device's log; evictions and rejections are marked.
    Without a simulated device every file is kept, and the line adds them up as their arrivals
    ended.
    """

    name = "device"
    columns = (
        "run", "seed", "clock", "seconds", "arrival", "provider", "task", "version", "action",
        "device_bytes", "budget_bytes", "note", "policy", "hits", "misses",
    )  # fmt: skip

    changes: tuple[PlacementRecord, ...] = ()
    is_simulated: bool = False
    requests: tuple[DeviceRequests, ...] = ()

    @classmethod
    def read(cls, source: RunSource) -> Self:
        """Read the device's log of a run's own stream; without one, add up its files.

        Raises NotInRegistryError for an unknown run, RegistryError where nothing has finished yet,
        or the log is not complete.
        """
        times = super().read(source)
        stream = times.stream
        log = tuple(
            line
            for line in source.registry.placements.list(stream.run.id)
            if (line.seed, line.method) == (stream.seed, stream.method)
        )
        if not log and times.budget is not None:
            raise RegistryError(
                f"The device of `{stream.run.name}` is logged once all arrivals of the first seed "
                "have completed, which they have not. Resume with `streamlab run SCENARIO "
                "--resume`."
            )
        changes = log or tuple(times._kept())
        requests = tuple(
            one
            for one in source.registry.placements.requests(stream.run.id)
            if one.seed == stream.seed
        )
        return replace(times, changes=changes, is_simulated=bool(log), requests=requests)

    def _kept(self) -> Iterator[PlacementRecord]:
        total = 0
        for stay in sorted(self.stays, key=lambda stay: (stay.ended, stay.arrival.id)):
            one = stay.arrival
            if one.status == "finished":
                total += self.stream.diffs[one.digest or ""].file_bytes
                yield PlacementRecord(
                    id=0, run=one.run, seed=one.seed, provider=one.provider, task=one.task,
                    version=one.version, method=one.method, at_us=round(SECOND_US * stay.ended),
                    arrival_id=one.id, action="stored", device_bytes=total,
                )  # fmt: skip

    @property
    def trivial(self) -> str | None:
        """Return None: files add up on every clock."""
        return None

    @property
    def budget(self) -> int | None:
        """Return the bytes that the device has room for; None where there is no limit."""
        return self.stream.run.settings.device_budget

    def rows(self) -> Iterator[Sequence[Cell]]:
        """Yield a row a change, then one a policy with its hits and misses."""
        for one in self.changes:
            about = (one.arrival_id, one.provider, one.task, one.version, one.action)
            at = (*self.who, self.clock, one.at_us / SECOND_US)
            yield (*at, *about, one.device_bytes, self.budget, one.note, *[None] * 3)
        for asked in self.requests:
            yield (
                *(*self.who, self.clock, *[None] * 7, self.budget, None),
                *(asked.policy, asked.n_hits, asked.n_misses),
            )

    def draw(self) -> Figure:
        """Draw the bytes as steps and the budget as a line; below, the hit rate of each policy."""
        heights = [_PANEL, *[rows_height(len(self.requests), _ROW)] * bool(self.requests)]
        figure, (axes, *others) = new_figure(self._caption(), heights)
        self._draw_bytes(axes)
        for other in others:
            self._draw_rates(other)
        add_legend(figure, 3, axes.get_legend_handles_labels()[0])
        return fit_panels(figure)

    def _draw_bytes(self, axes: Axes) -> None:
        scale = self.unit[1]
        points = [
            (one.at_us / SECOND_US / scale, float(one.device_bytes), one.action)
            for one in self.changes
        ]
        x, y = [0.0, *(x for x, _, _ in points)], [0.0, *(y for _, y, _ in points)]
        end = _AFTER * max(x[-1], max(stay.ended for stay in self.stays) / scale)
        axes.step(
            [*x, end], [*y, y[-1]], where="post", color=COLOURS[0], linewidth=1.0,
            label="on the device", clip_on=False,
        )  # fmt: skip
        if self.budget:
            axes.axhline(self.budget, color=INK, linewidth=0.8, linestyle=":", label="budget")
        _mark(axes, points, _ACTION_MARKS, size=3.0)
        axes.set_xlim(0, end)
        axes.set_ylim(0, 1.1 * max(self.budget or 0, *y))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(nbins=5))
        axes.yaxis.set_major_formatter(BYTES)
        axes.grid(axis="y")
        axes.set_xlabel(self.axis)

    def _draw_rates(self, axes: Axes) -> None:
        own = self.stream.run.settings.device_policy
        for row, one in enumerate(self.requests):
            percent = 100 * (one.hit_rate or 0.0)
            colour = COLOURS[0] if one.policy == own else GREYS[0]
            axes.barh(row, percent, height=0.75, color=colour)
            axes.annotate(
                f"{one.n_hits:,} hits, {one.n_misses:,} misses", (percent, row),
                xytext=(-4 if percent > 55 else 4, 0), textcoords="offset points", va="center",
                ha="right" if percent > 55 else "left", fontsize=SMALL,
                color="white" if percent > 55 else INK,
            )  # fmt: skip
        policies = [one.policy for one in self.requests]
        lay_out_rows(axes, policies, "requests that were hits (%)", order="")
        axes.set_xlim(0, 100)

    def _caption(self) -> str:
        totals = Counter(one.action for one in self.changes)
        counts = [f"{totals[name]:,} {name}" for name, *_ in _ACTION_MARKS if totals[name]]
        events = f" {', '.join(counts).capitalize()}." if counts else ""
        if not self.is_simulated:
            events = " No device was simulated: every file is kept."
        rates = ""
        if self.requests:
            rates = (
                f" Hit rates are of the same {self.requests[0].n_requests:,} simulated requests, "
                "by a device with each policy; the run's own policy is in colour."
            )
        return f"{self.head}{events} The base is not counted.{rates}"
