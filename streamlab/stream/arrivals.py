"""The stream in order: which task arrives from whom, with which seed, learnt by which methods."""

from __future__ import annotations

from dataclasses import dataclass

from streamlab.methods import MethodSettings
from streamlab.stream.identity import derived_seed
from streamlab.stream.scenario import Scenario


@dataclass(frozen=True)
class Arrival:
    """One task, from one provider, to be learnt by one method under one scenario seed."""

    seed: int  # the scenario's
    sequence: int  # place in the stream, shared with the rivals
    provider: str
    task: str
    version: int
    method: MethodSettings

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


def arrivals(scenario: Scenario) -> list[Arrival]:
    """Return every arrival of a scenario: seed by seed, tasks as listed, rivals after each."""
    return [
        Arrival(seed, sequence, scenario.provider_of(task), task, 1, method)
        for seed in scenario.seeds
        for sequence, task in enumerate(scenario.tasks)
        for method in scenario.methods
    ]
