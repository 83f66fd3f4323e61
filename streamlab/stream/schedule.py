"""The stream in order: which task arrives when and from whom, with which seed, and its methods."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from streamlab.arrivals.arrival_processes import times
from streamlab.methods import MethodSettings
from streamlab.seeds import derived_seed
from streamlab.stream.scenario import Scenario


@dataclass(frozen=True)
class Arrival:
    """One task, from one provider, to be learnt by one method under one scenario seed."""

    seed: int  # the scenario's
    sequence: int  # place in the stream, shared with the baselines
    provider: str
    task: str
    version: int  # how many times its provider has brought the task by now
    method: MethodSettings
    arrived_us: int = 0  # microseconds of virtual time, shared with the baselines

    @property
    def identity(self) -> tuple[int, str, str, int, str]:
        """Return what a seed is derived from and a finished arrival is known by."""
        return (self.seed, self.provider, self.task, self.version, self.method.name)

    @property
    def training_seed(self) -> int:
        """Return the seed of everything random in the training."""
        return derived_seed("training", *self.identity)

    @property
    def data_seed(self) -> int:
        """Return the seed that draws and splits rows: the same for every method."""
        return derived_seed("data", *self.identity[:-1])


@dataclass(frozen=True)
class _Brought:
    """One version of a task on its way to the lab."""

    arrived_us: int
    version: int
    provider: str
    task: str


def arrivals(scenario: Scenario) -> list[Arrival]:
    """Return every arrival of a scenario: seed by seed, in order of time, baselines after each.

    What arrives at one moment comes by version, and then as the scenario lists its tasks.
    """
    listed = {task: place for place, task in enumerate(scenario.tasks)}
    return [
        Arrival(seed, sequence, new.provider, new.task, new.version, method, new.arrived_us)
        for seed in scenario.seeds
        for sequence, new in enumerate(
            sorted(
                _brought(scenario, seed),
                key=lambda new: (new.arrived_us, new.version, listed[new.task]),
            )
        )
        for method in scenario.methods
    ]


def _brought(scenario: Scenario, seed: int) -> Iterator[_Brought]:
    """Yield what every provider brings; the times of one do not depend on the others."""
    for name, provider in scenario.providers.items():
        tasks = provider.brought
        drawn = times(provider.arrivals, len(tasks), seed=derived_seed("arrivals", seed, name))
        versions: Counter[str] = Counter()
        for task, arrived_us in zip(tasks, drawn.tolist(), strict=True):
            versions[task] += 1
            yield _Brought(arrived_us, versions[task], name, task)
