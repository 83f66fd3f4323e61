"""How a diff is rounded: the smallest value type that leaves its answers as they were.

Judged on examples split from train, never on reported ones, by the agreement of outputs that the
task's type defines. The head is rounded to fp16 by the same rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamlab.base import Base
from streamlab.diff.apply import applied
from streamlab.diff.format.container import EncodedDiff, decode, encode
from streamlab.diff.vector import DiffVector
from streamlab.errors import DiffError
from streamlab.inference.model import logits
from streamlab.methods.api import TrainingSettings
from streamlab.stream.context import EncodedTask, fresh_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from streamlab.diff.format.container import HeadType
    from streamlab.diff.format.values import ValueType

SMALLEST_FIRST: tuple[ValueType, ...] = ("int4", "int8", "bf16", "fp16")

Outputs = NDArray[np.float32]


@dataclass(frozen=True)
class Rounded:
    """A diff's file, the value type it came to, and what is recorded of the choice."""

    encoded: EncodedDiff
    value_type: ValueType
    facts: Mapping[str, Any]


def rounded(diff: DiffVector, task: EncodedTask, base: Base, training: TrainingSettings) -> Rounded:
    """Write a diff in the smallest value type that passes, fp32 where none does.

    Without rows to judge by it is bf16, with the head as it is.
    """
    if not len(task.validation.labels):
        facts: dict[str, Any] = {"values": "bf16", "head": "fp32", "n_rows": 0}
        return Rounded(encode(diff), "bf16", facts)
    judge = _Judge(diff, task, base, training)
    tried: dict[str, float] = {}
    chosen: tuple[ValueType, HeadType] = ("fp32", "fp32")
    for value_type in SMALLEST_FIRST:
        tried[value_type] = judge.agreement(value_type, "fp32")
        if tried[value_type] >= judge.least:
            chosen = value_type, "fp32"
            break
    narrow = judge.agreement(chosen[0], "fp16")
    if narrow >= judge.least:
        chosen = chosen[0], "fp16"
    facts = {
        "values": chosen[0],
        "head": chosen[1],
        "n_rows": len(task.validation.labels),
        "agreement": {**tried, f"{chosen[0]} with an fp16 head": narrow},
        "least": judge.least,
    }
    encoded = encode(diff, value_type=chosen[0], head_type=chosen[1])
    return Rounded(encoded, chosen[0], facts)


class _Judge:
    """Compare a rounded diff's outputs with the unrounded one's, on the validation rows."""

    def __init__(
        self, diff: DiffVector, task: EncodedTask, base: Base, training: TrainingSettings
    ) -> None:
        self._diff, self._task, self._layout = diff, task, base.layout
        self._model: PreTrainedModel = fresh_model(base, task.data, training, seed=0)
        self.least = task.data.type.least_agreement
        self._expected = self._outputs(diff)

    def agreement(self, value_type: ValueType, head_type: HeadType) -> float:
        """Return how well the outputs agree with the unrounded diff's; 0 for a value too large."""
        try:
            data = encode(self._diff, value_type=value_type, head_type=head_type).data
        except DiffError:  # a value too large for the type
            return 0.0
        outputs = self._outputs(decode(data, self._layout))
        return self._task.data.type.agreement(outputs, self._expected)

    def _outputs(self, diff: DiffVector) -> Outputs:
        with applied(self._model, diff):
            return logits(self._model, self._task.validation)
