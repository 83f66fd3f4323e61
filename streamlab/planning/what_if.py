"""What-if analysis: the measured tasks at another density, value type, base or head.

    positions' = positions * k' h(p') / (k h(p))     h(p) = H(p) / p bits an entry, p = k / d
    values'    = values * k' b' / (k b)              b: bits a value of the type takes
    k'         = p' d'

Positions keep their measured ratio to uniformly random ones. b is measured, with all types on the
same diffs, not the type's width. A base of P' parameters instead of P grows equally in depth and
width, so its width grows by g^(1/3), g = P' / P:

    base' = g base,  d' = g d,  k, positions, values * g,  head' = g^(1/3) head

A head of C classes is one linear layer on the base's width w: C (w + 1) entries at the measured
bytes per entry. Metadata do not change.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from streamlab.diff.entropy import even_bits_per_entry
from streamlab.errors import UsageError
from streamlab.planning.storage_model import StorageModel, resized
from streamlab.registry.records import BaseRecord, NewDiff

# Mean bits per value, over nine diffs of all-MiniLM-L6-v2 at 0.5%; the last two are packed.
VALUE_BITS: Mapping[str, float] = MappingProxyType(
    {"fp32": 26.39, "fp16": 13.37, "bf16": 10.38, "int8": 7.44, "int4": 3.75}
    | {"int2": 2, "ternary": math.log2(3), "sign": 1}
)
_HEAD_VALUE_BYTES = 2  # of a measured head without entries
# Positions of fewer bytes, as a share of their entropy if they were even, follow from a rule.
_RULE_SHARE = 0.05


@dataclass(frozen=True, kw_only=True)
class WhatIf:
    """Hypothetical settings; None: as measured."""

    density: float | None = None
    value_type: str | None = None
    base_params: int | None = None
    n_classes: int | None = None
    n_copies: int = 1


def suppose(model: StorageModel, base: BaseRecord, what_if: WhatIf) -> StorageModel:
    """Return the model of the same tasks under hypothetical settings.

    `base`: the measured one. Raises UsageError for a density outside (0, 1], and for a density or
    value type of artifacts that are not diffs.
    """
    if what_if == WhatIf():
        return model
    growth = 1.0
    if what_if.base_params is not None:
        growth = what_if.base_params / base.n_parameters
    tasks = tuple(_supposed(task, base, what_if, growth) for task in model.tasks)
    return replace(
        model,
        base=round(growth * base.file_bytes),
        tasks=tasks,
        n_copies=what_if.n_copies,
        supposed=True,
    )


def width_growth(growth: float) -> float:
    """Return the growth of the width of a base with `growth` times the parameters."""
    return float(growth ** (1 / 3))


def at_density(task: NewDiff, density: float) -> NewDiff:
    """Return a task's file at another density. Raises UsageError for one outside (0, 1]."""
    if not 0 < density <= 1:
        raise UsageError(f"The density must be in (0, 1], got {density:g}.")
    return with_entries(task, max(round(density * task.n_gated), 1))


def with_entries(task: NewDiff, n_entries: int) -> NewDiff:
    """Return a task's file with `n_entries`. Raises UsageError unless it is a non-empty diff."""
    if task.kind != "diff" or not task.n_entries:
        raise UsageError(
            "Another density needs measured diffs with entries, and the run stored "
            f"{'an empty diff' if task.kind == 'diff' else 'a ' + task.kind}. Name another run "
            "with `--run`."
        )
    if n_entries == task.n_entries:
        return task
    share = n_entries / task.n_entries
    measured = _even_bits(task.n_entries, task.n_gated)
    even = _even_bits(n_entries, task.n_gated)
    positions = task.positions_bytes * even / measured if measured else even / 8
    if 8 * task.positions_bytes < _RULE_SHARE * measured:
        positions = task.positions_bytes
    values = round(share * task.values_bytes)
    return resized(task, n_entries=n_entries, positions_bytes=round(positions), values_bytes=values)


def _even_bits(n_entries: int, n_gated: int) -> float:
    return n_entries * even_bits_per_entry(n_entries / n_gated)


def _supposed(task: NewDiff, base: BaseRecord, what_if: WhatIf, growth: float) -> NewDiff:
    if what_if.base_params is not None:
        task = _on_base(task, base, growth)
    if what_if.density is not None:
        task = at_density(task, what_if.density)
    if what_if.value_type is not None:
        task = _in_type(task, what_if.value_type)
    if what_if.n_classes is not None:
        # A base is as wide as the columns of its first matrix, the word embeddings.
        width = next((shape[1] for _, shape in base.layout if len(shape) == 2), 1)
        width = round(width_growth(growth) * width)
        task = _with_head(task, what_if.n_classes, width + 1)
    return task


def _on_base(task: NewDiff, base: BaseRecord, growth: float) -> NewDiff:
    wider = width_growth(growth)
    return resized(
        task,
        n_gated=round(growth * task.n_gated),
        n_entries=round(growth * task.n_entries),
        n_head_entries=round(wider * task.n_head_entries),
        positions_bytes=round(growth * task.positions_bytes),
        values_bytes=round(growth * task.values_bytes),
        head_bytes=round(wider * task.head_bytes),
        full_checkpoint_bytes=round(growth * base.file_bytes)
        + round(wider * (task.full_checkpoint_bytes - base.file_bytes)),
    )


def _in_type(task: NewDiff, value_type: str) -> NewDiff:
    if task.kind != "diff":
        raise UsageError(
            f"Another value type needs measured diffs, and the run stored a {task.kind}. Name "
            "another run with `--run`."
        )
    share = VALUE_BITS[value_type] / VALUE_BITS[task.value_type]
    return resized(task, value_type=value_type, values_bytes=round(share * task.values_bytes))


def _with_head(task: NewDiff, n_classes: int, n_each: int) -> NewDiff:
    """Suppose a head with `n_each` entries a class."""
    n_entries = n_classes * n_each
    stored = _n_stored(task.kind, task.n_head_entries, n_each)
    each = task.head_bytes / stored if stored else _HEAD_VALUE_BYTES
    return resized(
        task,
        n_head_entries=n_entries,
        head_bytes=round(each * _n_stored(task.kind, n_entries, n_each)),
        full_checkpoint_bytes=task.full_checkpoint_bytes + 4 * (n_entries - task.n_head_entries),
    )


def _n_stored(kind: str, n_entries: int, n_each: int) -> int:
    """Return how many entries of a head a file holds: of two classes, a diff's has one row."""
    return n_each if kind == "diff" and n_entries == 2 * n_each else n_entries
