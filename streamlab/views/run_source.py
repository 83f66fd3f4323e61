"""Where a study reads from: "HOME", which is its latest run, or "HOME@RUN"."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from streamlab.home.folder import Home
from streamlab.registry.references import find_run
from streamlab.registry.registry import Registry


@dataclass(frozen=True)
class Source:
    """A run of an open registry, and the home with its files."""

    home: Home
    registry: Registry
    run: str


@contextmanager
def open_source(text: str) -> Iterator[Source]:
    """Open the registry that a text names, to be read. Raises RegistryError where none is."""
    folder, _, run = text.rpartition("@")
    if not folder or Path(text).is_dir():
        folder, run = text, "latest"
    home = Home(Path(folder))
    home.require_registry()
    with Registry.open(home.registry_url, clock=time.time, read_only=True) as registry:
        yield Source(home, registry, find_run(registry, run).name)
