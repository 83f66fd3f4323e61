"""Arrival processes: when the tasks of one provider arrive, in virtual time from day 0.

    periodic   t_i = first_day + i / rate                                  cv = 0
    poisson    t_i = t_{i-1} + g_i,   g_i exponential of mean 1 / rate     cv = 1
    gamma      g_i gamma of shape 1 / cv^2 and mean 1 / rate               cv as given
    burst      `size` tasks at once; the bursts are a Poisson process
               of size / rate days between them                            cv = sqrt(2 size - 1)

i from 0, t_{-1} = 0; cv is the coefficient of variation of the gaps between arrivals. Each process
has a random generator of its own and draws one task or burst after the other, so that a longer
stream begins with the shorter one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from streamlab.config import NamedSettings, Settings
from streamlab.errors import UsageError
from streamlab.units import DAY_US

LAST_DAY: Final = 1e8  # later days exceed 64 bits of microseconds

Days = NDArray[np.float64]
Day = Annotated[float, Field(ge=0, le=LAST_DAY)]


class ArrivalProcess(Settings, ABC):
    """The settings of one arrival process, found by its name in `process`."""

    process: str

    @abstractmethod
    def days(self, n: int, rng: np.random.Generator) -> Days:
        """Return the days of the first n arrivals, (n,), 0 or more, in ascending order.

        A longer stream must begin with the shorter one of the same generator.
        """


class AsListed(ArrivalProcess):
    """All tasks at time 0, in the order of the scenario."""

    process: Literal["as_listed"] = "as_listed"

    def days(self, n: int, _rng: np.random.Generator) -> Days:
        """See `ArrivalProcess`."""
        return np.zeros(n)


class Periodic(ArrivalProcess):
    """One task at a time, at even intervals."""

    process: Literal["periodic"] = "periodic"
    rate_per_day: PositiveFloat
    """Tasks per day."""
    first_day: Day = 0.0
    """The day of the first arrival."""

    def days(self, n: int, _rng: np.random.Generator) -> Days:
        """See `ArrivalProcess`."""
        return self.first_day + np.arange(n) / self.rate_per_day


class Poisson(ArrivalProcess):
    """One task at a time, with independent exponential gaps."""

    process: Literal["poisson"] = "poisson"
    rate_per_day: PositiveFloat
    """Tasks per day, on average."""

    def days(self, n: int, rng: np.random.Generator) -> Days:
        """See `ArrivalProcess`."""
        return np.cumsum(rng.standard_exponential(n)) / self.rate_per_day


class Gamma(ArrivalProcess):
    """One task at a time; more regular (`cv` < 1) or more clustered (`cv` > 1) than `poisson`."""

    process: Literal["gamma"] = "gamma"
    rate_per_day: PositiveFloat
    """Tasks per day, on average."""
    cv: Annotated[float, Field(ge=0.001, le=100)]
    """Coefficient of variation of the gaps between arrivals."""

    def days(self, n: int, rng: np.random.Generator) -> Days:
        """See `ArrivalProcess`."""
        variance = self.cv**2
        return np.cumsum(rng.standard_gamma(1 / variance, n)) * variance / self.rate_per_day


class Burst(ArrivalProcess):
    """Bursts of `size` tasks at once; the bursts are a Poisson process."""

    process: Literal["burst"] = "burst"
    rate_per_day: PositiveFloat
    """Tasks (not bursts) per day, on average."""
    size: PositiveInt
    """Tasks per burst."""

    def days(self, n: int, rng: np.random.Generator) -> Days:
        """See `ArrivalProcess`; the last burst may be incomplete."""
        n_bursts = -(-n // self.size)
        bursts = np.cumsum(rng.standard_exponential(n_bursts)) * self.size / self.rate_per_day
        return bursts[np.arange(n) // self.size]


class TraceEvent(Settings):
    """One arrival of a trace."""

    day: Day
    """Days from the start; 0.5 is noon of the first day."""
    task: str
    """One of the provider's tasks."""


class Trace(ArrivalProcess):
    """The arrivals of `events`, or of a file, which loading a scenario replaces by its events."""

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
        """Return the events by day, stable within a day. Raises ValueError for an unread file."""
        if self.events is None:
            raise ValueError(f"the trace {self.file!r} has not been read")
        return sorted(self.events, key=lambda event: event.day)

    def days(self, n: int, _rng: np.random.Generator) -> Days:
        """See `ArrivalProcess`. Raises ValueError if the trace has fewer arrivals."""
        days = [event.day for event in self.in_order]
        if n > len(days):
            raise ValueError(f"the trace has {len(days)} arrivals, but {n} were requested")
        return np.array(days[:n], dtype=np.float64)


Steady = Periodic | Poisson | Gamma | Burst  # processes with a rate and no end
_CLASSES = (AsListed, Periodic, Poisson, Gamma, Burst, Trace)
BUILTIN: Final[Mapping[str, str]] = MappingProxyType(
    {c.model_fields["process"].default: f"{c.__module__}:{c.__name__}" for c in _CLASSES}
)
# An arrival process in a scenario, validated and dumped by the class that `process` stands for.
ArrivalProcessSettings = Annotated[
    ArrivalProcess,
    NamedSettings(
        group="streamlab.arrival_processes", key="process", builtin=BUILTIN, base=ArrivalProcess
    ),
]


def times(
    process: ArrivalProcess, n: int, *, seed: int | np.random.SeedSequence
) -> NDArray[np.int64]:
    """Return the times of the first n arrivals: (n,) microseconds from the start, in order.

    Raises UsageError for times beyond a hundred million days or that are not ascending numbers,
    and ValueError for a trace that is too short or was not read.

    >>> times(Periodic(rate_per_day=2), 3, seed=1).tolist()
    [0, 43200000000, 86400000000]
    """
    days = np.asarray(process.days(n, np.random.default_rng(seed)))
    if days.shape != (n,) or not (days[1:] >= days[:-1]).all() or not (days[:1] >= 0).all():
        raise UsageError(
            f"The arrival process `{process.process}` must return {n:,} ascending days, 0 or more. "
            "Correct its `days`."
        )
    if n and not days[-1] <= LAST_DAY:
        raise UsageError(
            f"With `{process.process}` the last of {n:,} tasks would arrive after more than "
            f"{LAST_DAY:,.0f} days. Raise the rate, or let fewer tasks arrive."
        )
    return np.rint(days * DAY_US).astype(np.int64)
