"""How many tasks fit a budget, and which density lets a number of them fit.

tasks that fit   = the largest N with total(N) <= budget
at least, most   = the same for the upper and the lower end of the 95% interval
density that fits = the largest k / d, up to one half, with total(N) <= budget
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from streamlab.errors import UsageError
from streamlab.planning.storage_model import Interval, Storage, StorageModel
from streamlab.planning.what_if import with_entries

MOST_TASKS = 10**15  # beyond it, nothing is counted


@dataclass(frozen=True)
class Fit:
    """How many tasks fit; `low` and `high` are None without an interval, `high` without an end."""

    budget: int
    n_tasks: int
    low: int | None
    high: int | None
    storage: Storage  # of that many


@dataclass(frozen=True)
class DensityFit:
    """The density at which `n_tasks` fit; the storage and its interval are at that density."""

    budget: int
    n_tasks: int
    density: float
    n_entries: int  # of one task
    is_most: bool  # one half: more would fit too
    storage: Storage
    interval: Interval | None


@dataclass(frozen=True)
class Backtest:
    """What the first tasks made of all that were measured."""

    n_first: int
    n_tasks: int
    base: int  # bytes, part of both sizes
    predicted: int
    interval: Interval | None
    measured: int

    @property
    def is_covered(self) -> bool | None:
        """Return whether the interval has the measured size in it; None without an interval."""
        return None if self.interval is None else self.measured in self.interval

    @property
    def half_share(self) -> float | None:
        """Return half the width of the interval over the predicted size, base and all."""
        return self._over(self.predicted)

    @property
    def half_share_of_tasks(self) -> float | None:
        """Return half the width of the interval over the predicted size without the base."""
        return self._over(self.predicted - self.base)

    def _over(self, size: int) -> float | None:
        return None if self.interval is None else (self.interval.high - self.predicted) / size


def fit(model: StorageModel, budget: int) -> Fit:
    """Return how many tasks fit `budget` bytes. Raises UsageError where not even the base does."""
    _require_base(model, budget)
    n_tasks = _most(lambda n: model.at(n).total <= budget)
    if n_tasks is None:
        raise UsageError(f"More than {MOST_TASKS:.0e} tasks fit. Give a smaller budget.")
    low = high = None
    if len(model.tasks) > 1:
        low = _most(lambda n: _upper(model, n) <= budget)
        high = _most(lambda n: _lower(model, n) <= budget)
    return Fit(budget, n_tasks, low, high, model.at(n_tasks))


def fit_density(model: StorageModel, n_tasks: int, budget: int) -> DensityFit:
    """Return the density at which `n_tasks` tasks fit `budget` bytes.

    Every task is supposed to keep as many entries. Raises UsageError where they fit at none.
    """
    _require_base(model, budget)
    n_gated = model.tasks[0].n_gated

    def at(n_entries: int) -> StorageModel:
        tasks = tuple(with_entries(task, n_entries) for task in model.tasks)
        return replace(model, tasks=tasks, supposed=tasks != model.tasks or model.supposed)

    least = at(1).at(n_tasks).total
    if least > budget:
        raise UsageError(
            f"{n_tasks:,} tasks fit {budget:,} bytes at no density: with a single entry each, "
            f"heads, headers and the base alone take {least:,} bytes. Give a larger budget or "
            "fewer tasks."
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
    """Hold what `model`, of the first tasks, says of all tasks against what those take."""
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
            f"The base and an empty registry alone take {least:,} bytes, and the budget is "
            f"{budget:,}. Give a larger budget, or go by a run on a smaller base."
        )


def _upper(model: StorageModel, n_tasks: int) -> int:
    interval = model.interval(n_tasks)
    return interval.high if interval else model.at(n_tasks).total


def _lower(model: StorageModel, n_tasks: int) -> int:
    interval = model.interval(n_tasks)
    return interval.low if interval else model.at(n_tasks).total


def _most(fits: Callable[[int], bool]) -> int | None:
    """Return the largest number that fits, given that 0 does; None where there is no end."""
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
