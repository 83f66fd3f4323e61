"""Methods: diff pruning and its baselines, found by name behind one contract (`api.Method`)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final

from streamlab.config import NamedSettings
from streamlab.methods.api import Method
from streamlab.methods.baselines import (
    BitFit,
    FixedMaskTraining,
    FullFinetuning,
    HeadOnly,
    NonAdaptive,
)
from streamlab.methods.diff_pruning import DiffPruning
from streamlab.methods.peft import Lora, Peft
from streamlab.methods.pruned_model import PrunedModel

_CLASSES = (
    *(BitFit, DiffPruning, FixedMaskTraining, FullFinetuning, HeadOnly, Lora, NonAdaptive),
    *(Peft, PrunedModel),
)
BUILTIN: Final[Mapping[str, str]] = MappingProxyType(
    {c.model_fields["name"].default: f"{c.__module__}:{c.__name__}" for c in _CLASSES}
)
# A method in a scenario, validated and dumped by the class that its `name` stands for: a built-in
# name, an entry point of the group `streamlab.methods`, or an import path `package.module:Name`.
MethodSettings = Annotated[
    Method,
    NamedSettings(group="streamlab.methods", key="name", builtin=BUILTIN, base=Method),
]

__all__ = [
    "BUILTIN",
    "BitFit",
    "DiffPruning",
    "FixedMaskTraining",
    "FullFinetuning",
    "HeadOnly",
    "Lora",
    "MethodSettings",
    "NonAdaptive",
    "Peft",
    "PrunedModel",
]
