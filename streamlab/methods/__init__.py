"""Methods behind one signature: diff pruning and what it is compared with."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from streamlab.methods.baselines import FullFinetuning, HeadOnly, NonAdaptive
from streamlab.methods.bitfit import BitFit
from streamlab.methods.diff_pruning import DiffPruning
from streamlab.methods.lora import Lora

MethodSettings = Annotated[
    DiffPruning | FullFinetuning | HeadOnly | NonAdaptive | BitFit | Lora,
    Field(discriminator="name"),
]

__all__ = [
    "BitFit",
    "DiffPruning",
    "FullFinetuning",
    "HeadOnly",
    "Lora",
    "MethodSettings",
    "NonAdaptive",
]
