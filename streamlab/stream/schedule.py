"""The schedule: the arrivals of a scenario in order, with their times, seeds and methods."""

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
    """One task, from one provider, to be trained by one method under one scenario seed."""

    seed: int  # the scenario's
    sequence: int  # place in the stream, shared with the baselines
    provider: str
    task: str
    version: int  # how many times the task has arrived by now
    method: MethodSettings
    arrived_us: int = 0  # microseconds of virtual time, shared with the baselines

    @property
    def identity(self) -> tuple[int, str, str, int, str]:
        """Return what seeds are derived from, and a recorded arrival is found by."""
        return (self.seed, self.provider, self.task, self.version, self.method.label)

    @property
    def training_seed(self) -> int:
        """Return the seed of everything random in the training."""
        return derived_seed("training", *self.identity)

    @property
    def data_seed(self) -> int:
        """Return the seed that samples and splits examples: the same for every method."""
        return derived_seed("data", *self.identity[:-1])


@dataclass(frozen=True)
class _Version:
    """One version of a task, before the arrivals of all providers are sorted."""

    arrived_us: int
    version: int
    provider: str
    task: str


def arrivals(scenario: Scenario) -> list[Arrival]:
    """Return every arrival of a scenario: seed by seed, in order of time, baselines after each.

    Simultaneous arrivals are ordered by version, and then as the scenario lists their tasks.
    """
    listed = {task: place for place, task in enumerate(scenario.tasks)}
    return [
        Arrival(seed, sequence, new.provider, new.task, new.version, method, new.arrived_us)
        for seed in scenario.seeds
        for sequence, new in enumerate(
            sorted(
                _versions(scenario, seed),
                key=lambda new: (new.arrived_us, new.version, listed[new.task]),
            )
        )
        for method in scenario.methods
    ]


def _versions(scenario: Scenario, seed: int) -> Iterator[_Version]:
    """Yield every provider's tasks; the times of one do not depend on the others."""
    for name, provider in scenario.providers.items():
        tasks = provider.arriving
        drawn = times(provider.arrivals, len(tasks), seed=derived_seed("arrivals", seed, name))
        versions: Counter[str] = Counter()
        for task, arrived_us in zip(tasks, drawn.tolist(), strict=True):
            versions[task] += 1
            yield _Version(arrived_us, versions[task], name, task)
