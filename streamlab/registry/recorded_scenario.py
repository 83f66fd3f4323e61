"""The scenario as a run recorded it: typed access to the settings that are read again later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RecordedScenario:
    """A resolved scenario of any version of this program; what it lacks is None or empty.

    `tree`: the scenario itself, paths unexpanded.
    """

    tree: Mapping[str, Any]

    @property
    def primary_method(self) -> str:
        """Return the name of the method that the baselines are compared with."""
        return str(self.tree["defaults"]["method"]["name"])

    @property
    def target_density(self) -> float | None:
        """Return the primary method's target density, None for a method without one."""
        found = self.tree["defaults"]["method"].get("target_density")
        return None if found is None else float(found)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Return the seeds as written, at least one."""
        return tuple(int(seed) for seed in self.tree["seeds"])

    @property
    def tasks(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the settings of every task."""
        return self.tree.get("tasks") or {}

    def task(self, name: str) -> Mapping[str, Any]:
        """Return the settings of one task, empty where it is unknown."""
        return self.tasks.get(name) or {}

    def columns_of(self, task: str) -> Mapping[str, Any]:
        """Return the columns of a task's data that its text and labels are read from."""
        return self.task(task).get("columns") or {}

    def dataset_of(self, task: str) -> str:
        """Return the dataset of a task, empty where it is unknown."""
        return str(self.task(task).get("dataset", ""))

    @property
    def base(self) -> Mapping[str, Any]:
        """Return the settings of the base."""
        return self.tree.get("base") or {}

    def without(self, *names: str) -> Mapping[str, Any]:
        """Return all settings but these sections."""
        return {name: value for name, value in self.tree.items() if name not in names}

    @property
    def probe_tolerance(self) -> float | None:
        """Return the difference of scores that admission's probe allows, None without a probe."""
        return (self.tree.get("admission") or {}).get("probe_tolerance")

    @property
    def device_budget(self) -> int | None:
        """Return the bytes that the simulated device has for files, None without a limit."""
        budget = (self.tree.get("storage") or {}).get("budget")
        return budget if isinstance(budget, int) else None

    def behaviour_of(self, provider: str) -> Mapping[str, Any]:
        """Return the settings of what a provider simulates, empty for an honest one."""
        behaviour = self.tree["providers"][provider].get("behaviour")
        return behaviour if isinstance(behaviour, Mapping) else {}

    def with_task_order(self, order: Sequence[str]) -> Mapping[str, Any]:
        """Return the scenario with its tasks in another order: the record keeps none."""
        return dict(self.tree) | {"tasks": {task: self.tasks[task] for task in order}}
