"""A task's rows, where they came from, and how they are judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from streamlab.tasks.metrics import Metric, TaskKind

SourceKind = Literal["files", "hub", "package", "synthetic"]


@dataclass(frozen=True, slots=True)
class Example:
    """One example: a text, perhaps a second one, and its label."""

    text: str
    text2: str | None
    label: int | float


@dataclass(frozen=True)
class SourceUsed:
    """Where a task's rows came from.

    `examples_fingerprint` covers all the rows of the source, before any of them is drawn: it is the
    same for every seed, and differs where a single row does.
    """

    kind: SourceKind
    detail: str  # path, hub id with revision, or generator and seed; and what was chosen there
    examples_fingerprint: str

    @property
    def synthetic(self) -> bool:
        """Tell whether the rows were made by this project's generators."""
        return self.kind == "synthetic"


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """One task, ready to be learnt: `validation` is for choosing, `dev` is only reported."""

    name: str
    dataset: str
    kind: TaskKind
    labels: tuple[str, ...]  # by class index; empty for regression
    metrics: tuple[Metric, ...]  # the one the task is judged by comes first
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    dev: tuple[Example, ...]
    source: SourceUsed

    @property
    def n_outputs(self) -> int:
        """Return the width of the head: the number of classes, or 1 for regression."""
        return len(self.labels) if self.kind == "classification" else 1
