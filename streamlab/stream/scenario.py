"""A scenario: the tasks that arrive, from which providers, on which base, and how they train."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import ByteSize, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from streamlab.arrivals.service import QueueSettings
from streamlab.base import BaseSettings
from streamlab.config import (
    Settings,
    Tree,
    expand_variables,
    problem,
    read_yaml,
    scenario_digest,
    validate,
)
from streamlab.errors import ConfigError
from streamlab.methods import DiffPruning, MethodSettings
from streamlab.methods.api import TrainingSettings
from streamlab.methods.fixed_mask import FixedMaskMethod
from streamlab.overrides import override
from streamlab.shipped import find_file
from streamlab.stream.admission import AdmissionSettings
from streamlab.stream.device import DeviceSettings
from streamlab.stream.provider_settings import (
    MOST_ARRIVALS,
    Name,
    ProviderSettings,
    arrival_problems,
    read_traces,
)
from streamlab.tasks.settings import DataSettings, TaskSettings
from streamlab.units import counted


class StorageSettings(DeviceSettings):
    """How diffs are stored, and a simulated device that holds them (docs/concepts/device.md)."""

    values: Literal["auto", "fp32", "fp16", "bf16", "int8", "int4", "int2", "ternary", "sign"] = (
        "auto"
    )
    """The value type of diffs; `sign` has one bit a value and one magnitude a tensor, and `ternary`
    has zero as well. `auto`: for each diff the smallest that leaves predictions unchanged, of fewer
    than 4 bits only where it stores the values exactly."""
    head: Literal["auto", "fp32", "fp16", "int8", "int4", "int2", "sign"] = "auto"
    """The type of a diff's head; integer types have a scale for every row. `auto`: fp16, or fp32
    where that changes predictions or `values` is set. A tensor that a smaller type holds bit for
    bit is always stored in that one."""
    checkpoints: Literal["whole", "difference"] | None = None
    """How whole models, such as full finetuning's, are stored: every tensor, or their exact
    difference from the base, bit for bit (docs/guides/exact.md). Default: `whole`."""


class Defaults(Settings):
    """The method and the training settings of every task."""

    method: MethodSettings = DiffPruning()
    """The method of all tasks: built-in, or a plug-in. Default: `diff_pruning`."""
    training: TrainingSettings = TrainingSettings()
    """The training settings of all tasks and methods."""


class ResourceSettings(Settings):
    """What one arrival needs while it is trained. `ray` counts all of it, `processes` the GPUs."""

    cpus: Annotated[float, Field(gt=0, le=1024)] | None = None
    """Default: its `training.threads`."""
    gpus: Annotated[float, Field(ge=0, le=1)] | None = None
    """A share of one GPU. Default: 1 where `training.device` is a GPU, else 0."""
    memory: Annotated[ByteSize, Field(gt=0, lt=1 << 63)] | None = None
    """Default: `execution.memory`, which also enforces it."""


class TaskEntry(TaskSettings):
    """One task: its data, and settings that differ from those of all tasks."""

    training: TrainingSettings = TrainingSettings()
    """Replaces single settings of `defaults.training`."""
    resources: ResourceSettings = ResourceSettings()
    """Replaces single settings of `execution.resources`."""


class ExecutionSettings(Settings):
    """Where arrivals are trained, how long one may take, and how often it is attempted."""

    executor: Literal["serial", "processes", "ray"] = "serial"
    """`processes`: each provider in its own process, with only its own examples. `ray`: such
    processes on the machines of a Ray cluster."""
    workers: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Provider processes at work at once. Default: 1; with `ray`, as many as the cluster has room
    for."""
    ray_address: str | None = Field(default=None, min_length=1)
    """Of a Ray cluster. Default: one on this machine, for this run alone."""
    resources: ResourceSettings = ResourceSettings()
    """What each arrival needs."""
    timeout_seconds: Annotated[float, Field(gt=0, le=1e8)] | None = None
    """Of one attempt, including loading."""
    attempts: Annotated[int, Field(ge=1, le=1000)] = 1
    """Per arrival within one run; `--resume` tries again."""
    memory: Annotated[ByteSize, Field(gt=0, lt=1 << 63)] | None = None
    """What a provider's process may allocate (Linux), including libraries and buffers."""
    sandbox: Literal["auto", "none", "bwrap"] = "auto"
    """Of providers' processes: `bwrap` needs bubblewrap, `auto` uses it where it works."""
    max_progress: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1_000_000
    """Training steps that a provider's process may report for one attempt."""


class Scenario(Settings):
    """Everything that a run depends on except the home and the machine."""

    version: Literal[1]
    """Of the scenario format."""
    name: Name
    """Runs are called `NAME-1`, `NAME-2`, ..."""
    seeds: tuple[Annotated[int, Field(ge=0, lt=1 << 63)], ...] = Field(
        default=(1,), min_length=1, max_length=MOST_ARRIVALS
    )
    """The whole stream runs once per seed; tables show mean and spread."""
    base: BaseSettings
    """The one pretrained model that all diffs refer to."""
    data: DataSettings = DataSettings()
    """Where examples come from, and how many are used."""
    defaults: Defaults = Defaults()
    """Method and training."""
    providers: Mapping[Name, ProviderSettings] = Field(min_length=1)
    """Who submits which tasks, and when."""
    tasks: Mapping[Name, TaskEntry] = Field(min_length=1)
    """In the order of their arrival, unless providers have arrival processes."""
    evaluation: Literal["last", "full"] = "last"
    """When earlier tasks are scored again: after the `last` arrival or after every one (`full`)."""
    baselines: tuple[MethodSettings, ...] = ()
    """Methods trained on every task as well, for comparison: names, or mappings with settings."""
    storage: StorageSettings = StorageSettings()
    """Value types, and a simulated device."""
    execution: ExecutionSettings = ExecutionSettings()
    """Where providers work."""
    queue: QueueSettings = QueueSettings()
    """Slots and durations in virtual time."""
    admission: AdmissionSettings = AdmissionSettings()
    """What a submission must satisfy."""
    tracking: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Where training curves go as well as into the home: `tensorboard`, `trackio`, `mlflow`,
    `wandb`, or a plug-in (docs/guides/tracking.md). No part of the experiment."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        problems = [
            *_in_providers(self.providers, self.tasks),
            *_in_methods(self),
            *_in_storage(self),
            *_in_behaviours(self),
            *_in_execution(self),
            *_in_admission(self),
            *_in_number(self),
        ]
        if len(set(self.seeds)) < len(self.seeds):
            given = list(self.seeds)
            problems.append(problem(f"must differ from one another, got {given}", given, "seeds"))
        if problems:
            raise ValidationError.from_exception_data("Scenario", problems)
        return self

    @property
    def methods(self) -> tuple[MethodSettings, ...]:
        """Return the scenario's own method, then its baselines."""
        return (self.defaults.method, *self.baselines)


def _in_providers(
    providers: Mapping[str, ProviderSettings], tasks: Mapping[str, TaskEntry]
) -> Iterator[InitErrorDetails]:
    """Yield what is wrong unless every task has exactly one provider."""
    owners: dict[str, list[str]] = {task: [] for task in tasks}
    known = ", ".join([*itertools.islice(tasks, 20), *(["..."] if len(tasks) > 20 else [])])
    for name, provider in providers.items():
        yield from arrival_problems(name, provider)
        for number, task in enumerate(provider.tasks):
            if task in owners:
                owners[task].append(name)
            else:
                message = f"is not in `tasks` ({known})"
                yield problem(message, task, "providers", name, "tasks", number)
    for task, names in owners.items():
        if not names:
            message = "has no provider; add it to the `tasks` of one in `providers`"
            yield problem(message, tasks[task], "tasks", task)
        elif len(names) > 1:
            message = f"has {len(names)} providers: {', '.join(names)}; keep it with one"
            yield problem(message, tasks[task], "tasks", task)


def _in_behaviours(scenario: Scenario) -> Iterator[InitErrorDetails]:
    """Yield every provider for which the stream would wait for ever."""
    execution = scenario.execution
    if execution.executor == "serial" or execution.timeout_seconds is not None:
        return
    for name, provider in scenario.providers.items():
        if provider.behaviour.hang:
            message = "needs `execution.timeout_seconds`, or the stream waits for ever"
            yield problem(message, provider.behaviour.hang, "providers", name, "behaviour", "hang")


def _in_execution(scenario: Scenario) -> Iterator[InitErrorDetails]:
    """Yield settings that would have no effect."""
    execution = scenario.execution
    if execution.executor != "ray" and execution.ray_address is not None:
        message = "is for the executor `ray`; add `executor: ray`"
        yield problem(message, execution.ray_address, "execution", "ray_address")
    if execution.executor != "serial":
        return
    given = {
        "memory": None if execution.memory is None else int(execution.memory),
        "workers": execution.workers if (execution.workers or 1) > 1 else None,
        "sandbox": execution.sandbox if execution.sandbox == "bwrap" else None,
    }
    for name, value in given.items():
        if value is not None:
            message = "needs providers in processes of their own; add `executor: processes`"
            yield problem(message, value, "execution", name)


def _in_admission(scenario: Scenario) -> Iterator[InitErrorDetails]:
    """Yield what would have every honest diff refused."""
    allowed = scenario.admission.max_density
    density = getattr(scenario.defaults.method, "target_density", None)
    if density is not None and density > allowed:
        message = f"must be at least the method's `target_density`, {density:g}"
        yield problem(message, allowed, "admission", "max_density")


def _in_number(scenario: Scenario) -> Iterator[InitErrorDetails]:
    """Yield more arrivals than a run can have."""
    n_seeds, n_methods = len(scenario.seeds), len(scenario.methods)
    n_tasks = sum(provider.n_arriving for provider in scenario.providers.values())
    n_arrivals = n_seeds * n_methods * n_tasks
    if n_arrivals > MOST_ARRIVALS:
        message = (
            f"there are {n_arrivals:,} arrivals ({n_seeds:,} seeds, {n_methods:,} methods, "
            f"{n_tasks:,} tasks), and a run has at most {MOST_ARRIVALS:,}; have fewer of them"
        )
        yield problem(message, scenario)


def _in_methods(scenario: Scenario) -> Iterator[InitErrorDetails]:
    """Yield every baseline with the label of the method or of an earlier baseline."""
    names = [method.label for method in scenario.methods]
    for number, name in enumerate(names[1:]):
        if name in names[: number + 1]:
            message = (
                "must differ from `defaults.method` and from the baselines before it; give it a "
                "`label` of its own"
            )
            yield problem(message, name, "baselines", number)


def _in_storage(scenario: Scenario) -> Iterator[InitErrorDetails]:
    """Yield every method that trains values or a head for another type than they are stored in."""
    storage = scenario.storage
    for number, method in enumerate(scenario.methods):
        if not isinstance(method, FixedMaskMethod) or method.quantize is None:
            continue
        place = ("baselines", number - 1) if number else ("defaults", "method")
        for what, key, wanted, stored in (
            ("values", "type", method.stored_values, storage.values),
            ("the head", "head", method.quantize.head, storage.head),
        ):
            if wanted is not None and stored not in ("auto", wanted):
                message = (
                    f"trains {what} as {wanted!r}, and `storage.{what.split()[-1]}` is {stored!r}; "
                    f"leave that at `auto`, or set it to {wanted!r}"
                )
                yield problem(message, wanted, *place, "quantize", key)


@dataclass(frozen=True)
class LoadedScenario:
    """A scenario, its complete tree with variables as written, and the digest of its identity."""

    scenario: Scenario
    resolved: Mapping[str, Any]
    digest: str
    folder: Path  # relative paths in the scenario start here
    notes: tuple[str, ...] = ()  # a sentence on each part of the file that is not used

    def __repr__(self) -> str:
        n_tasks, n_seeds = len(self.scenario.tasks), len(self.scenario.seeds)
        return (
            f"LoadedScenario({self.scenario.name!r}: {counted(n_tasks, 'task')}, "
            f"{counted(n_seeds, 'seed')}, digest {self.digest[:12]})"
        )

    @property
    def base(self) -> BaseSettings:
        """Return the scenario's base, a relative folder as an absolute path."""
        return self.scenario.base.placed(self.folder)


def load_scenario(
    path: Path,
    *,
    overrides: Sequence[str] = (),
    environment: Mapping[str, str] = os.environ,
) -> LoadedScenario:
    """Read, override, expand and validate a scenario file, or a shipped scenario by its name.

    Raises ConfigError naming every problem found, and SourceError for a missing folder of the base.
    """
    path = find_file(path, "scenario")
    found = override(read_yaml(path), overrides, Scenario)
    loaded = resolve_scenario(
        found.tree, origin=str(path), folder=path.parent, environment=environment
    )
    loaded.scenario.base.placed(loaded.folder)  # refused before any data is read
    return replace(loaded, notes=found.notes)


def resolve_scenario(
    tree: Tree, *, origin: str, folder: Path, environment: Mapping[str, str] = os.environ
) -> LoadedScenario:
    """Validate a scenario given as a mapping; see `load_scenario`."""
    bad: dict[str, str] = {}
    expanded = _expand(tree, environment, "", bad)
    # Before the tasks get the defaults: an error in these is reported once, in its place.
    traces = read_traces(_checked(expanded, bad, origin=origin).providers, folder)
    written, expanded = (_with_traces(one, traces) for one in (tree, expanded))
    scenario = validate(Scenario, _with_defaults(expanded), origin=origin)
    # Variables stay as written: the location of files is not part of the experiment.
    resolved = _overlay(scenario.model_dump(mode="json"), _with_defaults(written))
    identity = scenario_digest(resolved, list(scenario.tasks))
    return LoadedScenario(scenario, resolved, identity, folder)


def _checked(tree: Tree, bad: Mapping[str, str], *, origin: str) -> Scenario:
    """Raise ConfigError with the `bad` values, and what else is wrong."""
    problems = list(bad.values())
    try:
        scenario = validate(Scenario, tree, origin=origin)
        if not problems:
            return scenario
    except ConfigError as error:
        # Nothing else can be said about a setting without a value.
        problems += [p for p in error.problems if p.partition(":")[0] not in bad]
    raise ConfigError(origin, problems)


def _with_traces(tree: Tree, traces: Mapping[str, Tree]) -> Tree:
    """Replace trace files by their events, as their location is not part of the experiment."""
    providers = tree["providers"]
    read = {name: {**providers[name], "arrivals": arrivals} for name, arrivals in traces.items()}
    return {**tree, "providers": {**providers, **read}}


def _with_defaults(tree: Tree) -> Tree:
    """Merge each task's own training into the defaults'."""
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


# The sources that read local files expand their paths themselves.
_DATA_PATH = re.compile(r"data\.sources\.\d+\.files|tasks\.[^.]+\.files\.[a-z]+")


def _expand(tree: Any, environment: Mapping[str, str], place: str, bad: dict[str, str]) -> Any:
    """Expand variables; `bad` receives the problem of each setting that cannot have its value.

    A path of data that comes out empty stays as written, so that its source can say why.
    """
    if isinstance(tree, dict):
        return {
            key: _expand(value, environment, f"{place}.{key}" if place else str(key), bad)
            for key, value in tree.items()
        }
    if isinstance(tree, list):
        return [_expand(value, environment, f"{place}.{i}", bad) for i, value in enumerate(tree)]
    if isinstance(tree, str):
        try:
            expanded = expand_variables(tree, environment)
            return expanded or (tree if _DATA_PATH.fullmatch(place) else "")
        except ValueError as error:
            bad[place] = f"{place}: {error}."
    if isinstance(tree, int) and abs(tree) >= 1 << 63:
        bad[place] = f"{place}: must be less than 2**63, got {tree}."
    return tree


def _overlay(values: Any, written: Any) -> Any:
    """Return validated `values`, except strings with a variable, which stay as written."""
    if isinstance(values, dict) and isinstance(written, dict):
        return {key: _overlay(value, written.get(key)) for key, value in values.items()}
    if isinstance(values, list) and isinstance(written, list) and len(values) == len(written):
        return [_overlay(value, given) for value, given in zip(values, written, strict=True)]
    return written if isinstance(written, str) and "${" in written else values
