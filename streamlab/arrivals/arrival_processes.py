"""Arrival processes: when the tasks of one provider come, in virtual time from day 0.

    periodic   t_i = first_day + i / rate                                  cv = 0
    poisson    t_i = t_{i-1} + g_i,   g_i exponential of mean 1 / rate     cv = 1
    gamma      g_i gamma of shape 1 / cv^2 and mean 1 / rate               cv as given
    burst      `size` tasks at once; the bursts are a Poisson process
               of size / rate days between them                            cv = sqrt(2 size - 1)

i from 0, t_{-1} = 0; cv is the standard deviation of the gaps between arrivals over their mean.
All draws come from a generator that is used for nothing else, one task or burst after the other,
so that a longer stream begins with the shorter one.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from streamlab.config import Settings
from streamlab.errors import UsageError
from streamlab.units import DAY_US

LAST_DAY: Final = 1e8  # later ones are no longer counted in 64 bits of microseconds

Days = NDArray[np.float64]
Day = Annotated[float, Field(ge=0, le=LAST_DAY)]


class AsListed(Settings):
    """All at time 0, in the order in which the scenario lists its tasks."""

    process: Literal["as_listed"] = "as_listed"

    def days(self, n: int, _draw: np.random.Generator) -> Days:
        """Return the day of each of the first n arrivals; so do all processes."""
        return np.zeros(n)


class Periodic(Settings):
    """One at a time, at even distances."""

    process: Literal["periodic"] = "periodic"
    rate_per_day: PositiveFloat
    """Tasks per day."""
    first_day: Day = 0.0
    """The day of the first arrival."""

    def days(self, n: int, _draw: np.random.Generator) -> Days:
        """Return (n,) days, the first of them `first_day`."""
        return self.first_day + np.arange(n) / self.rate_per_day


class Poisson(Settings):
    """One at a time, at any moment as likely as at any other."""

    process: Literal["poisson"] = "poisson"
    rate_per_day: PositiveFloat
    """Tasks per day, on average."""

    def days(self, n: int, draw: np.random.Generator) -> Days:
        """Return (n,) days."""
        return np.cumsum(draw.standard_exponential(n)) / self.rate_per_day


class Gamma(Settings):
    """One at a time, more evenly (`cv` below 1) or more in clusters (above 1) than `poisson`."""

    process: Literal["gamma"] = "gamma"
    rate_per_day: PositiveFloat
    """Tasks per day, on average."""
    cv: Annotated[float, Field(ge=0.001, le=100)]
    """Coefficient of variation of the gaps between arrivals."""

    def days(self, n: int, draw: np.random.Generator) -> Days:
        """Return (n,) days; the first comes after one whole gap."""
        variance = self.cv**2
        return np.cumsum(draw.standard_gamma(1 / variance, n)) * variance / self.rate_per_day


class Burst(Settings):
    """Several at once: bursts of `size` tasks, at moments as those of `poisson`."""

    process: Literal["burst"] = "burst"
    rate_per_day: PositiveFloat
    """Tasks (not bursts) per day, on average."""
    size: PositiveInt
    """Tasks per burst."""

    def days(self, n: int, draw: np.random.Generator) -> Days:
        """Return (n,) days, `size` equal ones after another; the last burst may be cut short."""
        n_bursts = -(-n // self.size)
        bursts = np.cumsum(draw.standard_exponential(n_bursts)) * self.size / self.rate_per_day
        return bursts[np.arange(n) // self.size]


class TraceEvent(Settings):
    """One arrival of a trace."""

    day: Day
    """Days from the start; 0.5 is noon of the first day."""
    task: str
    """One of the provider's tasks."""


class Trace(Settings):
    """As a file tells, or as `events` do; loading a scenario puts the file's in their place."""

    process: Literal["trace"] = "trace"
    file: str | None = Field(default=None, min_length=1)
    """CSV or JSON Lines with `day`, `provider` and `task`. A relative path starts at the scenario's
    folder."""
    events: tuple[TraceEvent, ...] | None = None
    """The arrivals themselves, in place of a file."""

    @model_validator(mode="after")
    def _either_file_or_events(self) -> Self:
        if (self.file is None) == (self.events is None):
            raise ValueError("give either a `file` or `events`")
        return self

    @property
    def in_order(self) -> list[TraceEvent]:
        """Return the events by day; those of one day stay as they were told.

        Raises ValueError where they are still in their file.
        """
        if self.events is None:
            raise ValueError(f"the trace {self.file!r} has not been read")
        return sorted(self.events, key=lambda event: event.day)

    def days(self, n: int, _draw: np.random.Generator) -> Days:
        """Return (n,) days. Raises ValueError where the trace has fewer arrivals."""
        days = [event.day for event in self.in_order]
        if n > len(days):
            raise ValueError(f"the trace has {len(days)} arrivals, and {n} were asked for")
        return np.array(days[:n], dtype=np.float64)


Steady = Periodic | Poisson | Gamma | Burst  # the processes that go on for ever, at a rate
ArrivalProcess = Annotated[AsListed | Steady | Trace, Field(discriminator="process")]


def times(
    process: ArrivalProcess, n: int, *, seed: int | np.random.SeedSequence
) -> NDArray[np.int64]:
    """Return when the first n tasks arrive: (n,) microseconds from the start, in order.

    Raises UsageError where that is more than a hundred million days away, ValueError where a
    trace is shorter or has not been read.

    >>> times(Periodic(rate_per_day=2), 3, seed=1).tolist()
    [0, 43200000000, 86400000000]
    """
    days = process.days(n, np.random.default_rng(seed))
    if n and not days[-1] <= LAST_DAY:
        raise UsageError(
            f"With `{process.process}` the last of {n:,} tasks would arrive after more than "
            f"{LAST_DAY:,.0f} days. Raise the rate, or let fewer arrive."
        )
    return np.rint(days * DAY_US).astype(np.int64)
