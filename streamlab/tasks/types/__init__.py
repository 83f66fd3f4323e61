"""Task types: everything that differs between kinds of tasks, one object per kind."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from streamlab.tasks.types.causal_lm import CausalLanguageModelling
from streamlab.tasks.types.classification import Classification
from streamlab.tasks.types.contract import TaskKind, TaskType
from streamlab.tasks.types.multi_label import MultiLabel
from streamlab.tasks.types.regression import Regression
from streamlab.tasks.types.token_classification import TokenClassification

TASK_TYPES: Final[Mapping[TaskKind, TaskType]] = MappingProxyType(
    {
        "classification": Classification(),
        "regression": Regression(),
        "multi_label": MultiLabel(),
        "tokens": TokenClassification(),
        "causal_lm": CausalLanguageModelling(),
    }
)


def task_type(kind: TaskKind) -> TaskType:
    """Return a task type by the name it has in scenarios, records and diff files."""
    return TASK_TYPES[kind]
