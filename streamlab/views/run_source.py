"""A run to read: an open registry, its home with the files, and the run's name."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from streamlab.home.folder import Home
from streamlab.home.store import ArtifactStore
from streamlab.home.store_location import find_store
from streamlab.registry.records import PrimaryStream
from streamlab.registry.references import find_run
from streamlab.registry.registry import Registry


@dataclass(frozen=True)
class RunSource:
    """A run of an open registry, and the home with its files."""

    registry: Registry
    home: Home
    run: str
    store_url: str | None = None

    @property
    def store(self) -> ArtifactStore:
        """Return the store of the run's artifacts."""
        return find_store(self.home, self.registry, self.store_url)

    @property
    def stream(self) -> PrimaryStream:
        """Read the run's first seed by its primary method; see `Registry.primary_stream`."""
        return self.registry.primary_stream(self.run)


@contextmanager
def open_source(text: str) -> Iterator[RunSource]:
    """Open "HOME", meaning its latest run, or "HOME@RUN", to be read.

    Raises RegistryError where the home has no registry.
    """
    folder, _, run = text.rpartition("@")
    if not folder or Path(text).is_dir():
        folder, run = text, "latest"
    home = Home(Path(folder))
    home.require_registry()
    with Registry.open(home.registry_url, clock=time.time, read_only=True) as registry:
        yield RunSource(registry, home, find_run(registry, run).name)
