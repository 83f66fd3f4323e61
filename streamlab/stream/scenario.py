"""A scenario: which tasks arrive from whom, on which base, and how each is learnt."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from streamlab.base import BaseSettings
from streamlab.config import Settings, Tree, digest, expand_variables, override, read_yaml, validate
from streamlab.diff.values import ValueType
from streamlab.errors import ConfigError
from streamlab.methods import DiffPruning, MethodSettings
from streamlab.methods.contract import TrainingSettings
from streamlab.tasks.settings import DataSettings, TaskSettings

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class ProviderSettings(Settings):
    """One party that brings tasks and keeps its rows to itself."""

    tasks: tuple[Name, ...] = Field(min_length=1)


class StorageSettings(Settings):
    """How the values of a diff are stored."""

    values: ValueType = "bf16"


class Defaults(Settings):
    """What every task is learnt with, unless it says otherwise."""

    method: MethodSettings = DiffPruning()
    training: TrainingSettings = TrainingSettings()


class TaskEntry(TaskSettings):
    """A task of the scenario: its data, and its own training where it differs."""

    training: TrainingSettings = TrainingSettings()


class Scenario(Settings):
    """Everything a run depends on but the home and the machine."""

    version: Literal[1]
    name: Name
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(1,), min_length=1)
    base: BaseSettings
    data: DataSettings = DataSettings()
    defaults: Defaults = Defaults()
    providers: Mapping[Name, ProviderSettings] = Field(min_length=1)
    tasks: Mapping[Name, TaskEntry] = Field(min_length=1)
    evaluation: Literal["last", "full"] = "last"
    rivals: tuple[MethodSettings, ...] = ()
    storage: StorageSettings = StorageSettings()

    @model_validator(mode="after")
    def _every_task_has_one_provider(self) -> Self:
        brought = Counter(task for p in self.providers.values() for task in p.tasks)
        unknown = sorted(set(brought) - set(self.tasks))
        orphans = sorted(set(self.tasks) - set(brought))
        twice = sorted(task for task, count in brought.items() if count > 1)
        problems = [
            *(f"`providers` name the task {t!r}, which `tasks` does not have" for t in unknown),
            *(f"no provider brings the task {t!r}; add it to one in `providers`" for t in orphans),
            *(f"more than one provider brings {t!r}; give each a task of its own" for t in twice),
        ]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @model_validator(mode="after")
    def _methods_and_seeds_differ(self) -> Self:
        names = [self.defaults.method.name, *(rival.name for rival in self.rivals)]
        if len(set(names)) < len(names):
            raise ValueError(f"`rivals` must differ from the method and one another, got {names}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"`seeds` must differ from one another, got {list(self.seeds)}")
        return self

    @property
    def methods(self) -> tuple[MethodSettings, ...]:
        """Return the scenario's own method, then its rivals."""
        return (self.defaults.method, *self.rivals)

    def provider_of(self, task: str) -> str:
        """Return the provider that brings `task`."""
        return next(name for name, p in self.providers.items() if task in p.tasks)


@dataclass(frozen=True)
class LoadedScenario:
    """A scenario, the tree it was read from (paths unexpanded) and the digest of that tree."""

    scenario: Scenario
    resolved: Mapping[str, Any]
    digest: str
    folder: Path  # relative paths in the scenario start here


def load_scenario(
    path: Path,
    *,
    overrides: Sequence[str] = (),
    environment: Mapping[str, str] = os.environ,
) -> LoadedScenario:
    """Read, override, expand and validate a scenario file.

    Raises ConfigError naming every problem found.
    """
    tree = override(read_yaml(path), overrides)
    return resolve_scenario(tree, origin=str(path), folder=path.parent, environment=environment)


def resolve_scenario(
    tree: Tree, *, origin: str, folder: Path, environment: Mapping[str, str] = os.environ
) -> LoadedScenario:
    """Validate a scenario given as a mapping; see `load_scenario`."""
    merged = _with_defaults(_with_named_rivals(tree))
    problems: list[str] = []
    expanded = _expand(merged, environment, "", problems)
    if problems:
        raise ConfigError(origin, problems)
    scenario = validate(Scenario, expanded, origin=origin)
    # Variables stay as they were written: where the files lie is no part of the experiment.
    resolved = _overlay(scenario.model_dump(mode="json"), merged)
    return LoadedScenario(scenario, resolved, digest(resolved), folder)


def _with_named_rivals(tree: Tree) -> Tree:
    """Let a rival with no settings be written as its bare name."""
    rivals = tree.get("rivals")
    if not isinstance(rivals, list):
        return tree
    named = [{"name": rival} if isinstance(rival, str) else rival for rival in rivals]
    return {**tree, "rivals": named}


def _with_defaults(tree: Tree) -> Tree:
    """Lay each task's own training over the defaults'."""
    defaults, tasks = tree.get("defaults"), tree.get("tasks")
    training = defaults.get("training") if isinstance(defaults, dict) else None
    if not isinstance(tasks, dict) or not isinstance(training, dict):
        return tree
    merged = {
        name: {**task, "training": {**training, **(task.get("training") or {})}}
        if isinstance(task, dict)
        else task
        for name, task in tasks.items()
    }
    return {**tree, "tasks": merged}


def _expand(tree: Any, environment: Mapping[str, str], place: str, problems: list[str]) -> Any:
    if isinstance(tree, dict):
        return {
            key: _expand(value, environment, f"{place}.{key}" if place else str(key), problems)
            for key, value in tree.items()
        }
    if isinstance(tree, list):
        return [
            _expand(value, environment, f"{place}.{i}", problems) for i, value in enumerate(tree)
        ]
    if isinstance(tree, str):
        try:
            return expand_variables(tree, environment)
        except ValueError as error:
            problems.append(f"{place}: {error}.")
    return tree


def _overlay(values: Any, written: Any) -> Any:
    """Return validated `values`, with every string that holds a variable as it was written."""
    if isinstance(values, dict) and isinstance(written, dict):
        return {key: _overlay(value, written.get(key)) for key, value in values.items()}
    if isinstance(values, list) and isinstance(written, list) and len(values) == len(written):
        return [_overlay(value, given) for value, given in zip(values, written, strict=True)]
    return written if isinstance(written, str) and "${" in written else values
