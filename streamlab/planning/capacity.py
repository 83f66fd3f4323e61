"""Capacity: the number of tasks that fit a budget, and the density at which a number fits.

tasks that fit   = the largest N with total(N) <= budget
at least, most   = the same for the upper and the lower end of the 95% interval
density that fits = the largest k / d, up to one half, with total(N) <= budget
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from streamlab.errors import UsageError
from streamlab.planning.storage_model import Interval, Storage, StorageModel
from streamlab.planning.what_if import with_entries

MOST_TASKS = 10**15  # upper limit of the search


@dataclass(frozen=True)
class Fit:
    """The number of tasks that fit, with an interval; None where it is unknown or unbounded."""

    budget: int
    n_tasks: int
    low: int | None
    high: int | None
    storage: Storage  # of `n_tasks`


@dataclass(frozen=True)
class DensityFit:
    """The density at which `n_tasks` fit, and their storage at that density."""

    budget: int
    n_tasks: int
    density: float
    n_entries: int  # of one task
    is_most: bool  # the upper limit, one half: a higher density would fit too
    storage: Storage
    interval: Interval | None


@dataclass(frozen=True)
class Backtest:
    """The prediction of all measured tasks from the first ones."""

    n_first: int
    n_tasks: int
    base: int  # bytes, included in both sizes
    predicted: int
    interval: Interval | None
    measured: int

    @property
    def is_covered(self) -> bool | None:
        """Return whether the interval contains the measured size; None without an interval."""
        return None if self.interval is None else self.measured in self.interval

    @property
    def half_share(self) -> float | None:
        """Return half the width of the interval over the predicted size, including the base."""
        return self._over(self.predicted)

    @property
    def half_share_of_tasks(self) -> float | None:
        """Return half the width of the interval over the predicted size without the base."""
        return self._over(self.predicted - self.base)

    def _over(self, size: int) -> float | None:
        return None if self.interval is None else (self.interval.high - self.predicted) / size


def fit(model: StorageModel, budget: int) -> Fit:
    """Return the number of tasks that fit `budget` bytes. Raises UsageError if none does."""
    _require_base(model, budget)
    n_tasks = _most(lambda n: model.at(n).total <= budget)
    if n_tasks is None:
        raise UsageError(f"More than {MOST_TASKS:.0e} tasks fit. Give a smaller budget.")
    low = high = None
    if len(model.tasks) > 1:
        low = _most(lambda n: _end(model, n, "high") <= budget)
        high = _most(lambda n: _end(model, n, "low") <= budget)
    return Fit(budget, n_tasks, low, high, model.at(n_tasks))


def fit_density(model: StorageModel, n_tasks: int, budget: int) -> DensityFit:
    """Return the density at which `n_tasks` tasks fit `budget` bytes.

    All tasks have equally many entries. Raises UsageError if they fit at no density.
    """
    _require_base(model, budget)
    n_gated = model.tasks[0].n_gated

    def at(n_entries: int) -> StorageModel:
        tasks = tuple(with_entries(task, n_entries) for task in model.tasks)
        return replace(model, tasks=tasks, supposed=tasks != model.tasks or model.supposed)

    least = at(1).at(n_tasks).total
    if least > budget:
        raise UsageError(
            f"{n_tasks:,} tasks fit {budget:,} bytes at no density: with one entry each, they "
            f"take {least:,} bytes with heads, headers and the base. Give a larger budget or fewer "
            "tasks."
        )
    most = max(n_gated // 2, 1)
    found = _largest(lambda k: at(k).at(n_tasks).total <= budget, 1, most)
    model = at(found)
    return DensityFit(
        budget=budget,
        n_tasks=n_tasks,
        density=found / n_gated,
        n_entries=found,
        is_most=found == most,
        storage=model.at(n_tasks),
        interval=model.interval(n_tasks),
    )


def backtest(model: StorageModel, measured: StorageModel) -> Backtest:
    """Compare the prediction of `model`, of the first tasks, with all measured tasks."""
    n_tasks = len(measured.tasks)
    return Backtest(
        n_first=len(model.tasks),
        n_tasks=n_tasks,
        base=model.n_copies * model.base,
        predicted=model.at(n_tasks).total,
        interval=model.interval(n_tasks),
        measured=measured.at(n_tasks).total,
    )


def _require_base(model: StorageModel, budget: int) -> None:
    least = model.at(0).total
    if budget < least:
        raise UsageError(
            f"The base and an empty registry alone take {least:,} bytes, more than the budget of "
            f"{budget:,}. Give a larger budget, or use a run on a smaller base."
        )


def _end(model: StorageModel, n_tasks: int, end: Literal["low", "high"]) -> int:
    """Return one end of the interval; the size itself where there is none."""
    interval = model.interval(n_tasks)
    size: int = getattr(interval, end) if interval else model.at(n_tasks).total
    return size


def _most(fits: Callable[[int], bool]) -> int | None:
    """Return the largest number that fits, given that 0 does; None above the limit."""
    high = 1
    while fits(high):
        high *= 2
        if high > MOST_TASKS:
            return None
    return _largest(fits, 0, high - 1)


def _largest(fits: Callable[[int], bool], low: int, high: int) -> int:
    """Return the largest number in [low, high] that fits, given that `low` does."""
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
