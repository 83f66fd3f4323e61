"""What a run works with: the base, and every task's rows, encoded once a seed."""

from __future__ import annotations

from pathlib import Path

from streamlab.base import Base
from streamlab.stream.arrivals import Arrival, arrivals
from streamlab.stream.scenario import Scenario
from streamlab.stream.training import EncodedTask, encode_task
from streamlab.tasks.hub import HubReach
from streamlab.tasks.load import LoadedTask, load_task


class World:
    """Everything the arrivals of a run share, read only but for the cache of encoded rows."""

    def __init__(
        self, scenario: Scenario, base: Base, folder: Path, *, provider: str | None = None
    ) -> None:
        """`folder` is where relative paths of the scenario start.

        `provider`: whose rows alone are to be had; all providers' where it is None.
        """
        self.scenario = scenario
        self.base = base
        self._folder = folder
        self._provider = provider
        self._hub = HubReach()
        self._seed: int | None = None
        self._loaded: dict[str, LoadedTask] = {}
        self._encoded: dict[str, EncodedTask] = {}

    def prepare(self, seed: int) -> None:
        """Load and encode every task under a scenario seed; raises what is wrong with any."""
        if seed == self._seed:
            return
        loaded, encoded = {}, {}
        for arrival in arrivals(self.scenario):
            if arrival.seed != seed or arrival.task in loaded:
                continue
            if self._provider not in (None, arrival.provider):
                continue
            entry = self.scenario.tasks[arrival.task]
            task = load_task(
                arrival.task,
                entry,
                self.scenario.data,
                seed=arrival.data_seed,
                hub=self._hub,
                base_folder=self._folder,
            )
            loaded[arrival.task] = task
            encoded[arrival.task] = encode_task(task, self.base, entry.training)
        self._seed, self._loaded, self._encoded = seed, loaded, encoded

    def tasks(self) -> tuple[LoadedTask, ...]:
        """Return every task as loaded for the latest seed, in the order of arrival."""
        return tuple(self._loaded.values())

    def loaded(self, arrival: Arrival) -> LoadedTask:
        """Return a task's rows and which sources were tried."""
        self.prepare(arrival.seed)
        return self._loaded[arrival.task]

    def encoded(self, arrival: Arrival) -> EncodedTask:
        """Return a task's rows as token ids."""
        self.prepare(arrival.seed)
        return self._encoded[arrival.task]
