"""When the arrivals of a run's own stream came, were learnt and ended, on one clock.

The clock is the run's virtual one where it recorded that, else the machine's: then an arrival
comes when its training begins, and nothing waits. A further attempt at an arrival waits from the
end of the attempt before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from streamlab.registry.records import ArrivalRecord
from streamlab.registry.registry import Registry
from streamlab.registry.streams import OwnStream, own_stream
from streamlab.units import SECOND_US, seconds_unit

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

    stream: OwnStream
    clock: Clock
    start: float  # seconds on the clock, of the first arrival on the machine's, 0 on a virtual one
    stays: tuple[Stay, ...]  # in the order of arrival
    n_untimed: int

    @property
    def run(self) -> str:
        """Return the name of the run."""
        return self.stream.run.name

    @property
    def head(self) -> str:
        """Return what a caption begins with, and how times are known."""
        known = "in virtual time, simulated"
        if self.clock == "real":
            known = "in real time, measured; no virtual time was recorded, so nothing waits"
        gone = f"; {self.n_untimed} attempts have no virtual time" if self.n_untimed else ""
        return f"Run {self.stream.run.name}, seed {self.stream.seed}, {known}{gone}."

    @property
    def unit(self) -> tuple[str, float]:
        """Return the largest unit of time that the stream lasts two of, and its seconds."""
        return seconds_unit(max(stay.ended for stay in self.stays))

    @property
    def axis(self) -> str:
        """Return the name of the axis of time."""
        return f"{self.clock} {self.unit[0]} from the start"


def read_times(registry: Registry, run: str) -> StreamTimes:
    """Read the times of a run's own stream, of what failed and was quarantined too.

    Raises NotInRegistryError for an unknown run, RegistryError where nothing has finished yet.
    """
    stream = own_stream(registry, run)
    found = registry.arrivals(run=stream.run.id, method=stream.method, seed=stream.seed)
    return stream_times(stream, found)


def stream_times(stream: OwnStream, arrivals: Iterable[ArrivalRecord]) -> StreamTimes:
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
