"""Quantisation of a diff: the smallest value type that leaves its predictions as they were.

Judged on examples split from train, never on reported ones, by the agreement of outputs that the
task's type defines. The head is rounded to fp16 by the same rule; what a smaller type holds bit for
bit, since it was trained for it, is stored in that one whatever is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from streamlab.diff.apply import applied
from streamlab.diff.format.container import EncodedDiff, encode, rounded
from streamlab.diff.vector import DiffVector
from streamlab.errors import DiffError
from streamlab.inference.model import logits
from streamlab.stream.run_context import EncodedTask
from streamlab.tasks.batches import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from streamlab.diff.format.head import HeadType
    from streamlab.diff.format.values import ValueType

SMALLEST_FIRST: tuple[ValueType, ...] = ("int4", "int8", "bf16", "fp16", "fp32")
# Tried only where they store the values of a diff exactly: trained for it, or not worth a try.
_SMALLER: tuple[ValueType, ...] = ("sign", "ternary", "int2")
# A head in fp16 costs answers so rarely that a wider one is tried last.
_HEAD_TYPES: tuple[HeadType, ...] = ("fp16", "fp32")

Outputs = NDArray[np.float32]


@dataclass(frozen=True)
class QuantizedDiff:
    """A diff's file, its outputs on the validation examples, and how its types were chosen."""

    encoded: EncodedDiff
    outputs: Outputs
    details: Mapping[str, Any]


def quantize(
    diff: DiffVector,
    task: EncodedTask,
    model: PreTrainedModel,
    expected: Outputs,
    *,
    values: ValueType | Literal["auto"],
    head: HeadType | Literal["auto"] = "auto",
) -> QuantizedDiff:
    """Write a diff in a value type, or by `auto` in the smallest that passes.

    `head`: the type of the head; by `auto` fp32 where `values` is set, else fp16, or fp32 where
    that does not pass. `model`: a clean classifier of the base, which it is again at the end.
    `expected`: the outputs of the trained model on the validation examples.
    """
    examples, least = task.validation, task.data.type.least_agreement
    if values != "auto":
        wide: HeadType = "fp32" if head == "auto" else head
        narrow = rounded(diff, value_type=values, head_type=wide)
        outputs = _outputs(model, narrow, examples)
        agreed = {values: task.data.type.agreement(outputs, expected)}
        details: dict[str, Any] = {
            "values": values,
            "head": wide,
            "n_examples": len(examples.labels),
            "agreement": agreed,
        }
        encoded = encode(diff, value_type=values, head_type=wide)
        return QuantizedDiff(encoded, outputs, details)
    agreement: dict[str, float] = {}
    exact = [one for one in _SMALLER if np.array_equal(_rounded(diff, one), diff.entries)]
    heads = _HEAD_TYPES if head == "auto" else (head,)
    for head_type, value_type in product(heads, (*exact, *SMALLEST_FIRST)):
        try:
            narrow = rounded(diff, value_type=value_type, head_type=head_type)
        except DiffError:  # a value too large for the type
            continue
        outputs = _outputs(model, narrow, examples)
        tried = value_type if head_type == heads[0] else f"{value_type} with an {head_type} head"
        agreement[tried] = task.data.type.agreement(outputs, expected)
        if agreement[tried] >= least:
            break
    details = {
        "values": value_type,
        "head": head_type,
        "n_examples": len(examples.labels),
        "agreement": agreement,
        "least": least,
    }
    encoded = encode(diff, value_type=value_type, head_type=head_type)
    return QuantizedDiff(encoded, outputs, details)


def _rounded(diff: DiffVector, value_type: ValueType) -> Outputs:
    return rounded(diff, value_type=value_type).entries


def _outputs(model: PreTrainedModel, diff: DiffVector, examples: Encoded) -> Outputs:
    with applied(model, diff):
        return logits(model, examples)
