"""A home in Python: `streamlab.open_home`.

home = streamlab.open_home("streamlab-home")
home.scores()
base = home.load_base()
with home.task("sst2").applied(base) as sst2:
    sst2.predict(["a fine film"])
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from streamlab.errors import UsageError
from streamlab.home.folder import Home
from streamlab.home.store_location import find_store
from streamlab.inference.stored_task import StoredTask
from streamlab.library.tables import frame_of, section_html
from streamlab.registry.references import TaskFilter, find_artifact, find_run, finished_tasks
from streamlab.registry.registry import Registry
from streamlab.units import counted, nearest
from streamlab.views.listings import Subject, list_records

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from streamlab.inference.model import LoadedBase
    from streamlab.library.run import Run
    from streamlab.views.table import Table

_MOST_RUNS = 10  # that a home shows of itself


@dataclass(frozen=True, repr=False)
class OpenHome:
    """A home opened for reading; no file or connection stays open between calls."""

    home: Home
    registry_url: str
    store_url: str | None = None

    def load_base(self, fingerprint: str | None = None, *, model: str | None = None) -> LoadedBase:
        """Load a base by its full fingerprint; default: the only one, or that of the latest run.

        `model`: its present location, if it was moved. Raises SourceError where it cannot be
        loaded, and BaseMismatchError for another base there.
        """
        from streamlab.inference.model import load_recorded_base

        with self.registry() as registry:
            known = registry.bases.list()
            if fingerprint is None and len(known) == 1:
                fingerprint = known[0].fingerprint
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
        with self.registry() as registry:
            chosen = find_artifact(registry, word, TaskFilter(run, seed, method))
            return StoredTask(chosen, find_store(self.home, registry, self.store_url))

    def tasks(self, run: str = "latest") -> tuple[str, ...]:
        """Return the tasks that finished in a run by its primary method, in order of arrival."""
        with self.registry() as registry:
            return finished_tasks(registry, run)

    def run(self, name: str = "latest") -> Run:
        """Return a run by its name, its number or `latest`. Raises NotInRegistryError."""
        from streamlab.library.run import Run

        with self.registry() as registry:
            return Run(self, find_run(registry, name).name)

    def runs(self, *, where: str | None = None) -> DataFrame:
        """Return a row for each run; see `arrivals`."""
        return frame_of(self._listing("runs", None, where))

    def arrivals(self, run: str | None = None, *, where: str | None = None) -> DataFrame:
        """Return a row for each arrival of a run, by default of all, with its own score.

        The columns are those of `streamlab ls`, with raw values: bytes, seconds, shares of one, and
        times in UTC. `where` chooses rows as `--where` does. Raises NotInRegistryError for an
        unknown run, UsageError for a condition that does not fit.
        """
        return frame_of(self._listing("arrivals", run, where))

    def diffs(self, run: str | None = None, *, where: str | None = None) -> DataFrame:
        """Return a row for each stored artifact with its bytes by part; see `arrivals`."""
        return frame_of(self._listing("diffs", run, where))

    def scores(self, run: str | None = None, *, where: str | None = None) -> DataFrame:
        """Return a row for each score; see `arrivals`."""
        return frame_of(self._listing("scores", run, where))

    def figure(self, name: str, run: str = "latest", **options: int | None) -> Figure:
        """Draw one of the figures of `streamlab plot` of a run.

        `options`: of `storage`, `project_to` (tasks) and `budget` (bytes). Raises UsageError for an
        unknown figure, NotInRegistryError for an unknown run, RegistryError where there is nothing
        to show.
        """
        from streamlab.figures.catalogue import BY_NAME
        from streamlab.figures.style import house_style
        from streamlab.views.run_source import RunSource

        if name not in BY_NAME:
            raise UsageError(f"There is no figure `{name}`. {nearest(name, list(BY_NAME))}")
        with self.registry() as registry, house_style():
            source = RunSource(registry, self.home, find_run(registry, run).name, self.store_url)
            return BY_NAME[name].read(source, **options).draw()

    def registry(self) -> Registry:
        """Open the registry for reading; to be used in a `with` block."""
        return Registry.open(self.registry_url, clock=time.time, read_only=True)

    def _listing(self, subject: Subject, run: str | None, where: str | None) -> Table:
        with self.registry() as registry:
            name = None if run is None else find_run(registry, run).name
            return list_records(registry, subject, run=name, where=where)

    def __repr__(self) -> str:
        return f"OpenHome({str(self.home.path)!r})"

    def _repr_html_(self) -> str:
        """Return the last runs as HTML."""
        table = self._listing("runs", None, None)
        recent = table.having(table.rows[: -_MOST_RUNS - 1 : -1])
        title = f"{self.home.path}: {counted(len(table.rows), 'run')}"
        return section_html(replace(recent, title=title))


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
