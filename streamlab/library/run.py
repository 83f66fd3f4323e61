"""Run a scenario from Python, and a run that was made: `streamlab.run`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from streamlab.errors import UsageError
from streamlab.library.home import OpenHome, open_home
from streamlab.library.progress import RunProgress
from streamlab.library.tables import section_html
from streamlab.units import printable
from streamlab.views.listings import list_records
from streamlab.views.pages import run_page
from streamlab.views.table import readable

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from streamlab.registry.records import RunRecord
    from streamlab.stream.run_context import RunContext
    from streamlab.stream.scenario import LoadedScenario

_SHOWN = ("scores", "notes", "storage", "totals")  # prefixes of the sections that a run shows


@dataclass(frozen=True, repr=False)
class Run:
    """One run in a home, read from its registry at each use."""

    home: OpenHome
    name: str

    @property
    def record(self) -> RunRecord:
        """Read the run's record: status, reason, scenario, environment and times."""
        with self.home.registry() as registry:
            return registry.runs.get(self.name)

    def tasks(self) -> tuple[str, ...]:
        """Return the tasks that finished by the run's own method, in order of arrival."""
        return self.home.tasks(self.name)

    def arrivals(self, *, where: str | None = None) -> DataFrame:
        """Return a row for each arrival; see `OpenHome.arrivals`."""
        return self.home.arrivals(self.name, where=where)

    def diffs(self, *, where: str | None = None) -> DataFrame:
        """Return a row for each stored artifact."""
        return self.home.diffs(self.name, where=where)

    def scores(self, *, where: str | None = None) -> DataFrame:
        """Return a row for each score."""
        return self.home.scores(self.name, where=where)

    def figure(self, name: str, **options: int | None) -> Figure:
        """Draw one of the figures of `streamlab plot`; see `OpenHome.figure`."""
        return self.home.figure(name, self.name, **options)

    def __repr__(self) -> str:
        with self.home.registry() as registry:
            (facts,) = list_records(registry, "runs", run=self.name).records()
        reason = f" ({facts['reason']})" if facts["reason"] else ""
        stored = readable(facts["stored_bytes"], "bytes")
        done = f"{facts['done']} of {facts['expected']} arrivals"
        return printable(f"Run({self.name!r}: {facts['status']}{reason}, {done}, {stored} stored)")

    def _repr_html_(self) -> str:
        """Return what the run came to, its scores and its storage as HTML."""
        with self.home.registry() as registry:
            page = run_page(registry, registry.runs.get(self.name))
        sections = [s for s in page.sections if s.key.startswith(_SHOWN)]
        return f"<p>{escape(repr(self))}</p>" + "".join(map(section_html, sections))


def run(
    scenario: str | Path | LoadedScenario,
    home: str | Path = "streamlab-home",
    *,
    overrides: Sequence[str] = (),
    registry_url: str | None = None,
    store_url: str | None = None,
    resume: bool = False,
    progress: bool | None = None,
) -> Run:
    """Run a scenario into a home to its end, and return the run.

    `overrides`: settings as `--set` takes them, for a scenario that is given as a path.
    `progress`: show a bar on standard error; default, on a terminal and in a notebook. For the
    others, for errors, and for each outcome as it is recorded see `streamlab.outcomes`. If arrivals
    failed, the returned run has the status `failed` and a reason.
    """
    from streamlab.stream.engine import run as outcomes
    from streamlab.stream.scenario import LoadedScenario, load_scenario

    if not isinstance(scenario, LoadedScenario):
        scenario = load_scenario(Path(scenario), overrides=overrides)
    elif overrides:
        raise UsageError("`overrides` are for the path of a scenario; this one is loaded already.")
    names: list[str] = []
    with RunProgress(shown=progress) as bar:

        def started(record: RunRecord, context: RunContext, n_arrivals: int) -> None:
            names.append(record.name)
            bar.start(record, context, n_arrivals)

        found = outcomes(
            scenario,
            home,
            registry_url=registry_url,
            store_url=store_url,
            resume=resume,
            watch=bar.show,
            started=started,
        )
        # Closed explicitly, so that the run is recorded as interrupted whatever happens.
        with closing(found):
            for outcome in found:
                bar.settle(outcome)
    return open_home(home, registry_url=registry_url, store_url=store_url).run(names[0])
