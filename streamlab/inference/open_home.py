"""Serve the stored diffs of a home: `streamlab.open_home`.

home = streamlab.open_home("streamlab-home")
base = home.load_base()
with home.task("sst2").applied(base) as sst2:
    sst2.predict(["a fine film"])
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streamlab.home.folder import Home
from streamlab.home.store_location import find_store
from streamlab.inference.stored_task import StoredTask
from streamlab.registry.references import TaskFilter, find_artifact, finished_tasks
from streamlab.registry.registry import Registry

if TYPE_CHECKING:
    from streamlab.inference.model import LoadedBase


@dataclass(frozen=True)
class OpenHome:
    """A home opened for reading; no file or connection stays open between calls."""

    home: Home
    registry_url: str
    store_url: str | None = None

    def load_base(self, fingerprint: str | None = None, *, model: str | None = None) -> LoadedBase:
        """Load a base by its full fingerprint; default: the base of the latest run.

        `model`: its present location, if it was moved. Raises SourceError where it cannot be
        loaded, and BaseMismatchError for another base there.
        """
        from streamlab.inference.model import load_recorded_base

        with self._registry() as registry:
            wanted = fingerprint or registry.runs.get("latest").base_fingerprint
            return load_recorded_base(registry, wanted, model=model)

    def task(
        self,
        word: str,
        *,
        run: str | None = None,
        seed: int | None = None,
        method: str | None = None,
    ) -> StoredTask:
        """Find a stored task by name, as `arrival:NUMBER` or by the beginning of a digest.

        A name, or `NAME@VERSION`, means the arrival of the highest version, recorded last, of
        those that finished by the run's own method in the latest run that has one. Raises
        NotInRegistryError where nothing answers to it.
        """
        with self._registry() as registry:
            chosen = find_artifact(registry, word, TaskFilter(run, seed, method))
            return StoredTask(chosen, find_store(self.home, registry, self.store_url))

    def tasks(self, run: str = "latest") -> tuple[str, ...]:
        """Return the tasks that finished in a run by its primary method, in order of arrival."""
        with self._registry() as registry:
            return finished_tasks(registry, run)

    def _registry(self) -> Registry:
        return Registry.open(self.registry_url, clock=time.time, read_only=True)


def open_home(
    path: str | Path = "streamlab-home",
    *,
    registry_url: str | None = None,
    store_url: str | None = None,
) -> OpenHome:
    """Open a home to serve its stored diffs.

    `registry_url`: a registry outside the home. `store_url`: a store outside it; default: the one
    that its runs have recorded. Raises RegistryError if there is none.
    """
    home = Home(Path(path))
    if registry_url is None:
        home.require_registry()
    return OpenHome(home, registry_url or home.registry_url, store_url)
