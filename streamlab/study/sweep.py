"""A sweep: a scenario at every combination of values of single settings, each an ordinary run.

    --sweep defaults.method.target_density=0.001,0.005 --sweep seeds=[1],[2]

What is recorded is not run again, and a run that was stopped goes on, so that a sweep can be
stopped at any time and carried out by several processes at once.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from streamlab.config import read_value
from streamlab.errors import ConfigError, UsageError
from streamlab.home.folder import Home
from streamlab.registry.registry import Registry
from streamlab.stream.engine import Started
from streamlab.stream.event_loop import Watch
from streamlab.stream.lab import Clock, Outcome, Reached
from streamlab.stream.scenario import LoadedScenario, load_scenario
from streamlab.study.runner import Runner

State = Literal["finished", "elsewhere", "unfinished", "open"]
_MOST: int = 1000  # runs
Setting = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class SweptRun:
    """The scenario at one combination of the values."""

    setting: Setting  # paths and values
    scenario: LoadedScenario

    def __str__(self) -> str:
        """Return the setting, each path by its last name."""
        pairs = (f"{path.rpartition('.')[2]}={_written(value)}" for path, value in self.setting)
        return " ".join(pairs)


def load_sweep(
    path: Path, sweeps: Sequence[str], *, overrides: Sequence[str] = ()
) -> list[SweptRun]:
    """Return the runs of a sweep, the last of `sweeps` varying fastest; `overrides` hold for all.

    Each of `sweeps` is `a.b=value,value`, values in YAML. Raises ConfigError where one is
    malformed or a scenario is not valid, UsageError where two runs would be the same.
    """
    axes = _axes(sweeps, overrides)
    n_runs = 1
    for values in axes.values():
        n_runs *= len(values)
    if n_runs > _MOST:
        raise UsageError(f"A sweep has at most {_MOST:,} runs, and this one has {n_runs:,}.")
    found: dict[str, SweptRun] = {}
    for combination in itertools.product(*axes.values()):
        setting = tuple(zip(axes, combination, strict=True))
        given = [f"{name}={_written(value)}" for name, value in setting]
        run = SweptRun(setting, load_scenario(path, overrides=[*overrides, *given]))
        other = found.setdefault(run.scenario.digest, run)
        if other is not run:
            raise UsageError(
                f"`{other}` and `{run}` are one run: what differs between them changes no result. "
                "Leave one of them out."
            )
    return list(found.values())


def _axes(sweeps: Sequence[str], overrides: Sequence[str]) -> dict[str, list[Any]]:
    """Return the values by their paths."""
    problems, axes = [], dict[str, list[Any]]()
    fixed = {override.partition("=")[0] for override in overrides}
    for sweep in sweeps:
        name, equals, text = sweep.partition("=")
        problem = ""
        try:
            values = read_value(f"[{text}]") if equals and text.strip() else []
        except ValueError as error:
            values, problem = [], f"{error}."
        if not values:
            problem = problem or "write it as `a.b=value,value`."
        elif name in axes or name in fixed:
            problem = f"`{name}` is set twice; give all its values in one `--sweep`."
        if problem:
            problems.append(f"--sweep {sweep!r}: {problem}")
        axes.setdefault(name, values)
    if problems:
        raise ConfigError("the command line", problems)
    return axes


def _written(value: Any) -> str:
    return value if _is_word(value) else json.dumps(value)


def _is_word(value: Any) -> bool:
    """Tell whether a value is text that YAML reads as this text."""
    try:
        return isinstance(value, str) and read_value(value) == value
    except ValueError:
        return False


class Sweep:
    """Carries out the runs of a sweep, as far as they are not recorded."""

    def __init__(self, registry: Registry, runner: Runner) -> None:
        self._registry, self._runner = registry, runner

    def state(self, run: SweptRun) -> tuple[State, str | None]:
        """Return how far a run is, and its name where it has begun."""
        found = self._registry.runs.list(scenario_digest=run.scenario.digest)
        by_status = {record.status: record.name for record in found}
        if "finished" in by_status:
            return "finished", by_status["finished"]
        if "running" in by_status:
            return "elsewhere", by_status["running"]
        return ("unfinished", found[-1].name) if found else ("open", None)

    def outcomes(self, run: SweptRun, started: Started) -> Generator[Outcome, None, None]:
        """Carry out a run, from where it was stopped if it was, and yield its outcomes.

        Raises as `engine.run` does.
        """
        resume = self.state(run)[0] == "unfinished"
        return self._runner.outcomes(run.scenario, resume=resume, started=started)


def make_runner(
    home: Path,
    *,
    registry_url: str,
    store_url: str | None = None,
    watch: Watch,
    reached: Reached,
    clock: Clock = time.time,
) -> Runner:
    """Return a runner for a home, which is made where there is none."""
    Home(home).create()
    return Runner(home, registry_url, store_url, clock, watch, reached=reached)
