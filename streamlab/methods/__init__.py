"""Methods behind one signature: diff pruning and what it is compared with."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from streamlab.methods.diff_pruning import DiffPruning
from streamlab.methods.rivals import FullFinetuning, HeadOnly, NonAdaptive

MethodSettings = Annotated[
    DiffPruning | FullFinetuning | HeadOnly | NonAdaptive, Field(discriminator="name")
]

__all__ = ["DiffPruning", "FullFinetuning", "HeadOnly", "MethodSettings", "NonAdaptive"]
