"""What a run works with: the base, and the rows of every arrival, encoded once a seed."""

from __future__ import annotations

from pathlib import Path

from streamlab.base import Base
from streamlab.stream.providers.training import EncodedTask, encode_task
from streamlab.stream.scenario import Scenario
from streamlab.stream.schedule import Arrival, arrivals
from streamlab.tasks.load import LoadedTask, load_task
from streamlab.tasks.sources.hub import HubReach


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
        self._loaded: dict[tuple[str, int], LoadedTask] = {}  # by task and version
        self._encoded: dict[tuple[str, int], EncodedTask] = {}

    def prepare(self, seed: int) -> None:
        """Load and encode every version of every task under a scenario seed.

        Raises what is wrong with any.
        """
        if seed == self._seed:
            return
        loaded, encoded = {}, {}
        for arrival in arrivals(self.scenario):
            key = _key(arrival)
            if arrival.seed != seed or key in loaded:
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
            loaded[key] = task
            encoded[key] = encode_task(task, self.base, entry.training)
        self._seed, self._loaded, self._encoded = seed, loaded, encoded

    def check_keys(self) -> None:
        """Raise UsageError where a provider's own key cannot be read."""
        for name in self.scenario.providers:
            self.find_private_key(name, self.scenario.seeds[0])

    def find_private_key(self, provider: str, seed: int) -> str | None:
        """Return the key that a provider signs with, None where it has none. Raises UsageError."""
        return self.scenario.providers[provider].find_private_key(seed, provider, self._folder)

    def tasks(self) -> tuple[LoadedTask, ...]:
        """Return every task as first loaded for the latest seed, in the order of arrival."""
        return tuple(task for (_, version), task in self._loaded.items() if version == 1)

    def loaded(self, arrival: Arrival) -> LoadedTask:
        """Return an arrival's rows and which sources were tried."""
        self.prepare(arrival.seed)
        return self._loaded[_key(arrival)]

    def encoded(self, arrival: Arrival) -> EncodedTask:
        """Return an arrival's rows as token ids."""
        self.prepare(arrival.seed)
        return self._encoded[_key(arrival)]


def _key(arrival: Arrival) -> tuple[str, int]:
    return arrival.task, arrival.version
