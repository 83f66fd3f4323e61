"""Quantisation of a diff: the smallest value type that leaves its predictions as they were.

Judged on examples split from train, never on reported ones, by the agreement of outputs that the
task's type defines. The head is rounded to fp16 by the same rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from streamlab.diff.apply import applied
from streamlab.diff.format.container import EncodedDiff, encode, rounded
from streamlab.diff.vector import DiffVector
from streamlab.errors import DiffError
from streamlab.inference.model import logits
from streamlab.stream.context import EncodedTask

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from streamlab.diff.format.container import HeadType
    from streamlab.diff.format.values import ValueType

SMALLEST_FIRST: tuple[ValueType, ...] = ("int4", "int8", "bf16", "fp16")

Outputs = NDArray[np.float32]


@dataclass(frozen=True)
class QuantizedDiff:
    """A diff's file, its outputs on the validation examples, and how its types were chosen."""

    encoded: EncodedDiff
    outputs: Outputs | None  # None without examples
    details: Mapping[str, Any]


def quantize(
    diff: DiffVector,
    task: EncodedTask,
    model: PreTrainedModel,
    *,
    values: ValueType | Literal["auto"],
) -> QuantizedDiff:
    """Write a diff in a value type, or by `auto` in the smallest that passes, else in fp32.

    `model`: a clean classifier of the base, which it is again at the end. `auto` without examples
    to judge by is bf16, with the head in fp32.
    """
    n_examples = len(task.validation.labels)
    if values != "auto":
        outputs = _Candidates(diff, task, model).outputs(values, "fp32") if n_examples else None
        return QuantizedDiff(encode(diff, value_type=values), outputs, {"values": values})
    if not n_examples:
        details: dict[str, Any] = {"values": "bf16", "head": "fp32", "n_examples": 0}
        return QuantizedDiff(encode(diff), None, details)
    candidates = _Candidates(diff, task, model)
    tried: dict[str, float] = {}
    chosen: tuple[ValueType, HeadType] = ("fp32", "fp32")
    for value_type in SMALLEST_FIRST:
        tried[value_type] = candidates.agreement(value_type, "fp32")
        if tried[value_type] >= candidates.least:
            chosen = value_type, "fp32"
            break
    narrow = candidates.agreement(chosen[0], "fp16")
    if narrow >= candidates.least:
        chosen = chosen[0], "fp16"
    details = {
        "values": chosen[0],
        "head": chosen[1],
        "n_examples": n_examples,
        "agreement": {**tried, f"{chosen[0]} with an fp16 head": narrow},
        "least": candidates.least,
    }
    encoded = encode(diff, value_type=chosen[0], head_type=chosen[1])
    return QuantizedDiff(encoded, candidates.outputs(*chosen), details)


class _Candidates:
    """The outputs of a diff in several types, compared with those of the unrounded diff."""

    def __init__(self, diff: DiffVector, task: EncodedTask, model: PreTrainedModel) -> None:
        self._diff, self._examples, self._model = diff, task.validation, model
        self._outputs: dict[tuple[ValueType, HeadType], Outputs] = {}
        self._type = task.data.type
        self.least = self._type.least_agreement

    def outputs(self, value_type: ValueType, head_type: HeadType) -> Outputs:
        """Return the outputs of the diff as a file of these types holds it. Raises DiffError."""
        key = value_type, head_type
        if key not in self._outputs:
            diff = self._diff
            if key != ("fp32", "fp32"):
                diff = rounded(diff, value_type=value_type, head_type=head_type)
            with applied(self._model, diff):
                self._outputs[key] = logits(self._model, self._examples)
        return self._outputs[key]

    def agreement(self, value_type: ValueType, head_type: HeadType) -> float:
        """Return how well the outputs agree with the unrounded diff's; 0 for a value too large."""
        expected = self.outputs("fp32", "fp32")
        try:
            found = self.outputs(value_type, head_type)
        except DiffError:  # a value too large for the type
            return 0.0
        return self._type.agreement(found, expected)
