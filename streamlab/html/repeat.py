"""The scenario of a run as a file that runs it again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import yaml

from streamlab.config import digest
from streamlab.registry.records import ArrivalRecord, RunRecord


@dataclass(frozen=True)
class Repeat:
    """The text of a scenario file; `is_same` where it has the digest of the one that ran."""

    text: str
    is_same: bool


def scenario_file(run: RunRecord, arrivals: Iterable[ArrivalRecord]) -> Repeat:
    """Write a run's scenario with its tasks in the order that they arrived in.

    The record knows no order; a task of which nothing arrived comes last.
    """
    places: dict[str, int] = {}
    for arrival in arrivals:
        places[arrival.task] = min(arrival.sequence, places.get(arrival.task, arrival.sequence))
    tasks = dict(run.scenario.get("tasks", {}))
    order = sorted(tasks, key=lambda task: places.get(task, len(tasks)))
    scenario = dict(run.scenario) | {"tasks": {task: tasks[task] for task in order}}
    is_same = digest([scenario, order]) == run.scenario_digest
    return Repeat(yaml.safe_dump(scenario, sort_keys=False), is_same)
