"""The trackers of one run: series begin and end with trainings, and no failure ends the run."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from streamlab.hashing import canonical_json
from streamlab.home.curves import curve_path
from streamlab.home.folder import Home
from streamlab.methods.api import Progress
from streamlab.registry.records import RunRecord
from streamlab.stream.event_loop import Watch
from streamlab.stream.lab import Outcome
from streamlab.stream.scenario import Scenario
from streamlab.stream.schedule import Arrival
from streamlab.tracking import Ending, Series, SeriesInfo, Tracker, find_tracker
from streamlab.units import printable

Notice = Callable[[str], None]


def find_trackers(scenario: Scenario) -> dict[str, Tracker]:
    """Return a scenario's trackers by name. Raises UsageError where one cannot be used."""
    return {name: find_tracker(name) for name in scenario.tracking}


@dataclass
class _Open:
    """One training: its series in every tracker that works, and its last step."""

    by_tracker: dict[str, Series]
    last_step: int = 0


class Trackers:
    """What follows the trainings of a run; one that raises is left out from then on."""

    def __init__(
        self,
        trackers: Mapping[str, Tracker],
        run: RunRecord,
        scenario: Scenario,
        home: Home,
        notice: Notice,
    ) -> None:
        self._working = dict(trackers)
        self._run, self._scenario, self._home, self._notice = run, scenario, home, notice
        self._open: dict[tuple[object, ...], _Open] = {}
        identity = canonical_json([run.name, run.scenario_digest, run.host, run.started_at])
        self._run_id = hashlib.sha256(identity.encode()).hexdigest()

    def watching(self, watch: Watch) -> Watch:
        """Return what calls `watch` with every training step, and logs it."""

        def show(arrival: Arrival, step: Progress) -> None:
            watch(arrival, step)
            if self._working:
                self._show(arrival, step)

        return show

    def following(self, outcomes: Generator[Outcome, None, None]) -> Generator[Outcome, None, None]:
        """Yield outcomes, and end the series of each; at the end those that were interrupted."""
        try:
            with closing(outcomes):
                for outcome in outcomes:
                    self._settle(outcome)
                    yield outcome
        finally:
            for series in self._open.values():
                self._finish(series, "interrupted")

    def _show(self, arrival: Arrival, step: Progress) -> None:
        """Log one step; one that is not after the last belongs to another attempt."""
        found = self._open.get(arrival.identity)
        if found is None or step.step <= found.last_step:
            self._end(arrival, "failed")
            found = self._open[arrival.identity] = self._begin(arrival)
        found.last_step = step.step
        values = {
            "loss": step.loss,
            "density": step.density,
            "held_back/loss": step.held_back_loss,
            "held_back/score": step.held_back_score,
        }
        self._log(found, values)

    def _settle(self, outcome: Outcome) -> None:
        """Log the scores and bytes of what was stored, and end the series."""
        found = self._open.get(outcome.arrival.identity)
        if found is not None and outcome.diff is not None:
            values = {f"{score.split}/{score.metric}": score.value for score in outcome.scores}
            self._log(found, {**values, "file_bytes": float(outcome.diff.file_bytes)})
        self._end(outcome.arrival, "failed" if outcome.diff is None else "finished")

    def _begin(self, arrival: Arrival) -> _Open:
        begun = _Open({})
        for name, tracker in list(self._working.items()):
            with self._guarded(name):
                begun.by_tracker[name] = tracker(self._describe(arrival, name))
        return begun

    def _describe(self, arrival: Arrival, tracker: str) -> SeriesInfo:
        folder = self._home.tracking / tracker.replace(":", ".")  # of an import path
        path = curve_path(
            folder,
            run=self._run.name,
            seed=arrival.seed,
            provider=arrival.provider,
            task=arrival.task,
            version=arrival.version,
            method=arrival.method.label,
            suffix="",
        )
        config: dict[str, Any] = {
            "seed": arrival.seed,
            "provider": arrival.provider,
            "task": arrival.task,
            "version": arrival.version,
            "method": arrival.method.model_dump(mode="json"),
            "training": self._scenario.tasks[arrival.task].training.model_dump(mode="json"),
        }
        return SeriesInfo(
            project=self._run.scenario_name,
            run=self._run.name,
            run_id=self._run_id,
            name=path.name,
            folder=path,
            config=config,
        )

    def _log(self, found: _Open, values: Mapping[str, float | None]) -> None:
        finite = {k: v for k, v in values.items() if v is not None and math.isfinite(v)}
        for name, series in list(found.by_tracker.items()):
            if name in self._working:
                with self._guarded(name):
                    series.log(found.last_step, finite)

    def _end(self, arrival: Arrival, ending: Ending) -> None:
        found = self._open.pop(arrival.identity, None)
        if found is not None:
            self._finish(found, ending)

    def _finish(self, found: _Open, ending: Ending) -> None:
        for name, series in found.by_tracker.items():
            if name in self._working:
                with self._guarded(name):
                    series.finish(ending)

    @contextmanager
    def _guarded(self, name: str) -> Iterator[None]:
        """Leave a tracker that raises out from now on, and say so once."""
        try:
            yield
        # Foreign code that talks to servers runs here, and may raise anything.
        except Exception as error:  # noqa: BLE001
            del self._working[name]
            reason = printable(" ".join(str(error).split()))[:200] or "no reason given"
            self._notice(
                f"`tracking` goes on without {name!r}, which failed with {type(error).__name__}: "
                f"{reason.rstrip('.')}. The run itself is not affected."
            )
